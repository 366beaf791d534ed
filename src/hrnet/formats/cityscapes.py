"""Cityscapes: street scenes, 34 ids of which 19 classes are scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from hrnet.formats.files import entries, files_ending, is_file, is_folder
from hrnet.formats.published import PublishedReader, SplitFiles, label_table

# Source: the evaluation labels of Cityscapes (trainId 0 to 18), in order, and their ids.
CITYSCAPES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_TABLE = label_table(_IDS, 34)
_IMAGE_END = "_leftImg8bit.png"


def _find(root: Path, split: str) -> SplitFiles | None:
    if not (is_folder(root / "leftImg8bit") and is_folder(root / "gtFine")):
        return None
    cities = [city for city in entries(root / "leftImg8bit" / split) if is_folder(city)]
    images = [image for city in cities for image in files_ending(city, _IMAGE_END)]

    def pairs(kind: str) -> list[tuple[Path, Path]]:
        gold = root / "gtFine" / split
        return [
            (one, gold / one.parent.name / f"{one.name.removesuffix(_IMAGE_END)}_gtFine_{kind}.png") for one in images
        ]

    train_ids = pairs("labelTrainIds")
    if train_ids and all(is_file(labels) for _, labels in train_ids):
        return SplitFiles(train_ids, tuple(range(len(CITYSCAPES))))
    return SplitFiles(pairs("labelIds"), _TABLE)


CITYSCAPES_READER = PublishedReader(
    "cityscapes", "Cityscapes", "the folder of Cityscapes with leftImg8bit/ and gtFine/", CITYSCAPES, _find
)


def cityscapes_ids(labels: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return a label map as the ids that the test server expects; 0 (unlabeled) where there is no label."""
    table = np.zeros(256, np.uint8)
    table[: len(_IDS)] = _IDS
    return table[labels]
