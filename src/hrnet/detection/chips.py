"""Chips: what is known of a labeled object's mask, as c x c cells that divide its box, whatever the sizes of both.

An image of many objects costs no more than that for each; and since a box of the image and its place in the network's
input show the same, a chip is made once, straight from the labels, of the part of the object that the input shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from hrnet.formats.records import Runs
from hrnet.io.geometry import Points

# Cells along each side of a chip: four for each of the 28 that a mask head predicts.
CHIP_CELLS = 112

Outline = Sequence[Points] | Runs | UInt8[np.ndarray, "h w"]


def mask_chip(
    outline: Outline, region: Float[np.ndarray, 4], cells: int = CHIP_CELLS, *, flip: bool = False
) -> UInt8[np.ndarray, "c c"]:
    """The part of an object's mask that lies in a region: 1 where it covers a cell, else 0.

    Of polygons the cells are covered whose center lies inside one (odd crossings, as COCO has it); of pixels those of which
    at least half is covered.

    Args:
        outline: polygons, run lengths, or a mask as large as the image; pixels of the image.
        region: x1 y1 x2 y2, from the outer edge of the first pixel: the object's box, or what is left of it where the
            network's input cuts it. It has an area.
        cells: along each side.
        flip: mirror left and right, for an input that shows the image so.
    """
    if isinstance(outline, Runs):
        outline = outline.mask()
    if isinstance(outline, np.ndarray):
        chip = _shrunk(outline, region, cells) >= 0.5
    else:
        low, extent = region[:2], region[2:] - region[:2]
        chip = np.zeros((cells, cells), bool)
        for polygon in outline:
            chip |= _inside((polygon - low) / extent * cells, cells)
    return np.ascontiguousarray(chip[:, ::-1] if flip else chip).astype(np.uint8)


def _inside(polygon: Points, cells: int) -> Bool[np.ndarray, "c c"]:
    """Which centers of cells a polygon contains: those with an odd number of its edges to their left."""
    ends, rows = np.roll(polygon, -1, axis=0), np.arange(cells) + 0.5
    row, edge = np.nonzero((polygon[:, 1] <= rows[:, None]) != (ends[:, 1] <= rows[:, None]))
    (x1, y1), (x2, y2) = polygon[edge].T, ends[edge].T
    crossing = x1 + (rows[row] - y1) / (y2 - y1) * (x2 - x1)
    # The first cell whose center is not to the left of the crossing.
    first = np.clip(np.ceil(crossing - 0.5), 0, cells).astype(int)
    edges = np.zeros((cells, cells + 1), int)
    np.add.at(edges, (row, first), 1)
    return edges[:, :-1].cumsum(axis=1) % 2 == 1


def _shrunk(mask: UInt8[np.ndarray, "h w"], region: Float[np.ndarray, 4], cells: int) -> Float[np.ndarray, "c c"]:
    """The share of each cell that a mask covers."""
    low = np.clip(np.floor(region[:2]), 0, None).astype(int)
    high = np.ceil(region[2:]).astype(int)
    part = mask[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    down = _overlaps(part.shape[0], region[1] - low[1], region[3] - low[1], cells)
    across = _overlaps(part.shape[1], region[0] - low[0], region[2] - low[0], cells)
    return down @ part @ across.T


def _overlaps(pixels: int, low: float, high: float, cells: int) -> Float[np.ndarray, "cells pixels"]:
    """The share of each cell between `low` and `high` that lies on each pixel."""
    edges = np.linspace(low, high, cells + 1)[:, None]
    starts = np.arange(pixels)
    shared = np.minimum(edges[1:], starts + 1) - np.maximum(edges[:-1], starts)
    return (np.maximum(shared, 0) * (cells / (high - low))).astype(np.float32)
