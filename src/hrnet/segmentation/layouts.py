"""The published data sets in the folders that they come in: which files belong together, and what their numbers mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from hrnet.errors import InputError
from hrnet.formats.compare import Part
from hrnet.formats.files import entries, is_file, is_folder, read_text
from hrnet.segmentation.classes import (
    ADE20K,
    ADE20K_TABLE,
    CITYSCAPES_TABLE,
    COCO_STUFF,
    COCO_STUFF_TABLE,
    CONTEXT_60,
    CONTEXT_TABLE,
    LIP,
    LIP_PAIRS,
)
from hrnet.segmentation.spec import CITYSCAPES

# Folders above one that was named in which a published data set may begin.
_ABOVE = 4


@dataclass(frozen=True, slots=True)
class Layout:
    """One part of a published data set.

    Attributes:
        title: of the data set.
        source: its folder.
        class_names: in the published order.
        pairs: classes that change places in the mirrored image.
        meaning: the label that each number of the files stands for.
        files: images with their label files.
        problems: a sentence for each image without one.
    """

    title: str
    source: Path
    class_names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    meaning: tuple[int, ...]
    files: tuple[tuple[Path, Path], ...]
    problems: tuple[str, ...] = ()


def find_layout(folder: Path, part: Part) -> Layout | None:
    """The part of the published data set that a folder holds; None where it holds none that is known.

    Raises:
        InputError: it holds one without this part.
    """
    for reader in (_cityscapes, _lip, _context, _coco_stuff, _ade20k):
        found = reader(folder, part)
        if found is None:
            continue
        if not found.files:
            raise InputError(
                f"{folder} is {found.title}, but no images of {part} with labels are where it has them"
                + (f": {found.problems[0]}" if found.problems else "; copy them there.")
            )
        return found
    return None


def find_part(images: Path, annotations: Path, part: Part) -> Layout | None:
    """What two folders that lie inside a published data set hold of it: their numbers mean what they mean there."""
    # Not resolved: a link inside the data set is part of it.
    inside, labels_inside = (Path(os.path.abspath(path)) for path in (images, annotations))  # noqa: PTH100
    for folder in (inside, *list(inside.parents)[:_ABOVE]):
        for name in dict.fromkeys((part, "train", "val", "test")):
            try:
                found = find_layout(folder, name)
            except InputError:
                continue
            if found is None:
                break
            files = tuple(
                (image, labels)
                for image, labels in found.files
                if image.is_relative_to(inside) and labels.is_relative_to(labels_inside)
            )
            if files:
                return replace(found, files=files)
    return None


def _paired(
    images: Iterable[Path], partner: Callable[[Path], Path]
) -> tuple[tuple[tuple[Path, Path], ...], tuple[str, ...]]:
    """Images with the label files they should have, and a sentence for each where one of the two is missing."""
    files: list[tuple[Path, Path]] = []
    problems: list[str] = []
    for image in images:
        labels = partner(image)
        if not is_file(image):
            problems.append(f"{image} is listed and not there; copy it to its place, or take it off the list.")
        elif not is_file(labels):
            problems.append(f"{image} has no labels {labels}; add the file, or remove the image.")
        else:
            files.append((image, labels))
    return tuple(files), tuple(problems)


def _images(folder: Path, suffix: str) -> list[Path]:
    return [entry for entry in entries(folder) if entry.name.endswith(suffix)]


def _listed(path: Path) -> list[str]:
    """The first word of every line."""
    return [line.split()[0] for line in read_text(path, "a list of images").splitlines() if line.strip()]


def _cityscapes(folder: Path, part: Part) -> Layout | None:
    """leftImg8bit/PART/CITY/*_leftImg8bit.png and gtFine/PART/CITY/*_gtFine_labelIds.png, or *_labelTrainIds.png."""
    if not (is_folder(folder / "leftImg8bit") and is_folder(folder / "gtFine")):
        return None
    end = "_leftImg8bit.png"
    cities = [city for city in entries(folder / "leftImg8bit" / part) if is_folder(city)]
    images = [image for city in cities for image in _images(city, end)]

    def labels(kind: str) -> Callable[[Path], Path]:
        gold = folder / "gtFine" / part
        return lambda one: gold / one.parent.name / f"{one.name.removesuffix(end)}_gtFine_{kind}.png"

    ready, missing = _paired(images, labels("labelTrainIds"))
    if ready and not missing:
        return Layout("Cityscapes", folder, CITYSCAPES, (), tuple(range(len(CITYSCAPES))), ready)
    return Layout("Cityscapes", folder, CITYSCAPES, (), CITYSCAPES_TABLE, *_paired(images, labels("labelIds")))


def _lip(folder: Path, part: Part) -> Layout | None:
    """TrainVal_images/PART_images/*.jpg and TrainVal_parsing_annotations/PART_segmentations/*.png."""
    images, labels = (_unpacked(folder / name) for name in ("TrainVal_images", "TrainVal_parsing_annotations"))
    if not (is_folder(images) and is_folder(labels)):
        return None
    found = _paired(
        _images(images / f"{part}_images", ".jpg"), lambda one: labels / f"{part}_segmentations" / f"{one.stem}.png"
    )
    return Layout("LIP", folder, LIP, LIP_PAIRS, tuple(range(len(LIP))), *found)


def _unpacked(folder: Path) -> Path:
    """The folder, or the one of its name inside it that some archives unpack to."""
    return folder / folder.name if is_folder(folder / folder.name) else folder


# Where label maps of PASCAL-Context lie, and whether they hold the 60 labels already, not the 459 original numbers.
_CONTEXT_FOLDERS = {"SegmentationClassContext": True, "59_context_labels": True, "trainval": False, "context": False}


def _context(folder: Path, part: Part) -> Layout | None:
    """JPEGImages of VOC2010, beside or around it one of `_CONTEXT_FOLDERS` with .mat or .png, and a list of each part."""
    roots = [folder, folder / "VOC2010", folder / "VOCdevkit" / "VOC2010"]
    base = next((root for root in roots if is_folder(root / "JPEGImages")), None)
    places = [(root / name, ready) for name, ready in _CONTEXT_FOLDERS.items() for root in roots]
    labels, ready = next(((place, ready) for place, ready in places if is_folder(place)), (None, False))
    if base is None or labels is None:
        return None
    lists = [base / "ImageSets" / kind / f"{part}.txt" for kind in ("SegmentationContext", "Main")] + [
        folder / f"{part}.txt"
    ]
    listed = next((path for path in lists if is_file(path)), None)
    if listed is None:
        raise InputError(f"{folder} is PASCAL-Context without a list of {part}; write {lists[0]}, one name a line.")
    suffix = ".mat" if any(_images(labels, ".mat")) else ".png"
    found = _paired(
        [base / "JPEGImages" / f"{name}.jpg" for name in _listed(listed)], lambda one: labels / f"{one.stem}{suffix}"
    )
    meaning = tuple(range(len(CONTEXT_60))) if ready else CONTEXT_TABLE
    return Layout("PASCAL-Context", folder, CONTEXT_60, (), meaning, *found)


def _coco_stuff(folder: Path, part: Part) -> Layout | None:
    """images/*.jpg and annotations/*.mat (or *.png, or *_labelTrainIds.png) with imageLists/{train,test}.txt, or both in
    folders train2014 and test2014. What is not for training is called test, and is what is validated on."""
    images, labels = folder / "images", folder / "annotations"
    name, lists = "train" if part == "train" else "test", folder / "imageLists"
    inner = f"{name}2014"
    parted = is_folder(images / "train2014") and is_folder(labels / "train2014")
    if not (is_folder(images) and (parted or (is_folder(labels) and is_folder(lists)))):
        return None
    if parted:
        chosen, labels = _images(images / inner, ".jpg"), labels / inner
    else:
        chosen = [images / f"{one}.jpg" for one in _listed(lists / f"{name}.txt")]
    for end in (".mat", "_labelTrainIds.png", ".png"):
        if _images(labels, end):
            break
    else:
        return None
    meaning = tuple(range(len(COCO_STUFF))) if "Train" in end else COCO_STUFF_TABLE
    return Layout(
        "COCO-Stuff 10k", folder, COCO_STUFF, (), meaning, *_paired(chosen, lambda one: labels / f"{one.stem}{end}")
    )


def _ade20k(folder: Path, part: Part) -> Layout | None:
    """images/{training,validation}/ADE_*.jpg and annotations/{training,validation}/ADE_*.png."""
    base = next((root for root in (folder, folder / "ADEChallengeData2016") if is_folder(root / "images")), folder)
    name = "training" if part == "train" else "validation"
    images, labels = base / "images", base / "annotations"
    if not (is_folder(labels) and any(_of_ade20k(images / one) for one in ("training", "validation"))):
        return None
    found = _paired(_images(images / name, ".jpg"), lambda one: labels / name / f"{one.stem}.png")
    return Layout("ADE20K", folder, ADE20K, (), ADE20K_TABLE, *found)


def _of_ade20k(folder: Path) -> bool:
    return any(entry.name.startswith("ADE_") for entry in entries(folder)[:1])
