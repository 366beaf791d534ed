"""The objects of an image, and their masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Int

from hrnet.io.geometry import Frame, Image, Size, warp
from hrnet.results.result import Result, Source, rounded, supervision
from hrnet.vis.draw import color_key, draw_boxes, sample_labels

# Classes that a summary names.
_NAMED = 4


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
    def from_dense(cls, masks: Iterable[Bool[np.ndarray, "h w"]], size: Size) -> Masks:
        """Crop masks as large as the image, one at a time."""
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

    def __getitem__(self, which: np.ndarray | list[int] | slice | int) -> Masks:
        """Return some of the masks, by index, indices, mask or slice."""
        which = [which] if isinstance(which, int) else which
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


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Detections(Result):
    """Objects of one image.

    Attributes:
        boxes: `n 4`, x1 y1 x2 y2, counted from the outer edge of the first pixel: a box that fills an image of w x h
            pixels is 0 0 w h.
        scores: `n`.
        labels: `n`, class of each object.
        names: names of the classes.
        masks: `n`, None for models without masks.
        source: the image, or its path.
    """

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    names: tuple[str, ...]
    masks: Masks | None = None
    source: Source = field(default=None, repr=False)

    def __post_init__(self) -> None:
        count = len(self.scores)
        num_masks = count if self.masks is None else len(self.masks)
        found = (self.boxes.shape, self.scores.shape, self.labels.shape, num_masks)
        if found != ((count, 4), (count,), (count,), count):
            raise ValueError(f"Boxes, scores, labels and masks do not fit together: {found}.")
        if count and not 0 <= self.labels.min() <= self.labels.max() < len(self.names):
            found = f"{self.labels.min()} to {self.labels.max()}"
            raise ValueError(f"Labels {found} are not all of {len(self.names)} classes.")

    @classmethod
    def none(cls, names: tuple[str, ...], source: Source = None) -> Detections:
        """Return a result without objects."""
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), names, None, source)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: np.ndarray | list[int] | slice | int) -> Detections:
        """Return some of the objects, by index, indices, mask or slice."""
        which = [which] if isinstance(which, int) else which
        masks = None if self.masks is None else self.masks[which]
        return Detections(self.boxes[which], self.scores[which], self.labels[which], self.names, masks, self.source)

    def above(self, score: float) -> Detections:
        """Return the objects with at least this score."""
        return self[self.scores >= score]

    def count(self) -> int:
        """Return the number of objects."""
        return len(self)

    def to_dict(self, masks: bool = True) -> dict[str, Any]:
        """Return plain lists and numbers: pixels to 0.01, scores to 0.0001.

        Args:
            masks: whether masks are given, as COCO's uncompressed run lengths.
        """
        objects: list[dict[str, Any]] = []
        for i, label in enumerate(self.labels.tolist()):
            score, box = rounded(self.scores[i], 4), rounded(self.boxes[i], 2)
            objects.append({"label": label, "name": self.names[label], "score": score, "box": box})
            if masks and self.masks is not None:
                objects[i]["mask"] = {"size": list(self.masks.size), "counts": self.masks.runs(i).tolist()}
        return {"task": "detection", "objects": objects}

    def to_supervision(self) -> Any:
        """Return supervision's `Detections`, with masks as large as the image.

        Raises:
            InputError: supervision is not installed.
        """
        library = supervision()
        masks = None
        if self.masks is not None:
            masks = np.array([self.masks.dense(i) for i in range(len(self))], bool).reshape(-1, *self.masks.size)
        return library.Detections(
            xyxy=self.boxes.astype(np.float32),
            mask=masks,
            confidence=self.scores.astype(np.float32),
            class_id=self.labels.astype(int),
            data={"class_name": np.array([self.names[label] for label in self.labels], dtype=str)},
        )

    def summary(self, threshold: float = 0.3) -> str:
        """Return the number of objects of the most frequent classes, and the best score."""
        if not len(self):
            return "no object"
        counts = Counter(self.names[label] for label in self.labels.tolist()).most_common(_NAMED)
        return ", ".join(f"{count} {name}" for name, count in counts) + f", best score {self.scores.max():.2f}"

    def plot(self, threshold: float = 0.3) -> PIL.Image.Image:
        """Return the image with the objects drawn on it; those below the threshold are left out."""
        return self.above(threshold)._drawn(self.pixels(), scores=True)

    def plot_pair(self, found: Detections, image: Image, frame: Frame) -> tuple[PIL.Image.Image, PIL.Image.Image]:
        """Return the labeled objects, and all predicted ones with thin lines around the labeled boxes."""
        view = warp(image, frame)
        labeled, predicted = self._in_frame(frame), found._in_frame(frame)
        return labeled._drawn(view), predicted._drawn(view, targets=labeled.boxes)

    def color_key(self) -> list[tuple[str, str]]:
        """Return the classes of the objects with their colors, as #rrggbb."""
        return color_key(self.names, np.unique(self.labels).tolist())

    def _drawn(
        self, image: Image, *, scores: bool = False, targets: Float[np.ndarray, "k 4"] | None = None
    ) -> PIL.Image.Image:
        ordered = self[np.argsort(self.scores, kind="stable")]
        masks = None if ordered.masks is None else (ordered.masks.crops, ordered.masks.corners)
        shown = ordered.scores if scores else None
        return draw_boxes(
            image, ordered.boxes, ordered.labels, ordered.names, masks=masks, scores=shown, targets=targets
        )

    def _in_frame(self, frame: Frame) -> Detections:
        """Return the objects in pixels of an upright, unrotated frame."""
        # Boxes count from the edge of the first pixel, frames from its center.
        boxes = (frame.to_input(self.boxes.reshape(-1, 2, 2) - 0.5) + 0.5).reshape(-1, 4)
        masks = None
        if self.masks is not None:
            dense = map(self.masks.dense, range(len(self)))
            masks = Masks.from_dense((sample_labels(mask, frame) for mask in dense), frame.size)
        return Detections(boxes, self.scores, self.labels, self.names, masks)
