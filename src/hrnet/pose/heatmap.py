"""Keypoints to heatmaps and back. All coordinates are pixels of the network's input unless a name says otherwise."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hrnet.io.geometry import Size, flip_order
from hrnet.pose.spec import CodecSpec

Heatmaps = Float[Tensor, "n k h w"]
Points = Float[Tensor, "n k 2"]
Scores = Float[Tensor, "n k"]

STRIDE = 4
# Smallest value before the logarithm. Source: the released code of DARK and of UDP.
_DARK_FLOOR, _UDP_FLOOR, _UDP_CEILING = 1e-10, 1e-3, 50.0
# Heatmap pixels by which refining may move a peak: as far as the derivatives look. Deliberately not so in the released
# code, where a nearly flat map (a keypoint that is not there) throws its point hundreds of pixels away.
_LARGEST_STEP = 2.0


class HeatmapCodec:
    """One codec for one input size.

    Args:
        spec: which kind.
        input_size: height and width of the input; the heatmaps are a quarter of it, rounded up.
        pairs: left and right keypoints, for the flip test.
    """

    def __init__(self, spec: CodecSpec, input_size: Size, pairs: tuple[tuple[int, int], ...] = ()) -> None:
        self.spec = spec
        self.input_size = input_size
        self.pairs = pairs
        height, width = (-(-side // STRIDE) for side in input_size)
        self.heatmap_size: Size = (height, width)
        if spec.kind == "udp":
            self.stride = ((input_size[1] - 1) / (width - 1), (input_size[0] - 1) / (height - 1))
        else:
            self.stride = (float(STRIDE), float(STRIDE))

    def encode(self, points: Points, visibility: Float[Tensor, "n k"]) -> tuple[Heatmaps, Scores]:
        """Gaussians of height 1, and the weight of each heatmap in the loss.

        A weight is 0 where the keypoint is not labeled or its Gaussian, cut at three sigma, lies outside.
        """
        stride = torch.tensor(self.stride, dtype=torch.float64, device=points.device)
        center = points.double() / stride
        # Truncation, not rounding: this is how the published networks were trained.
        rounded = (center + 0.5).trunc()
        radius = 3 * self.spec.heatmap_sigma
        size = torch.tensor(self.heatmap_size[::-1], device=points.device)
        outside = (rounded - radius >= size) | (rounded + radius + 1 < 0)
        if self.spec.kind == "dark":
            outside = (center - radius >= size) | (center + radius + 1 < 0)
        weights = visibility.clamp(0, 1) * ~outside.any(-1)
        axes = [self._gaussian(center[..., axis], rounded[..., axis], int(size[axis])) for axis in (0, 1)]
        heatmaps = axes[1][..., :, None] * axes[0][..., None, :]
        return (heatmaps * (weights > 0.5)[..., None, None]).float(), weights.float()

    def _gaussian(self, center: Tensor, rounded: Tensor, length: int) -> Float[Tensor, "n k length"]:
        pixels = torch.arange(length, device=center.device, dtype=center.dtype)
        middle = rounded if self.spec.kind == "classic" else center
        sigma = self.spec.heatmap_sigma
        values = torch.exp(-((pixels - middle[..., None]) ** 2) / (2 * sigma**2))
        if self.spec.kind == "dark":
            return values
        return values * ((pixels - rounded[..., None]).abs() <= 3 * sigma)

    def decode(self, heatmaps: Heatmaps) -> tuple[Points, Scores]:
        """Where each heatmap peaks, finer than its pixels, and how high."""
        heatmaps = heatmaps.float()
        peak, scores = _peaks(heatmaps)
        refine = {"classic": self._quarter_offset, "dark": self._taylor_dark, "udp": self._taylor_udp}[self.spec.kind]
        step = refine(heatmaps, peak.long()).clamp(-_LARGEST_STEP, _LARGEST_STEP)
        # Chosen, not multiplied by 0: the step of a map without a positive value need not be a number.
        points = torch.where((scores > 0)[..., None], peak + step, 0)
        return points * torch.tensor(self.stride, device=points.device, dtype=points.dtype), scores

    def merge_flip(self, heatmaps: Heatmaps, mirrored: Heatmaps) -> Heatmaps:
        """The mean of heatmaps and of those of the mirrored images.

        A network of stride 4 sees the mirrored image off by up to a pixel of its heatmap; the published protocol makes
        that up by moving the mirrored map right by one pixel, column 0 staying as it is.
        """
        return (heatmaps + self.flip_back(mirrored)) / 2

    def flip_back(self, mirrored: Heatmaps) -> Heatmaps:
        """Heatmaps of mirrored images as heatmaps of the images."""
        back = mirrored.flip(-1)[:, flip_order(mirrored.shape[1], self.pairs)]
        if self.spec.kind != "udp" and self.spec.flip_shift:
            back = torch.cat([back[..., :1], back[..., :-1]], dim=-1)
        return back

    def _quarter_offset(self, heatmaps: Heatmaps, peak: Tensor) -> Points:
        """A quarter of a pixel toward the higher neighbor, per axis, away from the border."""
        window = _windows(heatmaps, peak, radius=1)
        difference = torch.stack([window[..., 1, 2] - window[..., 1, 0], window[..., 2, 1] - window[..., 0, 1]], -1)
        size = torch.tensor(heatmaps.shape[:-3:-1], device=peak.device)
        inside = (peak > 1) & (peak < size - 1)
        if self.spec.per_axis:
            inside &= (peak > 0).flip(-1)
        else:
            inside = inside.all(-1, keepdim=True)
        return 0.25 * difference.sign() * inside

    def _taylor_dark(self, heatmaps: Heatmaps, peak: Tensor) -> Points:
        """One Newton step on the logarithm of the smoothed heatmap, with second derivatives over two pixels."""
        logs = _smooth(heatmaps, self.spec.blur).clamp_min(_DARK_FLOOR).log()
        window = _windows(logs, peak, radius=2)
        gradient = 0.5 * torch.stack([window[..., 2, 3] - window[..., 2, 1], window[..., 3, 2] - window[..., 1, 2]], -1)
        twice = 2 * window[..., 2, 2]
        xx = 0.25 * (window[..., 2, 4] - twice + window[..., 2, 0])
        yy = 0.25 * (window[..., 4, 2] - twice + window[..., 0, 2])
        xy = 0.25 * (window[..., 3, 3] - window[..., 1, 3] - window[..., 3, 1] + window[..., 1, 1])
        size = torch.tensor(heatmaps.shape[:-3:-1], device=peak.device)
        inside = ((peak > 1) & (peak < size - 2)).all(-1, keepdim=True)
        return torch.where(inside, -_solve(xx, xy, yy, gradient), 0)

    def _taylor_udp(self, heatmaps: Heatmaps, peak: Tensor) -> Points:
        """The same step with second derivatives over one pixel; maps are continued by their border."""
        logs = _smooth(heatmaps, self.spec.blur).clamp(_UDP_FLOOR, _UDP_CEILING).log()
        window = _windows(logs, peak, radius=1)
        middle = window[..., 1, 1]
        right, left, below, above = window[..., 1, 2], window[..., 1, 0], window[..., 2, 1], window[..., 0, 1]
        gradient = 0.5 * torch.stack([right - left, below - above], -1)
        xx, yy = right - 2 * middle + left, below - 2 * middle + above
        xy = 0.5 * (window[..., 2, 2] - right - below + 2 * middle - left - above + window[..., 0, 0])
        epsilon = torch.finfo(torch.float32).eps
        return -_solve(xx + epsilon, xy, yy + epsilon, gradient)


def _peaks(heatmaps: Heatmaps) -> tuple[Points, Scores]:
    """Column and row of the largest value (0, 0 where nothing is above 0), and the value."""
    scores, place = heatmaps.flatten(2).max(-1)
    width = heatmaps.shape[-1]
    peak = torch.stack([place % width, place // width], -1).float()
    return peak * (scores > 0)[..., None], scores


def _windows(heatmaps: Heatmaps, peak: Tensor, radius: int) -> Float[Tensor, "n k side side"]:
    """What surrounds each peak; maps are continued by their border."""
    height, width = heatmaps.shape[-2:]
    steps = torch.arange(-radius, radius + 1, device=peak.device)
    columns = (peak[..., 0, None] + steps).clamp(0, width - 1)
    rows = (peak[..., 1, None] + steps).clamp(0, height - 1)
    flat = (rows[..., :, None] * width + columns[..., None, :]).flatten(2)
    return heatmaps.flatten(2).gather(-1, flat).unflatten(-1, (2 * radius + 1, 2 * radius + 1))


def _smooth(heatmaps: Heatmaps, kernel: int) -> Heatmaps:
    """Gaussian smoothing that keeps the height of each map's peak; its width follows from the kernel as in OpenCV."""
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    steps = torch.arange(kernel, device=heatmaps.device, dtype=heatmaps.dtype) - (kernel - 1) / 2
    weights = torch.exp(-(steps**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    flat = heatmaps.flatten(0, 1)[:, None]
    flat = functional.conv2d(flat, weights.view(1, 1, 1, -1), padding=(0, kernel // 2))
    flat = functional.conv2d(flat, weights.view(1, 1, -1, 1), padding=(kernel // 2, 0))
    smooth = flat.view_as(heatmaps)
    before, after = heatmaps.amax((-2, -1), keepdim=True), smooth.amax((-2, -1), keepdim=True)
    return smooth * (before / after.clamp_min(torch.finfo(torch.float32).tiny))


def _solve(xx: Tensor, xy: Tensor, yy: Tensor, gradient: Points) -> Points:
    """The 2x2 symmetric system; 0 where it has no solution."""
    determinant = xx * yy - xy**2
    x = yy * gradient[..., 0] - xy * gradient[..., 1]
    y = xx * gradient[..., 1] - xy * gradient[..., 0]
    solved = torch.stack([x, y], -1) / torch.where(determinant == 0, 1, determinant)[..., None]
    return torch.where((determinant == 0)[..., None], 0, solved)
