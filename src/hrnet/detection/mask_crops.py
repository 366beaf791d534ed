"""Mask crops: labeled masks as c x c cells that divide the box of the object, whatever its size.

Every object costs the same memory, and a crop is rasterized once, straight from the label, for the part of the object that
the network's input shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

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
