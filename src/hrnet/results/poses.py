"""Keypoints of the people (or animals, or things) of an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Float

from hrnet.io.geometry import Frame, Image, warp
from hrnet.results.result import Result, Source, rounded, supervision
from hrnet.vis.draw import draw_skeletons


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Poses(Result):
    """Keypoints of one image.

    Attributes:
        keypoints: `n k 2`, pixels of the image.
        keypoint_scores: `n k`, height of each heatmap's peak.
        boxes: `n 4`, the box that each pose was estimated in.
        scores: `n`, box score times the mean of the keypoint scores above 0.2.
        names: names of the k keypoints.
        links: pairs of keypoints that a drawing joins.
        pairs: a left and a right keypoint each.
        source: the image, or its path.
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

    def __getitem__(self, which: np.ndarray | list[int] | slice | int) -> Poses:
        """Return some of the poses, by index, indices, mask or slice."""
        which = [which] if isinstance(which, int) else which
        parts = (self.keypoints[which], self.keypoint_scores[which], self.boxes[which], self.scores[which])
        return Poses(*parts, self.names, self.links, self.pairs, self.source)

    def count(self) -> int:
        """Return the number of poses."""
        return len(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers: pixels to 0.01, scores to 0.0001."""
        people = [
            {
                "score": rounded(self.scores[i], 4),
                "box": rounded(self.boxes[i], 2),
                "keypoints": rounded(self.keypoints[i], 2),
                "keypoint_scores": rounded(self.keypoint_scores[i], 4),
            }
            for i in range(len(self))
        ]
        return {"task": "pose", "keypoint_names": list(self.names), "people": people}

    def to_supervision(self) -> Any:
        """Return supervision's `KeyPoints`, all of class 0.

        Raises:
            InputError: supervision is not installed.
        """
        kind = supervision().KeyPoints
        values = {"keypoint_confidence": self.keypoint_scores, "detection_confidence": self.scores}
        if "keypoint_confidence" not in kind.__dataclass_fields__:
            values = {"confidence": self.keypoint_scores}  # earlier versions
        scores = {name: value.astype(np.float32) for name, value in values.items()}
        return kind(xy=self.keypoints.astype(np.float32), class_id=np.zeros(len(self), int), **scores)

    def summary(self, threshold: float = 0.3) -> str:
        """Return the numbers of poses and of keypoints with at least this score, and the best pose's score."""
        if not len(self):
            return "no pose; --boxes whole takes the image as one person"
        visible = int((self.keypoint_scores >= threshold).sum())
        noun = "pose" if len(self) == 1 else "poses"
        keypoints = f"{visible} of {self.keypoint_scores.size} keypoints"
        return f"{len(self)} {noun}, {keypoints}, best score {self.scores.max():.2f}"

    def plot(self, threshold: float = 0.3) -> PIL.Image.Image:
        """Return the image with the poses drawn on it; keypoints below the threshold are left out."""
        visible = self.keypoint_scores >= threshold
        return draw_skeletons(self.pixels(), self.keypoints, visible, self.links, self.pairs, scores=self.scores)

    def plot_pair(self, found: Poses, image: Image, frame: Frame) -> tuple[PIL.Image.Image, PIL.Image.Image]:
        """Return the labeled keypoints, and all predicted ones with rings where they should be."""
        view = warp(image, frame)
        labeled = self.keypoint_scores > 0
        targets = np.where(labeled[..., None], frame.to_input(self.keypoints), np.nan)
        places = frame.to_input(found.keypoints)
        everywhere = np.ones(places.shape[:2], bool)
        return (
            draw_skeletons(view, np.nan_to_num(targets), labeled, self.links, self.pairs),
            draw_skeletons(view, places, everywhere, found.links, found.pairs, targets=targets),
        )
