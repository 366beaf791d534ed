"""Metrics of keypoints: PCK as in the LSP protocol, COCO's average precision, pixels; and their charts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from faster_coco_eval import COCOeval_faster
from jaxtyping import Bool, Float

from hrnet.engine.evaluator import Case, Chart, Findings, Measure, Series
from hrnet.formats.coco import image_number
from hrnet.io.geometry import flip_order
from hrnet.pose.boxes import Instance
from hrnet.pose.oks import oks_ap, oks_evaluation, precision_by_recall, results_to_coco
from hrnet.pose.processor import join_poses
from hrnet.pose.skeletons import Skeleton, left_right
from hrnet.pose.spec import PoseSpec
from hrnet.results import Poses

LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
PCK_THRESHOLDS = (0.2, 0.1, 0.05)
_BASELINE = "the mean pose, whatever the image"
_LEGEND = (
    "Orange is the right side of the body, blue the left, green the middle. In the prediction a yellow ring marks the "
    "ground truth of each keypoint, joined to the predicted position."
)


class PoseEvaluator:
    """Metrics of one pose per instance.

    Args:
        instances: labeled objects, or boxes of a detector, by the indices that `update` gets.
        spec: spec of the model.
        ground_truth: content of the COCO json of the ground truth, for average precision; None leaves AP out.
        labeled: True if the instances are labeled objects, which PCK needs.
        names: keypoints in the order of the ground truth; None for the model's.
        images: COCO's ids of all evaluated images, with or without objects; None for all of the ground truth.
        headline: main metric: AP, PCK@0.2, PCK-AUC or PCKh@0.5; None for PCKh@0.5 where heads are labeled, PCK@0.2 for other
            labeled objects, and AP for boxes of a detector.

    Attributes:
        headline: the requested metric if these labels allow it, else the default.
    """

    def __init__(
        self,
        instances: Sequence[Instance],
        spec: PoseSpec,
        *,
        ground_truth: Mapping[str, Any] | None = None,
        labeled: bool = True,
        names: tuple[str, ...] | None = None,
        images: Collection[int] | None = None,
        headline: str | None = None,
    ) -> None:
        self.instances = instances
        self.spec = spec
        self.ground_truth = ground_truth
        self.labeled = labeled
        self.names: tuple[str, ...] = names or spec.skeleton.names
        self.results: dict[int, Poses] = {}
        listed = ground_truth["images"] if ground_truth and images is None else ()
        self.images: set[int] = {image_number(image.get("id")) for image in listed} if images is None else set(images)
        heads = labeled and any(np.isfinite(instance.head) for instance in instances)
        measured = {"PCKh@0.5": heads, "PCK@0.2": labeled, "AP": self._measures_oks()}
        default = next((name for name, there in measured.items() if there), "PCK@0.2")
        measured["PCK-AUC"] = labeled
        self.headline: str = headline if headline is not None and measured.get(headline) else default

    def update(self, indices: Sequence[int], results: Sequence[Poses]) -> None:
        self.results.update(zip(indices, results, strict=True))

    def compute(self) -> dict[str, float]:
        metrics = self._pck() | self._pckh() | self._pixels() if self.labeled and self.results else {}
        if self._measures_oks():
            metrics |= oks_ap(self._oks_evaluation())
        return {name: value for name, value in metrics.items() if np.isfinite(value)}

    def by_image(self) -> dict[int, Poses]:
        """Return the poses of each image, duplicates removed, as prediction does."""
        positions: dict[int, list[int]] = defaultdict(list)
        for index in sorted(self.results):
            positions[self.instances[index].image_id].append(index)
        return {
            image_id: join_poses(
                [self.results[index] for index in indices],
                np.stack([self.instances[index].box for index in indices]),
                np.array([self.instances[index].score for index in indices]),
                self.spec,
            )
            for image_id, indices in positions.items()
        }

    def coco_results(self) -> list[dict[str, Any]]:
        """Return all poses as a COCO results list, keypoints in the order of the ground truth."""
        order = [self.spec.skeleton.names.index(name) for name in self.names if name in self.spec.skeleton.names]
        categories = self.ground_truth["categories"] if self.ground_truth else []
        named = [category for category in categories if category.get("keypoints")]
        return results_to_coco(self.by_image(), order, (named or categories or [{"id": 1}])[0]["id"])

    def _measures_oks(self) -> bool:
        """Return whether there is a ground truth, and the model has all its keypoints, without which OKS means nothing."""
        return self.ground_truth is not None and set(self.names) <= set(self.spec.skeleton.names)

    def _oks_evaluation(self) -> COCOeval_faster | None:
        assert self.ground_truth is not None
        skeleton = self.spec.skeleton
        sigmas = [skeleton.oks_sigmas[skeleton.names.index(name)] for name in self.names]
        # Images without a box count too: every object in them is missed.
        seen = self.images | {instance.image_id for instance in self.instances}
        return oks_evaluation(self.ground_truth, self.coco_results(), sigmas, seen)

    def _pck(self) -> dict[str, float]:
        errors, labeled = self.errors()
        metrics = {f"PCK@{threshold}": pck(errors, labeled, threshold) for threshold in PCK_THRESHOLDS}
        names = self.spec.skeleton.names
        limbs = [i for i, name in enumerate(names) if any(limb in name.lower() for limb in LIMBS)]
        if limbs:
            metrics["PCK@0.2/limbs"] = pck(errors[:, limbs], labeled[:, limbs], 0.2)
        metrics["PCK-AUC"] = pck_auc(errors, labeled)
        for index, name in enumerate(names):
            metrics[f"PCK@0.2/{name}"] = pck(errors[:, [index]], labeled[:, [index]], 0.2)
        return metrics

    def _pckh(self) -> dict[str, float]:
        """Return MPII's metric: PCK relative to the head's length, without pelvis and thorax in the mean."""
        return pckh(*self._head_errors(), self.spec.skeleton.names)

    def _pixels(self) -> dict[str, float]:
        """Return the mean distance in pixels of the image, over all labeled keypoints and per keypoint name."""
        distances, labeled = self.distances()
        metrics = {"error/px": mean_of(distances, labeled)}
        for index, name in enumerate(self.spec.skeleton.names):
            metrics[f"error/px/{name}"] = mean_of(distances[:, [index]], labeled[:, [index]])
        return metrics

    def distances(self) -> tuple[Float[np.ndarray, "n k"], Bool[np.ndarray, "n k"]]:
        """Return the distance of each keypoint in pixels of the image, and which are labeled, by index."""
        order = sorted(self.results)
        labels = np.stack([self.instances[i].keypoints for i in order])
        labeled = np.stack([self.instances[i].visibility for i in order]) > 0
        return np.linalg.norm(np.stack([self.results[i].keypoints[0] for i in order]) - labels, axis=-1), labeled

    def errors(self) -> tuple[Float[np.ndarray, "n k"], Bool[np.ndarray, "n k"]]:
        """Return the distance of each keypoint as a fraction of the torso (or box), and which are labeled."""
        return self._relative([reference_length(self.instances[i], self.spec.skeleton) for i in sorted(self.results)])

    def _head_errors(self) -> tuple[Float[np.ndarray, "n k"], Bool[np.ndarray, "n k"]]:
        return self._relative([self.instances[i].head for i in sorted(self.results)])

    def _relative(self, lengths: Sequence[float]) -> tuple[Float[np.ndarray, "n k"], Bool[np.ndarray, "n k"]]:
        """Return distances relative to a length per instance; instances with a length of NaN are not labeled."""
        distances, labeled = self.distances()
        size = np.array(lengths)[:, None]
        known = np.isfinite(size)
        return distances / np.where(known, size, 1), labeled & known

    def findings(self) -> Findings:
        """Return curves, the ground truth of each instance beside its pose, and the metrics of the mean pose."""
        charts: tuple[Chart, ...] = ()
        cases: tuple[Case, ...] = ()
        baseline: dict[str, float] = {}
        if self.labeled and self.results:
            mean_pose = self._mean_pose()
            baseline, charts = mean_pose.compute(), self._distance_charts(mean_pose)
            cases = tuple(self._case(index) for index in sorted(self.results))
        if self._measures_oks():
            found = precision_by_recall(self._oks_evaluation())
            charts += (_precision_recall(found),) if found else ()
        return Findings(charts, cases, _LEGEND, baseline, _BASELINE, self.measures())

    def measures(self) -> dict[str, Measure]:
        """Return how to read the metrics."""
        length = "the torso" if _has_torso(self.spec.skeleton) else "the longer side of the box"
        pcks = {f"PCK@{threshold}": f"keypoints within {threshold} of {length}, %" for threshold in PCK_THRESHOLDS}
        pcks |= {
            "PCK@0.2/limbs": f"the same of {', '.join(LIMBS)}",
            "PCK-AUC": "mean of PCK over thresholds from 0 to 0.2",
            "PCKh@0.5": "keypoints within half of the head's length, %",
            "PCKh@0.1": "keypoints within a tenth of the head's length, %",
        }
        return {
            **{name: Measure(100, meaning) for name, meaning in pcks.items()},
            "error/px": Measure(0, "mean distance in pixels of the image"),
            **{name: Measure(1, meaning) for name, meaning in _COCO_MEANINGS.items()},
        }

    def _mean_pose(self) -> PoseEvaluator:
        """Return the evaluator of the mean pose: every keypoint at its mean position in the box."""
        order = sorted(self.results)
        boxes = np.stack([self.instances[i].box for i in order]).reshape(-1, 2, 2)
        corner, side = boxes[:, :1], np.maximum(boxes[:, 1:] - boxes[:, :1], 1)
        labeled = np.stack([self.instances[i].visibility for i in order])[..., None] > 0
        places = (np.stack([self.instances[i].keypoints for i in order]) - corner) / side
        counts = labeled.sum(0)
        mean = np.where(counts > 0, (places * labeled).sum(0) / np.maximum(counts, 1), 0.5)
        mean_pose = copy(self)
        mean_pose.results = {
            index: self._pose(points, np.ones(len(points)), self.instances[index].box)
            for index, points in zip(order, corner + mean * side, strict=True)
        }
        return mean_pose

    def _pose(
        self, points: Float[np.ndarray, "k 2"], scores: Float[np.ndarray, " k"], box: Float[np.ndarray, 4]
    ) -> Poses:
        skeleton = self.spec.skeleton
        return Poses(points[None], scores[None], box[None], np.ones(1), skeleton.names, skeleton.links, skeleton.pairs)

    def _distance_charts(self, mean_pose: PoseEvaluator) -> tuple[Chart, ...]:
        torso = _has_torso(self.spec.skeleton)
        kinds = [("PCK", f"of the {'torso' if torso else 'longer side of the box'}", PoseEvaluator.errors)]
        if "PCKh@0.5" in self._pckh() and self._head_errors()[1].any():
            kinds.append(("PCKh", "of the head", PoseEvaluator._head_errors))
        return tuple(
            Chart(
                f"{name} over the threshold",
                f"threshold, fraction {unit}",
                "keypoints within it, %",
                (_pck_series("this model", *measure(self)), _pck_series("mean pose", *measure(mean_pose))),
                y_range=(0, 100),
                text="An early rise means exact keypoints; the gap to 100 % at the end is keypoints that are missed.",
            )
            for name, unit, measure in kinds
            if measure(self)[1].any()
        )

    def _case(self, index: int) -> Case:
        instance, found = self.instances[index], self.results[index]
        skeleton = self.spec.skeleton
        labeled = instance.visibility > 0
        ground_truth = self._pose(instance.keypoints, labeled.astype(float), instance.box)
        distances = np.linalg.norm(found.keypoints[0] - instance.keypoints, axis=-1)
        mirrored = np.linalg.norm(
            found.keypoints[0][flip_order(len(skeleton), skeleton.pairs)] - instance.keypoints, axis=-1
        )
        side = max(float(max(instance.box[2:] - instance.box[:2])), 1.0)
        limit = 0.2 * reference_length(instance, skeleton)
        shown = np.concatenate([instance.box.reshape(2, 2), instance.keypoints[labeled], found.keypoints[0][labeled]])
        height, width = instance.size
        margin = 0.06 * float(max(shown.max(0) - shown.min(0)))
        region = np.concatenate([
            np.clip(shown.min(0) - margin, -0.5, [width - 1.5, height - 1.5]),
            np.clip(shown.max(0) + margin, 0.5, [width - 0.5, height - 0.5]),
        ])  # fmt: skip
        error = float(distances[labeled].mean()) / side if labeled.any() else float("nan")
        words = _words(distances, mirrored, labeled, skeleton, side, limit)
        return Case(instance.path, instance.size, region, ground_truth, found, error, words)


def _words(
    distances: Float[np.ndarray, " k"],
    mirrored: Float[np.ndarray, " k"],
    labeled: Bool[np.ndarray, " k"],
    skeleton: Skeleton,
    side: float,
    limit: float,
) -> str:
    """Return one pose's error in a sentence or two.

    Args:
        distances: errors in pixels.
        mirrored: errors in pixels after exchanging left and right of the prediction.
        labeled: True for labeled keypoints.
        skeleton: names of the keypoints.
        side: longer side of the box, in pixels.
        limit: distance within which PCK@0.2 counts a keypoint as correct; NaN if unknown.
    """
    if not labeled.any():
        return "Nothing is labeled here."
    mean, worst = float(distances[labeled].mean()), int(np.argmax(np.where(labeled, distances, -1)))
    words = f"{mean:.1f} px off on average, {100 * mean / side:.0f} % of the box's longer side"
    words += f"; farthest {skeleton.names[worst].replace('_', ' ')}, {distances[worst]:.1f} px."
    if np.isfinite(limit):
        beyond = int((distances[labeled] > limit).sum())
        length = "the torso" if _has_torso(skeleton) else "the longer side"
        words += f" {beyond} of {int(labeled.sum())} keypoints farther than 0.2 of {length}."
    exchanged = float(mirrored[labeled].mean())
    if mean > _LARGE_ERROR * side and exchanged < mean / 2:
        words += f" Left and right look exchanged: with their names changed it is {exchanged:.1f} px."
    return words


# Fraction of the box: smaller errors are not checked for exchanged sides.
_LARGE_ERROR = 0.05


def _has_torso(skeleton: Skeleton) -> bool:
    return all(left_right(skeleton.names, joint) is not None for joint in ("shoulder", "hip"))


# Source: the comments of COCO's evaluation code.
_COCO_MEANINGS = {
    "AP": "average precision, mean over OKS thresholds from 0.5 to 0.95",
    "AP50": "average precision at an OKS of 0.5",
    "AP75": "average precision at an OKS of 0.75",
    "APM": "AP of objects of 32 x 32 to 96 x 96 pixels",
    "APL": "AP of larger objects",
    "AR": "average recall, mean over OKS thresholds from 0.5 to 0.95",
    "AR50": "average recall at an OKS of 0.5",
    "AR75": "average recall at an OKS of 0.75",
    "ARM": "AR of objects of 32 x 32 to 96 x 96 pixels",
    "ARL": "AR of larger objects",
}


def _pck_series(name: str, errors: Float[np.ndarray, "n k"], labeled: Bool[np.ndarray, "n k"]) -> Series:
    thresholds = (np.arange(51) / 100).tolist()
    return Series(name, thresholds, [pck(errors, labeled, threshold) for threshold in thresholds])


def _precision_recall(found: Mapping[float, Float[np.ndarray, 101]]) -> Chart:
    recalls = np.linspace(0, 1, 101).tolist()
    lines = [(f"OKS {threshold}", found[threshold]) for threshold in (0.5, 0.75, 0.9)]
    lines.append(("mean, 0.5 to 0.95", np.mean(list(found.values()), axis=0)))
    return Chart(
        "Precision over recall",
        "recall",
        "precision",
        tuple(Series(name, recalls, precision.tolist()) for name, precision in lines),
        y_range=(0, 1),
        text="Precision and recall of the results in order of their scores. The area under the mean is AP.",
    )


def reference_length(instance: Instance, skeleton: Skeleton) -> float:
    """Return the torso of the LSP protocol, left shoulder to right hip; for other skeletons the longer side of the box.

    NaN if the skeleton has both but they are not labeled in this instance.
    """
    shoulders, hips = left_right(skeleton.names, "shoulder"), left_right(skeleton.names, "hip")
    if shoulders is None or hips is None:
        return max(float(max(instance.box[2:] - instance.box[:2])), 1e-6)
    ends = [shoulders[0], hips[1]]
    if not (instance.visibility[ends] > 0).all():
        return float("nan")
    return max(float(np.linalg.norm(instance.keypoints[ends[0]] - instance.keypoints[ends[1]])), 1e-6)


def pck(errors: Float[np.ndarray, "n k"], labeled: Bool[np.ndarray, "n k"], threshold: float) -> float:
    """Return the percentage of labeled keypoints within the threshold, pooled over keypoints; NaN if none is labeled."""
    return 100 * float((errors[labeled] <= threshold).mean()) if labeled.any() else float("nan")


def mean_of(distances: Float[np.ndarray, "n k"], labeled: Bool[np.ndarray, "n k"]) -> float:
    """Return the mean over labeled keypoints, pooled; NaN if none is labeled."""
    return float(distances[labeled].mean()) if labeled.any() else float("nan")


# Joints of MPII's table, and keypoints that MPII leaves out of its mean.
_PCKH_ROWS = {"head": "head_top"} | {name: name for name in LIMBS}
_PCKH_MASKED = ("pelvis", "thorax")


def pckh(errors: Float[np.ndarray, "n k"], labeled: Bool[np.ndarray, "n k"], names: Sequence[str]) -> dict[str, float]:
    """Return MPII's metrics in percent from errors as fractions of the head's length.

    The row of a joint is the mean of left and right; the mean over all is weighted by the number of labels. The published
    PCKh@0.1 is measured at 0.11: the released code takes row 11 of thresholds 0, 0.01, ...
    """
    mean = [i for i, name in enumerate(names) if name not in _PCKH_MASKED]
    figures = {
        "PCKh@0.5": pck(errors[:, mean], labeled[:, mean], 0.5),
        "PCKh@0.1": pck(errors[:, mean], labeled[:, mean], 0.11),
    }
    for row, joint in _PCKH_ROWS.items():
        sides = [i for i, name in enumerate(names) if name in (joint, f"left_{joint}", f"right_{joint}")]
        if sides:
            figures[f"PCKh@0.5/{row}"] = float(np.mean([pck(errors[:, [i]], labeled[:, [i]], 0.5) for i in sides]))
    return figures


def pck_auc(errors: Float[np.ndarray, "n k"], labeled: Bool[np.ndarray, "n k"], limit: float = 0.2) -> float:
    """Return the mean of PCK over thresholds 0, 0.01, ... up to the limit."""
    return float(np.mean([pck(errors, labeled, threshold) for threshold in np.arange(0, limit + 1e-9, 0.01)]))
