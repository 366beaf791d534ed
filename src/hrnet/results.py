"""What a prediction is: frozen records in pixels of the original picture.

Boxes are x1 y1 x2 y2, points (x, y), labels 0..K-1, scores in [0, 1].
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from hrnet.geometry import Size

if TYPE_CHECKING:
    import PIL.Image

Source = Path | np.ndarray | None

# The label of a pixel that has none: not shown to the network, or not marked by people.
OUTSIDE = 255
_COUNTED = 1 << 20


def _rounded(values: np.ndarray, digits: int) -> list[Any]:
    return np.round(values.astype(float), digits).tolist()


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Where to look in one picture.

    Attributes:
        boxes: `n 4`, x1 y1 x2 y2, pixels of the picture.
        scores: `n`, of the detector; the scores of what is found there are multiplied by them.
    """

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]

    @classmethod
    def whole(cls, size: Size) -> Boxes:
        """The whole picture, of a height and width, as one object."""
        height, width = size
        return cls(np.array([[0.0, 0.0, width - 1.0, height - 1.0]]), np.ones(1))


@dataclass(frozen=True, slots=True, eq=False)
class Poses:
    """Keypoints of the people (or animals, or things) of one picture.

    Attributes:
        keypoints: `n k 2`, pixels of the picture.
        keypoint_scores: `n k`, the height of each heatmap's peak.
        boxes: `n 4`, where each was looked for.
        scores: `n`, box score times the mean of the keypoint scores above 0.2.
        names: of the k keypoints.
        links: pairs of keypoints that a drawing joins.
        pairs: a left and a right keypoint each.
        source: the picture, or where it is.
    """

    keypoints: Float[np.ndarray, "n k 2"]
    keypoint_scores: Float[np.ndarray, "n k"]
    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    names: tuple[str, ...]
    links: tuple[tuple[int, int], ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    source: Source = field(default=None, repr=False)

    def __post_init__(self) -> None:
        count, joints = self.keypoints.shape[:2]
        found = (self.keypoints.shape, self.keypoint_scores.shape, self.boxes.shape, self.scores.shape, len(self.names))
        if found != ((count, joints, 2), (count, joints), (count, 4), (count,), joints):
            raise ValueError(f"Keypoints, their scores, boxes, scores and names do not fit together: {found}.")

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: np.ndarray | list[int] | slice) -> Poses:
        """Some of the people, by indices, mask or slice."""
        parts = (self.keypoints[which], self.keypoint_scores[which], self.boxes[which], self.scores[which])
        return Poses(*parts, self.names, self.links, self.pairs, self.source)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers: pixels to 0.01, scores to 0.0001."""
        people = [
            {
                "score": round(float(self.scores[i]), 4),
                "box": _rounded(self.boxes[i], 2),
                "keypoints": _rounded(self.keypoints[i], 2),
                "keypoint_scores": _rounded(self.keypoint_scores[i], 4),
            }
            for i in range(len(self))
        ]
        return {"task": "pose", "keypoint_names": list(self.names), "people": people}

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict())

    def plot(self, threshold: float = 0.3) -> PIL.Image.Image:
        """The picture with the people drawn on it; keypoints below the threshold are left out."""
        from hrnet.draw import draw_poses  # what draws stands above what is drawn

        return draw_poses(self, threshold=threshold)


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """What one picture shows.

    Attributes:
        scores: `k`, the probability of each class.
        names: of the k classes.
        source: the picture, or where it is.
    """

    scores: Float[np.ndarray, " k"]
    names: tuple[str, ...]
    source: Source = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.scores.shape != (len(self.names),) or not self.names:
            raise ValueError(f"{len(self.names)} classes need as many scores, not {self.scores.shape}.")

    @property
    def label(self) -> int:
        """The most probable class."""
        return int(self.scores.argmax())

    @property
    def name(self) -> str:
        """Its name."""
        return self.names[self.label]

    def top(self, count: int) -> list[int]:
        """The most probable classes, best first."""
        return np.argsort(-self.scores, kind="stable")[:count].tolist()

    def to_dict(self, count: int = 5) -> dict[str, Any]:
        """The best `count` classes as plain numbers, scores to 0.0001."""
        classes = [
            {"label": label, "name": self.names[label], "score": round(float(self.scores[label]), 4)}
            for label in self.top(count)
        ]
        return {"task": "classification", "classes": classes}

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict())

    def plot(self) -> PIL.Image.Image:
        """The picture with the best classes written below it."""
        from hrnet.draw import draw_classes  # what draws stands above what is drawn

        return draw_classes(self)


@dataclass(frozen=True, slots=True, eq=False)
class SemanticMap:
    """A class for every pixel of one picture.

    Attributes:
        labels: `h w`, the size of the picture; 255 where the network did not see it.
        names: of the classes.
        source: the picture, or where it is.
    """

    labels: UInt8[np.ndarray, "h w"]
    names: tuple[str, ...]
    source: Source = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or self.labels.dtype != np.uint8 or not self.labels.size:
            raise ValueError(f"Labels are bytes, h w, not {self.labels.dtype} of shape {self.labels.shape}.")
        inside = self.labels[self.labels != OUTSIDE]
        if inside.size and int(inside.max()) >= len(self.names):
            raise ValueError(f"Label {inside.max()} has no name; there are {len(self.names)}.")

    def shares(self) -> Float[np.ndarray, " k"]:
        """Which part of the picture each class covers, from 0 to 1."""
        flat, counts = self.labels.ravel(), np.zeros(OUTSIDE + 1, int)
        # In parts: bincount makes an eight-byte number of each label.
        for start in range(0, len(flat), _COUNTED):
            counts += np.bincount(flat[start : start + _COUNTED], minlength=OUTSIDE + 1)
        return counts[: len(self.names)] / self.labels.size

    def to_dict(self, runs: bool = True) -> dict[str, Any]:
        """Plain numbers: the share of each class that is there, to a millionth, and the whole map.

        Args:
            runs: whether the map is given, as `runs`: label and length in turn, row after row from the top left.
        """
        shares = self.shares()
        content: dict[str, Any] = {
            "task": "segmentation",
            "size": list(self.labels.shape),
            "classes": [
                {"label": label, "name": self.names[label], "share": round(float(shares[label]), 6)}
                for label in np.flatnonzero(shares).tolist()
            ],
        }
        if runs:
            flat = self.labels.ravel()
            starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
            lengths = np.diff(np.append(starts, flat.size))
            content["runs"] = np.stack([flat[starts], lengths], axis=1).ravel().tolist()
        return content

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict())

    def to_image(self) -> PIL.Image.Image:
        """The labels as a picture that stores them: a palette picture, whose colours are those of `plot`."""
        from hrnet.draw import label_picture  # what draws stands above what is drawn

        return label_picture(self)

    def plot(self) -> PIL.Image.Image:
        """The picture with each class in its colour, and what the colours mean below it."""
        from hrnet.draw import draw_labels  # what draws stands above what is drawn

        return draw_labels(self)
