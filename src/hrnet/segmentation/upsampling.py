"""Bilinear interpolation of logits at the pixels of an image, and the class with the largest one, in NumPy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Real, UInt8

# Positions that one matrix product interpolates between: more is more arithmetic, fewer is more calls.
_PRODUCT_LENGTH = 32
# Pixels whose classes are compared at once: their scores stay in the processor's cache.
BLOCK_PIXELS = 1 << 15


def logit_positions(
    points: Real[np.ndarray, "*n"], length: int, count: int, align_corners: bool
) -> Float[np.ndarray, "*n"]:
    """Return the positions of points on an axis of `length` pixels among its `count` logits, clipped to the first and last.

    With `align_corners` the first and last logits lie on the first and last pixels; otherwise their outer edges do.
    """
    positions = points * (count - 1) / max(length - 1, 1) if align_corners else (points + 0.5) * count / length - 0.5
    return np.clip(positions, 0, count - 1)


def interpolate(
    values: Float[np.ndarray, "*n h w"], positions: Float[np.ndarray, " p"], axis: int
) -> Float[np.ndarray, "*n H W"]:
    """Return values interpolated linearly along axis -1 or -2 at positions, rising or falling, from 0 to its length - 1."""
    if positions[0] > positions[-1]:
        return np.ascontiguousarray(np.flip(interpolate(values, positions[::-1], axis), axis))
    parts = []
    step = max(int(_PRODUCT_LENGTH * len(positions) / (positions[-1] - positions[0] + 1)), 1)
    for start in range(0, len(positions), step):
        block = positions[start : start + step]
        first = min(int(block[0]), values.shape[axis] - 1)
        count = min(int(block[-1]) + 2, values.shape[axis]) - first
        # Each value is a sum of two neighbors. A matrix product is far faster than picking them out.
        weights = np.maximum(1 - abs(block[:, None] - first - np.arange(count)), 0).astype(values.dtype)
        near = slice(first, first + count)
        parts.append(values[..., near] @ weights.T if axis == -1 else weights @ values[..., near, :])
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis)


def sample(
    values: Float[np.ndarray, "k h w"], xs: Float[np.ndarray, "H W"], ys: Float[np.ndarray, "H W"]
) -> Float[np.ndarray, "k H W"]:
    """Return values interpolated bilinearly at points anywhere from (0, 0) to (w - 1, h - 1)."""
    _, height, width = values.shape
    left, top = xs.astype(int), ys.astype(int)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    x, y = (xs - left).astype(values.dtype), (ys - top).astype(values.dtype)
    upper = values[:, top, left] * (1 - x) + values[:, top, right] * x
    lower = values[:, bottom, left] * (1 - x) + values[:, bottom, right] * x
    return upper * (1 - y) + lower * y


def best_classes(scores: Float[np.ndarray, "k h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return the class with the largest score at every pixel, the first one of equals: an argmax over the first axis."""
    # A running maximum in blocks of the cache's size: NumPy's argmax over a first axis is many times slower.
    labels = np.zeros(scores.shape[1:], np.uint8)
    rows = max(1, BLOCK_PIXELS // scores.shape[2])
    for top in range(0, scores.shape[1], rows):
        block, found = scores[:, top : top + rows], labels[top : top + rows]
        best = block[0].copy()
        larger, candidates = np.empty(best.shape, bool), np.empty_like(found)
        for label in range(1, len(scores)):
            np.greater(block[label], best, out=larger)
            np.maximum(best, block[label], out=best)
            # Labels rise, so the maximum of labels is the last one whose score was larger.
            np.multiply(larger.view(np.uint8), np.uint8(label), out=candidates)
            np.maximum(found, candidates, out=found)
    return labels
