"""LIP: parts and clothes of people, 20 classes."""

from __future__ import annotations

from pathlib import Path

from hrnet.formats.files import files_ending, is_folder
from hrnet.formats.published import PublishedReader, SplitFiles, match_labels, split_names

# Source: Look Into Person (arXiv 1703.05446), labels 0 to 19.
LIP = split_names(
    "background, hat, hair, glove, sunglasses, upper clothes, dress, coat, socks, trousers, jumpsuit, scarf, skirt, face, "
    "left arm, right arm, left leg, right leg, left shoe, right shoe"
)
LIP_PAIRS = ((14, 15), (16, 17), (18, 19))


def _find(root: Path, split: str) -> SplitFiles | None:
    images, labels = (_unpacked(root / name) for name in ("TrainVal_images", "TrainVal_parsing_annotations"))
    if not (is_folder(images) and is_folder(labels)):
        return None
    found = files_ending(images / f"{split}_images", ".jpg")
    return SplitFiles(match_labels(found, labels / f"{split}_segmentations"), tuple(range(len(LIP))))


def _unpacked(folder: Path) -> Path:
    """Return the folder, or the one of its name inside it that some archives unpack to."""
    return folder / folder.name if is_folder(folder / folder.name) else folder


LIP_READER = PublishedReader(
    "lip", "LIP", "the folder of LIP with TrainVal_images/ and TrainVal_parsing_annotations/",
    LIP, _find, LIP_PAIRS, ("train", "val"),
)  # fmt: skip
