"""What a prediction is: frozen records in pixels of the original picture.

Boxes are x1 y1 x2 y2, points (x, y), labels 0..K-1, scores in [0, 1].
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    import PIL.Image

Source = Path | np.ndarray | None


def _rounded(values: np.ndarray, digits: int) -> list[Any]:
    return np.round(values.astype(float), digits).tolist()


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

    def plot(self, threshold: float = 0.2) -> PIL.Image.Image:
        """The picture with the people drawn on it; keypoints below the threshold are left out."""
        from hrnet.draw import draw_poses  # what draws stands above what is drawn

        return draw_poses(self, threshold=threshold)
