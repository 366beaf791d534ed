"""One image through the network in whatever pieces: whole, in overlapping windows, at several scales, mirrored too.

Memory that grows with the image: the image itself and its labels. Windows go from the top to the bottom; scores are
kept of the rows that a window still touches or that the labels have not been taken from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hrnet.io.geometry import Frame, Image, Size, warp
from hrnet.nn.task import scale_images
from hrnet.segmentation.model import (
    STRIP_ELEMENTS,
    SegmentationModel,
    SegmentationOutput,
    between,
    image_frame,
    logit_places,
)
from hrnet.segmentation.spec import CITYSCAPES, SegmentationSpec

Forward = Callable[[Float[Tensor, "n c h w"]], SegmentationOutput]

# Of logits: input pixels a step.
STRIDE = 4
# Source: the published evaluations: base_size times these; the first for Cityscapes, the second for all other sets.
CITYSCAPES_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
SCALES = (*CITYSCAPES_SCALES, 2.0)
# Pixels that go through the network together.
BATCH_PIXELS = 1 << 21


@dataclass(frozen=True, slots=True)
class InferenceMode:
    """How an image is looked at.

    Attributes:
        scales: the image is looked at with each of them; the scores are averaged.
        flip: also mirrored; the logits are averaged.
        windows: ``whole``: the image fitted into the canvas of the spec, times the scale. ``sliding``: windows of the
            canvas's size, two thirds of it apart, the last ones moved back to the image's edge. ``tiles``: whole up to
            a scale of 1, above it windows side by side.
        native: scale 1 is the image's own, not that at which it fits into the canvas; needs windows.
        published: scores as in the released code: the exponential of the logits (not their softmax), averaged over
            windows, brought to the image's size, summed over scales; and images reduced by skipping pixels. Otherwise
            the mean of logits over windows, of probabilities over scales.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    windows: Literal["whole", "sliding", "tiles"] = "whole"
    native: bool = False
    published: bool = False

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise ValueError(f"Scales are at least one positive number, not {self.scales}.")
        if self.native and self.windows != "sliding":
            raise ValueError("An image is looked at in its own scale through sliding windows only.")
        if self.native and self.published:
            raise ValueError("The published protocol fits images into the canvas; native does not.")


def published_mode(spec: SegmentationSpec, scales: Sequence[float] = (1.0,), flip: bool = False) -> InferenceMode:
    """What the released code does with the data set of a network.

    Source: Cityscapes is tiled above scale 1, LIP is squashed into the input, all others have sliding windows.
    """
    windows = "whole" if spec.squash else "tiles" if spec.class_names == CITYSCAPES else "sliding"
    return InferenceMode(tuple(scales), flip, windows, published=True)


@torch.inference_mode()
def segment(
    image: Image, model: SegmentationModel, forward: Forward, protocol: InferenceMode, batch: int | None = None
) -> UInt8[np.ndarray, "h w"]:
    """The label of every pixel of an image.

    Args:
        image: RGB.
        model: that knows the classes and what is mirrored.
        forward: the model's, or a compiled form of it.
        protocol: how to look.
        batch: windows that go through the network together; None for as many as have two million pixels.
    """
    height, width = image.shape[:2]
    levels = [_Level(image, model, forward, protocol, scale, batch) for scale in protocol.scales]
    labels = np.empty((height, width), np.uint8)
    rows = max(1, STRIP_ELEMENTS // (len(model.spec.class_names) * width))
    for top in range(0, height, rows):
        strip = range(top, min(top + rows, height))
        total: Tensor | None = None
        for level in levels:
            scores = level.scores(strip)
            if len(levels) > 1 and not protocol.published:
                scores = torch.softmax(scores, 0)
            total = scores if total is None else total.add_(scores)
        assert total is not None
        labels[strip.start : strip.stop] = total.max(0).indices.to(torch.uint8).cpu().numpy()
    return labels


class _Level:
    """The image at one scale: scores on a grid, summed over the windows that have been looked through so far.

    The grid has a row every fourth pixel of the input, or, as published, every one.
    """

    def __init__(
        self,
        image: Image,
        model: SegmentationModel,
        forward: Forward,
        protocol: InferenceMode,
        scale: float,
        batch: int | None,
    ) -> None:
        self._image, self._model, self._forward, self._protocol = image, model, forward, protocol
        spec = model.spec
        source = (image.shape[0], image.shape[1])
        self._frame, self._content = _placed(source, spec, protocol, scale)
        whole = protocol.windows == "whole" or (protocol.windows == "tiles" and scale <= 1)
        self._window = self._frame.size if whole else spec.input_size
        share = 1.0 if protocol.windows == "tiles" else 2 / 3
        step = 1 if protocol.published else STRIDE
        self._tops, self._lefts = (
            offsets(content, window, share, step) for content, window in zip(self._content, self._window, strict=True)
        )
        single = len(self._tops) == len(self._lefts) == 1
        # A single input's logits are taken as they are; several have to meet on one grid.
        self._step = step if protocol.published or not single else 0
        self._batch = batch or max(1, BATCH_PIXELS // math.prod(self._window))
        self._sums: Tensor | None = None
        # Rows of the grid: where the sums begin, and the first that is still asked for.
        self._top, self._low = 0, 0
        # How many rows of windows are in the sums.
        self._bands = 0

    def scores(self, rows: range) -> Float[Tensor, "k r w"]:
        """At all pixels of some rows of the image. Rows are asked for from the top to the bottom."""
        self._look(0)
        ys, xs = self._places(np.arange(rows.start, rows.stop), 0), self._places(np.arange(self._image.shape[1]), 1)
        self._low, high = int(ys[0]), int(ys[-1]) + 2
        self._look(high)
        assert self._sums is not None
        values = self._sums[:, self._low - self._top : high - self._top]
        values = values / self._counts(self._low, values.shape[1])
        return between(between(values, xs, -1), ys - self._low, -2)

    def _look(self, row: int) -> None:
        """Look through windows until no further one reaches above a row of the grid; through one row of them at least."""
        while self._bands < len(self._tops) and (not self._bands or self._tops[self._bands] < row * max(self._step, 1)):
            self._band(self._tops[self._bands])
            self._bands += 1

    def _forget(self, row: int) -> None:
        """Rows above it are not needed again."""
        if self._sums is not None and row > self._top:
            self._sums = self._sums[:, row - self._top :].clone()
            self._top = row

    def _band(self, top: int) -> None:
        """Add the windows that begin at one row of the input."""
        self._forget(min(self._low, top // max(self._step, 1)))
        for start in range(0, len(self._lefts), self._batch):
            lefts = self._lefts[start : start + self._batch]
            for left, scores in zip(lefts, self._run(top, lefts), strict=True):
                self._add(scores, top, left)

    def _run(self, top: int, lefts: Sequence[int]) -> Float[Tensor, "n k h w"]:
        """Scores of windows beside one another, on the grid."""
        antialias = not self._protocol.published
        crops = [warp(self._image, _moved(self._frame, top, left, self._window), antialias=antialias) for left in lefts]
        images = scale_images(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2))
        outputs = self._forward(images)
        if self._protocol.flip:
            outputs = self._model.merge_flip(outputs, self._forward(images.flip(-1)), self._window)
        logits = outputs.logits.float()
        if self._protocol.published:
            return self._model.upsample(logits, self._window).exp_()
        return self._on_grid(logits) if self._step else logits

    def _on_grid(self, logits: Float[Tensor, "n k h w"]) -> Float[Tensor, "n k H W"]:
        """Logits at the middles of squares of four pixels, wherever the network has them."""
        align = self._model.spec.backbone.align_corners
        for axis, length in ((-2, self._window[0]), (-1, self._window[1])):
            count = logits.shape[axis]
            if align or count * STRIDE != length:
                middles = STRIDE * np.arange(-(-length // STRIDE)) + (STRIDE - 1) / 2
                logits = between(logits, logit_places(middles, length, count, align), axis)
        return logits

    def _add(self, scores: Float[Tensor, "k h w"], top: int, left: int) -> None:
        step = max(self._step, 1)
        row, column = top // step - self._top, left // step
        classes, height, width = scores.shape
        if self._sums is None:
            self._sums = scores.new_zeros(classes, height, self._lefts[-1] // step + width)
        missing = row + height - self._sums.shape[1]
        if missing > 0:
            more = self._sums.new_zeros(classes, missing, self._sums.shape[2])
            self._sums = torch.cat([self._sums, more], 1)
        self._sums[:, row : row + height, column : column + width] += scores

    def _counts(self, low: int, rows: int) -> Float[Tensor, "r w"]:
        """How many windows of all cover each place of the grid, of some rows."""
        assert self._sums is not None
        step = max(self._step, 1)
        down = _cover(self._tops, -(-self._window[0] // step), step, low, rows)
        across = _cover(self._lefts, -(-self._window[1] // step), step, 0, self._sums.shape[2])
        return torch.from_numpy(np.outer(down, across)).to(self._sums)

    def _places(self, pixels: np.ndarray, axis: int) -> Float[np.ndarray, " n"]:
        """Where on the grid the scores of the image's rows (axis 0) or columns (axis 1) are."""
        align, content = self._model.spec.backbone.align_corners, self._content[axis]
        scale, shift = self._frame.matrix[1 - axis, 1 - axis], self._frame.matrix[1 - axis, 2]
        points = pixels * scale + shift
        if self._protocol.published:
            # The padding is cut off before scores are brought to the image's size.
            length = self._image.shape[axis]
            points = pixels * (content - 1) / max(length - 1, 1) if align else points
            return np.clip(points, 0, content - 1)
        assert self._sums is not None
        if self._step:
            count = (self._tops, self._lefts)[axis][-1] // STRIDE + -(-self._window[axis] // STRIDE)
            return logit_places(points, count * STRIDE, count, False)
        return logit_places(points, self._window[axis], self._sums.shape[1 + axis], align)


def _placed(source: Size, spec: SegmentationSpec, protocol: InferenceMode, scale: float) -> tuple[Frame, Size]:
    """How the image lies in its input, and how many pixels of that it covers."""
    if protocol.native:
        content = (max(round(source[0] * scale), 1), max(round(source[1] * scale), 1))
        return Frame.resize(source, content), content
    frame = image_frame(source, spec, scale)
    return frame, (round(frame.matrix[1, 1] * source[0]), round(frame.matrix[0, 0] * source[1]))


def _moved(frame: Frame, top: int, left: int, size: Size) -> Frame:
    """A window of an input."""
    return replace(frame, matrix=frame.matrix - np.array([[0, 0, left], [0, 0, top]]), size=size)


def offsets(content: int, window: int, share: float, step: int) -> list[int]:
    """Where windows begin along one axis: a share of their length apart, the last one so that it ends with the content.

    All are multiples of `step`, for which the last window may reach beyond the content by less than that.
    Source: the released code, where the share is cut to whole pixels and `step` is 1.
    """
    if content <= window:
        return [0]
    stride = max(int(window * share) // step, 1) * step
    last = -(-(content - window) // step) * step
    return [*range(0, last, stride), last]


def _cover(starts: Sequence[int], length: int, step: int, low: int, count: int) -> Float[np.ndarray, " n"]:
    """How many windows cover each of some places of the grid."""
    places = np.arange(low, low + count)
    begins = np.asarray(starts) // step
    found = np.searchsorted(begins, places, "right") - np.searchsorted(begins + length, places, "right")
    return np.maximum(found, 1).astype(np.float64)
