"""COCO's evaluation of boxes, masks and keypoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from faster_coco_eval import COCO, COCOeval_faster

from hrnet.io.geometry import Size


def coco_evaluation(
    kind: Literal["bbox", "segm", "keypoints"],
    sizes: Mapping[Any, Size],
    categories: Sequence[int],
    labels: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
    oks_sigmas: Sequence[float] = (),
) -> COCOeval_faster:
    """Evaluate and accumulate: `eval["precision"]` has the axes IoU, recall, category, area and maximum detections.

    Args:
        kind: type of the results.
        sizes: height and width of each evaluated image by its id or name. Detections in an image without labels are false
            positives.
        categories: category ids.
        labels: annotations as in a COCO json, without ids of their own; those of other images are ignored.
        results: a COCO results list.
        oks_sigmas: OKS sigma of each keypoint.
    """
    # pycocotools' code needs numeric image ids and annotation ids from 1; the order of the images breaks ties of scores.
    numbers = {image: number for number, image in enumerate(sorted(sizes, key=_by_kind), start=1)}
    annotations = [
        {**entry, "id": position, "image_id": numbers[entry["image_id"]]}
        for position, entry in enumerate((one for one in labels if one["image_id"] in numbers), start=1)
    ]
    images = [{"id": numbers[image], "height": size[0], "width": size[1]} for image, size in sizes.items()]
    named = [{"id": category, "name": str(category)} for category in categories]
    ground = COCO({"images": images, "annotations": annotations, "categories": named})
    detections = ground.loadRes([{**result, "image_id": numbers[result["image_id"]]} for result in results])
    evaluation = COCOeval_faster(ground, detections, kind, kpt_oks_sigmas=list(oks_sigmas) or None)
    evaluation.params.imgIds = list(numbers.values())
    evaluation.params.catIds = list(categories)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _by_kind(image: int | str) -> tuple[bool, int | str]:
    return isinstance(image, str), image
