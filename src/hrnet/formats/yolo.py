"""YOLO: a data.yaml, and a text file per image with a line per object: box, outline or keypoints relative to its size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hrnet.errors import InputError
from hrnet.formats.checked import checked_size, numbered, outline, usable
from hrnet.formats.defects import Draft, EntryError
from hrnet.formats.files import (
    CLASS_FILES,
    entries,
    find_below,
    find_file,
    is_file,
    is_folder,
    read_text,
    read_yaml,
    shown,
)
from hrnet.formats.reader import Content, Reader
from hrnet.formats.records import DataSet, ImageRecord, Object
from hrnet.io.geometry import Size
from hrnet.io.images import SUFFIXES, images_below, is_image_name

SPLITS = ("train", "val", "test")
# Coordinates are at most 1 times the image's size; far larger ones were written in pixels.
_LARGEST_RELATIVE = 3.0
_MOST_KEYPOINTS = 10_000
_LABEL_FOLDERS = ("labels", "Labels", "LABELS")


class YoloReader(Reader[Path]):
    """Reader of YOLO data.yaml.

    A path is the yaml or its folder. Paths in the yaml are relative to the folder of images, else to that of the yaml.
    """

    title = "YOLO"
    looked_for = "a YOLO data.yaml, or a folder with one"
    gives: frozenset[Content] = frozenset({"boxes", "masks", "keypoints"})

    def find(self, path: Path, images: Path | None) -> Path | None:
        if is_file(path):
            return path if path.suffix.lower() in (".yaml", ".yml") else None
        found = [entry for entry in entries(path) if entry.suffix.lower() in (".yaml", ".yml")]
        found.sort(key=lambda entry: entry.stem not in ("data", "dataset"))
        return next((entry for entry in found if _lists_images(entry)), None)

    def load(self, found: Path, path: Path, images: Path | None) -> tuple[DataSet, ...]:
        content = read_yaml(found, "a YOLO data.yaml")
        splits = [split for split in SPLITS if content.get(split)]
        if "names" not in content or not splits:
            raise InputError(f"{found} is no YOLO data.yaml: it needs names, and train, val or test; add them.")
        drafts = [Draft(found) for _ in splits]
        plan = _plan(content, drafts[0])
        sets: list[DataSet] = []
        for split, draft in zip(splits, drafts, strict=True):
            records = _images(content, split, images, plan, draft)
            one = DataSet("yolo", found, split, records, plan.classes, plan.keypoints, pairs=plan.pairs)
            sets.append(replace(one, defects=tuple(draft.defects)))
        return tuple(sets)


def _lists_images(file: Path) -> bool:
    """Return True for a yaml with class names and splits, or one that says so and cannot be parsed."""
    try:
        content = read_yaml(file, "a YOLO data.yaml")
    except InputError:
        return file.stem in ("data", "dataset")
    return "names" in content and any(content.get(split) for split in SPLITS)


def lacks_yaml(folder: Path) -> bool:
    """Return whether a folder has the images and label files of YOLO, and no data.yaml."""
    labels = {file.stem for place in (folder / "labels", folder) for file in entries(place) if file.suffix == ".txt"}
    images = (entry for place in (folder / "images", folder) for entry in entries(place) if is_image_name(entry.name))
    return any(image.stem in labels for image in images)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The meaning of a line: classes, keypoints, and numbers per keypoint (0, 2 or 3)."""

    classes: tuple[str, ...]
    keypoints: tuple[str, ...] = ()
    numbers: int = 0
    pairs: tuple[tuple[int, int], ...] | None = None


def _plan(content: dict[str, Any], draft: Draft) -> _Plan:
    names = content["names"]
    if isinstance(names, dict):
        if not _is_permutation(list(names), len(names)):
            raise InputError(f"{draft.file}: names need the numbers 0 to {len(names) - 1}; number the classes so.")
        names = [names[key] for key in sorted(names)]
    if not isinstance(names, list) or not names:
        raise InputError(f"{draft.file}: names are {shown(names)}, expected a list of classes; write one.")
    classes = tuple(shown(name) for name in names)
    for name in sorted({name for name in classes if classes.count(name) > 1}):
        draft.add("class-twice", f"{name} is in names more than once", "names")
    if "nc" in content and content["nc"] != len(classes):
        draft.add("class-count", f"nc is {shown(content['nc'])}, names are {len(classes)}", "nc")
    if not content.get("kpt_shape"):
        return _Plan(classes)
    shape = content["kpt_shape"]
    whole = isinstance(shape, list) and [type(number) for number in shape] == [int, int]
    if not whole or not 0 < shape[0] < _MOST_KEYPOINTS or shape[1] not in (2, 3):
        raise InputError(f"{draft.file}: kpt_shape is {shown(shape)}, expected [number of keypoints, 2 or 3]; fix it.")
    return _Plan(classes, _keypoint_names(content, shape[0], draft), shape[1], _pairs(content, shape[0], draft))


def _keypoint_names(content: dict[str, Any], count: int, draft: Draft) -> tuple[str, ...]:
    """Return the names of kpt_names, a list or one per class; else keypoint_0, keypoint_1 ..."""
    names = content.get("kpt_names") or content.get("keypoint_names")
    if isinstance(names, dict):
        names = next(iter(names.values()), None)
    if isinstance(names, list) and len(names) == count:
        return tuple(shown(name) for name in names)
    if names is None:
        draft.add("keypoints-unnamed", "has kpt_shape and no kpt_names; they are called keypoint_0, keypoint_1 ...")
    else:
        draft.add("keypoint-count", f"{shown(names)} are not the names of {count} keypoints", "kpt_names")
    return tuple(f"keypoint_{number}" for number in range(count))


def _is_permutation(values: object, count: int) -> bool:
    """Return whether a value is a list of all whole numbers below `count`."""
    return isinstance(values, list) and all(type(one) is int for one in values) and sorted(values) == [*range(count)]


def _pairs(content: dict[str, Any], count: int, draft: Draft) -> tuple[tuple[int, int], ...] | None:
    """Return the pairs of flip_idx, which names for each keypoint the one that it becomes in a flipped image."""
    order = content.get("flip_idx")
    if not order:
        return None
    if not _is_permutation(order, count) or any(order[order[place]] != place for place in range(count)):
        draft.add("links-malformed", f"{shown(order)} does not swap keypoints 0 to {count - 1} in pairs", "flip_idx")
        return None
    return tuple((place, partner) for place, partner in enumerate(order) if place < partner)


def _images(
    content: dict[str, Any], split: str, images: Path | None, plan: _Plan, draft: Draft
) -> tuple[ImageRecord, ...]:
    """Return the usable images of one split, with their labels."""
    sources = content[split] if isinstance(content[split], list) else [content[split]]
    records: list[ImageRecord] = []
    seen: set[Path] = set()
    for path in (path for source in sources for path in _listed(content, shown(source), images, split, draft)):
        if path in seen:
            draft.add("id-twice", f"{path} is listed before", split)
            continue
        seen.add(path)
        size = checked_size(path, None, draft)
        if size is not None:
            file = _label_file(path, draft)
            objects = usable(_objects(file, size, plan, draft), size, draft, file)
            records.append(ImageRecord(path, size, 0, file, objects))
    _report_orphans(seen, draft)
    return numbered(records)


def _listed(content: dict[str, Any], source: str, images: Path | None, split: str, draft: Draft) -> list[Path]:
    """Return the images of a folder, or those that a list file names."""
    folder = draft.file.parent
    stated = content.get("path")
    roots = ([images] if images else []) + ([folder / stated] if isinstance(stated, str) else []) + [folder]
    place = find_below(roots, source)
    if place is None and images is not None and split == SPLITS[0]:
        place = images
    if place is None:
        draft.add("image-missing", f"{source} is neither in {roots[0]} nor beside the file", split)
        return []
    if is_folder(place):
        found = images_below(place)
        if not found:
            draft.add("set-empty", f"{place} has no images", split)
        return found
    paths: list[Path] = []
    for number, line in enumerate(read_text(place, "a list of images").splitlines(), start=1):
        found = find_file((place.parent, *roots), line) if line.strip() else None
        if found is not None:
            paths.append(found)
        elif line.strip():
            draft.add("image-missing", f"{shown(line.strip())} is not there", f"line {number}", place)
    return paths


def _label_places(path: Path) -> list[Path]:
    """Return the places of an image's label file: the last folder called images becomes labels; else beside the image."""
    parts = list(path.parts)
    places = [place for place, part in enumerate(parts[:-1]) if part.lower() == "images"]
    folders = [Path(*parts[:place], name, *parts[place + 1 : -1]) for place in places[-1:] for name in _LABEL_FOLDERS]
    return [folder / f"{path.stem}{ending}" for folder in [*folders, path.parent] for ending in (".txt", ".TXT")]


def _label_file(path: Path, draft: Draft) -> Path:
    """Return the label file of an image, or where it should be; a second one is named."""
    places = _label_places(path)
    # On file systems that ignore case several names are one file.
    found = list({place.stat().st_ino: place for place in reversed(places) if is_file(place)}.values())[::-1]
    for other in found[1:]:
        draft.add("label-unused", f"is not used: the labels of {path.name} are in {found[0]}", file=other)
    return found[0] if found else places[0]


def _report_orphans(images: set[Path], draft: Draft) -> None:
    """Name label files in the folders of these images' labels that belong to none."""
    expected = {place for path in images for place in _label_places(path)}
    # Beside images other texts are common.
    for folder in sorted({path.parent for path in expected} - {path.parent for path in images}):
        for file in entries(folder):
            if file.suffix.lower() != ".txt" or file in expected or file.name in CLASS_FILES:
                continue
            # An image in one of these folders belongs to another split.
            listed = {path.parent for path in images if any(place.parent == folder for place in _label_places(path))}
            if not any(is_file(place / f"{file.stem}{suffix}") for place in listed for suffix in SUFFIXES):
                draft.add("label-orphan", "has no image of its name", file=file)


def _objects(file: Path, size: Size, plan: _Plan, draft: Draft) -> list[Object]:
    """Return the objects of a label file; none without it: such an image shows background."""
    if not is_file(file):
        return []
    try:
        lines = read_text(file, "a list of labels").splitlines()
    except InputError as error:
        draft.add_error("file-malformed", error, file)
        return []
    objects: list[Object] = []
    for number, line in enumerate(lines, start=1):
        place = f"line {number}"
        with draft.entry(place, file):
            if words := line.split():
                objects.append(_object(words, place, size, plan))
    return objects


def _object(words: list[str], place: str, size: Size, plan: _Plan) -> Object:
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise EntryError("entry-malformed", f"{shown(' '.join(words))} holds something that is no number") from None
    label, numbers = values[0], np.array(values[1:])
    if label not in range(len(plan.classes)):
        raise EntryError("class-unknown", f"class {words[0][:40]}, expected 0 to {len(plan.classes) - 1}")
    if not np.isfinite(numbers).all():
        raise EntryError("entry-malformed", "a number is not finite")
    scale = np.array(size[::-1], dtype=float)
    if plan.numbers:
        return _with_keypoints(int(label), place, numbers, scale, plan)
    if len(numbers) == 4:
        return Object(int(label), place, box=_box(numbers, scale))
    try:
        points = outline(numbers.tolist())
    except ValueError as error:
        kind = "outline-malformed" if len(numbers) > 4 else "entry-malformed"
        raise EntryError(kind, f"{error}, or the 4 of a box" if len(numbers) < 6 else str(error)) from None
    _check_relative(points)
    points = points * scale
    return Object(int(label), place, box=np.concatenate([points.min(0), points.max(0)]), polygons=(points,))


def _with_keypoints(label: int, place: str, numbers: np.ndarray, scale: np.ndarray, plan: _Plan) -> Object:
    count = len(plan.keypoints)
    if len(numbers) != 4 + count * plan.numbers:
        expected = f"4 of the box and {count} x {plan.numbers} of keypoints"
        raise EntryError("keypoint-count", f"{len(numbers)} numbers after the class, expected {expected}")
    rows = numbers[4:].reshape(count, plan.numbers)
    # Without visibility 0 0 stands for a keypoint that is not labeled.
    visibility = rows[:, 2] if plan.numbers == 3 else np.where(rows.any(1), 2.0, 0.0)
    _check_relative(rows[visibility > 0, :2])
    points = np.where(visibility[:, None] > 0, rows[:, :2] * scale, 0)
    return Object(label, place, box=_box(numbers[:4], scale), keypoints=points, visibility=visibility)


def _box(numbers: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return x1 y1 x2 y2 in pixels from the relative center, width and height."""
    _check_relative(numbers)
    return np.concatenate([numbers[:2] - numbers[2:] / 2, numbers[:2] + numbers[2:] / 2]) * np.tile(scale, 2)


def _check_relative(numbers: np.ndarray) -> None:
    if (np.abs(numbers) > _LARGEST_RELATIVE).any():
        largest = numbers.ravel()[np.abs(numbers).argmax()]
        raise EntryError("entry-malformed", f"{largest:g} is not relative to the size of the image: divide by it")
