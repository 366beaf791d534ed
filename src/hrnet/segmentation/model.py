"""The segmentation network: a backbone, the concatenation of its maps, a head; and label maps of whole pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from hrnet.backbone import HRNet, init_normal
from hrnet.geometry import Frame, Size, flip_order
from hrnet.representation import PixelHead, concatenate
from hrnet.results import OUTSIDE, Boxes, SemanticMap, Source
from hrnet.segmentation.spec import SegmentationSpec
from hrnet.task import Batch, TaskModel

# Source: the published data sets' labels; what people did not mark, or marked as not to be counted.
IGNORE = 255

# Logits that are held at once while a label map is made: 128 MiB in single precision.
STRIP_ELEMENTS = 1 << 25


class SegmentationOutput(NamedTuple):
    """What the network returns, before the softmax.

    Attributes:
        logits: at stride 4.
        auxiliary: logits that only help training; None for networks with one head.
    """

    logits: Float[Tensor, "n k h w"]
    auxiliary: Float[Tensor, "n k h w"] | None = None


class SegmentationModel(TaskModel[SemanticMap]):
    """A label for every pixel of a picture."""

    def __init__(self, spec: SegmentationSpec) -> None:
        super().__init__(spec, spec.backbone.in_channels)
        self.spec: SegmentationSpec = spec
        self.backbone = HRNet(spec.backbone)
        self.head = PixelHead(sum(spec.backbone.widths), len(spec.class_names), spec.head_kernel)
        init_normal(self, zero_bias=False)

    def forward(self, images: Float[Tensor, "n c h w"]) -> SegmentationOutput:
        features = concatenate(self.backbone(self.normalise(images)), self.spec.backbone.align_corners)
        return SegmentationOutput(self.head(features))

    def loss(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Cross entropy with the targets `labels` (`n h w`), mean over the pixels that are not 255.

        The logits are brought to the size of the labels, not the labels to that of the logits: thin things stay.
        """
        labels = batch.targets["labels"].long()
        logits = self.upsample(self(batch.images).logits.float(), (labels.shape[-2], labels.shape[-1]))
        total = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
        # A batch without one marked pixel teaches nothing; the plain mean would teach NaN.
        return {"classes": total / (labels != IGNORE).sum().clamp(min=1)}

    def upsample(self, logits: Float[Tensor, "n k h w"], size: Size) -> Float[Tensor, "n k H W"]:
        """Logits at another height and width, bilinear, corners as in the backbone."""
        align = self.spec.backbone.align_corners
        return functional.interpolate(logits, size=size, mode="bilinear", align_corners=align)

    def named_outputs(self) -> dict[str, tuple[str, ...]]:
        return {"head.3": self.spec.class_names}

    def merge_flip(
        self, outputs: SegmentationOutput, mirrored: SegmentationOutput, input_size: Size
    ) -> SegmentationOutput:
        """The mean of the logits, as published, not of the probabilities."""
        order = flip_order(len(self.spec.class_names), self.spec.pairs)
        return SegmentationOutput((outputs.logits + mirrored.logits.flip(-1)[:, order]) / 2)

    def decode(self, outputs: SegmentationOutput, frames: Sequence[Frame]) -> list[SemanticMap]:
        """One label map a picture, of its size: at every pixel the class with the largest interpolated logit."""
        align = self.spec.backbone.align_corners
        return [
            SemanticMap(picture_labels(logits.float(), frame, align), self.spec.class_names)
            for logits, frame in zip(outputs.logits, frames, strict=True)
        ]

    def frames(self, size: Size, boxes: Boxes) -> list[Frame]:
        """The whole picture in the canvas; `hrnet.segmentation.windows` knows other ways."""
        return [picture_frame(size, self.spec)]

    def join(self, results: Sequence[SemanticMap], boxes: Boxes, source: Source) -> SemanticMap:
        """That of the one input."""
        return replace(results[0], source=source)


def picture_frame(source_size: Size, spec: SegmentationSpec, scale: float = 1.0) -> Frame:
    """How a whole picture lies in the canvas of `spec.input_size`: as large as fits, at the top left.

    Source: the published protocol, which brings the long side to the base size, rounds both sides to whole pixels and
    pads at the right and bottom; for LIP (`spec.squash`) both sides are brought to the base size instead.

    Args:
        source_size: height and width of the picture.
        spec: of the network.
        scale: of the canvas, and so of the picture in it, for predictions at several scales.
    """
    canvas = [max(1, round(side * scale)) for side in spec.input_size]
    shown = canvas
    if not spec.squash:
        ratio = min(side * scale / source for side, source in zip(spec.input_size, source_size, strict=True))
        shown = [min(max(1, round(source * ratio)), side) for source, side in zip(source_size, canvas, strict=True)]
    frame = Frame.resize(source_size, (shown[0], shown[1]))
    return replace(frame, size=(canvas[0], canvas[1]))


def picture_labels(logits: Float[Tensor, "k h w"], frame: Frame, align_corners: bool) -> UInt8[np.ndarray, "H W"]:
    """Labels of a picture's pixels; 255 where the frame does not show it.

    The logits are interpolated once, straight at the pixels of the picture, whatever the frame does: whole picture,
    crop, padding or mirror image.

    Args:
        logits: of one input, at a stride of 4.
        frame: where the input lies in the picture.
        align_corners: whether the first and last logits lie on the first and last pixels of the input or, as usual, the
            outer edges of both agree.
    """
    height, width = frame.source_size
    rows = max(1, STRIP_ELEMENTS // (logits.shape[0] * width))
    strips = [range(top, min(top + rows, height)) for top in range(0, height, rows)]
    return np.concatenate([_strip(logits, frame, strip, align_corners) for strip in strips])


def _strip(logits: Tensor, frame: Frame, rows: range, align_corners: bool) -> UInt8[np.ndarray, "r W"]:
    xs, ys = np.meshgrid(np.arange(frame.source_size[1]), np.asarray(rows))
    points = frame.to_input(np.stack([xs, ys], axis=-1).astype(np.float64))
    size = np.array(frame.size[::-1])
    # grid_sample counts from -1 to 1: between the centres of the corner pixels, or between the outer edges.
    grid = points / np.maximum(size - 1, 1) * 2 - 1 if align_corners else (points + 0.5) / size * 2 - 1
    sampled = functional.grid_sample(
        logits[None],
        torch.from_numpy(grid[None]).to(logits),
        mode="bilinear",
        padding_mode="border",
        align_corners=align_corners,
    )
    labels = sampled[0].argmax(0).to(torch.uint8).cpu().numpy()
    shown = ((points >= -0.5) & (points <= size - 0.5)).all(-1)
    return np.where(shown, labels, np.uint8(OUTSIDE))
