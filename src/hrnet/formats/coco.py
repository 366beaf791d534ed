"""COCO json: boxes, keypoints, outlines, run-length masks, crowds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hrnet.errors import InputError
from hrnet.formats.checked import LARGEST_COORDINATE, checked_size, outline, usable
from hrnet.formats.defects import Draft, EntryError
from hrnet.formats.files import entries, find_below, find_file, is_file, read_json, shown, whole_number
from hrnet.formats.reader import Content, Reader
from hrnet.formats.records import DataSet, ImageRecord, Object, Runs
from hrnet.io.geometry import Size

_LISTS = ("images", "annotations", "categories")
_LIST = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_READ_BYTES = 1 << 16


class CocoReader(Reader[list[Path]]):
    """Reader of COCO json files. Each json of a folder is a split with the name of the file."""

    title = "COCO json"
    looked_for = "a COCO json, or a folder with some in it or in its annotations/"
    gives: frozenset[Content] = frozenset({"boxes", "masks", "keypoints"})

    def find(self, path: Path, images: Path | None) -> list[Path]:
        if path.suffix.lower() == ".json" and is_file(path):
            return [path]
        found = [entry for folder in (path, path / "annotations") for entry in entries(folder)]
        return [entry for entry in found if entry.suffix.lower() == ".json" and _begins_like_coco(entry)]

    def load(self, found: list[Path], path: Path, images: Path | None) -> tuple[DataSet, ...]:
        sets = [read_coco(file, images) for file in found]
        return tuple(replace(one, split=one.source.stem if len(sets) > 1 else "") for one in sets)


def _begins_like_coco(path: Path) -> bool:
    """Return whether a json in a folder has two of COCO's lists near its start or end; one is enough in a large file."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            ends = file.read(_READ_BYTES)
            file.seek(max(size - _READ_BYTES, len(ends)))
            ends += file.read()
    except OSError:
        return False
    return len(set(_LIST.findall(ends))) >= (1 if size > 2 * _READ_BYTES else 2)


def read_coco_json(path: Path) -> dict[str, Any]:
    """Return the content of a COCO json.

    Raises:
        InputError: the file is missing, is no json, or lacks one of the three lists.
    """
    content = read_json(path, "a COCO json")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in _LISTS):
        raise InputError(f"{path} is not a COCO json: it needs the lists images, annotations and categories; add them.")
    return content


def read_coco(file: Path, images: Path | None = None) -> DataSet:
    """Read a COCO json. Its images are searched around it, where no folder is named.

    Raises:
        InputError: the file is no COCO json, or has no categories.
    """
    content = read_coco_json(file)
    draft = Draft(file)
    classes = _classes(content, draft)
    listed = [entry.get("file_name") for entry in content["images"] if isinstance(entry, dict)]
    folder = images or find_image_folder(file, [name for name in listed if isinstance(name, str)])
    images_by_id = _images(content["images"], folder, draft)
    objects = _read_annotations(content["annotations"], images_by_id, classes, draft)
    found = ((image, objects[number]) for number, image in images_by_id.items() if image is not None)
    kept = tuple(replace(image, objects=usable(things, image.size, draft, file)) for image, things in found)
    names, ids = tuple(classes.names), tuple(classes.ids)
    return DataSet(
        "coco", file, "", kept, names, classes.keypoints, classes.links, None, classes.oks_sigmas,
        category_ids=ids if all(isinstance(number, int) for number in ids) else (), defects=tuple(draft.defects),
    )  # fmt: skip


def image_number(value: Any) -> Any:
    """Return COCO's id of an image, also where it was written as a fraction or as text; None for what cannot be one."""
    value = whole_number(value)
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


@dataclass(slots=True)
class _Classes:
    """The categories: names and ids, the label of each id, and the keypoints of the category that has any."""

    names: list[str] = field(default_factory=list)
    ids: list[Any] = field(default_factory=list)
    labels: dict[Any, int] = field(default_factory=dict)
    keypoints: tuple[str, ...] = ()
    with_keypoints: int = 0
    links: tuple[tuple[int, int], ...] = ()
    oks_sigmas: tuple[float, ...] = ()


def _classes(content: dict[str, Any], draft: Draft) -> _Classes:
    found = _Classes()
    categories = [entry for entry in content["categories"] if isinstance(entry, dict)]
    if not categories:
        raise InputError(f"{draft.file} has no categories; the names of classes and keypoints belong there.")
    for number, entry in enumerate(content["categories"]):
        place = f"category {entry.get('id', f'number {number}') if isinstance(entry, dict) else number}"
        if not isinstance(entry, dict):
            draft.add("entry-malformed", f"{shown(entry)} is no object with id and name", place)
            continue
        number, name = image_number(entry.get("id")), shown(entry.get("name", entry.get("id")))
        if number in found.labels or name in found.names:
            draft.add("class-twice", f"{name} or its id {number} is there already", place)
        found.labels.setdefault(number, len(found.names))
        found.names.append(name)
        found.ids.append(number)
    lists = [entry.get("keypoints") for entry in categories]
    named = [place for place, names in enumerate(lists) if names and isinstance(names, list)]
    found.with_keypoints = named[0] if named else 0
    chosen = categories[found.with_keypoints]
    if len(named) > 1:
        text = f"{len(named)} categories have keypoints; those of {found.names[named[0]]!r} are used"
        draft.add("keypoints-several", text, "categories")
    found.keypoints = tuple(shown(name) for name in chosen["keypoints"]) if named else _unnamed(content["annotations"])
    if found.keypoints and not named:
        ends = f"{found.keypoints[0]} to {found.keypoints[-1]}"
        draft.add("keypoints-unnamed", f"does not name its {len(found.keypoints)} keypoints; they are called {ends}")
    if found.keypoints:
        _complete(found, chosen, draft)
    return found


def _unnamed(annotations: list[Any]) -> tuple[str, ...]:
    """Return names for the keypoints of a file that does not name them."""
    lists = (entry.get("keypoints") for entry in annotations if isinstance(entry, dict))
    count = next((len(points) // 3 for points in lists if isinstance(points, list) and points), 0)
    return tuple(f"keypoint_{number}" for number in range(count))


def _complete(found: _Classes, category: dict[str, Any], draft: Draft) -> None:
    """Add the links and OKS sigmas of the keypoints, as far as they can be read."""
    place = f"category {found.names[found.with_keypoints]}"
    try:
        found.links = tuple((int(a) - 1, int(b) - 1) for a, b in category.get("skeleton") or ())
        if any(not 0 <= end < len(found.keypoints) for link in found.links for end in link):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        found.links = ()
        draft.add("links-malformed", f"skeleton is no list of pairs of numbers from 1 to {len(found.keypoints)}", place)
    try:
        sigmas = tuple(float(value) for value in category.get("oks_sigmas") or category.get("sigmas") or ())
        if sigmas and (len(sigmas) != len(found.keypoints) or not all(0 < value < math.inf for value in sigmas)):
            raise ValueError
        found.oks_sigmas = sigmas
    except (TypeError, ValueError, OverflowError):
        draft.add("entry-malformed", f"sigmas are not {len(found.keypoints)} positive numbers", place)
    for name in sorted({name for name in found.keypoints if found.keypoints.count(name) > 1}):
        draft.add("id-twice", f"two keypoints are called {name}", place)


def find_image_folder(file: Path, names: Sequence[str]) -> Path:
    """Return the folder of the first listed images: beside the json, in a folder beside it or beside its own, or in one of
    these with the name of the json, whole or its last word."""
    around = (file.parent, file.parent.parent)
    words = (file.stem, file.stem.rpartition("_")[2], file.stem.rpartition("-")[2], "images")
    likely = [folder / word for folder in around for word in words]
    likely += [folder / "images" / word for folder in around for word in words[:3]]
    for folder in dict.fromkeys([*around, *likely]):
        if any(find_below((folder,), name) for name in names[:5]):
            return folder
    return file.parent


def _images(images: list[Any], folder: Path, draft: Draft) -> dict[Any, ImageRecord | None]:
    """Return the listed images by id; None for one that cannot be used, which the draft then names."""
    found: dict[Any, ImageRecord | None] = {}
    for entry in images:
        number = image_number(entry.get("id")) if isinstance(entry, dict) else None
        if number is None or not isinstance(entry.get("file_name"), str):
            draft.add("entry-malformed", f"has the image {shown(entry)}, which needs an id and a file_name")
            continue
        if number in found:
            draft.add("id-twice", "the id appears more than once; its first entry is used", f"image id {number}")
            continue
        found[number] = None
        name = entry["file_name"]
        path = find_file((folder,), name)
        if path is None:
            draft.add("image-missing", f"{name} is not in {folder}", f"image id {number}")
            continue
        sized = "height" in entry or "width" in entry
        listed = (whole_number(entry.get("height")), whole_number(entry.get("width"))) if sized else None
        size = checked_size(path, listed, draft)
        found[number] = None if size is None else ImageRecord(path, size, number, draft.file)
    return found


def _read_annotations(
    annotations: list[Any], images: Mapping[Any, ImageRecord | None], classes: _Classes, draft: Draft
) -> dict[Any, list[Object]]:
    """Return the objects of each image; the draft says which annotations cannot be used."""
    objects: dict[Any, list[Object]] = {number: [] for number in images}
    seen: set[Any] = set()
    for number, entry in enumerate(annotations):
        known = isinstance(entry, dict) and "id" in entry
        place = f"annotation {shown(entry['id']) if known else f'number {number}'}"
        with draft.entry(place):
            if not isinstance(entry, dict):
                raise EntryError("entry-malformed", f"{shown(entry)} is no object with image_id, bbox and keypoints")
            identity = image_number(entry.get("id"))
            if identity is not None and identity in seen:
                draft.add("id-reused", "its id was used before", place)
            seen.add(identity)
            owner = image_number(entry.get("image_id"))
            if owner is None or owner not in images:
                owner = shown(entry.get("image_id"))
                raise EntryError("image-unknown", f"it names image {owner}, which the file does not list")
            if (image := images[owner]) is not None:
                objects[owner].append(_object(entry, place, number, image.size, classes, draft))
    return objects


def _object(entry: dict[str, Any], place: str, number: int, size: Size, classes: _Classes, draft: Draft) -> Object:
    label = _label(entry, classes)
    with_keypoints = classes.keypoints and label == classes.with_keypoints
    points, visibility = _keypoints(entry, len(classes.keypoints)) if with_keypoints else (None, None)
    polygons, runs, lost = _segmentation(entry.get("segmentation"), size)
    placed = polygons or runs is not None or (visibility is not None and (visibility > 0).any())
    try:
        box = _box(entry.get("bbox"), optional=bool(placed))
        if box is None and not polygons and runs is None:
            draft.add("box-missing", "its box is missing or without area", place)
    except EntryError as error:
        if not placed:
            raise
        box = None
        draft.add("box-dropped", str(error), place)
    if lost is not None:
        # A box or keypoints are enough for an object.
        if box is None and not placed:
            raise lost
        kind = "outline-dropped" if lost.kind == "outline-malformed" else "mask-dropped"
        draft.add(kind, str(lost), place)
    crowd, area = bool(whole_number(entry.get("iscrowd"))), _area(entry.get("area"))
    return Object(label, place, number, box, points, visibility, polygons, runs, area, crowd)


def _label(entry: dict[str, Any], classes: _Classes) -> int:
    if "category_id" not in entry and (len(classes.names) == 1 or entry.get("keypoints")):
        return classes.with_keypoints
    label = classes.labels.get(image_number(entry.get("category_id")))
    if label is None:
        raise EntryError("class-unknown", f"category {shown(entry.get('category_id'))} is not in the categories")
    return label


def _keypoints(entry: dict[str, Any], count: int) -> tuple[Float[np.ndarray, "k 2"], Float[np.ndarray, " k"]]:
    values = entry.get("keypoints") or [0] * 3 * count
    rows = _numbers(values, 3 * count, "keypoints", "keypoint-count", "keypoint-value").reshape(-1, 3)
    labeled = rows[:, 2] > 0
    # The coordinates of unlabeled keypoints mean nothing; some programs write NaN there.
    points = np.where(labeled[:, None], rows[:, :2], 0)
    if not (np.abs(points) <= LARGEST_COORDINATE).all():
        raise EntryError("keypoint-value", "a keypoint is not a finite number of pixels")
    return points, np.where(labeled, rows[:, 2], 0)


def _numbers(values: Any, count: int, name: str, miscounted: str, malformed: str) -> Float[np.ndarray, " count"]:
    """Return a list of numbers, also ones written as text, as an array."""
    if not isinstance(values, list):
        raise EntryError(malformed, f"{name} is {shown(values)}, expected a list of {count} numbers")
    if len(values) != count:
        of = f"{count // 3} keypoints" if name == "keypoints" else name
        raise EntryError(miscounted, f"{len(values)} numbers for {of}, expected {count}")
    try:
        return np.array([float(value) for value in values])
    except (TypeError, ValueError, OverflowError):
        raise EntryError(malformed, f"{name} holds something that is no number") from None


def _box(values: Any, *, optional: bool) -> Float[np.ndarray, " 4"] | None:
    """Return x1 y1 x2 y2; None for no box, or one without area, of an object that is placed by something else."""
    if optional and not values:
        return None
    x, y, w, h = _numbers(values, 4, "bbox", "entry-malformed", "entry-malformed")
    return None if optional and not (w > 0 and h > 0) else np.array([x, y, x + w, y + h])


def _area(value: Any) -> float | None:
    try:
        area = float(value or 0)
    except (TypeError, ValueError, OverflowError):
        return None
    return area if 0 < area < math.inf else None


def _segmentation(
    value: Any, size: Size
) -> tuple[tuple[Float[np.ndarray, "_ 2"], ...], Runs | None, EntryError | None]:
    """Return the outline's parts or the mask, and the first reason why a part, or all, had to be left out."""
    if not value:
        return (), None, None
    if isinstance(value, dict):
        try:
            return (), read_runs(value, size), None
        except EntryError as error:
            return (), None, error
    if not isinstance(value, list):
        text = f"segmentation is {shown(value)}, expected outlines or run lengths"
        return (), None, EntryError("outline-malformed", text)
    parts: list[Float[np.ndarray, "_ 2"]] = []
    lost: EntryError | None = None
    for part in value if any(isinstance(part, list) for part in value) or value[0] is None else [value]:
        try:
            parts.append(outline([float(number) for number in part or ()]))
        except (TypeError, ValueError, OverflowError) as error:
            lost = lost or EntryError("outline-malformed", str(error))
    return tuple(parts), None, lost


def read_runs(value: Mapping[str, Any], size: Size) -> Runs:
    """Return COCO's mask from run lengths, a list or compressed into text.

    Raises:
        EntryError: it is no such mask, or has another size.
    """
    if value.get("size") != list(size):
        raise EntryError("mask-malformed", f"a mask of size {shown(value.get('size'))}, the image has {list(size)}")
    counts = value.get("counts")
    try:
        runs = _expand(counts, size[0] * size[1]) if isinstance(counts, str) else [int(run) for run in counts or ()]
    except (TypeError, ValueError, OverflowError):
        raise EntryError("mask-malformed", "its mask's counts are neither a list of numbers nor COCO's text") from None
    if min(runs, default=-1) < 0 or sum(runs) != size[0] * size[1]:
        raise EntryError("mask-malformed", f"the runs of its mask cover {sum(runs)} pixels, not {size[0]} x {size[1]}")
    return Runs(size, np.array(runs, dtype=np.int64))


def _expand(text: str, pixels: int) -> Sequence[int]:
    """Return the run lengths of COCO's compressed text.

    Source: the format of the COCO API. Six bits per character from '0' on: five bits of a number, lowest first, and one
    that says that more follow; the last one's highest bit is the sign. From the third run on, each is the difference from
    the run before the previous one.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text.encode("ascii"):
        bits = character - 48
        if not 0 <= bits < 64 or shift > 60 or len(runs) > pixels:
            raise ValueError
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError
    return runs
