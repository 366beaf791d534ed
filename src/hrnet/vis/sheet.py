"""Contact sheets: many small images of a data set with their labels, drawn as predictions are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from hrnet.errors import InputError
from hrnet.formats.checked import bounds
from hrnet.formats.label_maps import LabeledImage, read_labels
from hrnet.formats.records import DataSet, ImageRecord, Object
from hrnet.formats.sides import infer_pairs
from hrnet.io.geometry import Image, Size
from hrnet.io.images import read_labeled
from hrnet.vis.draw import draw_boxes, draw_legend, draw_skeletons, shade_label_map

_BACKGROUND, _INK, _CROSS = (24, 24, 24), (235, 235, 235), (255, 0, 0)
_MARGIN, _CAPTION = 6, 16


def contact_sheet(data: DataSet, images: Sequence[ImageRecord], columns: int = 6, cell: int = 260) -> Pillow.Image:
    """Return some images of a set in rows, each with its labels and name, and a legend of the classes below.

    Args:
        columns: images per row.
        cell: pixels of an image's longer side.
    """
    rows = -(-len(images) // columns)
    font = ImageFont.load_default(size=11)
    width = columns * (cell + _MARGIN) + _MARGIN
    tiles = [_tile(data, image, cell) for image in images]
    legend = draw_legend(data.classes, _shown_classes(data, images), width, cell)
    height = rows * (cell + _CAPTION + _MARGIN) + _MARGIN
    sheet = Pillow.new("RGB", (width, height + legend.height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for number, (image, tile) in enumerate(zip(images, tiles, strict=True)):
        row, column = divmod(number, columns)
        x, y = _MARGIN + column * (cell + _MARGIN), _MARGIN + row * (cell + _CAPTION + _MARGIN)
        sheet.paste(tile, (x + (cell - tile.width) // 2, y + (cell - tile.height) // 2))
        name = image.path.name if image.label is None else f"{data.classes[image.label]}: {image.path.name}"
        draw.text((x, y + cell + 1), name[: cell // 6], fill=_INK, font=font)
    sheet.paste(legend, (0, height))
    return sheet


def _shown_classes(data: DataSet, images: Sequence[ImageRecord]) -> list[int]:
    if any(image.label_map for image in images):
        return list(range(len(data.classes)))
    return sorted({thing.label for image in images for thing in image.objects if bounds(thing) is not None})


def _tile(data: DataSet, image: ImageRecord, cell: int) -> Pillow.Image:
    """Return an image with its labels, its longer side of `cell` pixels; a cross where it cannot be read."""
    scale = cell / max(image.size)
    height, width = (max(round(side * scale), 1) for side in image.size)
    try:
        pixels = read_labeled(image.path, image.size)
        labels = None
        if image.label_map is not None:
            labels = read_labels(LabeledImage(image.path, image.label_map, image.size, data.label_table))
    except InputError:
        tile = Pillow.new("RGB", (width, height))
        ImageDraw.Draw(tile).line((0, 0, width, height), fill=_CROSS, width=3)
        ImageDraw.Draw(tile).line((0, height, width, 0), fill=_CROSS, width=3)
        return tile
    resample = Pillow.Resampling.NEAREST if scale > 3 else Pillow.Resampling.BILINEAR
    reduced = Pillow.fromarray(pixels).resize((width, height), resample, reducing_gap=2.0 if scale < 1 else None)
    tile = np.asarray(reduced)
    if labels is not None:
        small = Pillow.fromarray(labels).resize((width, height), Pillow.Resampling.NEAREST)
        tile = np.asarray(shade_label_map(tile, np.asarray(small), data.classes))
    return _with_objects(tile, image, data, scale)


def _with_objects(tile: Image, image: ImageRecord, data: DataSet, scale: float) -> Pillow.Image:
    size = (tile.shape[0], tile.shape[1])
    boxed = [(thing, box) for thing in image.objects if (box := bounds(thing)) is not None]
    if boxed:
        boxes = np.array([box for _, box in boxed], float) * scale
        labels = np.array([thing.label for thing, _ in boxed])
        masks = [_mask(thing, size, scale) for thing, _ in boxed]
        outlined = any(mask.size for mask in masks)
        shaded = (masks, np.zeros((len(masks), 2), int)) if outlined else None
        tile = np.asarray(draw_boxes(tile, boxes, labels, data.classes, masks=shaded))
    posed = [thing for thing in image.objects if thing.keypoints is not None and thing.visibility is not None]
    if not posed:
        return Pillow.fromarray(tile)
    points = (np.array([thing.keypoints for thing in posed]) + 0.5) * scale - 0.5
    visible = np.array([thing.visibility for thing in posed]) > 0
    pairs = infer_pairs(data.keypoints) if data.pairs is None else data.pairs
    return draw_skeletons(tile, points, visible, data.links, pairs)


def _mask(thing: Object, size: Size, scale: float) -> np.ndarray:
    """Return the mask of an object at the size of the tile; an empty one where it has none."""
    height, width = size
    mask = Pillow.new("1", (width, height))
    if thing.runs is not None:
        mask = Pillow.fromarray(thing.runs.mask().astype(bool)).resize((width, height), Pillow.Resampling.NEAREST)
    elif thing.polygons:
        draw = ImageDraw.Draw(mask)
        for points in thing.polygons:
            draw.polygon([(float(x), float(y)) for x, y in points * scale], fill=1)
    else:
        return np.zeros((0, 0), bool)
    return np.array(mask, bool)
