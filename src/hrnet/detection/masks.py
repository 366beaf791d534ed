"""Masks of objects: labels as crops, mask heads, their targets and their loss.

Boxes are x1 y1 x2 y2 and count from the outer edge of the first pixel. A mask head predicts m x m cells that divide the box
of an object. Labels are mask crops: c x c cells that divide the labeled box, so that every object costs the same memory. A
crop is rasterized once, straight from the label, for the part of the object that the network's input shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from hrnet.formats.records import Runs
from hrnet.io.geometry import Points

# Cells along each side of a crop: four for each of the 28 that a mask head predicts.
CROP_CELLS = 112

Outline = Sequence[Points] | Runs | UInt8[np.ndarray, "h w"]


def crop_mask(
    outline: Outline, region: Float[np.ndarray, 4], cells: int = CROP_CELLS, *, flip: bool = False
) -> UInt8[np.ndarray, "c c"]:
    """Return the part of an object's mask that lies in a region: 1 where it covers a cell, else 0.

    Polygons cover the cells whose center lies inside (even-odd rule, as in COCO); masks cover the cells of which at least
    half is foreground.

    Args:
        outline: polygons, run lengths, or a mask of the size of the image.
        region: box of nonzero area, pixels of the image: the box of the object, or its part that the input shows.
        cells: number of cells along each side.
        flip: True to flip the crop horizontally, for a flipped input.
    """
    if isinstance(outline, Runs):
        outline = outline.mask()
    if isinstance(outline, np.ndarray):
        crop = _coverage(outline, region, cells) >= 0.5
    else:
        low, extent = region[:2], region[2:] - region[:2]
        crop = np.zeros((cells, cells), bool)
        for polygon in outline:
            crop |= _inside((polygon - low) / extent * cells, cells)
    return np.ascontiguousarray(crop[:, ::-1] if flip else crop).astype(np.uint8)


def _inside(polygon: Points, cells: int) -> Bool[np.ndarray, "c c"]:
    """Return which cell centers a polygon contains: those with an odd number of its edges to their left."""
    ends, rows = np.roll(polygon, -1, axis=0), np.arange(cells) + 0.5
    row, edge = np.nonzero((polygon[:, 1] <= rows[:, None]) != (ends[:, 1] <= rows[:, None]))
    (x1, y1), (x2, y2) = polygon[edge].T, ends[edge].T
    crossing = x1 + (rows[row] - y1) / (y2 - y1) * (x2 - x1)
    # The first cell whose center is not to the left of the crossing.
    first = np.clip(np.ceil(crossing - 0.5), 0, cells).astype(int)
    edges = np.zeros((cells, cells + 1), int)
    np.add.at(edges, (row, first), 1)
    return edges[:, :-1].cumsum(axis=1) % 2 == 1


def _coverage(mask: UInt8[np.ndarray, "h w"], region: Float[np.ndarray, 4], cells: int) -> Float[np.ndarray, "c c"]:
    """Return the fraction of each cell that a mask covers."""
    low = np.clip(np.floor(region[:2]), 0, None).astype(int)
    high = np.ceil(region[2:]).astype(int)
    part = mask[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    rows = _overlaps(part.shape[0], region[1] - low[1], region[3] - low[1], cells)
    columns = _overlaps(part.shape[1], region[0] - low[0], region[2] - low[0], cells)
    return rows @ part @ columns.T


def _overlaps(pixels: int, low: float, high: float, cells: int) -> Float[np.ndarray, "cells pixels"]:
    """Return the fraction of each cell between `low` and `high` that lies on each pixel."""
    edges = np.linspace(low, high, cells + 1)[:, None]
    starts = np.arange(pixels)
    overlap = np.minimum(edges[1:], starts + 1) - np.maximum(edges[:-1], starts)
    return (np.maximum(overlap, 0) * (cells / (high - low))).astype(np.float32)


# ---- the network


class MaskHead(nn.Module):
    """3x3 convolutions, a deconvolution and a 1x1 convolution: one map per class, at twice the resolution of the features.

    Source: arXiv 1703.06870, figure 4, and mmdetection's settings; arXiv 1901.07518, section 3.1, for the mask information
    flow: the later heads of a Hybrid Task Cascade also read the features of the head before them.
    """

    def __init__(
        self, num_classes: int, channels: int = 256, num_convs: int = 4, information_flow: bool = False
    ) -> None:
        super().__init__()
        self.convs: nn.ModuleList = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(num_convs))
        self.upsample: nn.ConvTranspose2d = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.logits: nn.Conv2d = nn.Conv2d(channels, num_classes, 1)
        self.previous: nn.Conv2d | None = nn.Conv2d(channels, channels, 1) if information_flow else None
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                assert layer.bias is not None
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
                nn.init.zeros_(layer.bias)
        # The rule above is for many maps; for a single one the logits of a new head would be several units large.
        nn.init.normal_(self.logits.weight, std=0.01)

    def forward_features(
        self, features: Float[Tensor, "p c h w"], previous: Float[Tensor, "p c h w"] | None = None
    ) -> Float[Tensor, "p c h w"]:
        """Return the input of the deconvolution from region features; `previous` is that of the head before, if read."""
        if self.previous is not None:
            assert previous is not None
            features = features + self.previous(previous).relu()
        for conv in self.convs:
            features = conv(features).relu()
        return features

    def predict(self, hidden: Float[Tensor, "p c h w"]) -> Float[Tensor, "p k H W"]:
        """Return the logits from the outputs of `forward_features`."""
        return self.logits(self.upsample(hidden).relu())

    def forward(
        self, features: Float[Tensor, "p c h w"], previous: Float[Tensor, "p c h w"] | None = None
    ) -> Float[Tensor, "p k H W"]:
        return self.predict(self.forward_features(features, previous))


class MaskHeads(nn.Module):
    """The mask heads of all stages of a cascade; `average` is for `ensemble`."""

    def __init__(
        self,
        num_stages: int,
        num_classes: int,
        channels: int = 256,
        information_flow: bool = False,
        average: bool = True,
    ) -> None:
        super().__init__()
        self.stages: nn.ModuleList = nn.ModuleList(
            MaskHead(num_classes, channels, information_flow=information_flow and stage > 0)
            for stage in range(num_stages)
        )
        self.information_flow = information_flow
        self.average = average

    def forward(self, features: Float[Tensor, "p c h w"], stage: int) -> Float[Tensor, "p k H W"]:
        """Return the logits of one stage; of the heads before it only the features that it reads are computed."""
        previous = None
        for head in self._heads()[:stage] if self.information_flow else ():
            previous = head.forward_features(features, previous)
        return self._heads()[stage](features, previous)

    def forward_stages(self, features: Float[Tensor, "p c h w"]) -> list[Float[Tensor, "p k H W"]]:
        """Return the logits of every stage."""
        logits, previous = [], None
        for head in self._heads():
            previous = head.forward_features(features, previous if self.information_flow else None)
            logits.append(head.predict(previous))
        return logits

    def ensemble(self, features: Float[Tensor, "p c h w"], labels: Int[Tensor, " p"]) -> Float[Tensor, "p m m"]:
        """Return the logits of each region's class: of the mean probability of all stages, or of the last stage alone."""
        if not self.average or len(self.stages) == 1:
            return select_class(self(features, len(self.stages) - 1), labels).float()
        logits = [select_class(one, labels).float() for one in self.forward_stages(features)]
        # eps keeps the logits of probabilities 0 and 1 finite.
        return torch.stack([one.sigmoid() for one in logits]).mean(0).logit(eps=1e-6)

    def _heads(self) -> list[MaskHead]:
        return [cast(MaskHead, head) for head in self.stages]


# ---- targets and loss


def mask_targets(
    crops: UInt8[Tensor, "p c c"], boxes: Float[Tensor, "p 4"], regions: Float[Tensor, "p 4"], size: int = 28
) -> Float[Tensor, "p m m"]:
    """Return 1 for the cells of a region that its object covers by at least half, else 0.

    Each cell is the mean of 2 x 2 points, interpolated between the cells of the crop; points outside the box count as 0.
    Crops and boxes are those of the objects that the regions are matched to, `size` the cells along each side of a region.
    """
    steps = (torch.arange(2 * size, device=regions.device, dtype=regions.dtype) + 0.5) / (2 * size)
    low, extent = regions[:, :2], regions[:, 2:] - regions[:, :2]
    points = low[:, None] + steps[:, None] * extent[:, None]
    # The coordinates of grid_sample: -1 to 1 across the box of the object.
    grid = 2 * (points - boxes[:, None, :2]) / (boxes[:, None, 2:] - boxes[:, None, :2]) - 1
    x = grid[:, None, :, 0].expand(-1, 2 * size, -1)
    y = grid[:, :, None, 1].expand(-1, -1, 2 * size)
    values = functional.grid_sample(
        crops[:, None].to(regions.dtype), torch.stack([x, y], dim=-1), mode="bilinear", align_corners=False
    )
    return (functional.avg_pool2d(values, 2)[:, 0] >= 0.5).to(regions.dtype)


def mask_loss(
    logits: Float[Tensor, "p k m m"], targets: Float[Tensor, "p m m"], labels: Int[Tensor, " p"]
) -> Float[Tensor, ""]:
    """Return the binary cross entropy of the true class's map, averaged over cells and regions; 0 without regions."""
    if not len(labels):
        return logits.sum() * 0
    return functional.binary_cross_entropy_with_logits(select_class(logits, labels), targets)


def select_class(values: Float[Tensor, "p k ..."], labels: Int[Tensor, " p"]) -> Float[Tensor, "p ..."]:
    """Return the map, or the box, of each region's class."""
    return values[torch.arange(len(labels), device=values.device), labels]
