"""Class folders: each image lies in the folder of its class, the folders in train/ and val/ or not."""

from __future__ import annotations

from pathlib import Path

from hrnet.formats.checked import checked_size, numbered
from hrnet.formats.defects import Draft
from hrnet.formats.files import entries, is_folder
from hrnet.formats.label_folders import IMAGE_FOLDERS, LABEL_FOLDERS, SPLIT_FOLDERS
from hrnet.formats.reader import Content, Reader
from hrnet.formats.records import DataSet, ImageRecord
from hrnet.io.images import SUFFIXES, images_below

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


class ClassFolderReader(Reader[list[tuple[Path, str]]]):
    """Reader of class folders. The classes are the folders of the first split, sorted by name."""

    title = "class folders"
    looked_for = "a folder with a folder of images for each class (in train/ and val/, or not)"
    gives: frozenset[Content] = frozenset({"classes"})

    def find(self, path: Path, images: Path | None) -> list[tuple[Path, str]]:
        """Return the folders that hold class folders, and the names of their splits."""
        splits = [(path / name, name) for name in SPLIT_FOLDERS if any(map(images_below, _class_folders(path / name)))]
        if splits:
            return splits
        folders = _class_folders(path)
        if any(folder.name in _OTHER_FORMATS for folder in folders):
            return []
        return [(path, "")] if any(map(images_below, folders)) else []

    def load(self, found: list[tuple[Path, str]], path: Path, images: Path | None) -> tuple[DataSet, ...]:
        if images not in (None, path):  # images lie where their labels are
            return self.read(images)
        classes = tuple(folder.name for folder in _class_folders(found[0][0]))
        return tuple(_read_split(folder, split, classes) for folder, split in found)


def _class_folders(path: Path) -> list[Path]:
    return [entry for entry in entries(path) if is_folder(entry)]


def _read_split(folder: Path, split: str, classes: tuple[str, ...]) -> DataSet:
    draft = Draft(folder)
    images: list[ImageRecord] = []
    for entry in entries(folder):
        if not is_folder(entry):
            if entry.suffix.lower() in SUFFIXES:
                draft.add("label-missing", "lies in no class folder", file=entry)
            elif entry.name.lower() not in _IGNORED:
                draft.add("file-stray", "is neither an image nor a class folder", file=entry)
            continue
        if entry.name not in classes:
            draft.add("class-unknown", "is a class that the first split does not have", file=entry)
            continue
        found = images_below(entry)
        if not found:
            draft.add("class-unused", "is a class without images", file=entry)
        label = classes.index(entry.name)
        sizes = [(path, checked_size(path, None, draft)) for path in found]
        images += [ImageRecord(path, size, 0, label=label) for path, size in sizes if size is not None]
        for stray in entries(entry):
            if stray.suffix.lower() not in SUFFIXES and not is_folder(stray) and stray.name.lower() not in _IGNORED:
                draft.add("file-stray", "is no image", file=stray)
    return DataSet("class-folders", folder, split, numbered(images), classes, defects=tuple(draft.defects))
