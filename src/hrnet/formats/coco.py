"""COCO json: boxes, keypoints, outlines, run-length masks, crowds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hrnet.errors import InputError
from hrnet.formats.checked import LARGEST_COORDINATE, checked_size, outline, usable
from hrnet.formats.defects import Draft, EntryError
from hrnet.formats.files import entries, find_below, is_file, is_folder, read_json, shown
from hrnet.formats.reader import Content
from hrnet.formats.records import DataSet, ImageRecord, Object, Runs
from hrnet.io.geometry import Size

_LISTS = ("images", "annotations", "categories")


class CocoReader:
    """Reader of COCO json files."""

    title = "COCO json"
    looked_for = "a COCO json, or a folder with some in it or in its annotations/"
    gives: frozenset[Content] = frozenset({"boxes", "masks", "keypoints"})

    def recognize(self, path: Path, images: Path | None = None) -> bool:
        """Return whether a path is a json, or a folder of COCO jsons."""
        return bool(_jsons(path))

    def read(self, path: Path, images: Path | None = None) -> tuple[DataSet, ...]:
        """Return each json of a folder as a split with the name of the file; or the one json.

        Args:
            path: json, or folder.
            images: folder that the file names refer to; None to search around the json.

        Raises:
            InputError: a file is no COCO json.
        """
        found = _jsons(path)
        if not found:
            raise InputError(f"{path} is not {self.looked_for}; name one.")
        sets = [read_coco(file, images) for file in found]
        return tuple(replace(one, split=one.source.stem if len(sets) > 1 else "") for one in sets)


def _jsons(path: Path) -> list[Path]:
    if path.suffix.lower() == ".json" and is_file(path):
        return [path]
    folders = (path, path / "annotations") if is_folder(path) else ()
    found = [entry for folder in folders for entry in entries(folder) if entry.suffix.lower() == ".json"]
    return [entry for entry in found if _begins_like_coco(entry)]


def _begins_like_coco(path: Path) -> bool:
    """Return whether a json in a folder has one of COCO's lists near its start or end."""
    try:
        with path.open("rb") as file:
            start = file.read(65536)
            file.seek(max(path.stat().st_size - 65536, 0))
            return any(f'"{name}"'.encode() in part for part in (start, file.read()) for name in _LISTS)
    except OSError:
        return False


def read_coco_json(path: Path) -> dict[str, Any]:
    """Return the content of a COCO json.

    Raises:
        InputError: the file is missing, is no json, or lacks one of the three lists.
    """
    content = read_json(path, "a COCO json")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in _LISTS):
        raise InputError(f"{path} is not a COCO json: it needs the lists images, annotations and categories.")
    return content


def read_coco(file: Path, images: Path | None = None) -> DataSet:
    """Read a COCO json.

    Args:
        file: json file.
        images: folder that the file names refer to; None to search around the json.

    Raises:
        InputError: the file is no COCO json, or has no categories.
    """
    content = read_coco_json(file)
    draft = Draft(file)
    classes = _classes(content, draft)
    listed = [entry.get("file_name") for entry in content["images"] if isinstance(entry, dict)]
    folder = images or find_image_folder(file, [name for name in listed if isinstance(name, str)])
    annotations = _Annotations(draft, classes, _images(content["images"], folder, draft))
    for number, entry in enumerate(content["annotations"]):
        annotations.add(entry, number)
    return DataSet(
        "coco",
        file,
        images=tuple(annotations.finish()),
        classes=tuple(classes.names),
        keypoints=classes.keypoints,
        links=classes.links,
        oks_sigmas=classes.oks_sigmas,
        category_ids=tuple(classes.ids) if all(isinstance(number, int) for number in classes.ids) else (),
        defects=tuple(draft.defects),
    )


def image_number(value: Any) -> Any:
    """Return COCO's id of an image, also where it was written as text; None for what cannot be one."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else value
    return value if isinstance(value, int) and not isinstance(value, bool) else None


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
            draft.say("entry-malformed", f"{shown(entry)} is no object with id and name", place)
            continue
        number, name = image_number(entry.get("id")), shown(entry.get("name", entry.get("id")))
        if number in found.labels or name in found.names:
            draft.say("class-twice", f"{name} or its id {number} is there already", place)
        found.labels.setdefault(number, len(found.names))
        found.names.append(name)
        found.ids.append(number)
    named = [place for place, entry in enumerate(categories) if isinstance(entry.get("keypoints"), list)]
    named = [place for place in named if categories[place]["keypoints"]]
    chosen = categories[named[0] if named else 0]
    found.with_keypoints = named[0] if named else 0
    if len(named) > 1:
        text = f"{len(named)} categories have keypoints; those of {found.names[named[0]]!r} are used"
        draft.say("keypoints-several", text, "categories")
    found.keypoints = tuple(shown(name) for name in chosen["keypoints"]) if named else _unnamed(content["annotations"])
    if found.keypoints and not named:
        ends = f"{found.keypoints[0]} to {found.keypoints[-1]}"
        draft.say("keypoints-unnamed", f"does not name its {len(found.keypoints)} keypoints; they are called {ends}")
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
        draft.say("links-malformed", f"skeleton is no list of pairs of numbers from 1 to {len(found.keypoints)}", place)
    try:
        sigmas = tuple(float(value) for value in category.get("oks_sigmas") or category.get("sigmas") or ())
        if sigmas and (len(sigmas) != len(found.keypoints) or not all(0 < value < math.inf for value in sigmas)):
            raise ValueError
        found.oks_sigmas = sigmas
    except (TypeError, ValueError, OverflowError):
        draft.say("entry-malformed", f"sigmas are not {len(found.keypoints)} positive numbers", place)
    for name in sorted({name for name in found.keypoints if found.keypoints.count(name) > 1}):
        draft.say("id-twice", f"two keypoints are called {name}", place)


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
            draft.say("entry-malformed", f"has the image {shown(entry)}, which needs an id and a file_name")
            continue
        if number in found:
            draft.say("id-twice", "the id appears more than once; its first entry is used", f"image id {number}")
            continue
        found[number] = None
        name = entry["file_name"]
        path = find_below((folder,), name)
        if path is None or not is_file(path):
            draft.say("image-missing", f"{name} is not in {folder}", f"image id {number}")
            continue
        sized = "height" in entry or "width" in entry
        size = checked_size(path, (entry.get("height"), entry.get("width")) if sized else None, draft)
        found[number] = None if size is None else ImageRecord(path, size, number, draft.file)
    return found


class _Annotations:
    """Annotations turned into objects, image by image."""

    def __init__(self, draft: Draft, classes: _Classes, images: Mapping[Any, ImageRecord | None]) -> None:
        self.draft, self.classes, self.images = draft, classes, images
        self.objects: dict[Any, list[Object]] = {number: [] for number in images}
        self.seen: set[Any] = set()

    def add(self, entry: Any, number: int) -> None:
        """Add one annotation; the draft says why it cannot be used."""
        known = isinstance(entry, dict) and "id" in entry
        place = f"annotation {shown(entry['id']) if known else f'number {number}'}"
        try:
            if not isinstance(entry, dict):
                raise EntryError("entry-malformed", f"{shown(entry)} is no object with image_id, bbox and keypoints")
            identity = image_number(entry.get("id"))
            if identity is not None and identity in self.seen:
                self.draft.say("id-reused", "its id was used before", place)
            self.seen.add(identity)
            self._read(entry, place, number)
        except EntryError as wrong:
            self.draft.say(wrong.kind, str(wrong), place)

    def finish(self) -> Iterator[ImageRecord]:
        """Yield the usable images with their usable objects."""
        for number, image in self.images.items():
            if image is not None:
                objects = usable(self.objects[number], image.size, self.draft, self.draft.file)
                yield replace(image, objects=objects)

    def _read(self, entry: dict[str, Any], place: str, order: int) -> None:
        number = image_number(entry.get("image_id"))
        if number is None or number not in self.images:
            raise EntryError(
                "image-unknown", f"it names image {shown(entry.get('image_id'))}, which the file does not list"
            )
        image = self.images[number]
        if image is None:
            return
        label = self._label(entry)
        points, visibility = self._keypoints(entry, label)
        bbox = entry.get("bbox")
        # Some programs write an empty list, or nothing, for objects that have an outline only.
        box = None if entry.get("segmentation") and not bbox else _box(bbox)
        polygons, runs = _segmentation(entry.get("segmentation"), image.size)
        crowd, area = bool(entry.get("iscrowd")), _area(entry.get("area"))
        thing = Object(label, place, order, box, points, visibility, polygons, runs, area, crowd)
        self.objects[number].append(thing)

    def _label(self, entry: dict[str, Any]) -> int:
        if "category_id" not in entry and (len(self.classes.names) == 1 or entry.get("keypoints")):
            return self.classes.with_keypoints
        label = self.classes.labels.get(image_number(entry.get("category_id")))
        if label is None:
            raise EntryError("class-unknown", f"category {shown(entry.get('category_id'))} is not in the categories")
        return label

    def _keypoints(
        self, entry: dict[str, Any], label: int
    ) -> tuple[Float[np.ndarray, "k 2"] | None, Float[np.ndarray, " k"] | None]:
        joints = len(self.classes.keypoints)
        if not joints or label != self.classes.with_keypoints:
            return None, None
        values = entry.get("keypoints") or [0] * 3 * joints
        rows = _numbers(values, 3 * joints, "keypoints", "keypoint-count", "keypoint-value").reshape(-1, 3)
        labeled = rows[:, 2] > 0
        # The coordinates of what is not labeled mean nothing; some programs write NaN there.
        points = np.where(labeled[:, None], rows[:, :2], 0)
        if not (np.abs(points) <= LARGEST_COORDINATE).all():
            raise EntryError("keypoint-value", "a keypoint is not a finite number of pixels")
        return points, np.where(labeled, rows[:, 2], 0)


def _numbers(values: Any, count: int, name: str, miscounted: str, malformed: str) -> Float[np.ndarray, " count"]:
    """Return a list of numbers, also ones written as text, as an array."""
    if not isinstance(values, list):
        raise EntryError(malformed, f"{name} is {shown(values)}, expected a list of {count} numbers")
    if len(values) != count:
        what = f"{count // 3} keypoints, expected {count}" if name == "keypoints" else f"{name}, expected {count}"
        raise EntryError(miscounted, f"{len(values)} numbers for {what}")
    try:
        return np.array([float(value) for value in values])
    except (TypeError, ValueError, OverflowError):
        raise EntryError(malformed, f"{name} holds something that is no number") from None


def _box(values: Any) -> Float[np.ndarray, " 4"]:
    x, y, w, h = _numbers(values, 4, "bbox", "entry-malformed", "entry-malformed")
    return np.array([x, y, x + w, y + h])


def _area(value: Any) -> float | None:
    try:
        area = float(value or 0)
    except (TypeError, ValueError, OverflowError):
        return None
    return area if 0 < area < math.inf else None


def _segmentation(value: Any, size: Size) -> tuple[tuple[Float[np.ndarray, "p 2"], ...], Runs | None]:
    if not value:
        return (), None
    if isinstance(value, dict):
        return (), read_runs(value, size)
    if not isinstance(value, list):
        raise EntryError("outline-malformed", f"segmentation is {shown(value)}, expected outlines or run lengths")
    parts = value if isinstance(value[0], list) else [value]
    try:
        return tuple(outline([float(number) for number in part]) for part in parts), None
    except (TypeError, ValueError, OverflowError) as error:
        raise EntryError("outline-malformed", str(error)) from None


def read_runs(value: Mapping[str, Any], size: Size) -> Runs:
    """Return COCO's mask from run lengths, a list or compressed into text.

    Raises:
        ValueError: it is no such mask, or not one of an image of this size.
    """
    if value.get("size") != list(size):
        raise EntryError("mask-malformed", f"a mask of size {shown(value.get('size'))}, the image has {list(size)}")
    counts = value.get("counts")
    try:
        runs = _expand(counts, size[0] * size[1]) if isinstance(counts, str) else [int(run) for run in counts or ()]
    except (TypeError, ValueError, OverflowError):
        raise EntryError(
            "mask-malformed", "the counts of its mask are neither a list of numbers nor COCO's text"
        ) from None
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
