"""Class folders: each image lies in the folder of its class, these in train/ and val/ or not."""

from __future__ import annotations

import os
from pathlib import Path

from hrnet.errors import InputError
from hrnet.formats.checked import checked_size
from hrnet.formats.defects import Draft
from hrnet.formats.files import entries, is_folder
from hrnet.formats.masks import IMAGE_FOLDERS, LABEL_FOLDERS, PARTS
from hrnet.formats.records import DataSet, ImageRecord
from hrnet.io.images import SUFFIXES

LOOKED_FOR = "a folder with a folder of images for each class (in train/ and val/, or not)"
# Left by systems and programs, and meant by nobody.
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


def recognize(path: Path) -> bool:
    """Whether a folder has folders of images in it."""
    return bool(_parts(path))


def _parts(path: Path) -> list[tuple[Path, str]]:
    """The folders that hold class folders, and the names of the parts that they are."""
    if not is_folder(path):
        return []
    parts = [(path / part, part) for part in PARTS if any(map(_images, _class_folders(path / part)))]
    if parts:
        return parts
    folders = _class_folders(path)
    # Half of another format: images whose labels are missing.
    if any(folder.name in (*IMAGE_FOLDERS, *LABEL_FOLDERS, *PARTS) for folder in folders):
        return []
    return [(path, "")] if any(_images(folder) for folder in folders) else []


def _class_folders(path: Path) -> list[Path]:
    return [entry for entry in entries(path) if is_folder(entry)]


def _images(folder: Path) -> list[Path]:
    """The images of a class, also those in folders inside it."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in sorted(names) if not name.startswith(".")]
    return [path for path in found if path.suffix.lower() in SUFFIXES]


def read(path: Path, images: Path | None = None) -> tuple[DataSet, ...]:
    """Each part as a set. The classes are the folders of the first part, sorted by name.

    Args:
        path: the folder.
        images: not needed here; the images are where their labels are.

    Raises:
        InputError: there are no such folders.
    """
    parts = _parts(path if images is None else images)
    if not parts:
        raise InputError(f"{path} is not {LOOKED_FOR}; name one.")
    classes = tuple(folder.name for folder in _class_folders(parts[0][0]))
    return tuple(_read_part(folder, part, classes) for folder, part in parts)


def _read_part(folder: Path, part: str, classes: tuple[str, ...]) -> DataSet:
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
            draft.say("class-unknown", "is a class that the first part does not have", file=entry)
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
    return DataSet("folders", folder, part, tuple(images), classes, defects=tuple(draft.defects))
