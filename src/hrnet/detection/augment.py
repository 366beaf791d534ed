"""What is changed at random in a detector's training samples: scale, place, mirror image, color, mosaics, pasted objects.

Boxes count from the outer edge of the first pixel. Nothing is ever turned, so that a box stays a box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, UInt8

from hrnet.detection.mask_crops import CROP_CELLS, crop_mask
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

# Pixels of the input: from an object with a shorter side nothing can be learned.
_SHORTEST_SIDE = 1.0
# Of a mosaic: where its four images meet, as a share of the canvas, and their size besides `Augment.scale`. Half would fill
# a quarter; up to the whole size a part of them is seen.
_CROSSING = (0.3, 0.7)
_MOSAIC_SCALE = (0.4, 1.0)
# Source: arXiv 2012.07177, Simple Copy-Paste: a random half of the other image's objects.
_PASTED = 0.5


@dataclass(frozen=True, slots=True)
class Augment:
    """What is changed at random in a training sample. The defaults are those of the published training.

    Source of the defaults and of what `sizes` is for: the released training code. Mosaics are arXiv 2004.10934,
    pasted objects 2012.07177.

    Attributes:
        sizes: of which one is drawn in place of the model's `input_size`; none keeps that.
        sizes_between: each of the two numbers of a size is drawn anywhere between those of the first and the last of `sizes`.
        flip: how often a sample is mirrored.
        scale: the smallest and largest factor besides; logarithms are drawn evenly. The size of the input stays: what becomes
            larger is cropped, what becomes smaller lies anywhere in it. 1 1 changes nothing.
        keep: of an object that the crop cuts, or that something is pasted over, this share has to be left; one of which less
            is left counts for nothing.
        color: deviation of brightness, contrast and saturation from 1.
        mosaic: how often a sample is made of four images.
        paste: how often objects of another image are put into it. Only objects with masks are.
        antialias: see `geometry.warp`; also of the images that are scored.
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
            raise ValueError(f"scale goes from a number above 0 up, not {self.scale}.")
        if not all(0 <= share <= 1 for share in (self.flip, self.keep, self.mosaic, self.paste)):
            raise ValueError(f"flip, keep, mosaic and paste are shares from 0 to 1: {self}.")
        if any(min(size) < 32 for size in self.sizes):
            raise ValueError(f"sizes are at least 32 x 32: {self.sizes}.")


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A labeled object in an input.

    Attributes:
        thing: as it is labeled; it has a box.
        frame: that shows it.
        box: what is seen of its box, pixels of the input; it has an area.
        ignored: it counts for nothing, neither right nor wrong.
        mask: what is left of it where something was put over it, as large as the input, 0 or 1; None for all of it.
    """

    thing: Object
    frame: Frame
    box: Float[np.ndarray, 4]
    ignored: bool
    mask: UInt8[np.ndarray, "h w"] | None = None

    @property
    def outlined(self) -> bool:
        """Whether its pixels are known, not only its box."""
        return bool(self.thing.polygons) or self.thing.runs is not None

    def chip(self, cells: int = CROP_CELLS) -> UInt8[np.ndarray, "c c"]:
        """What is seen of the mask, in cells that divide `box`; all of the box where only that is known."""
        if self.mask is not None:
            return crop_mask(self.mask, self.box, cells)
        if not self.outlined:
            return np.ones((cells, cells), np.uint8)
        region = clip_boxes(boxes_to_source(self.box[None], self.frame), self.frame.source_size)[0]
        outline = self.thing.polygons or self.thing.runs
        assert outline is not None
        return crop_mask(outline, region, cells, flip=_is_mirrored(self.frame))

    def pixels(self, size: Size) -> Bool[np.ndarray, "h w"]:
        """What is seen of the mask, as pixels of the input."""
        (x1, y1), (x2, y2) = self.box[:2], self.box[2:]
        cells = max(math.ceil(max(x2 - x1, y2 - y1)), 1)
        rows = ((np.arange(size[0]) + 0.5 - y1) / (y2 - y1) * cells).astype(int)
        columns = ((np.arange(size[1]) + 0.5 - x1) / (x2 - x1) * cells).astype(int)
        inside_y = (np.arange(size[0]) + 0.5 >= y1) & (rows < cells)
        inside_x = (np.arange(size[1]) + 0.5 >= x1) & (columns < cells)
        mask = np.zeros(size, bool)
        mask[np.ix_(inside_y, inside_x)] = self.chip(cells)[np.ix_(rows[inside_y], columns[inside_x])]
        return mask


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """An input and what is labeled in it; of a mosaic the frame is that of its first image.

    Attributes:
        image: of the input.
        frame: that shows it.
        objects: that are seen.
        stuff: the class of each pixel, 255 where nothing is known; None where the image has no map of them.
    """

    image: Image
    frame: Frame
    objects: tuple[Seen, ...]
    stuff: UInt8[np.ndarray, "h w"] | None = None

    @property
    def known_stuff(self) -> UInt8[np.ndarray, "h w"]:
        """The class of each pixel, all 255 without a map."""
        return np.full(self.image.shape[:2], IGNORE_INDEX, np.uint8) if self.stuff is None else self.stuff


def augmented(
    images: Sequence[ImageRecord], index: int, spec: DetectionSpec, augment: Augment, rng: np.random.Generator
) -> View:
    """A training sample of one image, with others in it where `augment` says so.

    Args:
        images: of the set, from which others are taken.
        index: of the image.
        spec: of the model.
        augment: what is changed.
        rng: what draws.
    """
    drawn = _draw_size(spec, augment, rng)
    plain = image_frame(images[index].size, drawn)
    if rng.random() < augment.mosaic:
        view = _mosaic(images, index, drawn, augment, rng)
    else:
        view = _look(images[index], random_frame(plain, augment, rng), spec, augment, rng)
    if rng.random() < augment.paste:
        other = images[int(rng.integers(len(images)))]
        frame = random_frame(image_frame(other.size, drawn), augment, rng, canvas=plain.size)
        view = paste_objects(view, _look(other, frame, spec, augment, rng), augment.keep, rng)
    return view


def random_frame(plain: Frame, augment: Augment, rng: np.random.Generator, canvas: Size | None = None) -> Frame:
    """Where a training sample lies in its image.

    Args:
        plain: where it would lie without augmentation.
        augment: what is changed.
        rng: what draws.
        canvas: size of the input; None for that of `plain`.
    """
    canvas = canvas or plain.size
    moved = replace(plain, size=canvas) if augment.scale == (1.0, 1.0) else _placed(plain, canvas, augment.scale, rng)
    return _mirrored(moved) if rng.random() < augment.flip else moved


def _draw_size(spec: DetectionSpec, augment: Augment, rng: np.random.Generator) -> DetectionSpec:
    sizes = augment.sizes
    if not sizes:
        return spec
    if augment.sizes_between:
        ends = zip(sizes[0], sizes[-1], strict=True)
        first, second = (int(rng.integers(min(pair), max(pair) + 1)) for pair in ends)
        return replace(spec, input_size=(first, second))
    return replace(spec, input_size=sizes[int(rng.integers(len(sizes)))])


def _placed(plain: Frame, canvas: Size, scale: tuple[float, float], rng: np.random.Generator) -> Frame:
    """The image larger or smaller, somewhere in a canvas: a crop of it, or all of it with something around."""
    factor = math.exp(rng.uniform(math.log(scale[0]), math.log(scale[1])))
    scales = np.diag(plain.matrix[:, :2]) * factor
    room = np.array(canvas[::-1]) - scales * plain.source_size[::-1]
    corner = rng.uniform(np.minimum(room, 0), np.maximum(room, 0))
    # The outer edge of the image's first pixel comes to the corner.
    return Frame(np.column_stack([np.diag(scales), corner + (scales - 1) / 2]), canvas, plain.source_size)


def _mirrored(frame: Frame) -> Frame:
    """The mirrored image where the image was."""
    width = frame.source_size[1]
    matrix = frame.matrix.copy()
    matrix[:, 2] += matrix[:, 0] * (width - 1)
    matrix[:, 0] *= -1
    return replace(frame, matrix=matrix)


def _is_mirrored(frame: Frame) -> bool:
    return bool(frame.matrix[0, 0] < 0)


def _look(record: ImageRecord, frame: Frame, spec: DetectionSpec, augment: Augment, rng: np.random.Generator) -> View:
    """What a frame shows of an image."""
    image = warp(read_labeled(record.path, record.size), frame, antialias=augment.antialias, fill=MEAN_COLOR)
    if augment.color:
        image = recolor(image, augment.color, rng)
        _fill_outside(image, frame)
    height, width = frame.size
    seen = _seen(record.objects, frame, np.array([0, 0, width, height], float), augment.keep)
    if record.label_map is None:
        return View(image, frame, seen)
    meaning = tuple(range(spec.semantic_classes))
    labels = read_labels(LabeledImage(record.path, record.label_map, record.size, meaning))
    return View(image, frame, seen, warp_labels(labels, frame, IGNORE_INDEX))


def _fill_outside(image: Image, frame: Frame) -> None:
    """Where the input shows nothing of its image it has the mean color, whatever became of the others."""
    whole = np.array([[0, 0, *frame.source_size[::-1]]], float)
    box = clip_boxes(boxes_to_input(whole, frame), frame.size)[0]
    x1, y1 = np.floor(box[:2] + 1e-6).astype(int)
    x2, y2 = np.ceil(box[2:] - 1e-6).astype(int)
    for part in (image[:y1], image[y2:], image[:, :x1], image[:, x2:]):
        part[:] = MEAN_COLOR


def _seen(objects: Sequence[Object], frame: Frame, region: Float[np.ndarray, 4], keep: float) -> tuple[Seen, ...]:
    """Those of an image's objects of which a region of the input shows something."""
    if not objects:
        return ()
    whole = boxes_to_input(np.array([one.box for one in objects], float), frame)
    cut = np.clip(whole, np.tile(region[:2], 2), np.tile(region[2:], 2))
    sides = cut[:, 2:] - cut[:, :2]
    shares = sides.prod(1) / (whole[:, 2:] - whole[:, :2]).prod(1)
    # Some rounding is no cut.
    ignored = (shares < keep - 1e-6) | (sides.min(1) < _SHORTEST_SIDE)
    return tuple(
        Seen(one, frame, box, bool(nothing) or one.crowd or one.difficult)
        for one, box, nothing, left in zip(objects, cut, ignored, sides.min(1) > 0, strict=True)
        if left
    )


def _mosaic(
    images: Sequence[ImageRecord], index: int, spec: DetectionSpec, augment: Augment, rng: np.random.Generator
) -> View:
    """Four images around a point of one canvas, each cut at the edges of its part."""
    height, width = image_frame(images[index].size, spec).size
    canvas = np.empty((height, width, 3), np.uint8)
    stuff = np.empty((height, width), np.uint8)
    across, down = (round(float(rng.uniform(*_CROSSING)) * side) for side in (width, height))
    chosen = [index, *rng.integers(len(images), size=3).tolist()]
    scale = (augment.scale[0] * _MOSAIC_SCALE[0], augment.scale[1] * _MOSAIC_SCALE[1])
    parts = [(0, 0, across, down), (across, 0, width, down), (0, down, across, height), (across, down, width, height)]
    views: list[View] = []
    for number, (x1, y1, x2, y2) in zip(chosen, parts, strict=True):
        plain = image_frame(images[number].size, spec)
        small = random_frame(plain, replace(augment, scale=scale), rng, canvas=(y2 - y1, x2 - x1))
        view = _look(images[number], small, spec, augment, rng)
        canvas[y1:y2, x1:x2] = view.image
        stuff[y1:y2, x1:x2] = view.known_stuff
        shift = np.array([x1, y1], float)
        frame = Frame(small.matrix + np.column_stack([np.zeros((2, 2)), shift]), (height, width), small.source_size)
        objects = tuple(replace(one, frame=frame, box=one.box + np.tile(shift, 2)) for one in view.objects)
        views.append(View(view.image, frame, objects, view.stuff))
    known = any(view.stuff is not None for view in views)
    return View(canvas, views[0].frame, tuple(one for view in views for one in view.objects), stuff if known else None)


def paste_objects(view: View, other: View, keep: float, rng: np.random.Generator) -> View:
    """A view with some objects of another one of the same size in front; what they hide is cut from masks and boxes.

    Args:
        view: what is behind.
        other: whose objects with known pixels come to the front, each with a probability of a half.
        keep: see `Augment.keep`.
        rng: what draws.
    """
    chosen = [one for one in other.objects if one.outlined and not one.ignored and rng.random() < _PASTED]
    size = (view.image.shape[0], view.image.shape[1])
    front = np.zeros(size, bool)
    for one in chosen:
        front |= one.pixels(size)
    behind = [_hidden(one, front, keep) for one in view.objects]
    image = np.where(front[..., None], other.image, view.image)
    known = view.stuff is not None or other.stuff is not None
    stuff = np.where(front, other.known_stuff, view.known_stuff) if known else None
    return View(image, view.frame, (*(one for one in behind if one is not None), *chosen), stuff)


def _hidden(one: Seen, front: Bool[np.ndarray, "h w"], keep: float) -> Seen | None:
    """An object behind something; None where nothing of it is seen any more."""
    (x1, y1), (x2, y2) = np.floor(one.box[:2]).astype(int), np.ceil(one.box[2:]).astype(int)
    if one.ignored or not front[y1:y2, x1:x2].any():
        return one
    mask = one.pixels((front.shape[0], front.shape[1]))
    left = mask & ~front
    if not left.any():
        return None
    before, after = _bounds(mask), _bounds(left)
    # Where nothing was cut off, the box stays as it was labeled.
    box = np.where(before == after, one.box, after)
    return replace(one, box=box, ignored=bool(left.sum() < keep * mask.sum()), mask=left.astype(np.uint8))


def _bounds(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, 4]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def targets_of(view: View, spec: DetectionSpec, stuff: bool = False) -> dict[str, np.ndarray]:
    """What a detector learns from a view, k objects.

    Args:
        view: of an image, or of several.
        spec: of the model.
        stuff: whether it learns from maps of the pixels' classes.

    Returns:
        `count`; `boxes` (`k 4`) in pixels of the input; `labels` (`k`); `crowd` (`k`): what counts for nothing; where the
        model finds masks `masks` (`k c c`): chips, in the coordinates of the boxes; and with `stuff` that (`h w`, bytes):
        1 and the class of the pixel around the middle of each cell of the semantic branch, 0 where nothing is known.
    """
    masks = spec.has_masks
    # Of an object without mask a model that finds masks would learn that it has none.
    ignored = [one.ignored or (masks and not one.outlined) for one in view.objects]
    targets: dict[str, np.ndarray] = {
        "count": np.array(len(view.objects)),
        "boxes": np.array([one.box for one in view.objects], np.float32).reshape(-1, 4),
        "labels": np.array([one.thing.label for one in view.objects], np.int64),
        "crowd": np.array(ignored, bool),
    }
    if masks:
        chips = np.zeros((len(view.objects), CROP_CELLS, CROP_CELLS), np.uint8)
        for chip, one, nothing in zip(chips, view.objects, ignored, strict=True):
            if not nothing:
                chip[:] = one.chip()
        targets["masks"] = chips
    if stuff:
        # As bytes, so that 255 becomes 0.
        targets["stuff"] = view.known_stuff[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] + np.uint8(1)
    return targets
