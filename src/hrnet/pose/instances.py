"""The record of one labeled object."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hrnet.io.geometry import Size


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
