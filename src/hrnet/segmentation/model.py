"""The segmentation network: a backbone, the concatenation of its maps, a head; and label maps of whole images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from hrnet.inference.processor import BoxPrompts
from hrnet.io.geometry import Frame, Size, flip_order
from hrnet.nn.backbone import HRNet, init_normal, set_norm_momentum
from hrnet.nn.representation import PixelHead
from hrnet.nn.task import Batch, TaskModel
from hrnet.results import IGNORE_INDEX, SemanticMap, Source
from hrnet.segmentation.loss import segmentation_losses
from hrnet.segmentation.ocr import ContextHead, SegmentationOutput
from hrnet.segmentation.spec import SegmentationSpec

# Logits that are held at once while a label map is made: 16 MiB in single precision. More is slower: the system then gives
# fresh memory for every strip.
STRIP_ELEMENTS = 1 << 22
# Values between which one product of matrices interpolates: more is more arithmetic, fewer is more calls.
_TOGETHER = 32


class SegmentationModel(TaskModel[SemanticMap]):
    """A label for every pixel of an image."""

    def __init__(self, spec: SegmentationSpec) -> None:
        super().__init__(spec, spec.backbone.in_channels)
        self.spec: SegmentationSpec = spec
        backbone, classes = spec.backbone, len(spec.class_names)
        self.backbone = HRNet(backbone, recompute=True)
        if spec.context is None:
            self.head: nn.Module = PixelHead(backbone.widths, classes, spec.head_kernel, backbone.align_corners)
        else:
            self.head = ContextHead(backbone.widths, classes, spec.context, backbone.align_corners)
        # Source: the released training, which leaves the OCR head as PyTorch starts it.
        init_normal(self if spec.context is None else self.backbone, zero_bias=False)
        set_norm_momentum(self, backbone.norm_momentum)

    def forward(self, images: Float[Tensor, "n c h w"]) -> SegmentationOutput:
        found = self.head(self.backbone(self.normalize(images)))
        return SegmentationOutput(found) if self.spec.context is None else found

    def loss(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """What `spec.loss` says, of the targets `labels` (`n h w`; 255 counts for nothing)."""
        logits, auxiliary = self(batch.images)
        align = self.spec.backbone.align_corners
        return segmentation_losses(logits, auxiliary, batch.targets["labels"], self.spec.loss, align)

    def upsample(self, logits: Float[Tensor, "n k h w"], size: Size) -> Float[Tensor, "n k H W"]:
        """Logits at another height and width, bilinear, corners as in the backbone."""
        align = self.spec.backbone.align_corners
        return functional.interpolate(logits, size=size, mode="bilinear", align_corners=align)

    def named_outputs(self) -> dict[str, tuple[str, ...]]:
        layers = ("head.classify",) if self.spec.context is None else ("head.guess.classify", "head.classify")
        return dict.fromkeys(layers, self.spec.class_names)

    def merge_flip(
        self, outputs: SegmentationOutput, mirrored: SegmentationOutput, input_size: Size
    ) -> SegmentationOutput:
        """The mean of the logits, as published, not of the probabilities."""
        order = flip_order(len(self.spec.class_names), self.spec.pairs)
        means = [
            None if one is None or other is None else (one + other.flip(-1)[:, order]) / 2
            for one, other in zip(outputs, mirrored, strict=True)
        ]
        assert means[0] is not None
        return SegmentationOutput(means[0], means[1])

    def decode(self, outputs: SegmentationOutput, frames: Sequence[Frame]) -> list[SemanticMap]:
        """One label map an image, of its size: at every pixel the class with the largest interpolated logit."""
        align = self.spec.backbone.align_corners
        return [
            SemanticMap(image_labels(logits.float(), frame, align), self.spec.class_names)
            for logits, frame in zip(outputs.logits, frames, strict=True)
        ]

    def frames(self, size: Size, boxes: BoxPrompts) -> list[Frame]:
        """The whole image in the canvas; `hrnet.segmentation.windows` knows other ways."""
        return [image_frame(size, self.spec)]

    def join(self, results: Sequence[SemanticMap], boxes: BoxPrompts, source: Source) -> SemanticMap:
        """That of the one input."""
        return replace(results[0], source=source)


def image_frame(source_size: Size, spec: SegmentationSpec, scale: float = 1.0) -> Frame:
    """How a whole image lies in the canvas of `spec.input_size`: as large as fits, at the top left.

    Source: the published protocol, which brings the long side to the base size, rounds both sides to whole pixels and
    pads at the right and bottom; for LIP (`spec.squash`) both sides are brought to the base size instead.

    Args:
        source_size: height and width of the image.
        spec: of the network.
        scale: of the canvas, and so of the image in it, for predictions at several scales.
    """
    canvas = [max(1, round(side * scale)) for side in spec.input_size]
    shown = canvas
    if not spec.squash:
        ratio = min(side * scale / source for side, source in zip(spec.input_size, source_size, strict=True))
        shown = [min(max(1, round(source * ratio)), side) for source, side in zip(source_size, canvas, strict=True)]
    frame = Frame.resize(source_size, (shown[0], shown[1]))
    return replace(frame, size=(canvas[0], canvas[1]))


def image_labels(logits: Float[Tensor, "k h w"], frame: Frame, align_corners: bool) -> UInt8[np.ndarray, "H W"]:
    """Labels of an image's pixels; 255 where the frame does not show it.

    The logits are interpolated once, straight at the pixels of the image, whatever the frame does: whole image,
    crop, padding or mirror image.

    Args:
        logits: of one input, at a stride of 4.
        frame: where the input lies in the image.
        align_corners: whether the first and last logits lie on the first and last pixels of the input or, as usual, the
            outer edges of both agree.
    """
    height, width = frame.source_size
    rows = max(1, STRIP_ELEMENTS // (logits.shape[0] * width))
    strips = [range(top, min(top + rows, height)) for top in range(0, height, rows)]
    return np.concatenate([_strip(logits, frame, strip, align_corners) for strip in strips])


def _strip(logits: Tensor, frame: Frame, rows: range, align_corners: bool) -> UInt8[np.ndarray, "r W"]:
    size = np.array(frame.size[::-1])
    if frame.matrix[0, 1] == 0 and frame.matrix[1, 0] == 0:
        # Not turned: rows and columns are interpolated one after the other.
        xs = frame.matrix[0, 0] * np.arange(frame.source_size[1]) + frame.matrix[0, 2]
        ys = frame.matrix[1, 1] * np.asarray(rows) + frame.matrix[1, 2]
        columns = logit_places(xs, frame.size[1], logits.shape[2], align_corners)
        lines = logit_places(ys, frame.size[0], logits.shape[1], align_corners)
        # The rows that are needed; columns first, for there are fewer rows of logits than of pixels.
        low = int(min(lines[0], lines[-1]))
        near = logits[:, low : int(max(lines[0], lines[-1])) + 2]
        sampled = between(between(near, columns, -1), lines - low, -2)
        shown = np.logical_and.outer(_inside(ys, size[1]), _inside(xs, size[0]))
    else:
        points = frame.to_input(
            np.stack(np.meshgrid(np.arange(frame.source_size[1]), np.asarray(rows)), -1).astype(float)
        )
        # grid_sample counts from -1 to 1: between the centers of the corner pixels, or between the outer edges.
        grid = points / np.maximum(size - 1, 1) * 2 - 1 if align_corners else (points + 0.5) / size * 2 - 1
        sampled = functional.grid_sample(
            logits[None],
            torch.from_numpy(grid[None]).to(logits),
            mode="bilinear",
            padding_mode="border",
            align_corners=align_corners,
        )[0]
        shown = _inside(points, size).all(-1)
    # Faster than argmax.
    labels = sampled.max(0).indices.to(torch.uint8).cpu().numpy()
    return np.where(shown, labels, np.uint8(IGNORE_INDEX))


def _inside(points: np.ndarray, size: np.ndarray) -> np.ndarray:
    return (points >= -0.5) & (points <= size - 0.5)


def logit_places(
    points: Float[np.ndarray, " n"], length: int, count: int, align_corners: bool
) -> Float[np.ndarray, " n"]:
    """Where points along an input, in its pixels, are among the `count` logits that span its length; never beyond them.

    Corners as of `image_labels`.
    """
    places = points * (count - 1) / max(length - 1, 1) if align_corners else (points + 0.5) * count / length - 0.5
    return np.clip(places, 0, count - 1)


def between(values: Tensor, places: Float[np.ndarray, " n"], axis: int) -> Tensor:
    """Values at places, which all rise or all fall, between those of one of the last two axes (-1 or -2); linear."""
    if places[0] > places[-1]:
        return between(values, places[::-1], axis).flip(axis)
    parts = []
    step = max(int(_TOGETHER * len(places) / (places[-1] - places[0] + 1)), 1)
    for start in range(0, len(places), step):
        some = places[start : start + step]
        first = min(int(some[0]), values.shape[axis] - 1)
        count = min(int(some[-1]) + 2, values.shape[axis]) - first
        # Each place is a sum of two neighbors. As a product of matrices that is far faster than picking them out.
        weights = np.maximum(1 - abs(some[:, None] - first - np.arange(count)), 0)
        near = values.narrow(axis, first, count)
        matrix = torch.from_numpy(weights).to(values)
        parts.append(near @ matrix.T if axis == -1 else matrix @ near)
    return torch.cat(parts, axis)
