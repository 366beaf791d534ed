"""How good keypoints are: PCK as in the LSP protocol and COCO's average precision."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from hrnet.pose.data import Instance, picture_number
from hrnet.pose.model import people
from hrnet.pose.oks import oks_ap, results_to_coco
from hrnet.pose.skeletons import Skeleton, left_right
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
        images: COCO's numbers of all pictures that were looked at, with or without objects; None for all of the truth.
        headline: AP, PCK@0.2 or PCKh@0.5; None for PCKh@0.5 where heads are labelled, PCK@0.2 for other labelled objects, and
            AP for boxes of a detector.

    Attributes:
        headline: what was asked for if it can be measured here, else what None gives.
    """

    def __init__(
        self,
        instances: Sequence[Instance],
        spec: PoseSpec,
        *,
        truth: Mapping[str, Any] | None = None,
        labelled: bool = True,
        names: tuple[str, ...] | None = None,
        images: Collection[int] | None = None,
        headline: str | None = None,
    ) -> None:
        self.instances = instances
        self.spec = spec
        self.truth = truth
        self.labelled = labelled
        self.names = names or spec.skeleton.names
        self.results: dict[int, Poses] = {}
        listed = truth["images"] if truth and images is None else ()
        self.images = {picture_number(picture.get("id")) for picture in listed} if images is None else set(images)
        heads = labelled and any(np.isfinite(instance.head) for instance in instances)
        measured = {"PCKh@0.5": heads, "PCK@0.2": labelled, "AP": truth is not None and self._finds_all()}
        default = next((name for name, there in measured.items() if there), "PCK@0.2")
        self.headline = headline if headline is not None and measured.get(headline) else default

    def update(self, indices: Sequence[int], results: Sequence[Poses]) -> None:
        self.results.update(zip(indices, results, strict=True))

    def compute(self) -> dict[str, float]:
        metrics = self._pck() | self._pckh() if self.labelled and self.results else {}
        if self.truth is not None and self._finds_all():
            place = [self.spec.skeleton.names.index(name) for name in self.names]
            sigmas = [self.spec.skeleton.oks_sigmas[index] for index in place]
            # Not only pictures with boxes: one in which nothing was found is one in which everything was missed.
            seen = self.images | {instance.image_id for instance in self.instances}
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

    def _finds_all(self) -> bool:
        """Whether the model finds every keypoint of the truth, without which similarity to it means nothing."""
        return set(self.names) <= set(self.spec.skeleton.names)

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

    def _pckh(self) -> dict[str, float]:
        """MPII's measure: the same with the head as length, without pelvis and thorax in the mean."""
        order = sorted(self.results)
        heads = np.array([self.instances[i].head for i in order])
        labelled = np.stack([self.instances[i].visibility for i in order]) > 0
        labelled &= np.isfinite(heads)[:, None]
        distance = np.linalg.norm(
            np.stack([self.results[i].keypoints[0] - self.instances[i].keypoints for i in order]), axis=-1
        )
        errors = distance / np.where(np.isfinite(heads), heads, 1)[:, None]
        return pckh(errors, labelled, self.spec.skeleton.names)

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
    shoulders, hips = left_right(skeleton.names, "shoulder"), left_right(skeleton.names, "hip")
    if shoulders is None or hips is None:
        return max(float(max(instance.box[2:] - instance.box[:2])), 1e-6)
    ends = [shoulders[0], hips[1]]
    if not (instance.visibility[ends] > 0).all():
        return float("nan")
    return max(float(np.linalg.norm(instance.keypoints[ends[0]] - instance.keypoints[ends[1]])), 1e-6)


def pck(errors: Float[np.ndarray, "n k"], labelled: Bool[np.ndarray, "n k"], share: float) -> float:
    """Percentage of labelled keypoints within the share, pooled over keypoints; not a number where none is labelled."""
    return 100 * float((errors[labelled] <= share).mean()) if labelled.any() else float("nan")


# Joints of MPII's table, and what MPII leaves out of its mean.
_PCKH_ROWS = {"head": "head_top"} | {name: name for name in LIMBS}
_PCKH_MASKED = ("pelvis", "thorax")


def pckh(errors: Float[np.ndarray, "n k"], labelled: Bool[np.ndarray, "n k"], names: Sequence[str]) -> dict[str, float]:
    """MPII's figures in percent, of errors as shares of the head.

    A row of a joint is the mean of left and right, the mean over all is weighted by how often each is labelled. The figure
    that is published as PCKh@0.1 is measured at 0.11: the released code takes row 11 of thresholds 0, 0.01, ...
    """
    mean = [i for i, name in enumerate(names) if name not in _PCKH_MASKED]
    figures = {
        "PCKh@0.5": pck(errors[:, mean], labelled[:, mean], 0.5),
        "PCKh@0.1": pck(errors[:, mean], labelled[:, mean], 0.11),
    }
    for row, joint in _PCKH_ROWS.items():
        sides = [i for i, name in enumerate(names) if name in (joint, f"left_{joint}", f"right_{joint}")]
        if sides:
            each = [pck(errors[:, [i]], labelled[:, [i]], 0.5) for i in sides]
            figures[f"PCKh@0.5/{row}"] = float(np.mean(each))
    return figures


def pck_auc(errors: Float[np.ndarray, "n k"], labelled: Bool[np.ndarray, "n k"], limit: float = 0.2) -> float:
    """Mean of PCK over thresholds 0, 0.01, ... up to the limit."""
    return float(np.mean([pck(errors, labelled, share) for share in np.arange(0, limit + 1e-9, 0.01)]))
