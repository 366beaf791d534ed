"""Published segmentation data sets in the folders that they come in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrnet.formats.defects import Draft
from hrnet.formats.files import is_file
from hrnet.formats.label_maps import label_records
from hrnet.formats.reader import Content, Reader
from hrnet.formats.records import DataSet
from hrnet.results import IGNORE_INDEX

# Folders above a named one that are searched for the root of the data set.
_ABOVE = 4


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """Files of one split.

    Attributes:
        pairs: images with the label maps they should have.
        table: label of each stored value.
        problem: reason why there are no files, for the message.
    """

    pairs: Sequence[tuple[Path, Path]] = ()
    table: tuple[int, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class PublishedReader(Reader[Path]):
    """Reader of a published data set, recognized by its folders.

    A path is the folder of the data set, or a folder of label maps in it.

    Attributes:
        format: key in the registry.
        title: name of the data set.
        looked_for: folders by which it is recognized.
        classes: class names in the published order.
        files: function that returns the files of a split in a folder; None where the folder is another data set.
        pairs: classes that change places in a flipped image.
        splits: names of the splits; the first two are always returned, others where they have files.
    """

    format: str
    title: str
    looked_for: str
    classes: tuple[str, ...]
    files: Callable[[Path, str], SplitFiles | None]
    pairs: tuple[tuple[int, int], ...] = ()
    splits: tuple[str, ...] = ("train", "val", "test")
    gives: frozenset[Content] = frozenset({"label_maps"})

    def find(self, path: Path, images: Path | None) -> Path | None:
        """Return the root of the data set."""
        if self.files(path, self.splits[0]) is not None:
            return path
        inside = _absolute(path)
        for folder in list(inside.parents)[:_ABOVE]:
            found = [self.files(folder, split) for split in self.splits]
            if any(labels.is_relative_to(inside) for one in found if one for _, labels in one.pairs):
                return folder
        return None

    def load(self, found: Path, path: Path, images: Path | None) -> tuple[DataSet, ...]:
        whole = found == path and images is None
        parts = None if whole else (_absolute(images or found), _absolute(path))
        sets = [self._read_split(found, split, parts) for split in self.splits]
        return tuple(one for one in sets if one.images or one.defects or (whole and one.split in self.splits[:2]))

    def _read_split(self, root: Path, split: str, parts: tuple[Path, Path] | None) -> DataSet:
        """Read a split; where `parts` is given, its files in these folders of images and of label maps."""
        found = self.files(root, split) or SplitFiles()
        draft = Draft(root)
        if parts is None and found.problem:
            draft.add("set-empty", found.problem, split, root)
        there: list[tuple[Path, Path]] = []
        for pair in found.pairs:
            image, labels = pair
            if parts and not all(file.is_relative_to(folder) for file, folder in zip(pair, parts, strict=True)):
                continue
            if not is_file(image):
                draft.add("image-missing", f"{image} is not there")
            elif not is_file(labels):
                draft.add("label-missing", f"has no labels {labels}", file=image)
            else:
                there.append(pair)
        records = tuple(label_records(there, found.table, draft))
        defects = tuple(draft.defects)
        return DataSet(
            self.format, root, split, records, self.classes, pairs=self.pairs, label_table=found.table, defects=defects
        )


def _absolute(path: Path) -> Path:
    # Not resolved: a link inside the data set is part of it.
    return Path(os.path.abspath(path))  # noqa: PTH100


def match_labels(images: Iterable[Path], folder: Path, suffix: str = ".png") -> list[tuple[Path, Path]]:
    """Return the images with the label maps of their names in a folder."""
    return [(image, folder / f"{image.stem}{suffix}") for image in images]


def split_names(text: str) -> tuple[str, ...]:
    """Return names separated by commas."""
    return tuple(name.strip() for name in text.split(","))


def label_table(ids: Iterable[int], count: int, other: int = IGNORE_INDEX) -> tuple[int, ...]:
    """Return the label of each value below `count`: its position among the ids, or `other`."""
    places = {number: label for label, number in enumerate(ids)}
    return tuple(places.get(number, other) for number in range(count))
