"""COCO's keypoint average precision, for any number of keypoints."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from jaxtyping import Float

from hrnet.pose.data import picture_number
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
    image_ids: Collection[int | str],
) -> dict[str, float]:
    """COCO's figures in [0, 1]; those for which nothing is labelled are left out.

    Args:
        truth: content of a COCO keypoint json.
        results: a COCO results list.
        oks_sigmas: one a keypoint.
        image_ids: the images that were looked at; what was found in them where nothing is labelled counts as wrong.
    """
    evaluation = _evaluation(truth, results, oks_sigmas, image_ids)
    if evaluation is None:
        return dict.fromkeys(FIGURES[:1], 0.0)
    evaluation.summarize()
    values = [float(value) for value in evaluation.stats[: len(FIGURES)]]
    return {name: value for name, value in zip(FIGURES, values, strict=True) if value >= 0}


def precision_by_recall(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    oks_sigmas: Sequence[float],
    image_ids: Collection[int | str],
) -> dict[float, Float[np.ndarray, 101]]:
    """Precision at recalls 0, 0.01, ... 1 for each similarity from 0.5 to 0.95, whose mean is AP; empty where nothing was
    found or nothing is labelled. Arguments as of `oks_ap`."""
    evaluation = _evaluation(truth, results, oks_sigmas, image_ids)
    if evaluation is None:
        return {}
    # Similarities, recalls, categories, areas (the first is all), numbers of results a picture.
    precision = evaluation.eval["precision"][:, :, 0, 0, 0]
    thresholds = (round(float(value), 2) for value in evaluation.params.iouThrs)
    return dict(zip(thresholds, precision, strict=True)) if (precision >= 0).all() else {}


def _evaluation(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    oks_sigmas: Sequence[float],
    image_ids: Collection[int | str],
) -> COCOeval_faster | None:
    """COCO's evaluation, accumulated; None without results."""
    # COCO's code wants numbers for images and, from 1, for annotations; the order of the images decides between equal scores.
    numbers = {image_id: number for number, image_id in enumerate(sorted(image_ids, key=_by_kind), start=1)}
    found = [{**result, "image_id": numbers[result["image_id"]]} for result in results]
    if not found:
        return None
    category_id = found[0]["category_id"]
    ground = COCO(_ground_truth(truth, numbers, category_id, len(oks_sigmas)))
    evaluation = COCOeval_faster(ground, ground.loadRes(found), "keypoints", kpt_oks_sigmas=list(oks_sigmas))
    evaluation.params.imgIds = list(numbers.values())
    evaluation.params.catIds = [category_id]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _by_kind(image_id: int | str) -> tuple[bool, int | str]:
    return isinstance(image_id, str), image_id


def _ground_truth(
    truth: Mapping[str, Any], numbers: Mapping[Any, int], category_id: int, joints: int
) -> dict[str, Any]:
    """The truth of one category, with the fields that COCO's evaluation needs and small data sets leave out.

    An entry that is not of the right form is left out; the reader of the data set names it.
    """
    annotations = []
    for entry in truth["annotations"]:
        if not isinstance(entry, dict):
            continue
        number = numbers.get(picture_number(entry.get("image_id")))
        points, box = entry.get("keypoints") or [0] * 3 * joints, entry.get("bbox") or [0, 0, 0, 0]
        if number is None or entry.get("category_id", category_id) != category_id or len(points) != 3 * joints:
            continue
        try:
            points, box = [float(value) for value in points], [float(value) for value in box]
            area = float(entry.get("area") or box[2] * box[3])
        except (TypeError, ValueError, OverflowError, IndexError):
            continue
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": category_id,
                "iscrowd": int(bool(entry.get("iscrowd"))),
                "keypoints": points,
                "bbox": box,
                "area": area,
                "num_keypoints": entry.get("num_keypoints", sum(flag > 0 for flag in points[2::3])),
            }
        )
    images = [{"id": number} for number in numbers.values()]
    return {"images": images, "annotations": annotations, "categories": [{"id": category_id, "name": "object"}]}
