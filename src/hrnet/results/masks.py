"""Instance masks of one image, stored as crops with offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from hrnet.io.geometry import Size


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """Instance masks of one image, stored as crops with offsets.

    Attributes:
        crops: one mask each, true on the object; any size, also empty.
        corners: `n 2`, x and y of each crop's first pixel in the image.
        size: height and width of the image, which contains all crops.
    """

    crops: tuple[Bool[np.ndarray, "_ _"], ...]
    corners: Int[np.ndarray, "n 2"]
    size: Size

    def __post_init__(self) -> None:
        if self.corners.shape != (len(self.crops), 2):
            raise ValueError(f"{len(self.crops)} crops need as many corners x, y, not {self.corners.shape}.")
        for crop, (x, y) in zip(self.crops, self.corners.tolist(), strict=True):
            inside = 0 <= x <= self.size[1] - crop.shape[1] and 0 <= y <= self.size[0] - crop.shape[0]
            if crop.dtype != bool or not inside:
                raise ValueError(f"A crop of {crop.dtype} {crop.shape} at {x}, {y} is not in an image of {self.size}.")

    @classmethod
    def from_dense(cls, masks: Sequence[Bool[np.ndarray, "h w"]] | Bool[np.ndarray, "n h w"], size: Size) -> Masks:
        """Crop masks as large as the image."""
        crops, corners = [], []
        for mask in masks:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            top, left = (rows[0], columns[0]) if len(rows) else (0, 0)
            bottom, right = (rows[-1] + 1, columns[-1] + 1) if len(rows) else (0, 0)
            # A copy: a view would keep the whole mask alive.
            crops.append(mask[top:bottom, left:right].astype(bool))
            corners.append((left, top))
        return cls(tuple(crops), np.array(corners, int).reshape(-1, 2), size)

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, which: np.ndarray | list[int] | slice) -> Masks:
        """Return some of the masks, by indices, mask or slice."""
        indices = np.arange(len(self))[which]
        return Masks(tuple(self.crops[index] for index in indices), self.corners[indices], self.size)

    def dense(self, index: int) -> Bool[np.ndarray, "h w"]:
        """Return one mask as large as the image."""
        mask, crop, (x, y) = np.zeros(self.size, bool), self.crops[index], self.corners[index]
        mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        return mask

    def areas(self) -> Int[np.ndarray, " n"]:
        """Return the number of pixels of each mask."""
        return np.array([np.count_nonzero(crop) for crop in self.crops], int)

    def runs(self, index: int) -> Int[np.ndarray, " r"]:
        """Return one mask as COCO's run lengths: of 0 and 1 in turn, 0 first, column by column from the top left."""
        crop, (x, y) = self.crops[index], self.corners[index]
        height, width = self.size
        edges = np.zeros((crop.shape[1], crop.shape[0] + 2), bool)
        edges[:, 1:-1] = crop.T
        columns, rows = np.nonzero(edges[:, 1:] != edges[:, :-1])
        # Starts and ends in turn; a run that continues in the next column ends and starts at the same place.
        places, times = np.unique((columns + x) * height + rows + y, return_counts=True)
        counts = np.diff(places[times == 1], prepend=0, append=height * width)
        return counts if counts[-1] else counts[:-1]
