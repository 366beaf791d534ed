"""Label maps: files that store a class number for each pixel of an image."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8, UInt16

from hrnet.errors import InputError
from hrnet.formats.checked import checked_size
from hrnet.formats.defects import Draft, EntryError, without_cure
from hrnet.formats.records import ImageRecord
from hrnet.io.geometry import Size
from hrnet.io.images import image_size, read_indices, stores_indices
from hrnet.results import IGNORE_INDEX

LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".mat")
# Entry of a label table for a value without a meaning.
_INVALID = 256


@dataclass(frozen=True, slots=True)
class LabeledImage:
    """An image and its label map.

    Attributes:
        path: image file.
        labels_path: label map file.
        size: height and width of both.
        meaning: label of each stored value, from 0 on; 255 is ignored, also where the table does not reach it. Empty:
            values are labels.
    """

    path: Path
    labels_path: Path
    size: Size
    meaning: tuple[int, ...] = ()


def read_labels(one: LabeledImage) -> UInt8[np.ndarray, "h w"]:
    """Return the label of each pixel, 255 where it has none.

    Raises:
        InputError: the file cannot be read, has another size, or has values without a meaning.
    """
    values = _read_values(one.labels_path)
    size = (values.shape[0], values.shape[1])
    if size != one.size:
        raise InputError(f"{one.labels_path} {_wrong_size(one.path, size, one.size)}; export it at that size.")
    table = _table(one.meaning)
    # Every byte has an entry in the table.
    inside = True if values.dtype == np.uint8 else (values >= 0) & (values < len(table))
    labels = table[values if inside is True else np.where(inside, values, 0)]
    invalid = (labels == _INVALID) | np.logical_not(inside)
    if invalid.any():
        text = _wrong_value(int(values[invalid][0]), int(invalid.sum()), one.meaning)
        raise InputError(f"{one.labels_path} {text}; correct them, or name the class.")
    return labels.astype(np.uint8)


def label_records(files: Sequence[tuple[Path, Path]], meaning: tuple[int, ...], draft: Draft) -> list[ImageRecord]:
    """Read all label maps once and return the images that can be used; the draft names the others.

    `files` are images with their label maps; for `meaning` see `LabeledImage`.
    """
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
        examined = list(pool.map(lambda pair: _examine(*pair), files))
    records: list[ImageRecord] = []
    table = _table(meaning)
    for (path, labels_path), found in zip(files, examined, strict=True):
        size = checked_size(path, None, draft)
        if size is None:
            continue
        with draft.entry(file=labels_path):
            if isinstance(found, EntryError):
                raise found
            label_size, pixels = found
            if label_size not in (size, image_size(path, upright=False)):
                raise EntryError("label-size", _wrong_size(path, label_size, size))
            invalid = [value for value in pixels if not 0 <= value < len(table) or table[value] == _INVALID]
            if invalid:
                raise EntryError("class-unknown", _wrong_value(invalid[0], pixels[invalid[0]], meaning))
            number = len(records)
            records.append(ImageRecord(path, label_size, number, labels_path, label_map=labels_path, pixels=pixels))
    return records


def _examine(path: Path, labels_path: Path) -> tuple[Size, Counter[int]] | EntryError:
    """Return the size of a label map and the pixels of each value, or why it cannot be used."""
    suffix = labels_path.suffix.lower()
    if suffix not in LOSSLESS:
        return EntryError("label-lossy", f"is a {suffix[1:]}, which does not keep the values that were saved")
    try:
        if suffix != ".mat" and not stores_indices(labels_path):
            return EntryError("label-colors", "stores colors, not a class number per pixel")
        values = _read_values(labels_path)
    except InputError as error:
        return EntryError("label-unreadable", without_cure(error, labels_path))
    return (values.shape[0], values.shape[1]), _count_values(values)


def _read_values(path: Path) -> Integer[np.ndarray, "h w"]:
    return _read_matlab(path) if path.suffix.lower() == ".mat" else read_indices(path)


def _read_matlab(path: Path) -> Integer[np.ndarray, "h w"]:
    """Return the values of a MATLAB file as in COCO-Stuff (`S`) and PASCAL-Context (`LabelMap`).

    Raises:
        InputError: it cannot be read, or holds neither.
    """
    try:
        from scipy.io import loadmat
    except ImportError:
        raise InputError(f"{path} is a MATLAB file; `pip install scipy` to read it, or save it as PNG.") from None
    try:
        content = loadmat(path, variable_names=["S", "LabelMap"])
    except Exception as error:  # its parser raises anything on damaged bytes
        raise InputError(f"{path} is no MATLAB file that can be read ({error}); copy it again.") from None
    values = next((content[name] for name in ("S", "LabelMap") if name in content), None)
    if values is None or values.ndim != 2 or not values.size:
        raise InputError(f"{path} holds no label map called S or LabelMap; name the right file.")
    return values.astype(np.int64)


def _count_values(values: Integer[np.ndarray, "h w"]) -> Counter[int]:
    """Return the number of pixels of each value."""
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel())
        return Counter({int(value): int(counts[value]) for value in np.flatnonzero(counts)})
    found, numbers = np.unique(values, return_counts=True)
    return Counter(dict(zip(found.tolist(), numbers.tolist(), strict=True)))


def count_labels(pixels: Iterable[tuple[int, int]], meaning: tuple[int, ...]) -> Counter[int]:
    """Return the number of pixels of each label from that of each valid value, ignored pixels left out."""
    table, counts = _table(meaning), Counter[int]()
    for value, count in pixels:
        counts[int(table[value])] += count
    counts.pop(IGNORE_INDEX, None)
    return counts


def _wrong_size(path: Path, found: Size, expected: Size) -> str:
    return f"has {found[1]} x {found[0]} pixels, its image {path.name} {expected[1]} x {expected[0]}"


def _wrong_value(value: int, count: int, meaning: tuple[int, ...]) -> str:
    last = len(meaning or range(IGNORE_INDEX)) - 1
    return f"has the value {value} in {count} pixels, expected 0 to {last} or {IGNORE_INDEX} to ignore"


@cache
def _table(meaning: tuple[int, ...]) -> UInt16[np.ndarray, " v"]:
    """Return the label of every value that may occur, or `_INVALID`."""
    known = meaning or tuple(range(IGNORE_INDEX))
    table = np.full(max(len(known), 256), _INVALID, np.uint16)
    table[IGNORE_INDEX] = IGNORE_INDEX
    table[: len(known)] = known
    return table
