"""Labeled and predicted objects as entries of COCO files, with masks as run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from faster_coco_eval.core import mask as coco_masks
from jaxtyping import Float

from hrnet.detection.matching import Annotations
from hrnet.detection.spec import COCO
from hrnet.formats.records import ImageRecord, Object
from hrnet.results import Detections, Masks

# Category ids of COCO that no class has.
_UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def coco_entries(
    found: Detections, masks: list[dict[str, Any]] | None, image_id: int | str, category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the entries of one image in a COCO results list, with masks as `compressed` returns them, or boxes only."""
    columns = zip(found.labels.tolist(), to_xywh(found.boxes.astype(float)), found.scores.tolist(), strict=True)
    entries = [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
        for label, box, score in columns
    ]
    if masks is None:
        return entries
    return [{**entry, "segmentation": mask} for entry, mask in zip(entries, masks, strict=True)]


def default_ids(names: tuple[str, ...]) -> tuple[int, ...]:
    """Return the category ids of classes without a data set: COCO's own for its 80 classes, else 1, 2 ...

    Source: COCO's categories, of which ten were never labeled.
    """
    count = len(names) + (len(_UNUSED_IDS) if names == COCO else 0)
    return tuple(number for number in range(1, count + 1) if names != COCO or number not in _UNUSED_IDS)


def labeled_detections(image: ImageRecord, names: tuple[str, ...], *, masks: bool) -> Detections:
    """Return the labeled objects of an image as detections with the score 1, without crowds; masks if every one has one."""
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
    """Return the mask of an object as COCO's compressed RLE."""
    height, width = image.size
    return coco_masks.segmToRle(_segmentation(one), width, height)


def compressed(masks: Masks) -> list[dict[str, Any]]:
    """Return COCO's compressed RLE of each mask, as text for JSON."""
    height, width = masks.size
    plain = [{"size": [height, width], "counts": masks.runs(index).tolist()} for index in range(len(masks))]
    found: Any = coco_masks.frPyObjects(plain, height, width) if plain else []
    return [{"size": [height, width], "counts": _text(one["counts"])} for one in found]


def _text(letters: bytes | str) -> str:
    return letters.decode("ascii") if isinstance(letters, bytes) else letters


def decoded(runs: Sequence[dict[str, Any]], size: tuple[int, int]) -> Masks:
    """Return masks from COCO's compressed RLE."""
    # One by one, as each takes the memory of a whole image.
    parts = [Masks.from_dense([coco_masks.decode(dict(one)).astype(bool)], size) for one in runs]
    corners = np.concatenate([part.corners for part in parts]) if parts else np.zeros((0, 2), int)
    return Masks(tuple(crop for part in parts for crop in part.crops), corners, size)


def annotations_of(image: ImageRecord) -> Annotations:
    """Return the labeled boxes of an image."""
    objects = [one for one in image.objects if one.box is not None]
    return Annotations(
        np.array([one.box for one in objects], float).reshape(-1, 4),
        np.array([one.label for one in objects], int),
        np.array([one.crowd for one in objects], bool),
        np.array([one.difficult for one in objects], bool),
    )


def is_ignored(one: Object) -> bool:
    """Return True for crowds and difficult objects."""
    return one.crowd or one.difficult


def ground_truth_entries(image: ImageRecord, index: int, kind: Literal["bbox", "segm"]) -> list[dict[str, Any]]:
    """Return the objects of an image as COCO annotations; difficult ones as crowds, the ignored objects of COCO."""
    entries: list[dict[str, Any]] = []
    for one in image.objects:
        if one.box is None:
            continue
        entry: dict[str, Any] = {
            "image_id": index,
            "category_id": one.label + 1,
            "bbox": to_xywh(one.box[None].astype(float))[0],
            "area": _area(one, image),
            "iscrowd": int(is_ignored(one)),
        }
        if kind == "segm":
            x1, y1, x2, y2 = one.box.astype(float).tolist()
            entry["segmentation"] = _segmentation(one) or [[x1, y1, x1, y2, x2, y2, x2, y1]]
        entries.append(entry)
    return entries


def _segmentation(one: Object) -> Any:
    """Return the `segmentation` of a COCO json, an empty list for objects without an outline."""
    if one.runs is not None:
        return {"size": list(one.runs.size), "counts": one.runs.counts.tolist()}
    return [polygon.astype(float).ravel().tolist() for polygon in one.polygons]


def _area(one: Object, image: ImageRecord) -> float:
    """Return the labeled area, or that of the mask, or that of the box."""
    if one.area is not None:
        return float(one.area)
    if one.polygons or one.runs is not None:
        return float(coco_masks.area(run_lengths(one, image)))
    assert one.box is not None
    return float((one.box[2] - one.box[0]) * (one.box[3] - one.box[1]))


def to_xywh(boxes: Float[np.ndarray, "n 4"]) -> list[list[float]]:
    """Return boxes as in COCO: x y width height."""
    return np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist()
