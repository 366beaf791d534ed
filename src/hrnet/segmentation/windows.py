"""Inference on one image in pieces: sliding windows, several scales, horizontal flips, and the published protocols.

Memory that grows with the image: the image itself and its labels. Windows run from the top to the bottom; scores are
kept only of the rows that a window still touches or that have no labels yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt8

from hrnet.io.geometry import Frame, Image, Size, warp
from hrnet.results import SemanticMap, Source
from hrnet.segmentation.processor import STRIP_ELEMENTS, SegmentationOutput, SegmentationProcessor, image_frame
from hrnet.segmentation.spec import CITYSCAPES, SegmentationSpec
from hrnet.segmentation.upsampling import best_classes, interpolate, logit_positions

Forward = Callable[[UInt8[np.ndarray, "n h w c"]], SegmentationOutput]

# Input pixels between two logits.
STRIDE = 4
# Pixels of a batch where no batch size is given.
BATCH_PIXELS = 1 << 21


@dataclass(frozen=True, slots=True)
class InferenceMode:
    """Windows, scales and flips of segmentation inference."""

    scales: tuple[float, ...] = (1.0,)  # scales of the image; their scores are averaged
    flip: bool = False  # whether logits are averaged with those of the flipped image
    windows: Literal["whole", "sliding", "tiles"] = "whole"
    """``whole``: the image letterboxed to the canvas of the spec, times the scale. ``sliding``: windows of the canvas's
    size, two thirds of it apart, the last ones moved back to the image's edge. ``tiles``: whole up to a scale of 1,
    above it windows side by side."""
    native: bool = False
    """whether scale 1 is the image's own, not that at which it fits into the canvas; needs sliding windows"""
    published: bool = False
    """scores as in the released code: the exponential of the logits (not their softmax), averaged over windows, resized
    to the image, summed over scales; and images reduced without antialiasing. Otherwise the mean of logits over windows
    and of probabilities over scales."""

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise ValueError(f"scales must be one or more positive numbers; got {self.scales}.")
        if self.native and self.windows != "sliding":
            raise ValueError(f"The image's own scale needs sliding windows; got {self.windows!r}.")
        if self.native and self.published:
            raise ValueError("The published protocol fits images into the canvas; choose native or published.")


def published_mode(spec: SegmentationSpec, scales: Sequence[float] = (1.0,), flip: bool = False) -> InferenceMode:
    """Return the mode in which the released code evaluates the data set of a network.

    Source: Cityscapes is tiled above scale 1, LIP is squashed into the input, all others have sliding windows.
    """
    windows = "whole" if spec.squash else "tiles" if spec.class_names == CITYSCAPES else "sliding"
    return InferenceMode(tuple(scales), flip, windows, published=True)


@dataclass(frozen=True, slots=True)
class Windowed:
    """Label maps by windows, scales and flips."""

    processor: SegmentationProcessor  # processor of the model
    mode: InferenceMode  # windows, scales and flips
    batch: int | None = None  # windows per forward; None for as many as have two million pixels

    def segment(self, image: Image, forward: Forward) -> UInt8[np.ndarray, "h w"]:
        """Return the label of every pixel of an RGB image; `forward` maps images of bytes to output arrays."""
        # The published exponentials may overflow, silently as in the released code.
        with np.errstate(over="ignore", invalid="ignore"):
            height, width = image.shape[:2]
            levels = [_Level(self, image, forward, scale) for scale in self.mode.scales]
            labels = np.empty((height, width), np.uint8)
            rows = max(1, STRIP_ELEMENTS // (len(self.processor.class_names) * width))
            for top in range(0, height, rows):
                strip = range(top, min(top + rows, height))
                total = None
                for level in levels:
                    scores = level.scores(strip)
                    if len(levels) > 1 and not self.mode.published:
                        scores = _softmax(scores)
                    total = scores if total is None else np.add(total, scores, out=total)
                assert total is not None
                labels[strip.start : strip.stop] = best_classes(total)
            return labels

    def predict(self, image: Image, forward: Forward, source: Source) -> SemanticMap:
        """Return the label map of an image as a result; arguments as of `segment`."""
        return SemanticMap(self.segment(image, forward), self.processor.class_names, source)


class _Level:
    """The image at one scale: scores on a grid, summed over the windows that have run so far.

    The grid has a row every fourth pixel of the input, or, as published, every one.
    """

    def __init__(self, windowed: Windowed, image: Image, forward: Forward, scale: float) -> None:
        self._image, self._forward = image, forward
        self._processor, self._mode = windowed.processor, windowed.mode
        spec, mode = windowed.processor.spec, windowed.mode
        self._frame, self._content = _place((image.shape[0], image.shape[1]), spec, mode, scale)
        whole = mode.windows == "whole" or (mode.windows == "tiles" and scale <= 1)
        self._window = self._frame.size if whole else spec.input_size
        fraction = 1.0 if mode.windows == "tiles" else 2 / 3
        step = 1 if mode.published else STRIDE
        self._tops, self._lefts = (
            offsets(content, window, fraction, step)
            for content, window in zip(self._content, self._window, strict=True)
        )
        single = len(self._tops) == len(self._lefts) == 1
        # The logits of a single input are taken as they are; those of several have to meet on one grid.
        self._step = step if mode.published or not single else 0
        self._batch = windowed.batch or max(1, BATCH_PIXELS // math.prod(self._window))
        self._sums: Float[np.ndarray, "k h w"] | None = None
        # Rows of the grid: the first that the sums hold, and the first that is still needed.
        self._top, self._low = 0, 0
        # Rows of windows that are in the sums.
        self._bands = 0

    def scores(self, rows: range) -> Float[np.ndarray, "k r w"]:
        """Return the scores of some rows of the image. Ask for rows from the top to the bottom."""
        self._run_until(0)
        ys = self._positions(np.arange(rows.start, rows.stop), 0)
        xs = self._positions(np.arange(self._image.shape[1]), 1)
        self._low, high = int(ys[0]), int(ys[-1]) + 2
        self._run_until(high)
        assert self._sums is not None
        values = self._sums[:, self._low - self._top : high - self._top]
        values = values / self._counts(self._low, values.shape[1])
        return interpolate(interpolate(values, xs, -1), ys - self._low, -2)

    def _run_until(self, row: int) -> None:
        """Run windows until no further one reaches above a row of the grid, but at least one row of them."""
        while self._bands < len(self._tops) and (not self._bands or self._tops[self._bands] < row * max(self._step, 1)):
            self._run_band(self._tops[self._bands])
            self._bands += 1

    def _forget(self, row: int) -> None:
        """Drop the sums above a row."""
        if self._sums is not None and row > self._top:
            self._sums = self._sums[:, row - self._top :].copy()
            self._top = row

    def _run_band(self, top: int) -> None:
        """Add the windows that begin at one row of the input."""
        self._forget(min(self._low, top // max(self._step, 1)))
        for start in range(0, len(self._lefts), self._batch):
            lefts = self._lefts[start : start + self._batch]
            for left, scores in zip(lefts, self._run(top, lefts), strict=True):
                self._add(scores, top, left)

    def _run(self, top: int, lefts: Sequence[int]) -> Float[np.ndarray, "n k h w"]:
        """Return the scores of windows side by side, on the grid."""
        antialias = not self._mode.published
        frames = [_shift(self._frame, top, left, self._window) for left in lefts]
        images = np.stack([warp(self._image, frame, antialias=antialias) for frame in frames])
        outputs = self._forward(images)
        if self._mode.flip:
            flipped = self._forward(np.ascontiguousarray(images[:, :, ::-1]))
            outputs = self._processor.merge_flip(outputs, flipped, self._window)
        logits = np.ascontiguousarray(outputs.logits)
        if self._mode.published:
            scores = self._upsample(logits)
            return np.exp(scores, out=scores)
        return self._on_grid(logits) if self._step else logits

    def _upsample(self, logits: Float[np.ndarray, "n k h w"]) -> Float[np.ndarray, "n k H W"]:
        """Return logits at every pixel of the window."""
        align = self._processor.spec.backbone.align_corners
        for axis, length in ((-1, self._window[1]), (-2, self._window[0])):
            logits = interpolate(logits, logit_positions(np.arange(length), length, logits.shape[axis], align), axis)
        return logits

    def _on_grid(self, logits: Float[np.ndarray, "n k h w"]) -> Float[np.ndarray, "n k H W"]:
        """Return logits at the middles of squares of four pixels, wherever the network has them."""
        align = self._processor.spec.backbone.align_corners
        for axis, length in ((-2, self._window[0]), (-1, self._window[1])):
            count = logits.shape[axis]
            if align or count * STRIDE != length:
                middles = STRIDE * np.arange(-(-length // STRIDE)) + (STRIDE - 1) / 2
                logits = interpolate(logits, logit_positions(middles, length, count, align), axis)
        return logits

    def _add(self, scores: Float[np.ndarray, "k h w"], top: int, left: int) -> None:
        step = max(self._step, 1)
        row, column = top // step - self._top, left // step
        classes, height, width = scores.shape
        if self._sums is None:
            self._sums = np.zeros((classes, height, self._lefts[-1] // step + width), scores.dtype)
        missing = row + height - self._sums.shape[1]
        if missing > 0:
            more = np.zeros((classes, missing, self._sums.shape[2]), scores.dtype)
            self._sums = np.concatenate([self._sums, more], 1)
        self._sums[:, row : row + height, column : column + width] += scores

    def _counts(self, low: int, rows: int) -> Float[np.ndarray, "r w"]:
        """Return how many windows of all cover each place of some rows of the grid."""
        assert self._sums is not None
        step = max(self._step, 1)
        down = _cover(self._tops, -(-self._window[0] // step), step, low, rows)
        across = _cover(self._lefts, -(-self._window[1] // step), step, 0, self._sums.shape[2])
        return np.outer(down, across).astype(self._sums.dtype)

    def _positions(self, pixels: Int[np.ndarray, " n"], axis: int) -> Float[np.ndarray, " n"]:
        """Return the positions on the grid of the image's rows (axis 0) or columns (axis 1)."""
        align, content = self._processor.spec.backbone.align_corners, self._content[axis]
        scale, shift = self._frame.matrix[1 - axis, 1 - axis], self._frame.matrix[1 - axis, 2]
        points = pixels * scale + shift
        if self._mode.published:
            # The padding is cut off before scores are resized to the image.
            length = self._image.shape[axis]
            points = pixels * (content - 1) / max(length - 1, 1) if align else points
            return np.clip(points, 0, content - 1)
        assert self._sums is not None
        if self._step:
            count = (self._tops, self._lefts)[axis][-1] // STRIDE + -(-self._window[axis] // STRIDE)
            return logit_positions(points, count * STRIDE, count, False)
        return logit_positions(points, self._window[axis], self._sums.shape[1 + axis], align)


def _softmax(logits: Float[np.ndarray, "k h w"]) -> Float[np.ndarray, "k h w"]:
    """Replace logits by probabilities."""
    logits -= logits.max(0)
    np.exp(logits, out=logits)
    logits /= logits.sum(0)
    return logits


def _place(source: Size, spec: SegmentationSpec, mode: InferenceMode, scale: float) -> tuple[Frame, Size]:
    """Return the frame of the image in its input, and the height and width that the image covers there."""
    if mode.native:
        content = (max(round(source[0] * scale), 1), max(round(source[1] * scale), 1))
        return Frame.resize(source, content), content
    frame = image_frame(source, spec, scale)
    return frame, (round(frame.matrix[1, 1] * source[0]), round(frame.matrix[0, 0] * source[1]))


def _shift(frame: Frame, top: int, left: int, size: Size) -> Frame:
    """Return the frame of a window of an input."""
    return replace(frame, matrix=frame.matrix - np.array([[0, 0, left], [0, 0, top]]), size=size)


def offsets(content: int, window: int, fraction: float, step: int) -> list[int]:
    """Return where windows begin along one axis: a fraction of their length apart, the last one ends with the content.

    All are multiples of `step`, for which the last window may reach beyond the content by less than that.
    Source: the released code, where the distance is rounded down to whole pixels and `step` is 1.
    """
    if content <= window:
        return [0]
    stride = max(int(window * fraction) // step, 1) * step
    last = -(-(content - window) // step) * step
    return [*range(0, last, stride), last]


def _cover(starts: Sequence[int], length: int, step: int, low: int, count: int) -> Float[np.ndarray, " n"]:
    """Return how many windows cover each of some places of the grid; at least 1."""
    places = np.arange(low, low + count)
    begins = np.asarray(starts) // step
    found = np.searchsorted(begins, places, "right") - np.searchsorted(begins + length, places, "right")
    return np.maximum(found, 1).astype(np.float64)
