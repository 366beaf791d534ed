"""COCO's evaluation of boxes, masks and keypoints, for the tasks that are measured by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from faster_coco_eval import COCO, COCOeval_faster

from hrnet.io.geometry import Size


def coco_evaluation(
    kind: Literal["bbox", "segm", "keypoints"],
    sizes: Mapping[Any, Size],
    categories: Sequence[int],
    truth: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
    oks_sigmas: Sequence[float] = (),
) -> COCOeval_faster:
    """Evaluated and accumulated: `eval["precision"]` holds similarities, recalls, categories, areas, numbers of results.

    Args:
        kind: what is compared.
        sizes: height and width of each image that was looked at, by its number or name. What was found in them where
            nothing is labeled counts as wrong.
        categories: numbers of the classes.
        truth: annotations as of a COCO json, without numbers of their own; those of other images are left out.
        results: a COCO results list.
        oks_sigmas: one a keypoint.
    """
    # COCO's code wants numbers for images and, from 1, for annotations; the order of the images decides between equal scores.
    numbers = {image: number for number, image in enumerate(sorted(sizes, key=_by_kind), start=1)}
    annotations = [
        {**entry, "id": position, "image_id": numbers[entry["image_id"]]}
        for position, entry in enumerate((one for one in truth if one["image_id"] in numbers), start=1)
    ]
    images = [{"id": numbers[image], "height": size[0], "width": size[1]} for image, size in sizes.items()]
    named = [{"id": category, "name": str(category)} for category in categories]
    ground = COCO({"images": images, "annotations": annotations, "categories": named})
    found = ground.loadRes([{**result, "image_id": numbers[result["image_id"]]} for result in results])
    evaluation = COCOeval_faster(ground, found, kind, kpt_oks_sigmas=list(oks_sigmas) or None)
    evaluation.params.imgIds = list(numbers.values())
    evaluation.params.catIds = list(categories)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _by_kind(image: int | str) -> tuple[bool, int | str]:
    return isinstance(image, str), image
