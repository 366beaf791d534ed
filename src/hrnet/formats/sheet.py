"""Contact sheets: many small images with their labels drawn, to be looked at before training."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from hrnet.errors import InputError
from hrnet.formats.masks import IGNORE, read_label_map
from hrnet.formats.records import DataSet, ImageRecord, Object
from hrnet.io.images import read_image

Color = tuple[int, int, int]
# Told apart by the color-blind too. Source: Okabe and Ito 2008.
_COLORS: tuple[Color, ...] = (
    (230, 120, 0), (30, 136, 229), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 60, 0), (86, 180, 233),
)  # fmt: skip
_BACKGROUND, _INK, _MARGIN, _CAPTION = (24, 24, 24), (235, 235, 235), 6, 16
_LEGEND = 40


def color(number: int) -> Color:
    """A color for each class or keypoint: seven well-known ones, then hues that stay apart."""
    if number < len(_COLORS):
        return _COLORS[number]
    # Steps of the golden ratio around the circle never come close to an earlier one.
    red, green, blue = colorsys.hsv_to_rgb(
        number * 0.61803 % 1, 0.5 + 0.4 * (number % 2), 0.6 + 0.35 * (number % 3 > 0)
    )
    return round(255 * red), round(255 * green), round(255 * blue)


def contact_sheet(data: DataSet, images: Sequence[ImageRecord], columns: int = 6, cell: int = 260) -> Pillow.Image:
    """Some images of a set in rows, each with its labels and its name, and what the colors mean below.

    Args:
        data: the set.
        images: of it.
        columns: in a row.
        cell: pixels of an image's longer side.
    """
    rows = -(-len(images) // columns)
    font = ImageFont.load_default(size=11)
    legend = list(_legend(data, images))
    width = columns * (cell + _MARGIN) + _MARGIN
    lines = _wrapped(legend, width, font)
    height = rows * (cell + _CAPTION + _MARGIN) + _MARGIN + _CAPTION * len(lines) + _MARGIN
    sheet = Pillow.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        x, y = _MARGIN + column * (cell + _MARGIN), _MARGIN + row * (cell + _CAPTION + _MARGIN)
        tile = draw_labels(data, image, cell)
        sheet.paste(tile, (x + (cell - tile.width) // 2, y + (cell - tile.height) // 2))
        name = image.path.name
        if image.label is not None:
            name = f"{data.classes[image.label]}: {name}"
        draw.text((x, y + cell + 1), name[: cell // 6], fill=_INK, font=font)
    for number, line in enumerate(lines):
        y = height - (_CAPTION * (len(lines) - number)) - _MARGIN // 2
        for x, text, shade in line:
            draw.rectangle((x, y + 2, x + 10, y + 12), fill=shade)
            draw.text((x + 14, y), text, fill=_INK, font=font)
    return sheet


def draw_labels(data: DataSet, image: ImageRecord, cell: int) -> Pillow.Image:
    """An image with its labels, its longer side of `cell` pixels; a black one with a cross where it cannot be read."""
    height, width = image.size
    scale = cell / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    try:
        pixels = read_image(image.path)
        if pixels.shape[:2] != image.size:
            pixels = read_image(image.path, upright=False)
        resample = Pillow.Resampling.NEAREST if scale > 3 else Pillow.Resampling.BILINEAR
        tile = Pillow.fromarray(pixels).resize(size, resample, reducing_gap=2.0 if scale < 1 else None)
        if image.label_map is not None:
            tile = Pillow.blend(tile, _colored(data, image).resize(size, Pillow.Resampling.NEAREST), 0.5)
    except InputError:
        tile = Pillow.new("RGB", size)
        ImageDraw.Draw(tile).line((0, 0, *size), fill=(255, 0, 0), width=3)
        ImageDraw.Draw(tile).line((0, size[1], size[0], 0), fill=(255, 0, 0), width=3)
        return tile
    for thing in image.objects:
        tile = _filled(tile, thing, scale)
    draw = ImageDraw.Draw(tile)
    for thing in image.objects:
        _draw_object(draw, thing, data, scale)
    return tile


def _colored(data: DataSet, image: ImageRecord) -> Pillow.Image:
    """The label map in the colors of its classes; what is ignored is black."""
    values = read_label_map(image, len(data.classes))
    table = np.array([color(label) for label in range(int(values.max()) + 1)], dtype=np.uint8)
    table[IGNORE:] = 0
    return Pillow.fromarray(table[values])


def _filled(tile: Pillow.Image, thing: Object, scale: float) -> Pillow.Image:
    """The tile with an object's area tinted."""
    mask = Pillow.new("L", tile.size)
    if thing.runs is not None:
        whole = Pillow.fromarray(thing.runs.mask() * np.uint8(110))
        mask = whole.resize(tile.size, Pillow.Resampling.BILINEAR)
    elif thing.polygons:
        draw = ImageDraw.Draw(mask)
        for points in thing.polygons:
            draw.polygon([(float(x), float(y)) for x, y in points * scale], fill=110)
    else:
        return tile
    tinted = Pillow.new("RGB", tile.size, (255, 255, 255) if thing.crowd else color(thing.label))
    return Pillow.composite(tinted, tile, mask)


def _draw_object(draw: ImageDraw.ImageDraw, thing: Object, data: DataSet, scale: float) -> None:
    shade = color(thing.label)
    if thing.box is not None:
        x1, y1, x2, y2 = (float(value) for value in thing.box * scale)
        draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=shade, width=1)
        if len(data.classes) > 1:
            font = ImageFont.load_default(size=10)
            text = data.classes[thing.label][:24] + (" (crowd)" if thing.crowd else "")
            area = draw.textbbox((x1 + 1, max(y1 - 11, 0)), text, font=font)
            draw.rectangle(area, fill=_BACKGROUND)
            draw.text((x1 + 1, max(y1 - 11, 0)), text, fill=shade, font=font)
    if thing.keypoints is None or thing.visibility is None:
        return
    points = (thing.keypoints + 0.5) * scale
    for a, b in data.links:
        if thing.visibility[a] > 0 and thing.visibility[b] > 0:
            draw.line([*points[a].tolist(), *points[b].tolist()], fill=_INK, width=1)
    for number in np.flatnonzero(thing.visibility > 0).tolist():
        x, y = points[number].tolist()
        # Hidden ones are rings.
        fill = color(number) if thing.visibility[number] >= 2 else None
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=fill, outline=color(number) if fill is None else _INK)


def _legend(data: DataSet, images: Sequence[ImageRecord]) -> Iterator[tuple[str, Color]]:
    """Names of the keypoints, else of the classes that occur in the images (for label images: all), and their colors."""
    if data.keypoints:
        yield from ((name, color(number)) for number, name in enumerate(data.keypoints[:_LEGEND]))
    elif images and images[0].label_map is not None:
        yield from ((name, color(number)) for number, name in enumerate(data.classes[:_LEGEND]))
    else:
        labels = sorted({thing.label for image in images for thing in image.objects})
        yield from ((data.classes[label], color(label)) for label in labels[:_LEGEND])


def _wrapped(
    legend: Sequence[tuple[str, Color]], width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> list[list[tuple[int, str, Color]]]:
    """The legend in lines that fit: position, text, color."""
    lines: list[list[tuple[int, str, Color]]] = []
    x = width
    for text, shade in legend:
        text = text[:40]
        needed = 14 + int(font.getlength(text)) + 12
        if x + needed > width:
            lines.append([])
            x = _MARGIN
        lines[-1].append((x, text, shade))
        x += needed
    return lines
