"""Published segmentation data sets in the folders that they come in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrnet.errors import InputError
from hrnet.formats.defects import Draft
from hrnet.formats.files import entries, is_file, read_text
from hrnet.formats.label_maps import label_records
from hrnet.formats.reader import Content
from hrnet.formats.records import DataSet
from hrnet.results import IGNORE_INDEX

# Folders above a named one that are searched for the root of the data set.
_ABOVE = 4


@dataclass(frozen=True, slots=True)
class Found:
    """Files of one split.

    Attributes:
        pairs: images with the label maps they should have.
        table: label of each stored value.
        problem: reason why there are no files, for the message.
    """

    pairs: Sequence[tuple[Path, Path]]
    table: tuple[int, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PublishedReader:
    """Reader of a published data set, recognized by its folders.

    Attributes:
        format: key in the registry.
        title: name of the data set.
        looked_for: folders by which it is recognized.
        classes: class names in the published order.
        find: function that returns the files of a split in a folder; None where the folder is another data set.
        pairs: classes that change places in a flipped image.
        splits: names of the splits; the first two are always returned, others where they have files.
        gives: kinds of labels.
    """

    format: str
    title: str
    looked_for: str
    classes: tuple[str, ...]
    find: Callable[[Path, str], Found | None]
    pairs: tuple[tuple[int, int], ...] = ()
    splits: tuple[str, ...] = ("train", "val", "test")
    gives: frozenset[Content] = frozenset({"label_maps"})

    def recognize(self, path: Path, images: Path | None = None) -> bool:
        """Return whether a path is the data set's folder or one of its folders of label maps."""
        return self._root(path) is not None

    def read(self, path: Path, images: Path | None = None) -> tuple[DataSet, ...]:
        """Return the splits.

        Args:
            path: folder of the data set, or a folder of label maps in it.
            images: folder of images in the data set; None for all.

        Raises:
            InputError: the folder is not this data set.
        """
        root = self._root(path)
        if root is None:
            raise InputError(f"{path} is not {self.looked_for}; name it.")
        whole = root == path and images is None
        sets = [self._read_split(root, split, path, images, whole) for split in self.splits]
        return tuple(one for one in sets if one.images or one.defects or (whole and one.split in self.splits[:2]))

    def _root(self, path: Path) -> Path | None:
        if self.find(path, self.splits[0]) is not None:
            return path
        # Not resolved: a link inside the data set is part of it.
        inside = Path(os.path.abspath(path))  # noqa: PTH100
        for folder in list(inside.parents)[:_ABOVE]:
            found = [self.find(folder, split) for split in self.splits]
            if any(labels.is_relative_to(inside) for one in found if one for _, labels in one.pairs):
                return folder
        return None

    def _read_split(self, root: Path, split: str, path: Path, images: Path | None, whole: bool) -> DataSet:
        found = self.find(root, split) or Found((), ())
        draft = Draft(root)
        pairs = found.pairs
        if not whole:
            inside, labels_inside = (Path(os.path.abspath(one)) for one in (images or root, path))  # noqa: PTH100
            pairs = [
                (image, labels)
                for image, labels in pairs
                if image.is_relative_to(inside) and labels.is_relative_to(labels_inside)
            ]
        elif found.problem:
            draft.say("set-empty", found.problem, split, root)
        there: list[tuple[Path, Path]] = []
        for image, labels in pairs:
            if not is_file(image):
                draft.say("image-missing", f"{image} is not there")
            elif not is_file(labels):
                draft.say("label-missing", f"has no labels {labels}", file=image)
            else:
                there.append((image, labels))
        records = label_records(there, found.table, draft)
        return DataSet(
            self.format,
            root,
            split,
            tuple(records),
            self.classes,
            pairs=self.pairs,
            label_table=found.table,
            defects=tuple(draft.defects),
        )


def files_ending(folder: Path, suffix: str) -> list[Path]:
    """Return the files of a folder whose names end so."""
    return [entry for entry in entries(folder) if entry.name.endswith(suffix)]


def listed_names(path: Path) -> list[str]:
    """Return the first word of every line."""
    return [line.split()[0] for line in read_text(path, "a list of images").splitlines() if line.strip()]


def split_names(text: str) -> tuple[str, ...]:
    """Return names separated by commas."""
    return tuple(name.strip() for name in text.split(","))


def label_table(ids: Iterable[int], count: int, other: int = IGNORE_INDEX) -> tuple[int, ...]:
    """Return the label of each value below `count`: its position among the ids, or `other`."""
    places = {number: label for label, number in enumerate(ids)}
    return tuple(places.get(number, other) for number in range(count))
