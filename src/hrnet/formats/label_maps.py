"""Images that hold a number for each pixel of another image: its class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8, UInt16

from hrnet.errors import InputError
from hrnet.io.geometry import Size
from hrnet.io.images import read_indices
from hrnet.results import IGNORE_INDEX

# In a table of labels: a number that has no meaning.
_STRANGE = 256


@dataclass(frozen=True, slots=True)
class LabeledImage:
    """An image, and the file that holds a number for each of its pixels.

    Attributes:
        path: of the image.
        labels_path: of the numbers.
        size: height and width of both.
        meaning: the label that each number stands for, from 0 on; 255 for nothing. A 255 that it does not reach stands for
            nothing too. Empty: numbers are labels.
    """

    path: Path
    labels_path: Path
    size: Size
    meaning: tuple[int, ...] = ()


def read_labels(one: LabeledImage) -> UInt8[np.ndarray, "h w"]:
    """The label of each pixel, 255 where it has none.

    Raises:
        InputError: the file cannot be read, has another size, or numbers without a meaning.
    """
    values = read_values(one.labels_path)
    size = (values.shape[0], values.shape[1])
    if size != one.size:
        raise InputError(misfit(one.path, one.labels_path, size, one.size))
    table = _table(one.meaning)
    # Every byte has a place in the table.
    inside = True if values.dtype == np.uint8 else (values >= 0) & (values < len(table))
    labels = table[values if inside is True else np.where(inside, values, 0)]
    meaningless = (labels == _STRANGE) | np.logical_not(inside)
    if meaningless.any():
        raise InputError(strange(one, int(values[meaningless][0]), int(meaningless.sum())))
    return labels.astype(np.uint8)


def read_values(path: Path) -> Int[np.ndarray, "h w"]:
    """The numbers that a label file stores, one a pixel; errors as of `read_indices` and `read_matlab`."""
    return read_matlab(path) if path.suffix.lower() == ".mat" else read_indices(path)


def read_matlab(path: Path) -> Int[np.ndarray, "h w"]:
    """The numbers of a MATLAB file as COCO-Stuff (`S`) and PASCAL-Context (`LabelMap`) come in.

    Raises:
        InputError: it cannot be read, or holds neither.
    """
    try:
        from scipy.io import loadmat
    except ImportError:
        raise InputError(
            f"{path} is a MATLAB file, which is read by scipy: `pip install scipy`, or save its numbers as PNG."
        ) from None
    try:
        content = loadmat(path, variable_names=["S", "LabelMap"])
    except Exception as error:  # its parser raises whatever damaged bytes lead to
        raise InputError(f"{path} is no MATLAB file that can be read ({error}); copy it again.") from None
    values = next((content[name] for name in ("S", "LabelMap") if name in content), None)
    if values is None or values.ndim != 2 or not values.size:
        raise InputError(f"{path} holds no label map called S or LabelMap; name the right file.")
    return values.astype(np.int64)


def misfit(path: Path, labels_path: Path, found: Size, expected: Size) -> str:
    return (
        f"{labels_path} has {found[1]} x {found[0]} pixels, its image {path.name} {expected[1]} x {expected[0]}; "
        "export it at the size of its image."
    )


def strange_values(values: Iterable[int], meaning: tuple[int, ...]) -> list[int]:
    """Those of the numbers that have no meaning; see `LabeledImage`."""
    table = _table(meaning)
    return [value for value in values if not 0 <= value < len(table) or table[value] == _STRANGE]


def strange(one: LabeledImage, value: int, count: int) -> str:
    return (
        f"{one.labels_path} has the value {value} in {count} pixels, expected 0 to "
        f"{len(one.meaning or range(IGNORE_INDEX)) - 1} "
        f"or {IGNORE_INDEX} to ignore; correct them, or name the class."
    )


@cache
def _table(meaning: tuple[int, ...]) -> UInt16[np.ndarray, " v"]:
    """The label of every number that may occur, or that it has none."""
    known = meaning or tuple(range(IGNORE_INDEX))
    table = np.full(max(len(known), 256), _STRANGE, np.uint16)
    table[IGNORE_INDEX] = IGNORE_INDEX
    table[: len(known)] = known
    return table
