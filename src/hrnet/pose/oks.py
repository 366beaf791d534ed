"""COCO's keypoint average precision, for any number of keypoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from hrnet.results import Poses

# COCO's ten figures, in its order.
FIGURES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


def results_to_coco(results: Mapping[int, Poses], category_id: int = 1) -> list[dict[str, Any]]:
    """Poses by image id as a COCO results list, which `loadRes` of pycocotools reads."""
    return [
        {
            "image_id": image_id,
            "category_id": category_id,
            "keypoints": np.column_stack([poses.keypoints[i], poses.keypoint_scores[i]]).astype(float).ravel().tolist(),
            "score": float(poses.scores[i]),
        }
        for image_id, poses in results.items()
        for i in range(len(poses))
    ]


def oks_ap(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    oks_sigmas: Sequence[float],
    image_ids: Sequence[int],
) -> dict[str, float]:
    """COCO's figures in [0, 1]; those for which nothing is labelled are left out.

    Args:
        truth: content of a COCO keypoint json.
        results: a COCO results list.
        oks_sigmas: one a keypoint.
        image_ids: the images that were looked at.
    """
    if not results:
        return dict.fromkeys(FIGURES[:1], 0.0)
    ground = COCO(_with_counts(truth))
    evaluation = COCOeval_faster(ground, ground.loadRes(list(results)), "keypoints", kpt_oks_sigmas=list(oks_sigmas))
    evaluation.params.imgIds = list(image_ids)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    values = [float(value) for value in evaluation.stats[: len(FIGURES)]]
    return {name: value for name, value in zip(FIGURES, values, strict=True) if value >= 0}


def _with_counts(truth: Mapping[str, Any]) -> dict[str, Any]:
    """The truth with the fields that COCO's evaluation needs and small data sets leave out."""
    annotations = []
    for number, entry in enumerate(truth["annotations"], start=1):
        points = entry.get("keypoints") or []
        box = entry.get("bbox") or [0, 0, 0, 0]
        annotations.append(
            {
                "id": number,
                "iscrowd": 0,
                "area": box[2] * box[3],
                "num_keypoints": sum(flag > 0 for flag in points[2::3]),
                **entry,
            }
        )
    return {**truth, "annotations": annotations}
