"""Records that every reader returns: images with their labels, and every defect found on the way.

Coordinates are pixels of the image, x to the right, y down. Boxes and outlines count from the outer edge of the first
pixel, as in COCO: a box that fills an image of w x h pixels is 0 0 w h. Keypoints count from the center of the first
pixel. Readers convert formats with other conventions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Integer, UInt8

from hrnet.io.geometry import Size

Severity = Literal["fatal", "warning", "note"]


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """A mask in COCO's run-length encoding: runs of 0 and 1 in turn, 0 first, column by column from the top left.

    Attributes:
        size: height and width.
        counts: lengths; they add up to height times width.
    """

    size: Size
    counts: Integer[np.ndarray, " r"]

    def mask(self) -> UInt8[np.ndarray, "h w"]:
        """Return the mask as pixels, 0 or 1."""
        values = (np.arange(len(self.counts)) % 2).astype(np.uint8)
        return np.repeat(values, self.counts).reshape(self.size[::-1]).T


@dataclass(frozen=True, slots=True, eq=False)
class Object:
    """One labeled object.

    Attributes:
        label: class, an index of `DataSet.classes`.
        place: place in the file, for messages: ``annotation 12``, ``line 3``.
        number: position among all objects of the file, in the file's order.
        box: x1 y1 x2 y2; None where the format has none.
        keypoints: `k 2` in the order of `DataSet.keypoints`; unlabeled ones are 0, 0.
        visibility: `k`: 0 not labeled, 1 hidden, 2 visible.
        polygons: outline, `p 2` each; several where an occluder divides the object.
        runs: mask, where the format gives one.
        area: area in pixels as the file states it; None where it does not.
        crowd: group of objects: not learned, and ignored in scores.
        difficult: VOC's mark of objects that need not be found.
        region: x1 y1 x2 y2 from pixel center to pixel center, the crop that MPII defines by a center and a scale in place
            of a box; it may reach beyond the image.
        head: length by which MPII normalizes errors; NaN where there is none.
    """

    label: int
    place: str
    number: int = 0
    box: Float[np.ndarray, " 4"] | None = None
    keypoints: Float[np.ndarray, "k 2"] | None = None
    visibility: Float[np.ndarray, " k"] | None = None
    polygons: tuple[Float[np.ndarray, "_ 2"], ...] = ()
    runs: Runs | None = None
    area: float | None = None
    crowd: bool = False
    difficult: bool = False
    region: Float[np.ndarray, " 4"] | None = None
    head: float = math.nan


@dataclass(frozen=True, slots=True, eq=False)
class ImageRecord:
    """An image that exists and can be read, with its labels.

    Attributes:
        path: image file.
        size: height and width as labeled: after the rotation of the orientation tag, or as stored.
        number: COCO's id of the image; the position in the set where the format has none.
        file: file that holds the labels; None for class folders.
        objects: labeled objects.
        label_map: file of the same size that stores a class per pixel.
        pixels: number of pixels of each value in the label map.
        label: class of the whole image.
    """

    path: Path
    size: Size
    number: int | str
    file: Path | None = None
    objects: tuple[Object, ...] = ()
    label_map: Path | None = None
    pixels: Mapping[int, int] = field(default_factory=dict, repr=False)
    label: int | None = None


@dataclass(frozen=True, slots=True)
class Defect:
    """A mistake in a data set, or a fact worth knowing.

    Attributes:
        kind: key of `defects.KINDS`.
        severity: ``fatal``: the entry was left out, or makes metrics wrong; ``warning``: it is used and may be a mistake;
            ``note``: good to know.
        text: description; with an empty place it continues a sentence that begins with the file's name.
        file: image or label file.
        place: place in the file.
        cure: how to fix it.
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
    """One split of a data set. All its images can be used; `defects` names what was left out or looks wrong.

    Attributes:
        format: name of the format, a key of `registry.READERS`.
        source: file or folder that lists the split.
        split: name of the split where a data set has several (train, val, test ...), else empty.
        images: images in the file's order, or sorted by name.
        classes: class names; a label is an index.
        keypoints: keypoint names in the order of the files.
        links: pairs of keypoints joined in drawings.
        pairs: a left and a right keypoint, or class of a label map, each; None where the format does not state them.
        oks_sigmas: OKS sigmas of the keypoints; empty where the format does not state them.
        category_ids: COCO's id of each class; empty where the format has none.
        label_table: label of each value of the label maps, from 0 on, 255 to ignore; empty: values are labels.
        named: whether the data set names its classes; otherwise their numbers stand for names.
        defects: defects in the order of discovery.
    """

    format: str
    source: Path
    split: str = ""
    images: tuple[ImageRecord, ...] = ()
    classes: tuple[str, ...] = ()
    keypoints: tuple[str, ...] = ()
    links: tuple[tuple[int, int], ...] = ()
    pairs: tuple[tuple[int, int], ...] | None = None
    oks_sigmas: tuple[float, ...] = ()
    category_ids: tuple[int, ...] = ()
    label_table: tuple[int, ...] = ()
    named: bool = True
    defects: tuple[Defect, ...] = field(default=(), repr=False)
