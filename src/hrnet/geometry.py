"""The one record of geometry: an affine map from the pixels of a picture to the pixels of the network's input.

Convention, everywhere in this package: pixel (0, 0) is the centre of the top-left pixel, so a picture w pixels wide
reaches from -0.5 to w - 0.5. Points are (x, y), boxes are x1 y1 x2 y2, sizes are (height, width).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

Size = tuple[int, int]
Points = Float[np.ndarray, "*n 2"]
Image = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Where a network input lies in its picture.

    Attributes:
        matrix: 2x3 affine map from picture pixels to input pixels.
        size: height and width of the input.
        source_size: height and width of the picture.
    """

    matrix: Float[np.ndarray, "2 3"]
    size: Size
    source_size: Size

    @classmethod
    def around(
        cls,
        centre: tuple[float, float],
        span: float,
        size: Size,
        source_size: Size,
        *,
        rotation: float = 0.0,
        flip: bool = False,
        unbiased: bool = False,
    ) -> Frame:
        """A crop around a point.

        Args:
            centre: the point (x, y) of the picture that comes to the middle of the input.
            span: picture pixels that the width of the input covers.
            size: height and width of the input.
            source_size: height and width of the picture.
            rotation: degrees by which the content turns counter-clockwise, as seen, in the input.
            flip: mirror left and right, about the centre.
            unbiased: count lengths between pixel centres (width - 1), not in pixels. The published networks were
                trained with False, where the middle of the input is (width / 2, height / 2), half a pixel to the right
                and below its centre; UDP (arXiv 1911.07524) uses True.
        """
        height, width = size
        extent = 1 if unbiased else 0
        scale = (width - extent) / span
        angle = np.deg2rad(rotation)
        turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        if flip:
            turn = np.diag([-1.0, 1.0]) @ turn
        middle = np.array([width - extent, height - extent]) / 2
        shift = middle - turn @ np.asarray(centre, dtype=np.float64)
        return cls(np.column_stack([turn, shift]), size, source_size)

    @classmethod
    def resize(cls, source_size: Size, size: Size) -> Frame:
        """The whole picture at another size, edges on edges (the convention of every common resize function)."""
        scale_y, scale_x = size[0] / source_size[0], size[1] / source_size[1]
        matrix = np.array([[scale_x, 0, (scale_x - 1) / 2], [0, scale_y, (scale_y - 1) / 2]])
        return cls(matrix, size, source_size)

    def to_input(self, points: Points) -> Points:
        """Points of the picture in pixels of the input."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_source(self, points: Points) -> Points:
        """Points of the input in pixels of the picture."""
        return (points - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T

    @property
    def scale(self) -> float:
        """Input pixels per picture pixel."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))


def warp(image: Image, frame: Frame, *, antialias: bool = True) -> Image:
    """What the frame shows of the picture: bilinear, black where it reaches beyond.

    Args:
        image: RGB picture of the size `frame.source_size`.
        frame: where to look.
        antialias: average whole blocks of pixels first where the input is less than half as fine as the picture;
            the published protocol (False) skips pixels instead.
    """
    matrix = frame.matrix
    factor = int(1 / frame.scale) if antialias else 1
    if factor > 1:
        image, matrix = _shrink(image, matrix, factor)
    height, width = frame.size
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)


def _shrink(image: Image, matrix: Float[np.ndarray, "2 3"], factor: int) -> tuple[Image, Float[np.ndarray, "2 3"]]:
    """The part of the picture that the matrix shows, averaged over blocks, and the matrix from there."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    if not height or not width:
        return image, matrix
    small = cv2.resize(image[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA)
    # Pixel s of the small picture is centred on pixel factor * s + (factor - 1) / 2 of the large one.
    offset = np.full(2, (factor - 1) / 2)
    return small, np.column_stack([matrix[:, :2] * factor, matrix[:, :2] @ offset + matrix[:, 2]])


def clip_boxes(boxes: Float[np.ndarray, "n 4"], size: Size) -> Float[np.ndarray, "n 4"]:
    """Boxes x1 y1 x2 y2 cut at the borders of a picture."""
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height]))


def flip_points(points: Points, width: int, pairs: tuple[tuple[int, int], ...]) -> Points:
    """Keypoints of the mirrored picture: x becomes width - 1 - x and left and right change names.

    Args:
        points: `n k 2` or `k 2`, in pixels.
        width: of the picture.
        pairs: indices of a left and a right keypoint.
    """
    mirrored = points * np.array([-1, 1]) + np.array([width - 1, 0])
    return np.take(mirrored, flip_order(points.shape[-2], pairs), axis=-2)


def flip_order(count: int, pairs: tuple[tuple[int, int], ...]) -> list[int]:
    """For each of `count` keypoints the index of its mirror partner (itself where it has none)."""
    order = list(range(count))
    for left, right in pairs:
        order[left], order[right] = right, left
    return order
