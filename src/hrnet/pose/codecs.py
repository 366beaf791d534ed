"""Heatmap codecs: keypoints to heatmaps and back, in NumPy. All coordinates are pixels of the network input.

A codec is one class and one row of `CODECS`; what encodes a target and what decodes the output stand together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from hrnet.errors import InputError
from hrnet.io.geometry import Size, flip_order
from hrnet.pose.spec import CodecSpec

Heatmaps = Float[np.ndarray, "n k h w"]
Points = Float[np.ndarray, "n k 2"]
Scores = Float[np.ndarray, "n k"]
Pairs = tuple[tuple[int, int], ...]

# Input pixels per heatmap pixel.
STRIDE = 4
# Smallest and largest value before the logarithm. Source: the released code of DARK and of UDP.
_DARK_FLOOR, _UDP_FLOOR, _UDP_CEILING = 1e-10, 1e-3, 50.0
# Heatmap pixels by which refinement may move a peak: the reach of the derivatives. The released code has no such limit
# and moves the point of a nearly flat map (a keypoint that is not there) by hundreds of pixels.
_LARGEST_STEP = 2.0


class Codec(ABC):
    """Conversion between keypoints and heatmaps."""

    unbiased: ClassVar[bool]  # True if crops count lengths between pixel centers; see `Frame.around`

    @abstractmethod
    def __init__(self, spec: CodecSpec, input_size: Size, pairs: Pairs = ()) -> None:
        """Make the codec for one input size; heatmaps have a quarter of it, rounded up. `pairs` are for the flip test."""

    @abstractmethod
    def encode(self, points: Points, visibility: Scores) -> tuple[Heatmaps, Scores]:
        """Return target heatmaps and their weights in the loss, 0 where nothing is learned."""

    @abstractmethod
    def decode(self, heatmaps: Heatmaps) -> tuple[Points, Scores]:
        """Return keypoints and their scores."""

    @abstractmethod
    def merge_flip(self, heatmaps: Heatmaps, flipped: Heatmaps) -> Heatmaps:
        """Return the mean of heatmaps and those of the horizontally flipped inputs."""


class ClassicCodec(Codec):
    """The published codec: Gaussians around rounded positions, peaks refined by a quarter pixel."""

    unbiased: ClassVar[bool] = False

    def __init__(self, spec: CodecSpec, input_size: Size, pairs: Pairs = ()) -> None:
        self.spec = spec
        self.pairs = pairs
        height, width = (-(-side // STRIDE) for side in input_size)
        self.heatmap_size: Size = (height, width)
        self.stride: tuple[float, float] = (float(STRIDE), float(STRIDE))

    def encode(self, points: Points, visibility: Scores) -> tuple[Heatmaps, Scores]:
        """Return Gaussians of height 1; a weight is 0 where a keypoint is not labeled or its Gaussian lies outside."""
        center = points.astype(np.float64) / np.array(self.stride)
        # Truncation, not rounding: the published networks were trained so.
        rounded = np.trunc(center + 0.5)
        weights = np.clip(visibility, 0, 1) * ~self._outside(center, rounded).any(-1)
        columns, rows = (
            self._gaussian(center[..., axis], rounded[..., axis], self.heatmap_size[1 - axis]) for axis in (0, 1)
        )
        heatmaps = rows[..., :, None] * columns[..., None, :]
        return (heatmaps * (weights > 0.5)[..., None, None]).astype(np.float32), weights.astype(np.float32)

    def _outside(self, center: Points, rounded: Points) -> Bool[np.ndarray, "n k 2"]:
        radius = 3 * self.spec.heatmap_sigma
        return (rounded - radius >= self.heatmap_size[::-1]) | (rounded + radius + 1 < 0)

    def _gaussian(self, center: Scores, rounded: Scores, length: int) -> Float[np.ndarray, "n k length"]:
        """Return a Gaussian along one axis, cut at three sigma."""
        return self._bell(rounded, length) * self._near(rounded, length)

    def _bell(self, mean: Scores, length: int) -> Float[np.ndarray, "n k length"]:
        return np.exp(-((np.arange(length) - mean[..., None]) ** 2) / (2 * self.spec.heatmap_sigma**2))

    def _near(self, rounded: Scores, length: int) -> Bool[np.ndarray, "n k length"]:
        return np.abs(np.arange(length) - rounded[..., None]) <= 3 * self.spec.heatmap_sigma

    def decode(self, heatmaps: Heatmaps) -> tuple[Points, Scores]:
        """Return the sub-pixel position and the height of each heatmap's peak; 0, 0 for maps without a positive value."""
        heatmaps = heatmaps.astype(np.float32, copy=False)
        peaks, scores = _peaks(heatmaps)
        step = np.clip(self._refine(heatmaps, peaks), -_LARGEST_STEP, _LARGEST_STEP)
        # Chosen, not multiplied by 0: the step of a map without a positive value may be NaN.
        points = np.where((scores > 0)[..., None], peaks + step, 0)
        return (points * np.array(self.stride)).astype(np.float32), scores

    def _refine(self, heatmaps: Heatmaps, peaks: Int[np.ndarray, "n k 2"]) -> Points:
        """Return a quarter of a pixel toward the higher neighbor, per axis, away from the border."""
        window = _windows(heatmaps, peaks, radius=1)
        difference = np.stack([window[..., 1, 2] - window[..., 1, 0], window[..., 2, 1] - window[..., 0, 1]], -1)
        inside = (peaks > 1) & (peaks < np.array(heatmaps.shape[:-3:-1]) - 1)
        if self.spec.per_axis:
            inside &= (peaks > 0)[..., ::-1]
        else:
            inside = inside.all(-1, keepdims=True)
        return 0.25 * np.sign(difference) * inside

    def merge_flip(self, heatmaps: Heatmaps, flipped: Heatmaps) -> Heatmaps:
        """Return the mean, after `flip_back`.

        A network of stride 4 shifts the flipped image by up to a pixel of its heatmap; the published protocol compensates
        by moving the flipped map right by one pixel, column 0 staying as it is.
        """
        return (heatmaps + self.flip_back(flipped)) / 2

    def flip_back(self, flipped: Heatmaps) -> Heatmaps:
        """Return heatmaps of flipped inputs as heatmaps of the inputs."""
        back = flipped[:, flip_order(flipped.shape[1], self.pairs), :, ::-1]
        return np.concatenate([back[..., :1], back[..., :-1]], -1) if self.spec.flip_shift else back


class DarkCodec(ClassicCodec):
    """DARK (arXiv 1910.06278): Gaussians around unrounded positions, peaks refined by a Taylor step."""

    def _outside(self, center: Points, rounded: Points) -> Bool[np.ndarray, "n k 2"]:
        return super()._outside(center, center)

    def _gaussian(self, center: Scores, rounded: Scores, length: int) -> Float[np.ndarray, "n k length"]:
        return self._bell(center, length)

    def _refine(self, heatmaps: Heatmaps, peaks: Int[np.ndarray, "n k 2"]) -> Points:
        """Return one Newton step on the logarithm of the smoothed heatmap, with second derivatives over two pixels."""
        logs = np.log(np.maximum(_smooth(heatmaps, self.spec.blur), _DARK_FLOOR))
        window = _windows(logs, peaks, radius=2)
        gradient = 0.5 * np.stack([window[..., 2, 3] - window[..., 2, 1], window[..., 3, 2] - window[..., 1, 2]], -1)
        twice = 2 * window[..., 2, 2]
        xx = 0.25 * (window[..., 2, 4] - twice + window[..., 2, 0])
        yy = 0.25 * (window[..., 4, 2] - twice + window[..., 0, 2])
        xy = 0.25 * (window[..., 3, 3] - window[..., 1, 3] - window[..., 3, 1] + window[..., 1, 1])
        size = np.array(heatmaps.shape[:-3:-1])
        inside = ((peaks > 1) & (peaks < size - 2)).all(-1, keepdims=True)
        return np.where(inside, -_solve(xx, xy, yy, gradient), 0)


class UdpCodec(ClassicCodec):
    """UDP (arXiv 1911.07524): lengths counted between pixel centers, which needs no flip shift, and a Taylor step."""

    unbiased: ClassVar[bool] = True

    def __init__(self, spec: CodecSpec, input_size: Size, pairs: Pairs = ()) -> None:
        super().__init__(spec, input_size, pairs)
        height, width = self.heatmap_size
        self.stride: tuple[float, float] = ((input_size[1] - 1) / (width - 1), (input_size[0] - 1) / (height - 1))

    def _gaussian(self, center: Scores, rounded: Scores, length: int) -> Float[np.ndarray, "n k length"]:
        return self._bell(center, length) * self._near(rounded, length)

    def flip_back(self, flipped: Heatmaps) -> Heatmaps:
        return flipped[:, flip_order(flipped.shape[1], self.pairs), :, ::-1]

    def _refine(self, heatmaps: Heatmaps, peaks: Int[np.ndarray, "n k 2"]) -> Points:
        """Return one Newton step with second derivatives over one pixel; maps are continued by their border."""
        logs = np.log(np.clip(_smooth(heatmaps, self.spec.blur), _UDP_FLOOR, _UDP_CEILING))
        window = _windows(logs, peaks, radius=1)
        middle = window[..., 1, 1]
        right, left, below, above = window[..., 1, 2], window[..., 1, 0], window[..., 2, 1], window[..., 0, 1]
        gradient = 0.5 * np.stack([right - left, below - above], -1)
        xx, yy = right - 2 * middle + left, below - 2 * middle + above
        xy = 0.5 * (window[..., 2, 2] - right - below + 2 * middle - left - above + window[..., 0, 0])
        epsilon = np.finfo(np.float32).eps
        return -_solve(xx + epsilon, xy, yy + epsilon, gradient)


# The one list of codecs, by `CodecSpec.kind`.
CODECS: dict[str, type[Codec]] = {"classic": ClassicCodec, "dark": DarkCodec, "udp": UdpCodec}


def make_codec(spec: CodecSpec, input_size: Size, pairs: Pairs = ()) -> Codec:
    """Return the codec of a spec for one input size; arguments as of `Codec`."""
    return codec_class(spec.kind)(spec, input_size, pairs)


def codec_class(kind: str) -> type[Codec]:
    """Return the codec of this name.

    Raises:
        InputError: no codec has this name.
    """
    if kind not in CODECS:
        raise InputError(f"codec.kind: unknown codec {kind!r}; choose from {', '.join(map(repr, CODECS))}.")
    return CODECS[kind]


def _peaks(heatmaps: Heatmaps) -> tuple[Int[np.ndarray, "n k 2"], Scores]:
    """Return column and row of the largest value (0, 0 where nothing is above 0), and the value."""
    count, keypoints, height, width = heatmaps.shape
    flat = heatmaps.reshape(count, keypoints, height * width)
    place = flat.argmax(-1)
    scores = np.take_along_axis(flat, place[..., None], -1)[..., 0]
    return np.stack([place % width, place // width], -1) * (scores > 0)[..., None], scores


def _windows(heatmaps: Heatmaps, peaks: Int[np.ndarray, "n k 2"], radius: int) -> Float[np.ndarray, "n k side side"]:
    """Return the values around each peak; maps are continued by their border."""
    count, keypoints, height, width = heatmaps.shape
    steps = np.arange(-radius, radius + 1)
    columns = np.clip(peaks[..., 0, None] + steps, 0, width - 1)
    rows = np.clip(peaks[..., 1, None] + steps, 0, height - 1)
    images, channels = np.ogrid[:count, :keypoints]
    return heatmaps[images[..., None, None], channels[..., None, None], rows[..., :, None], columns[..., None, :]]


def _smooth(heatmaps: Heatmaps, kernel: int) -> Heatmaps:
    """Smooth with a Gaussian that keeps the height of each map's peak; its width follows from the kernel as in OpenCV."""
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    weights = np.exp(-((np.arange(kernel) - (kernel - 1) / 2) ** 2) / (2 * sigma**2))
    weights = (weights / weights.sum()).astype(np.float32)
    # A banded matrix per axis: zero padding at the borders, and one product for all maps.
    height, width = heatmaps.shape[-2:]
    smooth = _band(weights, height) @ heatmaps @ _band(weights, width)
    before, after = heatmaps.max((-2, -1), keepdims=True), smooth.max((-2, -1), keepdims=True)
    return smooth * (before / np.maximum(after, np.finfo(np.float32).tiny))


def _band(weights: Float[np.ndarray, " kernel"], length: int) -> Float[np.ndarray, "length length"]:
    """Return the symmetric matrix of a convolution with zero padding."""
    offset = np.abs(np.subtract.outer(np.arange(length), np.arange(length)))
    half = len(weights) // 2
    return np.where(offset <= half, weights[np.minimum(half + offset, len(weights) - 1)], np.float32(0))


def _solve(xx: Scores, xy: Scores, yy: Scores, gradient: Points) -> Points:
    """Solve the 2x2 symmetric systems; 0 where there is no solution."""
    determinant = xx * yy - xy**2
    x = yy * gradient[..., 0] - xy * gradient[..., 1]
    y = xx * gradient[..., 1] - xy * gradient[..., 0]
    solved = np.stack([x, y], -1) / np.where(determinant == 0, 1, determinant)[..., None]
    return np.where((determinant == 0)[..., None], 0, solved)
