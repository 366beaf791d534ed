"""Features of regions of a pyramid's maps: RoIAlign (arXiv 1703.06870) by torchvision, whose gradient on a CPU is made here.

torchvision's adds number after number to the map, and was half of the time of a training step. A point's value is linear in
the rows around it and in the columns around it, and a cell is the mean over a grid of points; so a cell is a row of weights
by the map by a column of weights, and all gradients of an image are two products of matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torchvision.ops import roi_align

# Source: mmdetection's settings. Regions read the first four levels; of up to 56 pixels the first, of twice that the second.
REGION_LEVELS, FINEST_SIDE = 4, 56
# Pixels of a map: products grow with it and torchvision's gradient does not. Source: docs/performance.md.
_LARGEST_MAP = 96 * 128


def pool_regions(
    levels: Sequence[Float[Tensor, "n c _ _"]], regions: Float[Tensor, "r 5"], cells: int, legacy: bool = False
) -> Float[Tensor, "r c {cells} {cells}"]:
    """Features of regions, each from the level that fits its size.

    Args:
        levels: of the pyramid, the finest first, of stride 4.
        regions: number of the image, x1 y1 x2 y2 in pixels of the input.
        cells: of a side of the result.
        legacy: see `RCNNSpec`.
    """
    read = levels[:REGION_LEVELS]
    sides = (regions[:, 3:] - regions[:, 1:3]).clamp(min=0).prod(-1).sqrt()
    numbers = (sides / FINEST_SIDE + 1e-6).log2().floor().clamp(0, len(read) - 1)
    rows = [(numbers == number).nonzero()[:, 0] for number in range(len(read))]
    parts = [
        pool(level, regions[row], cells, 4 * 2**number, legacy)
        for number, (level, row) in enumerate(zip(read, rows, strict=True))
    ]
    return torch.cat(parts)[torch.cat(rows).argsort()]


def pool(
    level: Float[Tensor, "n c h w"],
    regions: Float[Tensor, "r 5"],
    cells: int,
    stride: int,
    legacy: bool = False,
    *,
    merge: int = 1,
) -> Float[Tensor, "r c {cells} {cells}"]:
    """RoIAlign of one map of this stride; arguments as of `pool_regions`.

    Args:
        merge: each cell is the mean of so many by so many smaller ones, whose points are counted out for each.
    """
    small = level.shape[2] * level.shape[3] <= _LARGEST_MAP
    if level.device.type == "cpu" and small and torch.is_grad_enabled() and level.requires_grad:
        pooled: Tensor = _Pool.apply(level, regions, cells, stride, legacy, merge)
        return pooled
    return _align(level, regions, cells, stride, legacy, merge)


def _align(level: Tensor, regions: Tensor, cells: int, stride: int, legacy: bool, merge: int) -> Tensor:
    pooled = roi_align(level, regions, cells * merge, 1 / stride, *_points(legacy))
    return pooled if merge == 1 else functional.avg_pool2d(pooled, merge)


def _points(legacy: bool) -> tuple[int, bool]:
    """torchvision's: points of a side of a cell, -1 for as many as it has pixels of the map; whether pixels have their
    middle at 0.5."""
    return (2, False) if legacy else (-1, True)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, level: Tensor, regions: Tensor, cells: int, stride: int, legacy: bool, merge: int) -> Tensor:
        ctx.save_for_backward(regions)
        ctx.shape, ctx.rest = level.shape, (cells, stride, legacy, merge)
        return _align(level, regions, cells, stride, legacy, merge)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (regions,) = ctx.saved_tensors
        images, channels, height, width = ctx.shape
        by_row = _shares(regions[:, 2], regions[:, 4], height, *ctx.rest)
        by_column = _shares(regions[:, 1], regions[:, 3], width, *ctx.rest)
        # r (cell row, channel) cell column.
        gradient = gradient.transpose(1, 2).flatten(1, 2)
        by_level = gradient.new_empty(images, height, channels * width)
        for number in range(images):
            rows = (regions[:, 0] == number).nonzero()[:, 0]
            spread = torch.bmm(gradient[rows], by_column[rows])
            torch.mm(by_row[rows].flatten(0, 1).T, spread.view(-1, channels * width), out=by_level[number])
        by_level = by_level.view(images, height, channels, width).transpose(1, 2)
        return by_level, None, None, None, None, None


def _shares(
    first: Float[Tensor, " r"],
    last: Float[Tensor, " r"],
    length: int,
    cells: int,
    stride: int,
    legacy: bool,
    merge: int,
) -> Float[Tensor, "r {cells} {length}"]:
    """How much every row (or column) of a map gives to the cells of regions from `first` to `last`, pixels of the input."""
    count, centered = _points(legacy)
    cells *= merge
    start = first / stride - 0.5 * centered
    step = (last - first) / stride / cells if centered else ((last - first) / stride).clamp(min=1) / cells
    # None in a region without area.
    counts = (torch.full_like(step, count) if count > 0 else step.ceil())[:, None, None]
    points = torch.arange(int(counts.max()) if len(counts) else 0, device=first.device)
    number = torch.arange(cells, device=first.device)[:, None]
    at = start[:, None, None] + (number + (points + 0.5) / counts.clamp(min=1)) * step[:, None, None]
    share = ((points < counts) & (at >= -1) & (at <= length)) / counts.clamp(min=1)
    at = at.clamp(0, length - 1)
    before = at.long().clamp(max=max(length - 2, 0))
    after = (before + 1).clamp(max=length - 1)
    shares = at.new_zeros(len(start), cells, length)
    shares.scatter_add_(2, before, share * (1 - (at - before)))
    shares.scatter_add_(2, after, share * (at - before))
    return shares.unflatten(1, (-1, merge)).mean(2)
