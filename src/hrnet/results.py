"""What a prediction is: frozen records in pixels of the original image.

Boxes are x1 y1 x2 y2, points (x, y), labels 0..K-1, scores in [0, 1].
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from hrnet.errors import InputError
from hrnet.io.geometry import Size

if TYPE_CHECKING:
    import PIL.Image

Source = Path | np.ndarray | None

# The label of a pixel that has none: not shown to the network, or not marked by people.
OUTSIDE = 255
_COUNTED = 1 << 20


def _rounded(values: np.ndarray, digits: int) -> list[Any]:
    return np.round(values.astype(float), digits).tolist()


@dataclass(frozen=True, slots=True, eq=False)
class Poses:
    """Keypoints of the people (or animals, or things) of one image.

    Attributes:
        keypoints: `n k 2`, pixels of the image.
        keypoint_scores: `n k`, the height of each heatmap's peak.
        boxes: `n 4`, where each was looked for.
        scores: `n`, box score times the mean of the keypoint scores above 0.2.
        names: of the k keypoints.
        links: pairs of keypoints that a drawing joins.
        pairs: a left and a right keypoint each.
        source: the image, or where it is.
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

    def to_supervision(self) -> Any:
        """As `KeyPoints` of the library supervision, all of class 0.

        Raises:
            InputError: supervision is not installed.
        """
        kind = _supervision().KeyPoints
        values = {"keypoint_confidence": self.keypoint_scores, "detection_confidence": self.scores}
        if "keypoint_confidence" not in kind.__dataclass_fields__:
            values = {"confidence": self.keypoint_scores}  # as earlier versions have it
        scores = {name: value.astype(np.float32) for name, value in values.items()}
        return kind(xy=self.keypoints.astype(np.float32), class_id=np.zeros(len(self), int), **scores)

    def plot(self, threshold: float = 0.3) -> PIL.Image.Image:
        """The image with the people drawn on it; keypoints below the threshold are left out."""
        from hrnet.vis.draw import draw_poses  # what draws stands above what is drawn

        return draw_poses(self, threshold=threshold)


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """What one image shows.

    Attributes:
        scores: `k`, the probability of each class.
        names: of the k classes.
        source: the image, or where it is.
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

    def to_supervision(self) -> Any:
        """As `Classifications` of the library supervision: every class with its probability.

        Raises:
            InputError: supervision is not installed.
        """
        return _supervision().Classifications(np.arange(len(self.names)), self.scores.astype(np.float32))

    def plot(self) -> PIL.Image.Image:
        """The image with the best classes written below it."""
        from hrnet.vis.draw import draw_classes  # what draws stands above what is drawn

        return draw_classes(self)


@dataclass(frozen=True, slots=True, eq=False)
class SemanticMap:
    """A class for every pixel of one image.

    Attributes:
        labels: `h w`, the size of the image; 255 where the network did not see it.
        names: of the classes.
        source: the image, or where it is.
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
        """Which part of the image each class covers, from 0 to 1."""
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
        """The labels as an image that stores them: a palette image, whose colors are those of `plot`."""
        from hrnet.vis.draw import label_image  # what draws stands above what is drawn

        return label_image(self)

    def plot(self) -> PIL.Image.Image:
        """The image with each class in its color, and what the colors mean below it."""
        from hrnet.vis.draw import draw_labels  # what draws stands above what is drawn

        return draw_labels(self)


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """Which pixels belong to each object of one image, kept as small images: nothing is held of what lies outside.

    Attributes:
        crops: `h w` each, true on the object; of any size, none too.
        corners: `n 2`, x and y of the image's pixel that is the first of each crop.
        size: height and width of the image, inside which all crops lie.
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
    def of(cls, masks: Sequence[Bool[np.ndarray, "h w"]] | Bool[np.ndarray, "n h w"], size: Size) -> Masks:
        """Of masks as large as the image."""
        crops, corners = [], []
        for mask in masks:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            top, left = (rows[0], columns[0]) if len(rows) else (0, 0)
            bottom, right = (rows[-1] + 1, columns[-1] + 1) if len(rows) else (0, 0)
            # A copy: a part of the mask would keep the whole alive.
            crops.append(mask[top:bottom, left:right].astype(bool))
            corners.append((left, top))
        return cls(tuple(crops), np.array(corners, int).reshape(-1, 2), size)

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, which: np.ndarray | list[int] | slice) -> Masks:
        """Some of the masks, by indices, mask or slice."""
        indices = np.arange(len(self))[which]
        return Masks(tuple(self.crops[index] for index in indices), self.corners[indices], self.size)

    def full(self, index: int) -> Bool[np.ndarray, "h w"]:
        """One mask as large as the image."""
        mask, crop, (x, y) = np.zeros(self.size, bool), self.crops[index], self.corners[index]
        mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        return mask

    def areas(self) -> Int[np.ndarray, " n"]:
        """Pixels of each."""
        return np.array([np.count_nonzero(crop) for crop in self.crops], int)

    def runs(self, index: int) -> Int[np.ndarray, " r"]:
        """One mask as COCO's run lengths: of 0 and of 1 in turn, 0 first, column after column from the top left."""
        crop, (x, y) = self.crops[index], self.corners[index]
        height, width = self.size
        edges = np.zeros((crop.shape[1], crop.shape[0] + 2), bool)
        edges[:, 1:-1] = crop.T
        columns, rows = np.nonzero(edges[:, 1:] != edges[:, :-1])
        # Starts and ends in turn; a run that goes on in the next column ends and starts at the same place.
        places, times = np.unique((columns + x) * height + rows + y, return_counts=True)
        counts = np.diff(places[times == 1], prepend=0, append=height * width)
        return counts if counts[-1] else counts[:-1]


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The objects of one image.

    Attributes:
        boxes: `n 4`, x1 y1 x2 y2, counted from the outer edge of the first pixel: a box that fills an image of w x h
            pixels is 0 0 w h.
        scores: `n`.
        labels: `n`, the class of each.
        names: of the classes.
        masks: `n`, of models that find them.
        source: the image, or where it is.
    """

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    names: tuple[str, ...]
    masks: Masks | None = None
    source: Source = field(default=None, repr=False)

    def __post_init__(self) -> None:
        count = len(self.scores)
        found = (
            self.boxes.shape,
            self.scores.shape,
            self.labels.shape,
            count if self.masks is None else len(self.masks),
        )
        if found != ((count, 4), (count,), (count,), count):
            raise ValueError(f"Boxes, scores, labels and masks do not fit together: {found}.")
        if count and not 0 <= self.labels.min() <= self.labels.max() < len(self.names):
            raise ValueError(
                f"Labels {self.labels.min()} to {self.labels.max()} are not all of {len(self.names)} classes."
            )

    @classmethod
    def none(cls, names: tuple[str, ...], source: Source = None) -> Detections:
        """Nothing found."""
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), names, None, source)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: np.ndarray | list[int] | slice) -> Detections:
        """Some of the objects, by indices, mask or slice."""
        masks = None if self.masks is None else self.masks[which]
        return Detections(self.boxes[which], self.scores[which], self.labels[which], self.names, masks, self.source)

    def to_dict(self, masks: bool = True) -> dict[str, Any]:
        """Plain lists and numbers: pixels to 0.01, scores to 0.0001.

        Args:
            masks: whether masks are given, as COCO's uncompressed run lengths.
        """
        objects: list[dict[str, Any]] = [
            {
                "label": int(self.labels[i]),
                "name": self.names[self.labels[i]],
                "score": round(float(self.scores[i]), 4),
                "box": _rounded(self.boxes[i], 2),
            }
            for i in range(len(self))
        ]
        if masks and self.masks is not None:
            for i, content in enumerate(objects):
                content["mask"] = {"size": list(self.masks.size), "counts": self.masks.runs(i).tolist()}
        return {"task": "detection", "objects": objects}

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict())

    def to_supervision(self) -> Any:
        """As a `Detections` of the library supervision, with masks as large as the image.

        Raises:
            InputError: supervision is not installed.
        """
        supervision = _supervision()
        masks = None
        if self.masks is not None:
            masks = np.array([self.masks.full(i) for i in range(len(self))], bool).reshape(-1, *self.masks.size)
        return supervision.Detections(
            xyxy=self.boxes.astype(np.float32),
            mask=masks,
            confidence=self.scores.astype(np.float32),
            class_id=self.labels.astype(int),
            data={"class_name": np.array([self.names[label] for label in self.labels], dtype=str)},
        )

    def plot(self, threshold: float = 0.3) -> PIL.Image.Image:
        """The image with the objects drawn on it; those with a lower score are left out."""
        from hrnet.vis.draw import draw_detections  # what draws stands above what is drawn

        return draw_detections(self, threshold=threshold)


def _supervision() -> Any:
    """The library, which is not a dependency: who wants its types has it."""
    try:
        import supervision  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        if error.name != "supervision":
            raise
        raise InputError("The library supervision is not installed; `pip install supervision` does it.") from None
    return supervision
