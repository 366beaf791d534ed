"""COCO's average precision of keypoints, for any skeleton."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCOeval_faster
from jaxtyping import Float

from hrnet.engine.coco_metrics import coco_evaluation
from hrnet.formats.coco import image_number
from hrnet.results import Poses

# COCO's ten metrics, in its order.
FIGURES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


def results_to_coco(results: Mapping[int, Poses], order: Sequence[int], category_id: int = 1) -> list[dict[str, Any]]:
    """Return poses by image id as a COCO results list, which `loadRes` of pycocotools reads.

    Args:
        results: poses of each image.
        order: keypoints to list, as indices.
        category_id: COCO's id of the objects.
    """
    return [
        {
            "image_id": image_id,
            "category_id": category_id,
            "keypoints": np.column_stack([points, scores])[order].astype(float).ravel().tolist(),
            "score": float(score),
        }
        for image_id, poses in results.items()
        for points, scores, score in zip(poses.keypoints, poses.keypoint_scores, poses.scores, strict=True)
    ]


def oks_evaluation(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    oks_sigmas: Sequence[float],
    image_ids: Collection[int | str],
) -> COCOeval_faster | None:
    """Return COCO's evaluation, accumulated; None without results.

    Args:
        ground_truth: content of a COCO keypoint json.
        results: a COCO results list.
        oks_sigmas: one per keypoint, in the order of the ground truth.
        image_ids: ids of the evaluated images; results on images without labeled objects are false positives.
    """
    if not results:
        return None
    category_id = results[0]["category_id"]
    annotations = _annotations(ground_truth, image_ids, category_id, len(oks_sigmas))
    # OKS does not depend on the size of the image.
    sizes = dict.fromkeys(image_ids, (0, 0))
    return coco_evaluation("keypoints", sizes, [category_id], annotations, results, oks_sigmas)


def oks_ap(evaluation: COCOeval_faster | None) -> dict[str, float]:
    """Return COCO's metrics in [0, 1], without those for which nothing is labeled."""
    if evaluation is None:
        return dict.fromkeys(FIGURES[:1], 0.0)
    evaluation.summarize()
    values = [float(value) for value in evaluation.stats[: len(FIGURES)]]
    return {name: value for name, value in zip(FIGURES, values, strict=True) if value >= 0}


def precision_by_recall(evaluation: COCOeval_faster | None) -> dict[float, Float[np.ndarray, 101]]:
    """Return the precision at recalls 0, 0.01, ... 1 for each OKS threshold from 0.5 to 0.95; their mean is AP.

    Empty without results or without labeled objects.
    """
    if evaluation is None:
        return {}
    # Axes: OKS thresholds, recalls, categories, areas (the first is all), numbers of results per image.
    precision = evaluation.eval["precision"][:, :, 0, 0, 0]
    thresholds = (round(float(value), 2) for value in evaluation.params.iouThrs)
    return dict(zip(thresholds, precision, strict=True)) if (precision >= 0).all() else {}


def _annotations(
    ground_truth: Mapping[str, Any], image_ids: Collection[int | str], category_id: int, joints: int
) -> list[dict[str, Any]]:
    """Return the annotations of one category, with the fields that COCO's evaluation needs and small data sets lack.

    Malformed entries are left out; the reader of the data set names them.
    """
    annotations = []
    for entry in ground_truth["annotations"]:
        if not isinstance(entry, dict):
            continue
        number = image_number(entry.get("image_id"))
        points, box = entry.get("keypoints") or [0] * 3 * joints, entry.get("bbox") or [0, 0, 0, 0]
        other = entry.get("category_id", category_id) != category_id
        if number not in image_ids or other or len(points) != 3 * joints:
            continue
        try:
            points, box = [float(value) for value in points], [float(value) for value in box]
            area = float(entry.get("area") or box[2] * box[3])
        except (TypeError, ValueError, OverflowError, IndexError):
            continue
        annotations.append(
            {
                "image_id": number,
                "category_id": category_id,
                "iscrowd": int(bool(entry.get("iscrowd"))),
                "keypoints": points,
                "bbox": box,
                "area": area,
                "num_keypoints": entry.get("num_keypoints", sum(flag > 0 for flag in points[2::3])),
            }
        )
    return annotations
