"""The one record of geometry: an affine map from the pixels of an image to the pixels of the network's input.

Convention, everywhere in this package: pixel (0, 0) is the center of the top-left pixel, so an image w pixels wide
reaches from -0.5 to w - 0.5. Points are (x, y), boxes are x1 y1 x2 y2, sizes are (height, width).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Real, UInt8

Size = tuple[int, int]
Points = Float[np.ndarray, "*n 2"]
Image = UInt8[np.ndarray, "h w 3"]
Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The place of a network input in its image.

    Attributes:
        matrix: 2x3 affine map from image pixels to input pixels.
        size: height and width of the input.
        source_size: height and width of the image.
    """

    matrix: Float[np.ndarray, "2 3"]
    size: Size
    source_size: Size

    @classmethod
    def around(
        cls,
        center: tuple[float, float],
        span: float,
        size: Size,
        source_size: Size,
        *,
        rotation: float = 0.0,
        flip: bool = False,
        unbiased: bool = False,
    ) -> Frame:
        """Return the frame of a crop around a point.

        Args:
            center: point (x, y) of the image at the middle of the input.
            span: image pixels that the width of the input covers.
            size: height and width of the input.
            source_size: height and width of the image.
            rotation: degrees by which the content rotates counter-clockwise, as seen, in the input.
            flip: True to flip left and right, about the center.
            unbiased: True to count lengths between pixel centers (width - 1), not in pixels. The published networks were
                trained with False, where the middle of the input is (width / 2, height / 2), half a pixel to the right
                and below its center; UDP (arXiv 1911.07524) uses True.
        """
        height, width = size
        extent = 1 if unbiased else 0
        scale = (width - extent) / span
        angle = np.deg2rad(rotation)
        turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        if flip:
            turn = np.diag([-1.0, 1.0]) @ turn
        middle = np.array([width - extent, height - extent]) / 2
        shift = middle - turn @ np.asarray(center, dtype=np.float64)
        return cls(np.column_stack([turn, shift]), size, source_size)

    @classmethod
    def resize(cls, source_size: Size, size: Size) -> Frame:
        """Return the frame of the whole image at another size, edges on edges, as every common resize function."""
        scale_y, scale_x = size[0] / source_size[0], size[1] / source_size[1]
        matrix = np.array([[scale_x, 0, (scale_x - 1) / 2], [0, scale_y, (scale_y - 1) / 2]])
        return cls(matrix, size, source_size)

    def to_input(self, points: Real[np.ndarray, "*n 2"]) -> Points:
        """Return points of the image in pixels of the input."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_source(self, points: Real[np.ndarray, "*n 2"]) -> Points:
        """Return points of the input in pixels of the image."""
        return (points - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T

    def outside(self) -> Bool[np.ndarray, "H W"] | None:
        """Return the pixels of the input whose centers lie outside of the image; None if there are none."""
        height, width = self.size
        # From the first pixel's outer edge to the last one's; rounding does not move a pixel that lies on it.
        low, high = -0.5 - 1e-6, np.array(self.source_size[::-1]) - 0.5 + 1e-6
        corners = self.to_source(np.array([[0, 0], [width, 0], [0, height], [width, height]], dtype=float) - 0.5)
        if (corners > low).all() and (corners < high).all():
            return None
        rows, columns = np.indices((height, width), dtype=float)
        points = self.to_source(np.stack([columns, rows], axis=-1))
        return np.any((points < low) | (points > high), axis=-1, keepdims=False)

    @property
    def scale(self) -> float:
        """Input pixels per image pixel."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))


def warp(image: Image, frame: Frame, *, antialias: bool = True, fill: Color = (0, 0, 0)) -> UInt8[np.ndarray, "H W 3"]:
    """Resample an image as a frame says: bilinear, with one color outside of the image.

    Args:
        image: RGB image of the size `frame.source_size`.
        frame: map from the image to the input.
        antialias: True to average whole blocks of pixels first where the input is at most half as fine as the image;
            the published protocol (False) skips pixels instead.
        fill: color outside of the image.
    """
    factor = max(int(1 / frame.scale), 1) if antialias else 1
    return _warp(image, frame, factor, cv2.INTER_LINEAR, fill)


def warp_labels(labels: UInt8[np.ndarray, "h w"], frame: Frame, outside: int) -> UInt8[np.ndarray, "H W"]:
    """Resample a label map as a frame says: every pixel of the input gets the label of the nearest pixel of the image.

    Outside of the image, of the size `frame.source_size`, the label is `outside`.
    """
    return _warp(labels, frame, 1, cv2.INTER_NEAREST, outside)


# Older releases of OpenCV keep the positions that they read from as 16-bit integers.
_CV2_LARGEST = 32_000


def _warp(image: np.ndarray, frame: Frame, factor: int, interpolation: int, fill: Color | int) -> np.ndarray:
    matrix = frame.matrix
    if factor > 1 or max(image.shape[:2]) > _CV2_LARGEST:
        image, matrix = _shrink(image, frame, factor)
    return cv2.warpAffine(image, matrix, frame.size[::-1], flags=interpolation, borderValue=fill)


def _shrink(image: np.ndarray, frame: Frame, factor: int) -> tuple[np.ndarray, Float[np.ndarray, "2 3"]]:
    """Return the part of the image that the frame shows, averaged over blocks, and the matrix from there to the input.

    Blocks are counted from the corner of the image, so that the same image gives the same blocks in every frame.
    """
    height, width = frame.size
    corners = frame.to_source(np.array([[0, 0], [width, 0], [0, height], [width, height]], dtype=float) - 0.5)
    blocks = np.array([image.shape[1], image.shape[0]]) // -factor * -1
    # Bilinear sampling needs one block more on each side; the part is never empty.
    low = np.clip(np.floor(corners.min(0) / factor).astype(int) - 1, 0, blocks - 1)
    high = np.clip(np.ceil(corners.max(0) / factor).astype(int) + 2, low + 1, blocks)
    part = image[low[1] * factor : high[1] * factor, low[0] * factor : high[0] * factor]
    if factor > 1:
        # The last block of a row or column may be incomplete: it is padded with its last pixel.
        below, right = (high - low)[::-1] * factor - part.shape[:2]
        part = cv2.copyMakeBorder(part, 0, int(below), 0, int(right), cv2.BORDER_REPLICATE)
        part = cv2.resize(part, tuple(int(side) for side in high - low), interpolation=cv2.INTER_AREA)
    # Pixel s of the part is centered on pixel factor * (s + low) + (factor - 1) / 2 of the image.
    offset = factor * low + (factor - 1) / 2
    return part, np.column_stack([frame.matrix[:, :2] * factor, frame.matrix[:, :2] @ offset + frame.matrix[:, 2]])


def clip_boxes(boxes: Float[np.ndarray, "n 4"], size: Size) -> Float[np.ndarray, "n 4"]:
    """Return boxes x1 y1 x2 y2 clipped at the borders of an image."""
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height]))


def flip_points(points: Points, width: int, pairs: tuple[tuple[int, int], ...]) -> Points:
    """Return the keypoints of the flipped image: x becomes width - 1 - x and left and right change names.

    Args:
        points: `n k 2` or `k 2`, in pixels.
        width: width of the image.
        pairs: indices of a left and a right keypoint each.
    """
    flipped = points * np.array([-1, 1]) + np.array([width - 1, 0])
    return np.take(flipped, flip_order(points.shape[-2], pairs), axis=-2)


def flip_order(count: int, pairs: tuple[tuple[int, int], ...]) -> list[int]:
    """Return, for each of `count` keypoints, the index of its left-right partner (itself where it has none)."""
    order = list(range(count))
    for left, right in pairs:
        order[left], order[right] = right, left
    return order
