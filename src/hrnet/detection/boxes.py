"""Boxes: from image to input and back, what is found (`DetectionOutput`), what is to be found (`Objects`), overlap, coding.

Boxes are x1 y1 x2 y2 and count from the outer edge of the first pixel: a box that fills an input of w x h is 0 0 w h.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from hrnet.io.geometry import Frame, Size
from hrnet.nn.task import Batch

# Source: published R-CNNs: no correction makes a box more than 62.5 times as wide or high.
LARGEST_STRETCH = math.log(1000 / 16)
# Groups of boxes lie in a square of so many columns where they must not meet.
_COLUMNS = 64


class DetectionOutput(NamedTuple):
    """What a detector finds in a batch, best first, filled up with the score 0.

    Attributes:
        boxes: in pixels of the input.
        scores: from 0 to 1.
        labels: classes.
        masks: logits of m x m cells of each box, of models that find masks.
    """

    boxes: Float[Tensor, "n d 4"]
    scores: Float[Tensor, "n d"]
    labels: Int[Tensor, "n d"]
    masks: Float[Tensor, "n d m m"] | None = None


@dataclass(frozen=True, slots=True)
class Objects:
    """What is to be found in one input.

    Attributes:
        boxes: in pixels of the input.
        labels: classes.
        crowd: regions in which nothing is learned to be background.
        masks: chips: each object's mask inside its box, 0 or 1; None where masks are not learned.
        stuff: classes of pixels at stride 8, 255 for none, where a data set has them.
    """

    boxes: Float[Tensor, "k 4"]
    labels: Int[Tensor, " k"]
    crowd: Float[Tensor, "c 4"]
    masks: UInt8[Tensor, "k m m"] | None = None
    stuff: Int[Tensor, "h w"] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def of(cls, batch: Batch) -> list[Objects]:
        """Those of every input of a batch; boxes without an area are left out."""
        targets = batch.targets
        found: list[Objects] = []
        for index, count in enumerate(targets["count"].tolist()):
            boxes, crowd = targets["boxes"][index, :count].float(), targets["crowd"][index, :count].bool()
            real = (boxes[:, 2:] > boxes[:, :2]).all(-1)
            kept = real & ~crowd
            masks, stuff = targets.get("masks"), targets.get("stuff")
            found.append(
                cls(
                    boxes=boxes[kept],
                    labels=targets["labels"][index, :count][kept],
                    crowd=boxes[real & crowd],
                    masks=None if masks is None else masks[index, :count][kept],
                    # Bytes, one more than the class, so that what fills up a batch counts for nothing: 0 becomes 255.
                    stuff=None if stuff is None else (stuff[index] - 1).long(),
                )
            )
        return found


def boxes_to_input(boxes: Float[np.ndarray, "n 4"], frame: Frame) -> Float[np.ndarray, "n 4"]:
    """Boxes of the image in the input, not cut at its borders. The frame does not turn."""
    return _ordered(frame.to_input(boxes.reshape(-1, 2, 2) - 0.5) + 0.5)


def boxes_to_source(boxes: Float[np.ndarray, "n 4"], frame: Frame) -> Float[np.ndarray, "n 4"]:
    """Boxes of the input in the image, not cut at its borders. The frame does not turn."""
    return _ordered(frame.to_source(boxes.reshape(-1, 2, 2) - 0.5) + 0.5)


def _ordered(corners: Float[np.ndarray, "n 2 2"]) -> Float[np.ndarray, "n 4"]:
    # A mirrored box has its corners the other way round.
    return np.concatenate([corners.min(1), corners.max(1)], axis=1)


# ---- overlap and coding


def clip_to(boxes: Float[Tensor, "*n 4"], size: Size) -> Float[Tensor, "*n 4"]:
    """Boxes cut at the borders of an input of this height and width."""
    height, width = size
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def apart(
    boxes: Float[Tensor, "*n 4"], groups: Int[Tensor, "*n"], extent: float | Float[Tensor, ""]
) -> Float[Tensor, "*n 4"]:
    """Boxes moved so that those of different groups cannot overlap, for one suppression of all of them.

    Each group has its own place in a square. (Side by side in one row, coordinates would lose their decimals.)

    Args:
        boxes: between 0 and `extent`.
        groups: numbers from 0.
        extent: what no coordinate exceeds.
    """
    shift = torch.stack([groups % _COLUMNS, groups // _COLUMNS], -1) * (extent + 1.0)
    return boxes + torch.cat([shift, shift], -1)


def box_overlaps(boxes: Float[Tensor, "m 4"], others: Float[Tensor, "k 4"]) -> Float[Tensor, "m k"]:
    """IoU of each with each; 0 for boxes without area."""
    shared = _shared(boxes, others)
    areas = _areas(boxes)[:, None] + _areas(others)
    return shared / (areas - shared).clamp(min=1e-6)


def box_shares(boxes: Float[Tensor, "m 4"], regions: Float[Tensor, "c 4"]) -> Float[Tensor, "m c"]:
    """Which part of each box lies in each region."""
    return _shared(boxes, regions) / _areas(boxes)[:, None].clamp(min=1e-6)


def _shared(boxes: Float[Tensor, "m 4"], others: Float[Tensor, "k 4"]) -> Float[Tensor, "m k"]:
    # Axis by axis: half the memory of both at once.
    across, down = (
        torch.minimum(boxes[:, None, axis + 2], others[:, axis + 2])
        - torch.maximum(boxes[:, None, axis], others[:, axis])
        for axis in (0, 1)
    )
    return across.clamp_(min=0) * down.clamp_(min=0)


def _areas(boxes: Float[Tensor, "m 4"]) -> Float[Tensor, " m"]:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def encode_boxes(
    boxes: Float[Tensor, "m 4"], regions: Float[Tensor, "m 4"], deviations: Sequence[float] = (1, 1, 1, 1)
) -> Float[Tensor, "m 4"]:
    """What has to be said to make boxes of regions: by how much of its sides the center moves, logarithms of how much it
    grows.

    Args:
        boxes: with an area.
        regions: with an area.
        deviations: by which the four numbers are divided.
    """
    sides = regions[:, 2:] - regions[:, :2]
    moves = (boxes[:, :2] + boxes[:, 2:] - regions[:, :2] - regions[:, 2:]) / 2 / sides
    growths = ((boxes[:, 2:] - boxes[:, :2]) / sides).log()
    return torch.cat([moves, growths], -1) / boxes.new_tensor(deviations)


def decode_boxes(
    deltas: Float[Tensor, "*m 4"], regions: Float[Tensor, "*m 4"], deviations: Sequence[float] = (1, 1, 1, 1)
) -> Float[Tensor, "*m 4"]:
    """The reverse of `encode_boxes`; no box is stretched or shrunk by more than `LARGEST_STRETCH`."""
    scaled = deltas * deltas.new_tensor(deviations)
    sides = regions[..., 2:] - regions[..., :2]
    centers = (regions[..., :2] + regions[..., 2:]) / 2 + scaled[..., :2] * sides
    reach = scaled[..., 2:].clamp(-LARGEST_STRETCH, LARGEST_STRETCH).exp() * sides / 2
    return torch.cat([centers - reach, centers + reach], -1)
