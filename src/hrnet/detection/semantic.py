"""The semantic branch of a Hybrid Task Cascade: a label map, and context features for box and mask heads.

Source: arXiv 1901.07518, section 3.3, and the published networks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from hrnet.io.geometry import Size
from hrnet.nn.representation import Levels
from hrnet.results import IGNORE_INDEX

# Pyramid level whose size the branch has, and its stride.
LEVEL = 1
STRIDE = 8


class SemanticOutput(NamedTuple):
    """Outputs of the branch, at stride 8.

    Attributes:
        logits: class logits of the pixels.
        features: features for box and mask heads.
    """

    logits: Float[Tensor, "n k h w"]
    features: Float[Tensor, "n c h w"]


class SemanticHead(nn.Module):
    """The sum of all levels at the size of the second, 3x3 convolutions, and two 1x1 convolutions for logits and features."""

    def __init__(self, num_classes: int, channels: int = 256, num_levels: int = 5, num_convs: int = 4) -> None:
        super().__init__()
        self.laterals: nn.ModuleList = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(num_levels))
        self.convs: nn.ModuleList = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(num_convs))
        self.embedding: nn.Conv2d = nn.Conv2d(channels, channels, 1)
        self.logits: nn.Conv2d = nn.Conv2d(channels, num_classes, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                assert layer.bias is not None
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
                nn.init.zeros_(layer.bias)
        # As in `masks.MaskHead`: by the rule above the logits of two or three classes would be several units large.
        nn.init.normal_(self.logits.weight, std=0.01)

    def forward(self, levels: Levels) -> SemanticOutput:
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
    """Return the cross entropy, averaged over the pixels that are not ignored (255); 0 without such pixels.

    The published training divides by all pixels, so that the padding of a batch makes the loss smaller.
    """
    total = functional.cross_entropy(logits.float(), targets, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (targets != IGNORE_INDEX).sum().clamp(min=1)


def semantic_targets(
    boxes: Float[Tensor, "k 4"],
    labels: Int[Tensor, " k"],
    crops: UInt8[Tensor, "k c c"],
    crowds: Float[Tensor, "m 4"],
    size: Size,
    other: int,
) -> Int[Tensor, "h w"]:
    """Return the label map of the objects, for data sets without semantic label maps.

    A pixel belongs to the smallest object that covers its center, which is mostly the one in front.

    Args:
        boxes: boxes of nonzero area, pixels of the input.
        labels: classes of the objects.
        crops: mask crops of the objects.
        crowds: boxes in which pixels outside all objects are ignored.
        size: height and width of the label map, at stride 8.
        other: class of pixels outside all objects.
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
    cells = crops.shape[-1]
    row = ((rows - boxes[:, 1:2]) / (boxes[:, 3:] - boxes[:, 1:2]) * cells).floor().long()
    column = ((columns - boxes[:, :1]) / (boxes[:, 2:3] - boxes[:, :1]) * cells).floor().long()
    inside = ((row >= 0) & (row < cells))[:, :, None] & ((column >= 0) & (column < cells))[:, None, :]
    indices = torch.arange(len(boxes), device=boxes.device)[:, None, None]
    covered = crops[indices, row.clamp(0, cells - 1)[:, :, None], column.clamp(0, cells - 1)[:, None, :]]
    areas = crops.float().mean((1, 2)) * (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    area, smallest = torch.where(inside & (covered > 0), areas[:, None, None], torch.inf).min(dim=0)
    return torch.where(area.isfinite(), labels[smallest], targets)
