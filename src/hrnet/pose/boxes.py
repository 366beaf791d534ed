"""Labeled objects, and boxes of people from a detector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hrnet.errors import InputError
from hrnet.inference.processor import BoxPrompts
from hrnet.io.geometry import Size
from hrnet.pose.skeletons import Skeleton
from hrnet.results import Detections

# Names of people in data sets.
PEOPLE = ("person", "pedestrian", "people", "human")


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One labeled object, or one box of a detector, then without visible keypoints."""

    path: Path  # path of the image
    image_id: int  # COCO's id of the image
    size: Size  # height and width of the image
    box: Float[np.ndarray, " 4"]  # x1 y1 x2 y2
    keypoints: Float[np.ndarray, "k 2"]  # `k 2`, pixels of the image
    visibility: Float[np.ndarray, " k"]  # `k`: 0 not labeled, 1 hidden, 2 visible
    area: float  # size of the object as COCO measures it
    score: float = 1.0  # score of the box
    head: float = math.nan  # unit of length of MPII's errors, 0.6 times the diagonal of the head's box; NaN without one


def person_labels(names: tuple[str, ...]) -> list[int]:
    """Return the labels of a detector's classes of people: those named so, or its only class.

    Raises:
        InputError: no class is named so.
    """
    labels = [label for label, name in enumerate(names) if name.lower() in PEOPLE]
    if not labels and len(names) != 1:
        known = ", ".join(names[:12]) or "none"
        raise InputError(
            f"The detector has classes {known}, but no person; choose another detector or a file of boxes."
        )
    return labels or [0]


def finds_people(skeleton: Skeleton) -> bool:
    """Return whether a skeleton is that of a whole person, which a person detector finds."""
    return all(any(joint in name.lower() for name in skeleton.names) for joint in ("wrist", "ankle"))


def person_boxes(found: Detections, score: float) -> BoxPrompts:
    """Return the boxes of the detected people with at least this score.

    As in the published protocol the boxes of a detector, which count from the edges of pixels, are used as they are, not
    shifted by half a pixel to the pixel centers that boxes of the labels count from.
    """
    people = found[np.isin(found.labels, person_labels(found.names)) & (found.scores >= score)]
    return BoxPrompts(people.boxes.astype(float), people.scores.astype(float))
