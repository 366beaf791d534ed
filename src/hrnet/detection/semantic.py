"""The semantic branch of a Hybrid Task Cascade: every pixel's class, and features of the surroundings for boxes and masks.

Source: arXiv 1901.07518, section 3.3, and the published networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from hrnet.io.geometry import Size
from hrnet.results import IGNORE_INDEX

# The level of the pyramid whose size the branch has, and its stride.
LEVEL = 1
STRIDE = 8


class SemanticOutput(NamedTuple):
    """What the branch returns, at stride 8.

    Attributes:
        logits: of the classes of pixels.
        features: that boxes and masks read.
    """

    logits: Float[Tensor, "n k h w"]
    features: Float[Tensor, "n c h w"]


class SemanticHead(nn.Module):
    """All levels at the size of the second, added, four 3x3 convolutions, and from there classes and features.

    Args:
        num_classes: of pixels.
        channels: of the levels, and inside.
        num_levels: of the pyramid.
        num_convs: 3x3 convolutions.
    """

    def __init__(self, num_classes: int, channels: int = 256, num_levels: int = 5, num_convs: int = 4) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(num_levels))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(num_convs))
        self.embedding = nn.Conv2d(channels, channels, 1)
        self.logits = nn.Conv2d(channels, num_classes, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                assert layer.bias is not None
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
                nn.init.zeros_(layer.bias)
        # As of `masks.MaskHead`: the rule above would make logits of several units for two or three classes.
        nn.init.normal_(self.logits.weight, std=0.01)

    def forward(self, levels: Sequence[Float[Tensor, "n c _ _"]]) -> SemanticOutput:
        size = levels[LEVEL].shape[-2:]
        x = torch.zeros_like(levels[LEVEL])
        for level, lateral in zip(levels, self.laterals, strict=True):
            if level.shape[-2:] != size:
                level = functional.interpolate(level, size=size, mode="bilinear", align_corners=True)
            x = x + lateral(level).relu()
        for conv in self.convs:
            x = conv(x).relu()
        return SemanticOutput(self.logits(x), self.embedding(x).relu())


def semantic_loss(logits: Float[Tensor, "n k h w"], targets: Int[Tensor, "n h w"]) -> Float[Tensor, ""]:
    """Cross entropy, the mean over the marked pixels; 0 where none is.

    The published training divides by all pixels, so that what fills up a batch makes the term smaller.

    Args:
        logits: before the softmax.
        targets: classes; 255 counts for nothing.
    """
    total = functional.cross_entropy(logits.float(), targets, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (targets != IGNORE_INDEX).sum().clamp(min=1)


def semantic_targets(
    boxes: Float[Tensor, "k 4"],
    labels: Int[Tensor, " k"],
    chips: UInt8[Tensor, "k c c"],
    crowds: Float[Tensor, "m 4"],
    size: Size,
    other: int,
) -> Int[Tensor, "h w"]:
    """Each pixel's class from objects alone, where a data set has no map of the pixels' classes.

    It is that of the smallest object that covers the middle of the pixel; what is in front is mostly smaller.

    Args:
        boxes: of the objects, in pixels of the input, each with an area.
        labels: of the objects.
        chips: their masks inside their boxes.
        crowds: boxes in which pixels that no object covers are not marked.
        size: height and width of the map, at stride 8.
        other: the class of what no object covers.
    """
    height, width = size
    rows = (torch.arange(height, device=boxes.device) + 0.5) * STRIDE
    columns = (torch.arange(width, device=boxes.device) + 0.5) * STRIDE
    targets = torch.full((height, width), other, dtype=torch.int64, device=boxes.device)
    for x1, y1, x2, y2 in crowds.unbind(0):
        inside = ((y1 <= rows) & (rows < y2))[:, None] & (x1 <= columns) & (columns < x2)
        targets[inside] = IGNORE_INDEX
    if not len(boxes):
        return targets
    cells = chips.shape[-1]
    row = ((rows - boxes[:, 1:2]) / (boxes[:, 3:] - boxes[:, 1:2]) * cells).floor().long()
    column = ((columns - boxes[:, :1]) / (boxes[:, 2:3] - boxes[:, :1]) * cells).floor().long()
    inside = ((row >= 0) & (row < cells))[:, :, None] & ((column >= 0) & (column < cells))[:, None, :]
    numbers = torch.arange(len(boxes), device=boxes.device)[:, None, None]
    read = chips[numbers, row.clamp(0, cells - 1)[:, :, None], column.clamp(0, cells - 1)[:, None, :]]
    areas = chips.float().mean((1, 2)) * (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    area, smallest = torch.where(inside & (read > 0), areas[:, None, None], torch.inf).min(dim=0)
    return torch.where(area.isfinite(), labels[smallest], targets)
