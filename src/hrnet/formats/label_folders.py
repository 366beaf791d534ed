"""Label maps in folders: each image has a label map of its name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from hrnet.errors import InputError
from hrnet.formats.defects import Draft
from hrnet.formats.files import entries, is_folder, stated_classes
from hrnet.formats.label_maps import LOSSLESS, label_records
from hrnet.formats.reader import Content, Reader
from hrnet.formats.records import DataSet
from hrnet.formats.sides import infer_pairs
from hrnet.io.images import SUFFIXES
from hrnet.results import IGNORE_INDEX

IMAGE_FOLDERS = ("images", "imgs", "image", "img", "JPEGImages")
LABEL_FOLDERS = ("labels", "masks", "annotations", "label", "mask", "gt", "SegmentationClass")
SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "test", "testing")
# Endings that programs add to the name of an image for its label map.
_ENDINGS = ("", "_mask", "_label", "_labels", "_gt", "_seg", "_L", "_labelIds")


@dataclass(frozen=True, slots=True)
class _Pair:
    """A folder of images, the folder of their label maps, and the name of the split."""

    images: Path
    labels: Path
    split: str = ""


class LabelFolderReader(Reader[list[_Pair]]):
    """Reader of folders of images and label maps.

    A path is the folder of both, or with a folder of images that of the label maps. Class names come from classes.txt, one
    per line; without it numbers stand for names.
    """

    title = "label maps"
    looked_for = (
        "a folder with images/ and labels/ (with or without train/ and val/ in them), or with X.png beside X.jpg"
    )
    gives: frozenset[Content] = frozenset({"label_maps"})

    def find(self, path: Path, images: Path | None) -> list[_Pair]:
        """Return the folders of each split."""
        if images is not None:
            pairs = _inner(_Pair(images, path)) or [_Pair(images, path)]
            return pairs if is_folder(images) and _with_labels(pairs) else []
        for pair in _siblings(path):
            pairs = _inner(pair) or [pair]
            return pairs if _with_labels(pairs) else []
        splits = [replace(pair, split=name) for name in SPLIT_FOLDERS for pair in _siblings(path / name)]
        if not splits and _mixed(path):
            return [_Pair(path, path)]
        return _with_labels(splits)

    def load(self, found: list[_Pair], path: Path, images: Path | None) -> tuple[DataSet, ...]:
        """Read the splits.

        Raises:
            InputError: the label maps have no values but 0 and 255.
        """
        near = (path, path.parent, path.parent.parent)
        classes = next((names for names in map(stated_classes, near) if names), ())
        return _named([_read_pair(pair, classes) for pair in found])


def _inner(pair: _Pair) -> list[_Pair]:
    """Return the splits that both folders have."""
    both = [name for name in SPLIT_FOLDERS if is_folder(pair.images / name) and is_folder(pair.labels / name)]
    return [_Pair(pair.images / name, pair.labels / name, name) for name in both]


def _siblings(path: Path) -> list[_Pair]:
    images = [path / name for name in IMAGE_FOLDERS if is_folder(path / name)]
    labels = [path / name for name in LABEL_FOLDERS if is_folder(path / name)]
    return [_Pair(images[0], labels[0])] if images and labels else []


def _with_labels(pairs: list[_Pair]) -> list[_Pair]:
    return [pair for pair in pairs if _images(pair.labels)]


def _images(folder: Path) -> list[Path]:
    return [entry for entry in entries(folder) if entry.suffix.lower() in SUFFIXES]


def _mixed(folder: Path) -> bool:
    images, labels = _sorted_out(folder)
    return any(_partner(image.stem, labels) for image in images)


def _sorted_out(folder: Path) -> tuple[list[Path], dict[str, Path]]:
    """Return images and label maps of one folder by their names: X.jpg and X.png, or X.png and X_mask.png."""
    found = _images(folder)
    photographs = {entry.stem for entry in found if entry.suffix.lower() in (".jpg", ".jpeg")}
    stems = {entry.stem for entry in found}
    labels: dict[str, Path] = {}
    for entry in found:
        named = any(end and entry.stem.endswith(end) and entry.stem.removesuffix(end) in stems for end in _ENDINGS)
        if entry.suffix.lower() in LOSSLESS and (named or entry.stem in photographs):
            labels[entry.stem] = entry
    chosen = set(labels.values())
    return [entry for entry in found if entry not in chosen], labels


def _partner(stem: str, labels: dict[str, Path]) -> Path | None:
    return next((labels[stem + end] for end in _ENDINGS if stem + end in labels), None)


def _read_pair(pair: _Pair, classes: tuple[str, ...]) -> DataSet:
    draft = Draft(pair.labels)
    if pair.images == pair.labels:
        found, labels = _sorted_out(pair.images)
    else:
        found, labels = _images(pair.images), {entry.stem: entry for entry in _images(pair.labels)}
    files: list[tuple[Path, Path]] = []
    stems: dict[str, Path] = {}
    for path in found:
        if path.stem in stems:
            draft.add("id-twice", f"has the name of {stems[path.stem].name}, and so its labels", file=path)
            continue
        stems[path.stem] = path
        label = _partner(path.stem, labels)
        if label is None:
            draft.add("label-missing", f"has no labels {path.stem}.png in {pair.labels}", file=path)
        else:
            files.append((path, label))
    for label in labels.values():
        if label not in {used for _, used in files}:
            draft.add("label-orphan", f"has no image of its name in {pair.images}", file=label)
    table = tuple(range(len(classes)))
    images = tuple(label_records(files, table, draft))
    defects = tuple(draft.defects)
    return DataSet("label-maps", pair.labels, pair.split, images, classes, label_table=table, defects=defects)


def _named(sets: list[DataSet]) -> tuple[DataSet, ...]:
    """Return the sets with numbers for names where no file names the classes, and with pairs of left and right."""
    values = {value for one in sets for image in one.images for value in image.pixels}
    if values == {0, IGNORE_INDEX}:
        raise InputError(
            f"{sets[0].source} holds only 0 and {IGNORE_INDEX}, which is ignored; save the second class as 1."
        )
    if sets[0].classes:
        return tuple(replace(one, pairs=infer_pairs(one.classes)) for one in sets)
    count = max(values - {IGNORE_INDEX}, default=-1) + 1
    named: list[DataSet] = []
    names, table = tuple(map(str, range(count))), tuple(range(count))
    for one in sets:
        draft = Draft(one.source)
        if one.images:
            draft.add("classes-unnamed", f"has no classes.txt; its classes are called 0 to {count - 1}")
        defects = (*one.defects, *draft.defects)
        named.append(replace(one, classes=names, label_table=table, named=False, defects=defects))
    return tuple(named)
