"""All data formats, and how the format of a path is recognized."""

from __future__ import annotations

from pathlib import Path

from hrnet.errors import InputError
from hrnet.formats.ade20k import ADE20K_READER
from hrnet.formats.cityscapes import CITYSCAPES_READER
from hrnet.formats.class_folders import ClassFolderReader
from hrnet.formats.coco import CocoReader
from hrnet.formats.coco_stuff import COCO_STUFF_READER
from hrnet.formats.deeplabcut import DeepLabCutReader
from hrnet.formats.files import is_file, is_folder
from hrnet.formats.label_folders import LabelFolderReader
from hrnet.formats.lip import LIP_READER
from hrnet.formats.mpii import MpiiReader
from hrnet.formats.pascal_context import PASCAL_CONTEXT_READER
from hrnet.formats.reader import Content, Reader
from hrnet.formats.records import DataSet
from hrnet.formats.voc import VocReader
from hrnet.formats.yolo import YoloReader, lacks_yaml

# In the order in which they are tried: the most specific first. A new format is one more entry.
READERS: dict[str, Reader] = {
    "cityscapes": CITYSCAPES_READER,
    "lip": LIP_READER,
    "pascal-context": PASCAL_CONTEXT_READER,
    "coco-stuff": COCO_STUFF_READER,
    "ade20k": ADE20K_READER,
    "yolo": YoloReader(),
    "deeplabcut": DeepLabCutReader(),
    "mpii": MpiiReader(),
    "coco": CocoReader(),
    "voc": VocReader(),
    "label-maps": LabelFolderReader(),
    "class-folders": ClassFolderReader(),
}


# Formats of a user's own: two of them in one folder are two data sets. The published layouts imply some of them.
_OWN = ("yolo", "deeplabcut", "coco", "voc", "label-maps")


def recognize(path: Path, images: Path | None = None, content: Content | None = None, name: str | None = None) -> str:
    """Return the name of a path's format, a key of `READERS`; see `Reader.find`.

    Args:
        path: file or folder that holds the labels.
        images: folder of the images; None for the place that the format defines.
        content: labels that are wanted: where several formats share a folder, one that gives them.
        name: the format, where it is known.

    Raises:
        InputError: the path does not exist, no known format fits, or two do.
    """
    if not is_file(path) and not is_folder(path):
        raise InputError(f"{path} does not exist; check the name.")
    if name is not None:
        if name not in READERS:
            raise InputError(f"unknown format {name!r}; choose from {', '.join(READERS)}.")
        return name
    found = [name for name, reader in READERS.items() if reader.recognize(path, images)]
    if not found and lacks_yaml(path):
        raise InputError(
            f"{path} has YOLO labels and no data.yaml; write {path / 'data.yaml'} with the lines `names: [NAME, ...]` and "
            "`train: images`."
        )
    if not found:
        looked_for = "; ".join(reader.looked_for for reader in READERS.values())
        raise InputError(f"{path} has no known data format; looked for {looked_for}. Name one of these.")
    fitting = [name for name in found if content is None or content in READERS[name].gives]
    if not fitting:
        others = "; ".join(reader.looked_for for reader in READERS.values() if content in reader.gives)
        kind = str(content).replace("_", " ")
        raise InputError(f"{path} is {READERS[found[0]].title}, which has no {kind}; name {others}.")
    several = [one for one in fitting if one in _OWN]
    if is_folder(path) and fitting[0] in _OWN and len(several) > 1:
        titles = " and ".join(READERS[one].title for one in several)
        raise InputError(f"{path} fits {titles}; choose one with --format {' or --format '.join(several)}.")
    return fitting[0]


def read(
    path: Path, images: Path | None = None, content: Content | None = None, name: str | None = None
) -> tuple[DataSet, ...]:
    """Return the splits of a data set of any format; arguments and errors as for `recognize` and `Reader.read`."""
    return READERS[recognize(path, images, content, name)].read(path, images)
