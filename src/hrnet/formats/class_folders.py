"""Class folders: each image lies in the folder of its class, the folders in train/ and val/ or not."""

from __future__ import annotations

import os
from pathlib import Path

from hrnet.errors import InputError
from hrnet.formats.checked import checked_size
from hrnet.formats.defects import Draft
from hrnet.formats.files import entries, is_folder
from hrnet.formats.label_folders import IMAGE_FOLDERS, LABEL_FOLDERS, SPLIT_FOLDERS
from hrnet.formats.reader import Content
from hrnet.formats.records import DataSet, ImageRecord
from hrnet.io.images import SUFFIXES

# Files of operating systems and programs.
_IGNORED = (
    "thumbs.db",
    "desktop.ini",
    "classes.txt",
    "labels.txt",
    "readme.md",
    "readme.txt",
    "license",
    "license.txt",
)
# Folders of other formats: images whose labels are missing.
_OTHER_FORMATS = (*IMAGE_FOLDERS, *LABEL_FOLDERS, *SPLIT_FOLDERS, "leftImg8bit", "gtFine")


class ClassFolderReader:
    """Reader of class folders."""

    title = "class folders"
    looked_for = "a folder with a folder of images for each class (in train/ and val/, or not)"
    gives: frozenset[Content] = frozenset({"classes"})

    def recognize(self, path: Path, images: Path | None = None) -> bool:
        """Return whether a folder has folders of images in it."""
        return bool(_splits(path))

    def read(self, path: Path, images: Path | None = None) -> tuple[DataSet, ...]:
        """Return the splits. The classes are the folders of the first split, sorted by name.

        Args:
            path: folder.
            images: folder to read instead; images lie where their labels are.

        Raises:
            InputError: there are no such folders.
        """
        splits = _splits(path if images is None else images)
        if not splits:
            raise InputError(f"{path} is not {self.looked_for}; name one.")
        classes = tuple(folder.name for folder in _class_folders(splits[0][0]))
        return tuple(_read_split(folder, split, classes) for folder, split in splits)


def _splits(path: Path) -> list[tuple[Path, str]]:
    """Return the folders that hold class folders, and the names of their splits."""
    if not is_folder(path):
        return []
    splits = [(path / name, name) for name in SPLIT_FOLDERS if any(map(_images, _class_folders(path / name)))]
    if splits:
        return splits
    folders = _class_folders(path)
    if any(folder.name in _OTHER_FORMATS for folder in folders):
        return []
    return [(path, "")] if any(_images(folder) for folder in folders) else []


def _class_folders(path: Path) -> list[Path]:
    return [entry for entry in entries(path) if is_folder(entry)]


def _images(folder: Path) -> list[Path]:
    """Return the images of a class, also those in folders inside its folder."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in sorted(names) if not name.startswith(".")]
    return [path for path in found if path.suffix.lower() in SUFFIXES]


def _read_split(folder: Path, split: str, classes: tuple[str, ...]) -> DataSet:
    draft = Draft(folder)
    labels = {name: label for label, name in enumerate(classes)}
    images: list[ImageRecord] = []
    for entry in entries(folder):
        if not is_folder(entry):
            if entry.suffix.lower() in SUFFIXES:
                draft.say("label-missing", "lies in no class folder", file=entry)
            elif entry.name.lower() not in _IGNORED:
                draft.say("file-stray", "is neither an image nor a class folder", file=entry)
            continue
        if entry.name not in labels:
            draft.say("class-unknown", "is a class that the first split does not have", file=entry)
            continue
        found = _images(entry)
        if not found:
            draft.say("class-unused", "is a class without images", file=entry)
        for path in found:
            size = checked_size(path, None, draft)
            if size is not None:
                images.append(ImageRecord(path, size, len(images), label=labels[entry.name]))
        for stray in entries(entry):
            if stray.suffix.lower() not in SUFFIXES and not is_folder(stray) and stray.name.lower() not in _IGNORED:
                draft.say("file-stray", "is no image", file=stray)
    return DataSet("class-folders", folder, split, tuple(images), classes, defects=tuple(draft.defects))
