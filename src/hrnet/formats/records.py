"""What every reader gives: images with what is labeled in them, and every defect that was met on the way.

Coordinates are pixels of the image, x to the right, y down. Boxes and outlines count from the outer edge of the first
pixel, as COCO's do: a box that fills an image of w x h pixels is 0 0 w h. Keypoints count from the center of the first
pixel, as the published training takes COCO's. A format that counts otherwise is converted by its reader.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt8

from hrnet.io.geometry import Size

Format = Literal["coco", "voc", "yolo", "masks", "folders", "deeplabcut"]
Severity = Literal["fatal", "warning", "note"]


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """A mask as run lengths: of 0 and of 1 in turn, 0 first, column after column from the top left.

    Attributes:
        size: height and width.
        counts: the lengths; they add up to height times width.
    """

    size: Size
    counts: Int[np.ndarray, " r"]

    def mask(self) -> UInt8[np.ndarray, "h w"]:
        """The mask as pixels, 0 or 1."""
        values = (np.arange(len(self.counts)) % 2).astype(np.uint8)
        return np.repeat(values, self.counts).reshape(self.size[::-1]).T


@dataclass(frozen=True, slots=True, eq=False)
class Object:
    """One labeled thing.

    Attributes:
        label: its class, a position in `DataSet.classes`.
        place: where the file has it, in words: ``annotation 12``, ``line 3``.
        number: position among all objects of the file, in the file's order.
        box: x1 y1 x2 y2; None where the format has none.
        keypoints: `k 2` in the order of `DataSet.keypoints`; what is not labeled is 0, 0.
        visibility: `k`: 0 not labeled, 1 hidden, 2 visible.
        polygons: `p 2` each, the outline; several where something in front divides it.
        runs: the mask, where it is given so.
        area: as the file states it, in pixels; None where it does not.
        crowd: a whole group: nothing to learn from, and neither right nor wrong to find.
        difficult: VOC's mark for what need not be found.
    """

    label: int
    place: str
    number: int = 0
    box: Float[np.ndarray, 4] | None = None
    keypoints: Float[np.ndarray, "k 2"] | None = None
    visibility: Float[np.ndarray, " k"] | None = None
    polygons: tuple[Float[np.ndarray, "p 2"], ...] = ()
    runs: Runs | None = None
    area: float | None = None
    crowd: bool = False
    difficult: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ImageRecord:
    """An image that is there and can be opened, with its labels.

    Attributes:
        path: of the image.
        size: height and width, as it was labeled: turned as its orientation tag says, or as it is stored.
        number: COCO's number or name of the image; the position in the set where the format has none.
        file: that holds the labels; None for class folders.
        objects: labeled things.
        label_map: an image of the same size that holds a class for each pixel.
        label: the class of the whole image.
    """

    path: Path
    size: Size
    number: int | str
    file: Path | None = None
    objects: tuple[Object, ...] = ()
    label_map: Path | None = None
    label: int | None = None


@dataclass(frozen=True, slots=True)
class Defect:
    """Something wrong, or worth a look.

    Attributes:
        kind: a key of `defects.KINDS`.
        severity: fatal: it was left out, or makes figures wrong; warning: it is used as it is, and may be a mistake;
            note: good to know.
        text: what exactly; with an empty place it goes on from the file's name.
        file: where; the image's path or that of its labels.
        place: where in the file.
        cure: what to do.
    """

    kind: str
    severity: Severity
    text: str
    file: Path
    place: str
    cure: str

    def __str__(self) -> str:
        return f"{self.file}: {self.place}: {self.text}." if self.place else f"{self.file} {self.text}."


@dataclass(frozen=True, slots=True)
class DataSet:
    """One part of a data set. All in it can be used; `defects` names what was left out, and what looks wrong.

    Attributes:
        format: of the files.
        source: the file or folder that lists it.
        part: its name where a data set has several: train, val, test ...; else empty.
        images: in the file's order, or sorted by name.
        classes: their names. A label is a position here.
        keypoints: their names, in the order of the files.
        links: pairs of keypoints that a drawing joins.
        pairs: a left keypoint and its right partner each, where the format states them; else None.
        oks_sigmas: where the format states them; else empty.
        category_ids: COCO's number of each class; empty where the format has none.
        defects: in the order in which they were met.
    """

    format: Format
    source: Path
    part: str = ""
    images: tuple[ImageRecord, ...] = ()
    classes: tuple[str, ...] = ()
    keypoints: tuple[str, ...] = ()
    links: tuple[tuple[int, int], ...] = ()
    pairs: tuple[tuple[int, int], ...] | None = None
    oks_sigmas: tuple[float, ...] = ()
    category_ids: tuple[int, ...] = ()
    defects: tuple[Defect, ...] = field(default=(), repr=False)
