"""How good keypoints are: PCK as in the LSP protocol and COCO's average precision."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from hrnet.pose.data import Instance
from hrnet.pose.model import people
from hrnet.pose.oks import oks_ap, results_to_coco
from hrnet.pose.skeletons import Skeleton
from hrnet.pose.spec import PoseSpec
from hrnet.results import Poses

LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
PCK_SHARES = (0.2, 0.1, 0.05)


class PoseEvaluator:
    """Scores one pose an instance.

    Args:
        instances: labelled objects, or boxes of a detector, in the order of the positions that `update` gets.
        spec: of the model.
        truth: content of the COCO json, for average precision; None for none.
        labelled: whether the instances are labelled objects, which PCK needs.
        names: the keypoints in the order of the truth; None where it is the model's.

    Attributes:
        headline: PCK@0.2 for labelled objects, else AP.
    """

    def __init__(
        self,
        instances: Sequence[Instance],
        spec: PoseSpec,
        *,
        truth: Mapping[str, Any] | None = None,
        labelled: bool = True,
        names: tuple[str, ...] | None = None,
    ) -> None:
        self.instances = instances
        self.spec = spec
        self.truth = truth
        self.labelled = labelled
        self.names = names or spec.skeleton.names
        self.results: dict[int, Poses] = {}
        self.headline = "PCK@0.2" if labelled else "AP"

    def update(self, indices: Sequence[int], results: Sequence[Poses]) -> None:
        self.results.update(zip(indices, results, strict=True))

    def compute(self) -> dict[str, float]:
        metrics = self._pck() if self.labelled else {}
        if self.truth is not None and set(self.names) <= set(self.spec.skeleton.names):
            place = [self.spec.skeleton.names.index(name) for name in self.names]
            sigmas = [self.spec.skeleton.oks_sigmas[index] for index in place]
            seen = sorted({instance.image_id for instance in self.instances})
            metrics |= oks_ap(self.truth, self.coco_results(), sigmas, seen)
        return {name: value for name, value in metrics.items() if np.isfinite(value)}

    def by_image(self) -> dict[int, Poses]:
        """The people of each picture, duplicates removed, as prediction returns them."""
        positions: dict[int, list[int]] = defaultdict(list)
        for index in sorted(self.results):
            positions[self.instances[index].image_id].append(index)
        return {
            image_id: people(
                [self.results[index] for index in indices],
                np.stack([self.instances[index].box for index in indices]),
                np.array([self.instances[index].score for index in indices]),
                self.spec,
            )
            for image_id, indices in positions.items()
        }

    def coco_results(self) -> list[dict[str, Any]]:
        """All poses as a COCO results list, keypoints in the order of the truth."""
        place = [self.spec.skeleton.names.index(name) for name in self.names if name in self.spec.skeleton.names]
        category = self._category()
        results = results_to_coco(self.by_image(), category)
        for result in results:
            result["keypoints"] = np.reshape(result["keypoints"], (-1, 3))[place].ravel().tolist()
        return results

    def _category(self) -> int:
        categories = self.truth["categories"] if self.truth else []
        named = [category for category in categories if category.get("keypoints")]
        return (named or categories or [{"id": 1}])[0]["id"]

    def _pck(self) -> dict[str, float]:
        errors, labelled = self.errors()
        metrics = {f"PCK@{share}": pck(errors, labelled, share) for share in PCK_SHARES}
        names = self.spec.skeleton.names
        limbs = [i for i, name in enumerate(names) if any(limb in name.lower() for limb in LIMBS)]
        if limbs:
            metrics["PCK@0.2/limbs"] = pck(errors[:, limbs], labelled[:, limbs], 0.2)
        metrics["PCK-AUC"] = pck_auc(errors, labelled)
        for index, name in enumerate(names):
            metrics[f"PCK@0.2/{name}"] = pck(errors[:, [index]], labelled[:, [index]], 0.2)
        return metrics

    def errors(self) -> tuple[Float[np.ndarray, "n k"], Bool[np.ndarray, "n k"]]:
        """Distance of each keypoint as a share of the torso (or box), and which are labelled."""
        order = sorted(self.results)
        truth = np.stack([self.instances[i].keypoints for i in order])
        labelled = np.stack([self.instances[i].visibility for i in order]) > 0
        found = np.stack([self.results[i].keypoints[0] for i in order])
        size = np.array([reference_length(self.instances[i], self.spec.skeleton) for i in order])
        labelled &= np.isfinite(size)[:, None]
        return np.linalg.norm(found - truth, axis=-1) / np.where(np.isfinite(size), size, 1)[:, None], labelled


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
