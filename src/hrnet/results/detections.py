"""The objects of an image."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Float, Int

from hrnet.io.geometry import Frame, Image, warp
from hrnet.results.masks import Masks
from hrnet.results.result import ResultBase, Source, rounded, supervision
from hrnet.vis.draw import color_key, draw_boxes, sample_labels

# Classes that a summary names.
_NAMED = 4


@dataclass(frozen=True, slots=True, eq=False)
class Detections(ResultBase):
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
            raise ValueError(
                f"Labels {self.labels.min()} to {self.labels.max()} are not all of {len(self.names)} classes."
            )

    @classmethod
    def none(cls, names: tuple[str, ...], source: Source = None) -> Detections:
        """Return a result without objects."""
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), names, None, source)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: np.ndarray | list[int] | slice) -> Detections:
        """Return some of the objects, by indices, mask or slice."""
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
        objects: list[dict[str, Any]] = [
            {
                "label": int(self.labels[i]),
                "name": self.names[self.labels[i]],
                "score": rounded(self.scores[i], 4),
                "box": rounded(self.boxes[i], 2),
            }
            for i in range(len(self))
        ]
        if masks and self.masks is not None:
            for i, content in enumerate(objects):
                content["mask"] = {"size": list(self.masks.size), "counts": self.masks.runs(i).tolist()}
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
        truth, other = self._in_frame(frame), found._in_frame(frame)
        return truth._drawn(view), other._drawn(view, targets=truth.boxes)

    def color_key(self) -> list[tuple[str, str]]:
        """Return the classes of the objects with their colors, as #rrggbb."""
        return color_key(self.names, np.unique(self.labels).tolist())

    def _drawn(
        self, image: Image, *, scores: bool = False, targets: Float[np.ndarray, "k 4"] | None = None
    ) -> PIL.Image.Image:
        ordered = self[np.argsort(self.scores, kind="stable")]
        masks = None if ordered.masks is None else (ordered.masks.crops, ordered.masks.corners)
        return draw_boxes(
            image,
            ordered.boxes,
            ordered.labels,
            ordered.names,
            masks=masks,
            scores=ordered.scores if scores else None,
            targets=targets,
        )

    def _in_frame(self, frame: Frame) -> Detections:
        """Return the objects in pixels of an upright, unrotated frame."""
        # Boxes count from the edge of the first pixel, frames from its center.
        boxes = (frame.to_input(self.boxes.reshape(-1, 2, 2) - 0.5) + 0.5).reshape(-1, 4)
        masks = None
        if self.masks is not None:
            # One dense mask at a time.
            parts = [
                Masks.from_dense([sample_labels(self.masks.dense(i), frame)], frame.size) for i in range(len(self))
            ]
            corners = np.array([part.corners[0] for part in parts], int).reshape(-1, 2)
            masks = Masks(tuple(part.crops[0] for part in parts), corners, frame.size)
        return Detections(boxes, self.scores, self.labels, self.names, masks)
