"""RoIAlign (arXiv 1703.06870) over the levels of a pyramid, by torchvision, with a faster gradient on CPUs.

torchvision's gradient adds value by value to the map and took half of a training step. Bilinear interpolation is separable,
and a cell is the mean over a grid of points; so a cell is row weights times map times column weights, and the gradients of
an image are two matrix products.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torchvision.ops import roi_align

from hrnet.nn.representation import Levels

# Source: mmdetection's settings: regions are pooled from the first four levels, with sides below 112 pixels from the first.
REGION_LEVELS, FINEST_SIDE = 4, 56
# Pixels of a map up to which the matrix products are faster. Source: docs/performance.md.
_MAX_MAP_PIXELS = 96 * 128


def pool_regions(
    levels: Levels, regions: Float[Tensor, "r 5"], cells: int, legacy: bool = False
) -> Float[Tensor, "r c {cells} {cells}"]:
    """Return the features of regions (index of the input, x1 y1 x2 y2), each from the level that fits its size."""
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
    """Return the RoIAlign of one map; each cell is the mean of merge x merge smaller ones with their own sampling points."""
    small = level.shape[2] * level.shape[3] <= _MAX_MAP_PIXELS
    if level.device.type == "cpu" and small and torch.is_grad_enabled() and level.requires_grad:
        pooled: Tensor = _Pool.apply(level, regions, cells, stride, legacy, merge)
        return pooled
    return _align(level, regions, cells, stride, legacy, merge)


def _align(level: Tensor, regions: Tensor, cells: int, stride: int, legacy: bool, merge: int) -> Tensor:
    pooled = roi_align(level, regions, cells * merge, 1 / stride, *_points(legacy))
    return pooled if merge == 1 else functional.avg_pool2d(pooled, merge)


def _points(legacy: bool) -> tuple[int, bool]:
    """Return `sampling_ratio` and `aligned` of torchvision's RoIAlign."""
    return (2, False) if legacy else (-1, True)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, level: Tensor, regions: Tensor, cells: int, stride: int, legacy: bool, merge: int) -> Tensor:
        ctx.save_for_backward(regions)
        ctx.shape, ctx.rest = level.shape, (cells, stride, legacy, merge)
        return _align(level, regions, cells, stride, legacy, merge)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]  # one gradient, of known type
        (regions,) = ctx.saved_tensors
        images, channels, height, width = ctx.shape
        by_row = _weights(regions[:, 2], regions[:, 4], height, *ctx.rest)
        by_column = _weights(regions[:, 1], regions[:, 3], width, *ctx.rest)
        # r (cell row, channel) cell column
        gradient = gradient.transpose(1, 2).flatten(1, 2)
        by_level = gradient.new_empty(images, height, channels * width)
        for number in range(images):
            rows = (regions[:, 0] == number).nonzero()[:, 0]
            spread = torch.bmm(gradient[rows], by_column[rows])
            torch.mm(by_row[rows].flatten(0, 1).T, spread.view(-1, channels * width), out=by_level[number])
        by_level = by_level.view(images, height, channels, width).transpose(1, 2)
        return by_level, None, None, None, None, None


def _weights(
    first: Float[Tensor, " r"],
    last: Float[Tensor, " r"],
    length: int,
    cells: int,
    stride: int,
    legacy: bool,
    merge: int,
) -> Float[Tensor, "r {cells} {length}"]:
    """Return the weights of the rows (or columns) of a map in the cells of regions from `first` to `last`."""
    count, centered = _points(legacy)
    cells *= merge
    start = first / stride - 0.5 * centered
    step = (last - first) / stride / cells if centered else ((last - first) / stride).clamp(min=1) / cells
    # 0 points in regions of zero area.
    counts = (torch.full_like(step, count) if count > 0 else step.ceil())[:, None, None]
    points = torch.arange(int(counts.max()) if len(counts) else 0, device=first.device)
    number = torch.arange(cells, device=first.device)[:, None]
    at = start[:, None, None] + (number + (points + 0.5) / counts.clamp(min=1)) * step[:, None, None]
    weight = ((points < counts) & (at >= -1) & (at <= length)) / counts.clamp(min=1)
    at = at.clamp(0, length - 1)
    before = at.long().clamp(max=max(length - 2, 0))
    after = (before + 1).clamp(max=length - 1)
    weights = at.new_zeros(len(start), cells, length)
    weights.scatter_add_(2, before, weight * (1 - (at - before)))
    weights.scatter_add_(2, after, weight * (at - before))
    return weights.unflatten(1, (-1, merge)).mean(2)
