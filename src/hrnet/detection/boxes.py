"""Boxes as tensors: ground truth of an input, clipping, overlaps, and the coding of regression targets.

Boxes are x1 y1 x2 y2 and count from the outer edge of the first pixel: a box that fills an input of w x h is 0 0 w h.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from hrnet.io.geometry import Size
from hrnet.nn.task import Batch

# Source: published R-CNNs: no box delta scales a side by more than 62.5.
MAX_LOG_SCALE = math.log(1000 / 16)
# Columns of the square grid in which `separate` places groups of boxes.
_COLUMNS = 64


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Labeled objects of one input.

    Attributes:
        boxes: pixels of the input.
        labels: classes.
        crowd: boxes of crowds, in which no background is learned.
        masks: mask crops, 0 or 1, each as wide and high as its box; None for models without masks.
        stuff: semantic label map at stride 8, 255 ignored; None where the data set has none.
    """

    boxes: Float[Tensor, "k 4"]
    labels: Int[Tensor, " k"]
    crowd: Float[Tensor, "c 4"]
    masks: UInt8[Tensor, "k m m"] | None = None
    stuff: Int[Tensor, "h w"] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def from_batch(cls, batch: Batch) -> list[GroundTruth]:
        """Return the ground truth of every input of a batch, without boxes of zero area."""
        targets = batch.targets
        masks, stuff = targets.get("masks"), targets.get("stuff")
        ground_truths: list[GroundTruth] = []
        for index, count in enumerate(targets["count"].tolist()):
            boxes, crowd = targets["boxes"][index, :count].float(), targets["crowd"][index, :count].bool()
            valid = (boxes[:, 2:] > boxes[:, :2]).all(-1)
            kept = valid & ~crowd
            ground_truths.append(
                cls(
                    boxes=boxes[kept],
                    labels=targets["labels"][index, :count][kept],
                    crowd=boxes[valid & crowd],
                    masks=None if masks is None else masks[index, :count][kept],
                    # Bytes, class + 1, so that the zeros that pad a batch become 255, which is ignored.
                    stuff=None if stuff is None else (stuff[index] - 1).long(),
                )
            )
        return ground_truths


def take_rows(values: Float[Tensor, "n m c"], rows: Int[Tensor, "n k"]) -> Float[Tensor, "n k c"]:
    """Return some rows of each input."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[-1]))


def cell_points(size: Size, stride: int, like: Tensor, at: float = 0.5) -> Float[Tensor, "p 2"]:
    """Return a point (x, y) of each cell of a map of this height and width, row by row, in pixels of the input; `at` is its
    place in the cell: 0.5 for the center."""
    y, x = ((torch.arange(length, device=like.device, dtype=like.dtype) + at) * stride for length in size)
    return torch.stack([x.repeat(size[0]), y.repeat_interleave(size[1])], 1)


# ---- overlaps and coding


def separate(
    boxes: Float[Tensor, "*n 4"], groups: Int[Tensor, "*n"], extent: int | float | Float[Tensor, ""]
) -> Float[Tensor, "*n 4"]:
    """Shift boxes from 0 to `extent` so that those of different groups do not overlap, for one NMS over all groups.

    `torchvision.ops.batched_nms` puts groups in one row, where 80 classes round coordinates to 1/128 pixel, and loops over
    the classes of more than 1000 boxes, which cannot be traced. Here groups lie in a square grid.
    """
    shift = torch.stack([groups % _COLUMNS, groups // _COLUMNS], -1) * (extent + 1.0)
    return boxes + torch.cat([shift, shift], -1)


def pairwise_iou(boxes: Float[Tensor, "*n m 4"], others: Float[Tensor, "*n k 4"]) -> Float[Tensor, "*n m k"]:
    """Return the IoU of every pair of boxes; 0 for zero areas, where torchvision's, which takes 1.4 times as long, is NaN."""
    intersection = _intersection(boxes, others)
    areas = _areas(boxes)[..., None] + _areas(others)[..., None, :]
    return intersection / (areas - intersection).clamp(min=1e-6)


def covered_fractions(boxes: Float[Tensor, "m 4"], regions: Float[Tensor, "c 4"]) -> Float[Tensor, "m c"]:
    """Return the fraction of each box that lies in each region."""
    return _intersection(boxes, regions) / _areas(boxes)[:, None].clamp(min=1e-6)


def _intersection(boxes: Float[Tensor, "*n m 4"], others: Float[Tensor, "*n k 4"]) -> Float[Tensor, "*n m k"]:
    # Axis by axis: half the memory of both at once.
    width, height = (
        torch.minimum(boxes[..., None, axis + 2], others[..., None, :, axis + 2])
        - torch.maximum(boxes[..., None, axis], others[..., None, :, axis])
        for axis in (0, 1)
    )
    return width.clamp_(min=0) * height.clamp_(min=0)


def _areas(boxes: Float[Tensor, "*n m 4"]) -> Float[Tensor, "*n m"]:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def encode_boxes(
    boxes: Float[Tensor, "m 4"], regions: Float[Tensor, "m 4"], stds: Sequence[float] = (1, 1, 1, 1)
) -> Float[Tensor, "m 4"]:
    """Return the box deltas (dx, dy, dw, dh) from regions to boxes: shifts of the center in sides, logarithms of scales.

    No area may be zero. The deltas are divided by `stds`.
    """
    sides = regions[:, 2:] - regions[:, :2]
    shifts = (boxes[:, :2] + boxes[:, 2:] - regions[:, :2] - regions[:, 2:]) / 2 / sides
    scales = ((boxes[:, 2:] - boxes[:, :2]) / sides).log()
    return torch.cat([shifts, scales], -1) / boxes.new_tensor(stds)


def decode_boxes(
    deltas: Float[Tensor, "*m 4"], regions: Float[Tensor, "*#m 4"], stds: Sequence[float] = (1, 1, 1, 1)
) -> Float[Tensor, "*m 4"]:
    """Apply box deltas to regions, the reverse of `encode_boxes`; scales are limited to `MAX_LOG_SCALE`."""
    deltas = deltas * deltas.new_tensor(stds)
    sides = regions[..., 2:] - regions[..., :2]
    centers = (regions[..., :2] + regions[..., 2:]) / 2 + deltas[..., :2] * sides
    reach = deltas[..., 2:].clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE).exp() * sides / 2
    return torch.cat([centers - reach, centers + reach], -1)
