"""Label images: beside each image another one that stores a class for each pixel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from hrnet.errors import InputError
from hrnet.formats.checked import checked_size
from hrnet.formats.defects import Draft
from hrnet.formats.files import entries, is_folder, stated_classes
from hrnet.formats.records import DataSet, ImageRecord
from hrnet.io.geometry import Size
from hrnet.io.images import SUFFIXES, image_size, read_indices, stores_indices

LOOKED_FOR = "a folder with images/ and labels/ (with or without train/ and val/ in them), or with X.png beside X.jpg"
IMAGE_FOLDERS = ("images", "imgs", "image", "img", "JPEGImages")
LABEL_FOLDERS = ("labels", "masks", "annotations", "label", "mask", "gt", "SegmentationClass")
PARTS = ("train", "training", "val", "valid", "validation", "test", "testing")
# What programs add to the name of an image for that of its labels.
ENDINGS = ("", "_mask", "_label", "_labels", "_gt", "_seg", "_L", "_labelIds")
LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm")
# The label of a pixel that counts for nothing.
IGNORE = 255


def recognize(path: Path) -> bool:
    """Whether a folder has label images in one of the usual places."""
    return next(_pairs(path), None) is not None


@dataclass(frozen=True, slots=True)
class _Pair:
    """A folder of images, that of their labels, and the name of the part that they are."""

    images: Path
    labels: Path
    part: str = ""


def _pairs(path: Path, images: Path | None = None) -> Iterator[_Pair]:
    """Where images and labels are, part by part."""
    if not is_folder(path):
        return
    if images is not None:
        pair = _Pair(images, path)
        yield from _inner(pair) or [pair]
        return
    for pair in _siblings(path):
        inner = _inner(pair)
        yield from inner
        if not inner and _has_images(pair.labels):
            yield pair
        return
    parts = [(part, pair) for part in PARTS for pair in _siblings(path / part)]
    yield from (_Pair(pair.images, pair.labels, part) for part, pair in parts if _has_images(pair.labels))
    if not parts and _mixed(path):
        yield _Pair(path, path)


def _inner(pair: _Pair) -> list[_Pair]:
    """The parts that both folders have."""
    both = [part for part in PARTS if is_folder(pair.images / part) and is_folder(pair.labels / part)]
    return [_Pair(pair.images / part, pair.labels / part, part) for part in both]


def _siblings(path: Path) -> list[_Pair]:
    images = [path / name for name in IMAGE_FOLDERS if is_folder(path / name)]
    labels = [path / name for name in LABEL_FOLDERS if is_folder(path / name)]
    return [_Pair(images[0], labels[0])] if images and labels else []


def _has_images(folder: Path) -> bool:
    return any(entry.suffix.lower() in SUFFIXES for entry in entries(folder))


def _mixed(folder: Path) -> bool:
    """Whether images and their labels lie in one folder: X.jpg and X.png, or X.png and X_mask.png."""
    images, labels = _sorted_out(folder)
    return bool(images) and any(_partner(image.stem, labels) for image in images)


def _sorted_out(folder: Path) -> tuple[list[Path], dict[str, Path]]:
    """Images and labels of one folder, told apart by their names."""
    found = [entry for entry in entries(folder) if entry.suffix.lower() in SUFFIXES]
    photographs = {entry.stem for entry in found if entry.suffix.lower() in (".jpg", ".jpeg")}
    stems = {entry.stem for entry in found}
    labels: dict[str, Path] = {}
    for entry in found:
        named = any(end and entry.stem.endswith(end) and entry.stem.removesuffix(end) in stems for end in ENDINGS)
        if entry.suffix.lower() in LOSSLESS and (named or entry.stem in photographs):
            labels[entry.stem] = entry
    chosen = set(labels.values())
    return [entry for entry in found if entry not in chosen], labels


def _partner(stem: str, labels: dict[str, Path]) -> Path | None:
    return next((labels[stem + end] for end in ENDINGS if stem + end in labels), None)


def read(path: Path, images: Path | None = None) -> tuple[DataSet, ...]:
    """Each part as a set. Classes are those of classes.txt, one name a line, else as many as nobody states.

    Args:
        path: the folder of both, or that of the labels.
        images: the folder of the images, where `path` is that of the labels.

    Raises:
        InputError: there are no label images.
    """
    pairs = list(_pairs(path, images))
    if not pairs:
        raise InputError(f"{path} is not {LOOKED_FOR}; name one.")
    near = (path, path.parent, path.parent.parent)
    classes = next((names for names in map(stated_classes, near) if names), ())
    return tuple(_read_pair(pair, classes) for pair in pairs)


def _read_pair(pair: _Pair, classes: tuple[str, ...]) -> DataSet:
    draft = Draft(pair.labels)
    if pair.images == pair.labels:
        found, labels = _sorted_out(pair.images)
    else:
        found = [entry for entry in entries(pair.images) if entry.suffix.lower() in SUFFIXES]
        labels = {entry.stem: entry for entry in entries(pair.labels) if entry.suffix.lower() in SUFFIXES}
    images: list[ImageRecord] = []
    used: set[Path] = set()
    stems: dict[str, Path] = {}
    for path in found:
        if path.stem in stems:
            draft.say("id-twice", f"has the name of {stems[path.stem].name}, and so its labels", file=path)
            continue
        stems[path.stem] = path
        label = _partner(path.stem, labels)
        if label is None:
            draft.say("label-missing", f"has no labels {path.stem}.png in {pair.labels}", file=path)
            continue
        used.add(label)
        size = checked_size(path, None, draft)
        labeled = None if size is None else _labeled_size(label, path, size, draft)
        if labeled is not None:
            images.append(ImageRecord(path, labeled, len(images), label, label_map=label))
    for label in labels.values():
        if label not in used:
            draft.say("label-orphan", f"has no image of its name in {pair.images}", file=label)
    return DataSet("masks", pair.labels, pair.part, tuple(images), classes, defects=tuple(draft.defects))


def _labeled_size(label: Path, image: Path, size: Size, draft: Draft) -> Size | None:
    """The size of a label image, from its header alone; None where it can be none of an image of this size."""
    try:
        label_size, numbers = image_size(label, upright=False), stores_indices(label)
        sizes = (size, image_size(image, upright=False))
    except InputError as error:
        draft.repeat("label-unreadable", error, label)
        return None
    if label.suffix.lower() not in LOSSLESS:
        draft.say("label-lossy", f"is a {label.suffix[1:]}, whose values are not those that were saved", file=label)
        return None
    if not numbers:
        draft.say("label-colors", "stores colors, not a class number a pixel", file=label)
        return None
    if label_size not in sizes:
        text = f"has {label_size[1]} x {label_size[0]} pixels, its image {image.name} {size[1]} x {size[0]}"
        draft.say("label-size", text, file=label)
        return None
    return label_size


def read_label_map(image: ImageRecord, classes: int, ignore: int = IGNORE) -> Int[np.ndarray, "h w"]:
    """The class of each pixel.

    Args:
        image: one with a label map.
        classes: how many there are; 0 for any number.
        ignore: the value of pixels that count for nothing.

    Raises:
        InputError: the file cannot be read, or has values that are no class.
    """
    if image.label_map is None:
        raise InputError(f"{image.path} has no label image; add one.")
    values = read_indices(image.label_map)
    strange = (values < 0) | ((values >= classes) if classes else (values > IGNORE)) & (values != ignore)
    if strange.any():
        raise InputError(
            f"{image.label_map} has the value {values[strange][0]} in {int(strange.sum())} pixels, expected 0 to "
            f"{(classes or IGNORE) - 1} or {ignore} to ignore; correct them or name the class."
        )
    return values


def count_values(values: Int[np.ndarray, "h w"]) -> Counter[int]:
    """How many pixels have each value that occurs."""
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel())
        return Counter({int(value): int(counts[value]) for value in np.flatnonzero(counts)})
    found, numbers = np.unique(values, return_counts=True)
    return Counter(dict(zip(found.tolist(), numbers.tolist(), strict=True)))
