"""Label maps in folders: each image has a label map of its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hrnet.errors import InputError
from hrnet.formats.defects import Draft
from hrnet.formats.files import entries, is_folder, stated_classes
from hrnet.formats.label_maps import LOSSLESS, label_records
from hrnet.formats.reader import Content
from hrnet.formats.records import DataSet
from hrnet.formats.sides import infer_pairs
from hrnet.io.images import SUFFIXES
from hrnet.results import IGNORE_INDEX

IMAGE_FOLDERS = ("images", "imgs", "image", "img", "JPEGImages")
LABEL_FOLDERS = ("labels", "masks", "annotations", "label", "mask", "gt", "SegmentationClass")
SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "test", "testing")
# Endings that programs add to the name of an image for its label map.
_ENDINGS = ("", "_mask", "_label", "_labels", "_gt", "_seg", "_L", "_labelIds")


class LabelFolderReader:
    """Reader of folders of images and label maps."""

    title = "label maps"
    looked_for = (
        "a folder with images/ and labels/ (with or without train/ and val/ in them), or with X.png beside X.jpg"
    )
    gives: frozenset[Content] = frozenset({"label_maps"})

    def recognize(self, path: Path, images: Path | None = None) -> bool:
        """Return whether a folder has label maps in one of the usual places, or images of its own where these are named."""
        if images is None:
            return next(_pairs(path), None) is not None
        return is_folder(images) and any(_has_images(pair.labels) for pair in _pairs(path, images))

    def read(self, path: Path, images: Path | None = None) -> tuple[DataSet, ...]:
        """Return the splits. Class names come from classes.txt, one per line; without it numbers stand for names.

        Args:
            path: folder of both, or of the label maps.
            images: folder of the images, where `path` is that of the label maps.

        Raises:
            InputError: there are no label maps, or their values are 0 and 255 only.
        """
        pairs = list(_pairs(path, images))
        if not pairs:
            raise InputError(f"{path} is not {self.looked_for}; name one.")
        near = (path, path.parent, path.parent.parent)
        classes = next((names for names in map(stated_classes, near) if names), ())
        return _named([_read_pair(pair, classes) for pair in pairs])


@dataclass(frozen=True, slots=True)
class _Pair:
    """A folder of images, the folder of their label maps, and the name of the split."""

    images: Path
    labels: Path
    split: str = ""


def _pairs(path: Path, images: Path | None = None) -> Iterator[_Pair]:
    """Yield the folders of each split."""
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
    splits = [(name, pair) for name in SPLIT_FOLDERS for pair in _siblings(path / name)]
    yield from (_Pair(pair.images, pair.labels, name) for name, pair in splits if _has_images(pair.labels))
    if not splits and _mixed(path):
        yield _Pair(path, path)


def _inner(pair: _Pair) -> list[_Pair]:
    """Return the splits that both folders have."""
    both = [name for name in SPLIT_FOLDERS if is_folder(pair.images / name) and is_folder(pair.labels / name)]
    return [_Pair(pair.images / name, pair.labels / name, name) for name in both]


def _siblings(path: Path) -> list[_Pair]:
    images = [path / name for name in IMAGE_FOLDERS if is_folder(path / name)]
    labels = [path / name for name in LABEL_FOLDERS if is_folder(path / name)]
    return [_Pair(images[0], labels[0])] if images and labels else []


def _has_images(folder: Path) -> bool:
    return any(entry.suffix.lower() in SUFFIXES for entry in entries(folder))


def _mixed(folder: Path) -> bool:
    """Return whether images and their label maps lie in one folder: X.jpg and X.png, or X.png and X_mask.png."""
    images, labels = _sorted_out(folder)
    return bool(images) and any(_partner(image.stem, labels) for image in images)


def _sorted_out(folder: Path) -> tuple[list[Path], dict[str, Path]]:
    """Return images and label maps of one folder, told apart by their names."""
    found = [entry for entry in entries(folder) if entry.suffix.lower() in SUFFIXES]
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
        found = [entry for entry in entries(pair.images) if entry.suffix.lower() in SUFFIXES]
        labels = {entry.stem: entry for entry in entries(pair.labels) if entry.suffix.lower() in SUFFIXES}
    files: list[tuple[Path, Path]] = []
    stems: dict[str, Path] = {}
    for path in found:
        if path.stem in stems:
            draft.say("id-twice", f"has the name of {stems[path.stem].name}, and so its labels", file=path)
            continue
        stems[path.stem] = path
        label = _partner(path.stem, labels)
        if label is None:
            draft.say("label-missing", f"has no labels {path.stem}.png in {pair.labels}", file=path)
        else:
            files.append((path, label))
    for label in labels.values():
        if label not in {used for _, used in files}:
            draft.say("label-orphan", f"has no image of its name in {pair.images}", file=label)
    table = tuple(range(len(classes)))
    images = label_records(files, table, draft)
    return DataSet(
        "label-maps", pair.labels, pair.split, tuple(images), classes, label_table=table, defects=tuple(draft.defects)
    )


def _named(sets: list[DataSet]) -> tuple[DataSet, ...]:
    """Return the sets with numbers for names where no file names the classes, and with pairs of left and right."""
    values = {value for one in sets for image in one.images for value in image.pixels}
    if values == {0, IGNORE_INDEX}:
        raise InputError(
            f"{sets[0].source} has no values but 0 and {IGNORE_INDEX}, and {IGNORE_INDEX} is ignored; save the second class "
            "as 1."
        )
    if sets[0].classes:
        return tuple(replace(one, pairs=infer_pairs(one.classes)) for one in sets)
    count = max(values - {IGNORE_INDEX}, default=-1) + 1
    named: list[DataSet] = []
    for one in sets:
        draft = Draft(one.source)
        if one.images:
            text = f"has no classes.txt; its classes are called 0 to {count - 1}"
            draft.say("classes-unnamed", text)
        named.append(
            replace(
                one,
                classes=tuple(map(str, range(count))),
                label_table=tuple(range(count)),
                named=False,
                defects=(*one.defects, *draft.defects),
            )
        )
    return tuple(named)
