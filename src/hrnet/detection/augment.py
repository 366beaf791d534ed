"""Random augmentation of training samples: scale, crop, horizontal flip, color, mosaic, copy-paste.

Boxes count from the outer edge of the first pixel. Nothing is rotated, so that a box stays a box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, UInt8

from hrnet.detection.masks import CROP_CELLS, crop_mask
from hrnet.detection.processor import boxes_to_input, boxes_to_source, image_frame
from hrnet.detection.semantic import STRIDE
from hrnet.detection.spec import DetectionSpec
from hrnet.engine.photometric import recolor
from hrnet.formats.label_maps import LabeledImage, read_labels
from hrnet.formats.records import ImageRecord, Object
from hrnet.inference.processor import MEAN_COLOR
from hrnet.io.geometry import Frame, Image, Size, clip_boxes, warp, warp_labels
from hrnet.io.images import read_labeled
from hrnet.results import IGNORE_INDEX

# Objects with a side below this, in pixels of the input, are ignored.
_MIN_SIDE = 1.0
# Ranges of a mosaic: the point where its four images meet, as a fraction of the canvas, and their scale besides
# `Augment.scale`. Half the size fills a quarter of the canvas; larger images are cropped.
_MOSAIC_CENTER = (0.3, 0.7)
_MOSAIC_SCALE = (0.4, 1.0)
# Source: arXiv 2012.07177, Simple Copy-Paste: probability of each object of the other image.
_PASTE_PROBABILITY = 0.5


@dataclass(frozen=True, slots=True)
class Augment:
    """Random augmentation of training samples; the defaults are those of the published training.

    Source of the defaults and of `sizes`: the released training code; of mosaics arXiv 2004.10934, of copy-paste 2012.07177.

    Attributes:
        sizes: input sizes, one of which is chosen in place of the model's `input_size`; empty for that.
        sizes_between: True to draw both numbers of a size between those of the first and the last of `sizes`.
        flip: probability of a horizontal flip.
        scale: minimum and maximum of an additional factor, log-uniform. The input keeps its size: larger images are cropped,
            smaller ones lie anywhere in it. 1 1 changes nothing.
        keep: minimum visible fraction of a cropped or occluded object; objects below it are ignored.
        color: maximum deviation of the brightness, contrast and saturation factors from 1.
        mosaic: probability of a sample of four images.
        paste: probability of pasting objects of another image; only objects with masks are pasted.
        antialias: see `geometry.warp`; applies to validation images too.
    """

    sizes: tuple[Size, ...] = ()
    sizes_between: bool = False
    flip: float = 0.5
    scale: tuple[float, float] = (1.0, 1.0)
    keep: float = 0.3
    color: float = 0.0
    mosaic: float = 0.0
    paste: float = 0.0
    antialias: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be a minimum above 0 and a maximum, not {self.scale}.")
        if not all(0 <= value <= 1 for value in (self.flip, self.keep, self.mosaic, self.paste)):
            raise ValueError(f"flip, keep, mosaic and paste must lie from 0 to 1: {self}.")
        if any(min(size) < 32 for size in self.sizes):
            raise ValueError(f"sizes must be at least 32 x 32, not {self.sizes}.")


@dataclass(frozen=True, slots=True, eq=False)
class VisibleObject:
    """A labeled object in an input.

    Attributes:
        annotation: the labeled object, with a box.
        frame: frame of the object's image.
        box: visible part of the box, of nonzero area, pixels of the input.
        ignored: True for objects that are neither positive nor background.
        mask: visible mask of an occluded object, as large as the input, 0 or 1; None for objects that are not occluded.
    """

    annotation: Object
    frame: Frame
    box: Float[np.ndarray, 4]
    ignored: bool
    mask: UInt8[np.ndarray, "h w"] | None = None

    @property
    def has_mask(self) -> bool:
        """True if the object is labeled with a mask, not only a box."""
        return bool(self.annotation.polygons) or self.annotation.runs is not None

    def mask_crop(self, cells: int = CROP_CELLS) -> UInt8[np.ndarray, "c c"]:
        """Return the visible mask as a crop of `box`; ones for objects without a mask."""
        if self.mask is not None:
            return crop_mask(self.mask, self.box, cells)
        if not self.has_mask:
            return np.ones((cells, cells), np.uint8)
        region = clip_boxes(boxes_to_source(self.box[None], self.frame), self.frame.source_size)[0]
        outline = self.annotation.polygons or self.annotation.runs
        assert outline is not None
        return crop_mask(outline, region, cells, flip=bool(self.frame.matrix[0, 0] < 0))

    def pixels(self, size: Size) -> Bool[np.ndarray, "h w"]:
        """Return the visible mask in pixels of the input."""
        (x1, y1), (x2, y2) = self.box[:2], self.box[2:]
        cells = max(math.ceil(max(x2 - x1, y2 - y1)), 1)
        rows = ((np.arange(size[0]) + 0.5 - y1) / (y2 - y1) * cells).astype(int)
        columns = ((np.arange(size[1]) + 0.5 - x1) / (x2 - x1) * cells).astype(int)
        inside_y = (np.arange(size[0]) + 0.5 >= y1) & (rows < cells)
        inside_x = (np.arange(size[1]) + 0.5 >= x1) & (columns < cells)
        mask = np.zeros(size, bool)
        mask[np.ix_(inside_y, inside_x)] = self.mask_crop(cells)[np.ix_(rows[inside_y], columns[inside_x])]
        return mask


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """An input with its visible objects and its semantic label map, 255 ignored; the frame of a mosaic is that of its
    first image."""

    image: Image
    frame: Frame
    objects: tuple[VisibleObject, ...]
    stuff: UInt8[np.ndarray, "h w"] | None = None

    @property
    def stuff_or_ignored(self) -> UInt8[np.ndarray, "h w"]:
        """The semantic label map, all 255 for images without one."""
        return np.full(self.image.shape[:2], IGNORE_INDEX, np.uint8) if self.stuff is None else self.stuff


def augmented(
    images: Sequence[ImageRecord], index: int, spec: DetectionSpec, augment: Augment, rng: np.random.Generator
) -> View:
    """Return an augmented training sample of an image; mosaics and pasted objects come from the other images."""
    sized = _draw_size(spec, augment, rng)
    plain = image_frame(images[index].size, sized)
    if rng.random() < augment.mosaic:
        view = _mosaic(images, index, sized, augment, rng)
    else:
        view = _view(images[index], random_frame(plain, augment, rng), spec, augment, rng)
    if rng.random() < augment.paste:
        other = images[int(rng.integers(len(images)))]
        frame = random_frame(image_frame(other.size, sized), augment, rng, canvas=plain.size)
        view = paste_objects(view, _view(other, frame, spec, augment, rng), augment.keep, rng)
    return view


def random_frame(plain: Frame, augment: Augment, rng: np.random.Generator, canvas: Size | None = None) -> Frame:
    """Return the random frame of a training sample, from that without augmentation; `canvas` is the size of the input."""
    canvas = canvas or plain.size
    moved = replace(plain, size=canvas)
    if augment.scale != (1.0, 1.0):
        moved = _scale_and_place(plain, canvas, augment.scale, rng)
    return _flip(moved) if rng.random() < augment.flip else moved


def _draw_size(spec: DetectionSpec, augment: Augment, rng: np.random.Generator) -> DetectionSpec:
    sizes = augment.sizes
    if not sizes:
        return spec
    if augment.sizes_between:
        ends = zip(sizes[0], sizes[-1], strict=True)
        first, second = (int(rng.integers(min(pair), max(pair) + 1)) for pair in ends)
        return replace(spec, input_size=(first, second))
    return replace(spec, input_size=sizes[int(rng.integers(len(sizes)))])


def _scale_and_place(plain: Frame, canvas: Size, scale: tuple[float, float], rng: np.random.Generator) -> Frame:
    """Return the frame of the scaled image at a random position of the canvas: cropped, or padded."""
    factor = math.exp(rng.uniform(math.log(scale[0]), math.log(scale[1])))
    scales = np.diag(plain.matrix[:, :2]) * factor
    slack = np.array(canvas[::-1]) - scales * plain.source_size[::-1]
    corner = rng.uniform(np.minimum(slack, 0), np.maximum(slack, 0))
    # Puts the outer edge of the image's first pixel on the corner.
    return Frame(np.column_stack([np.diag(scales), corner + (scales - 1) / 2]), canvas, plain.source_size)


def _flip(frame: Frame) -> Frame:
    """Return the frame that shows the image flipped in its place."""
    width = frame.source_size[1]
    matrix = frame.matrix.copy()
    matrix[:, 2] += matrix[:, 0] * (width - 1)
    matrix[:, 0] *= -1
    return replace(frame, matrix=matrix)


def _view(record: ImageRecord, frame: Frame, spec: DetectionSpec, augment: Augment, rng: np.random.Generator) -> View:
    """Return the view of an image through a frame."""
    image = warp(read_labeled(record.path, record.size), frame, antialias=augment.antialias, fill=MEAN_COLOR)
    image = recolor(image, augment.color, rng, frame, MEAN_COLOR)
    height, width = frame.size
    objects = _visible(record.objects, frame, np.array([0, 0, width, height], float), augment.keep)
    if record.label_map is None:
        return View(image, frame, objects)
    meaning = tuple(range(spec.semantic_classes))
    labels = read_labels(LabeledImage(record.path, record.label_map, record.size, meaning))
    return View(image, frame, objects, warp_labels(labels, frame, IGNORE_INDEX))


def _visible(
    objects: Sequence[Object], frame: Frame, region: Float[np.ndarray, 4], keep: float
) -> tuple[VisibleObject, ...]:
    """Return the objects that are visible in a region of the input."""
    if not objects:
        return ()
    whole = boxes_to_input(np.array([one.box for one in objects], float), frame)
    cut = np.clip(whole, np.tile(region[:2], 2), np.tile(region[2:], 2))
    sides = cut[:, 2:] - cut[:, :2]
    fractions = sides.prod(1) / (whole[:, 2:] - whole[:, :2]).prod(1)
    # Tolerates rounding.
    ignored = (fractions < keep - 1e-6) | (sides.min(1) < _MIN_SIDE)
    return tuple(
        VisibleObject(one, frame, box, bool(ignore) or one.crowd or one.difficult)
        for one, box, ignore, visible in zip(objects, cut, ignored, sides.min(1) > 0, strict=True)
        if visible
    )


def _mosaic(
    images: Sequence[ImageRecord], index: int, spec: DetectionSpec, augment: Augment, rng: np.random.Generator
) -> View:
    """Return a mosaic: four images around a point of one canvas, each cropped to its part."""
    height, width = image_frame(images[index].size, spec).size
    canvas = np.empty((height, width, 3), np.uint8)
    stuff = np.empty((height, width), np.uint8)
    x, y = (round(float(rng.uniform(*_MOSAIC_CENTER)) * side) for side in (width, height))
    chosen = [index, *rng.integers(len(images), size=3).tolist()]
    scale = (augment.scale[0] * _MOSAIC_SCALE[0], augment.scale[1] * _MOSAIC_SCALE[1])
    parts = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
    views: list[View] = []
    for number, (x1, y1, x2, y2) in zip(chosen, parts, strict=True):
        plain = image_frame(images[number].size, spec)
        small = random_frame(plain, replace(augment, scale=scale), rng, canvas=(y2 - y1, x2 - x1))
        view = _view(images[number], small, spec, augment, rng)
        canvas[y1:y2, x1:x2] = view.image
        stuff[y1:y2, x1:x2] = view.stuff_or_ignored
        shift = np.array([x1, y1], float)
        frame = Frame(small.matrix + np.column_stack([np.zeros((2, 2)), shift]), (height, width), small.source_size)
        objects = tuple(replace(one, frame=frame, box=one.box + np.tile(shift, 2)) for one in view.objects)
        views.append(View(view.image, frame, objects, view.stuff))
    known = any(view.stuff is not None for view in views)
    return View(canvas, views[0].frame, tuple(one for view in views for one in view.objects), stuff if known else None)


def paste_objects(view: View, other: View, keep: float, rng: np.random.Generator) -> View:
    """Paste objects of another view into a view of the same size, and update the masks and boxes of occluded objects."""
    chosen = [one for one in other.objects if one.has_mask and not one.ignored and rng.random() < _PASTE_PROBABILITY]
    size = (view.image.shape[0], view.image.shape[1])
    front = np.zeros(size, bool)
    for one in chosen:
        front |= one.pixels(size)
    behind = [_occlude(one, front, keep) for one in view.objects]
    image = np.where(front[..., None], other.image, view.image)
    known = view.stuff is not None or other.stuff is not None
    stuff = np.where(front, other.stuff_or_ignored, view.stuff_or_ignored) if known else None
    return View(image, view.frame, (*(one for one in behind if one is not None), *chosen), stuff)


def _occlude(one: VisibleObject, front: Bool[np.ndarray, "h w"], keep: float) -> VisibleObject | None:
    """Return an object behind a mask; None if it is fully occluded."""
    (x1, y1), (x2, y2) = np.floor(one.box[:2]).astype(int), np.ceil(one.box[2:]).astype(int)
    if one.ignored or not front[y1:y2, x1:x2].any():
        return one
    mask = one.pixels((front.shape[0], front.shape[1]))
    left = mask & ~front
    if not left.any():
        return None
    before, after = _bounds(mask), _bounds(left)
    # Sides that are not occluded stay as labeled.
    box = np.where(before == after, one.box, after)
    return replace(one, box=box, ignored=bool(left.sum() < keep * mask.sum()), mask=left.astype(np.uint8))


def _bounds(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, 4]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def targets_of(view: View, spec: DetectionSpec, stuff: bool = False) -> dict[str, np.ndarray]:
    """Return the training targets of a view with k objects.

    Returns:
        `count`; `boxes` (`k 4`) in pixels of the input; `labels` (`k`); `crowd` (`k`): True for ignored objects; for models
        with masks `masks` (`k c c`): mask crops of the boxes; with `stuff` also `stuff` (`h w`, bytes): class + 1 at the
        center of each cell of the semantic branch, 0 ignored.
    """
    masks = spec.has_masks
    # A model with masks would learn empty masks from objects without one.
    ignored = [one.ignored or (masks and not one.has_mask) for one in view.objects]
    targets: dict[str, np.ndarray] = {
        "count": np.array(len(view.objects)),
        "boxes": np.array([one.box for one in view.objects], np.float32).reshape(-1, 4),
        "labels": np.array([one.annotation.label for one in view.objects], np.int64),
        "crowd": np.array(ignored, bool),
    }
    if masks:
        crops = np.zeros((len(view.objects), CROP_CELLS, CROP_CELLS), np.uint8)
        for crop, one, ignore in zip(crops, view.objects, ignored, strict=True):
            if not ignore:
                crop[:] = one.mask_crop()
        targets["masks"] = crops
    if stuff:
        # Bytes: 255 becomes 0.
        targets["stuff"] = view.stuff_or_ignored[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] + np.uint8(1)
    return targets
