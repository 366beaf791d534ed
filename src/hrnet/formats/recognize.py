"""Which format a path has, and reading it."""

from __future__ import annotations

from pathlib import Path

from hrnet.errors import InputError
from hrnet.formats import coco, deeplabcut, folders, masks, voc, yolo
from hrnet.formats.files import is_file, is_folder
from hrnet.formats.records import DataSet, Format

# In the order in which they are tried: what is surest first.
_READERS = {"yolo": yolo, "deeplabcut": deeplabcut, "coco": coco, "voc": voc, "masks": masks, "folders": folders}
TITLES = {
    "coco": "COCO json",
    "voc": "Pascal VOC xml",
    "yolo": "YOLO",
    "masks": "label images",
    "folders": "class folders",
    "deeplabcut": "DeepLabCut csv",
}


def recognize(path: Path) -> Format:
    """The format of a file or folder, told by looking.

    Raises:
        InputError: it is none of the six.
    """
    if not is_file(path) and not is_folder(path):
        raise InputError(f"{path} does not exist; check the name.")
    for name, reader in _READERS.items():
        if reader.recognize(path):
            return name  # type: ignore[return-value]  # the keys are the formats
    looked_for = "; ".join(reader.LOOKED_FOR for reader in _READERS.values())
    raise InputError(f"{path} is no data set of a known kind; looked for {looked_for}; name one of these.")


def read(path: Path, images: Path | None = None) -> tuple[DataSet, ...]:
    """The sets at a path, whatever their format.

    Args:
        path: a file or folder.
        images: the folder of the images, where they are not where the format has them.

    Raises:
        InputError: it is of no known format, or cannot be read as a whole.
    """
    return _READERS[recognize(path)].read(path, images)
