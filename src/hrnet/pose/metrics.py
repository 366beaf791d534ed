"""How good keypoints are: PCK, PCKh and COCO's OKS-AP."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from hrnet.pose.data import Instance
from hrnet.pose.skeletons import Skeleton
from hrnet.results import Poses

LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")


class PoseEvaluator:
    """PCK at shares of the torso, where a torso is named; else of the box. One pose an instance.

    Args:
        instances: the truth, in the order of the positions that `update` gets.
        skeleton: names of the keypoints.
    """

    def __init__(self, instances: Sequence[Instance], skeleton: Skeleton) -> None:
        self.instances = instances
        self.skeleton = skeleton
        self.results: dict[int, Poses] = {}
        self.headline = "PCK@0.2"

    def update(self, indices: Sequence[int], results: Sequence[Poses]) -> None:
        self.results.update(zip(indices, results, strict=True))

    def errors(self) -> tuple[Float[np.ndarray, "n k"], Bool[np.ndarray, "n k"]]:
        """Distance of each keypoint as a share of the torso (or box), and which are labelled."""
        order = sorted(self.results)
        truth = np.stack([self.instances[i].keypoints for i in order])
        labelled = np.stack([self.instances[i].visibility for i in order]) > 0
        found = np.stack([self.results[i].keypoints[0] for i in order])
        size = np.array([reference_length(self.instances[i], self.skeleton) for i in order])
        labelled &= np.isfinite(size)[:, None]
        return np.linalg.norm(found - truth, axis=-1) / np.where(np.isfinite(size), size, 1)[:, None], labelled

    def compute(self) -> dict[str, float]:
        errors, labelled = self.errors()
        metrics = {f"PCK@{share}": pck(errors, labelled, share) for share in (0.2, 0.1, 0.05)}
        names = self.skeleton.names
        limbs = [i for i, name in enumerate(names) if any(limb in name.lower() for limb in LIMBS)]
        if limbs:
            metrics["PCK@0.2/limbs"] = pck(errors[:, limbs], labelled[:, limbs], 0.2)
        metrics["PCK-AUC"] = pck_auc(errors, labelled)
        for index, name in enumerate(names):
            metrics[f"PCK@0.2/{name}"] = pck(errors[:, [index]], labelled[:, [index]], 0.2)
        return metrics


def reference_length(instance: Instance, skeleton: Skeleton) -> float:
    """Left shoulder to right hip, the torso of the LSP protocol; the longer side of the box where these are not named.

    Not a number where they are named but not labelled in this instance.
    """
    names = skeleton.names
    if "left_shoulder" not in names or "right_hip" not in names:
        return float(max(instance.box[2:] - instance.box[:2]))
    ends = [names.index("left_shoulder"), names.index("right_hip")]
    if not (instance.visibility[ends] > 0).all():
        return float("nan")
    return max(float(np.linalg.norm(instance.keypoints[ends[0]] - instance.keypoints[ends[1]])), 1e-6)


def pck(errors: Float[np.ndarray, "n k"], labelled: Bool[np.ndarray, "n k"], share: float) -> float:
    """Percentage of labelled keypoints within the share, pooled over keypoints; not a number where none is labelled."""
    return 100 * float((errors[labelled] <= share).mean()) if labelled.any() else float("nan")


def pck_auc(errors: Float[np.ndarray, "n k"], labelled: Bool[np.ndarray, "n k"], limit: float = 0.2) -> float:
    """Mean of PCK over thresholds 0, 0.01, ... up to the limit."""
    return float(np.mean([pck(errors, labelled, share) for share in np.arange(0, limit + 1e-9, 0.01)]))
