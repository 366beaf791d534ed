"""Objects as COCO's files have them: labeled ones, found ones, and masks as run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from faster_coco_eval.core import mask as coco_masks
from jaxtyping import Float

from hrnet.detection.spec import COCO
from hrnet.detection.voc import Found, Truth
from hrnet.formats.records import ImageRecord, Object
from hrnet.results import Detections, Masks

# Numbers of COCO's list of objects that no class has.
_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def coco_entries(
    found: Found | Detections, masks: list[dict[str, Any]] | None, image_id: int | str, category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """What was found in one image, as a COCO results list has it.

    Args:
        found: objects.
        masks: of each, as `compressed` gives them.
        image_id: of the image.
        category_ids: COCO's number of each class.
    """
    entries = [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
        for label, box, score in zip(
            found.labels.tolist(), with_sides(found.boxes.astype(float)), found.scores.tolist(), strict=True
        )
    ]
    if masks is None:
        return entries
    return [{**entry, "segmentation": mask} for entry, mask in zip(entries, masks, strict=True)]


def default_ids(names: tuple[str, ...]) -> tuple[int, ...]:
    """COCO's number of each class of a network that knows no data set: COCO's own for its classes, else 1, 2 ...

    Source: COCO's categories, of which ten were never labeled.
    """
    count = len(names) + (len(_UNUSED) if names == COCO else 0)
    return tuple(number for number in range(1, count + 1) if names != COCO or number not in _UNUSED)


def labeled_detections(image: ImageRecord, names: tuple[str, ...], *, masks: bool) -> Detections:
    """What is labeled as if it had been found, with a score of 1; without crowds.

    Args:
        image: with objects whose labels are those of the names.
        names: of the classes.
        masks: whether outlines are taken along where every object has one.
    """
    objects = [one for one in image.objects if one.box is not None and not one.crowd]
    outlined = masks and all(one.polygons or one.runs is not None for one in objects)
    return Detections(
        np.array([one.box for one in objects], float).reshape(-1, 4),
        np.ones(len(objects)),
        np.array([one.label for one in objects], int),
        names,
        decoded([run_lengths(one, image) for one in objects], image.size) if outlined else None,
        image.path,
    )


def run_lengths(one: Object, image: ImageRecord) -> dict[str, Any]:
    """The mask of an outlined object as COCO's compressed run lengths."""
    height, width = image.size
    return coco_masks.segmToRle(_segmentation(one), width, height)


def compressed(masks: Masks) -> list[dict[str, Any]]:
    """COCO's compressed run lengths of each mask, the letters as text, as JSON has them."""
    height, width = masks.size
    plain = [{"size": [height, width], "counts": masks.runs(index).tolist()} for index in range(len(masks))]
    return [{"size": [height, width], "counts": _text(one["counts"])} for one in _compress(plain, height, width)]


def _compress(plain: list[dict[str, Any]], height: int, width: int) -> list[dict[str, Any]]:
    found = coco_masks.frPyObjects(plain, height, width) if plain else []
    assert isinstance(found, list)
    return found


def _text(letters: bytes | str) -> str:
    return letters.decode("ascii") if isinstance(letters, bytes) else letters


def decoded(runs: Sequence[dict[str, Any]], size: tuple[int, int]) -> Masks:
    # One after the other: together they would be as many whole images.
    parts = [Masks.from_dense([coco_masks.decode(dict(one)).astype(bool)], size) for one in runs]
    corners = np.concatenate([part.corners for part in parts]) if parts else np.zeros((0, 2), int)
    return Masks(tuple(crop for part in parts for crop in part.crops), corners, size)


def truth_of(image: ImageRecord) -> Truth:
    objects = [one for one in image.objects if one.box is not None]
    return Truth(
        np.array([one.box for one in objects], float).reshape(-1, 4),
        np.array([one.label for one in objects], int),
        np.array([one.crowd for one in objects], bool),
        np.array([one.difficult for one in objects], bool),
    )


def left_out(one: Object) -> bool:
    return one.crowd or one.difficult


def truth_entries(image: ImageRecord, index: int, kind: Literal["bbox", "segm"]) -> list[dict[str, Any]]:
    """The objects of an image as COCO's annotations. What need not be found is a crowd, as COCO has no other word for it."""
    entries: list[dict[str, Any]] = []
    for one in image.objects:
        if one.box is None:
            continue
        entry: dict[str, Any] = {
            "image_id": index,
            "category_id": one.label + 1,
            "bbox": with_sides(one.box[None].astype(float))[0],
            "area": _area(one, image),
            "iscrowd": int(left_out(one)),
        }
        if kind == "segm":
            entry["segmentation"] = _segmentation(one) or [_outline(one.box)]
        entries.append(entry)
    return entries


def _segmentation(one: Object) -> Any:
    """As a COCO json has it; an empty list of an object without an outline."""
    if one.runs is not None:
        return {"size": list(one.runs.size), "counts": one.runs.counts.tolist()}
    return [polygon.astype(float).ravel().tolist() for polygon in one.polygons]


def _outline(box: Float[np.ndarray, 4]) -> list[float]:
    x1, y1, x2, y2 = box.astype(float).tolist()
    return [x1, y1, x1, y2, x2, y2, x2, y1]


def _area(one: Object, image: ImageRecord) -> float:
    """As stated; else of the mask; else of the box."""
    if one.area is not None:
        return float(one.area)
    if one.polygons or one.runs is not None:
        return float(coco_masks.area(run_lengths(one, image)))
    assert one.box is not None
    return float((one.box[2] - one.box[0]) * (one.box[3] - one.box[1]))


def with_sides(boxes: Float[np.ndarray, "n 4"]) -> list[list[float]]:
    """Boxes as COCO has them: x y width height."""
    return np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist()
