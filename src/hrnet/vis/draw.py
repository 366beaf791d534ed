"""Drawings on images, from arrays: skeletons, boxes with masks, label maps, captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from hrnet.io.geometry import Frame, Image, Size
from hrnet.vis.colors import BACKGROUND, class_colors

RGB = tuple[int, ...]
# Orange for the right side, blue for the left, green between: distinct for the color-blind too (Okabe and Ito 2008).
RIGHT, LEFT, MIDDLE = (230, 120, 0), (30, 136, 229), (0, 158, 115)
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
# Yellow, which none of the three is: the place where a keypoint or box should be.
_TARGET = (255, 230, 60)
# Lines are drawn this many times larger and averaged, which smooths them, up to an image size where that is costly.
_SMOOTHING, _SMOOTH_PIXELS = 3, 4_000_000
# Opacity of a class's color inside its region and along its outline.
_INSIDE, _OUTLINE = 0.5, 0.85
# Rows of an image that are painted at once.
_STRIP_ROWS = 512
# Colors of the panel below an image, and the most classes that it lists.
_PANEL, _INK, _LISTED = (24, 24, 24), (240, 240, 240), 30


def draw_skeletons(
    image: Image,
    keypoints: Float[np.ndarray, "n k 2"],
    visible: Bool[np.ndarray, "n k"],
    links: Sequence[tuple[int, int]] = (),
    pairs: Sequence[tuple[int, int]] = (),
    *,
    scores: Float[np.ndarray, " n"] | None = None,
    targets: Float[np.ndarray, "n k 2"] | None = None,
) -> Pillow.Image:
    """Draw limbs colored by side (orange right, blue left, green between) and dots on the keypoints.

    Args:
        visible: keypoints that are drawn; limbs with a hidden end are left out.
        links: keypoints joined by a limb.
        pairs: a left and a right keypoint each.
        scores: numbers written above each skeleton.
        targets: places where the keypoints should be, drawn as rings joined by a thin line; NaN for none.
    """
    canvas = Pillow.fromarray(image)
    factor = _SMOOTHING if canvas.width * canvas.height <= _SMOOTH_PIXELS else 1
    large = canvas.resize((canvas.width * factor, canvas.height * factor), Pillow.Resampling.BICUBIC)
    draw = ImageDraw.Draw(large)
    sides = {left: LEFT for left, _ in pairs} | {right: RIGHT for _, right in pairs}
    for index, (points, seen) in enumerate(zip(keypoints, visible, strict=True)):
        extent = 0.2 * min(canvas.size)
        if seen.sum() > 1:
            extent = float(min(np.linalg.norm(np.ptp(points[seen], axis=0)), np.hypot(*canvas.size)))
        stroke = max(extent * 0.012, 1.2) * factor
        places = (points + 0.5) * factor
        _draw_skeleton(draw, places, seen, links, sides, stroke)
        if targets is not None:
            _draw_targets(draw, places[seen], (targets[index][seen] + 0.5) * factor, stroke)
    canvas = large.resize(canvas.size, Pillow.Resampling.LANCZOS) if factor > 1 else large
    draw = ImageDraw.Draw(canvas)
    for points, seen, score in () if scores is None else zip(keypoints, visible, scores, strict=True):
        if seen.any():
            _draw_score(draw, points[seen], f"{score:.2f}", canvas.size)
    return canvas


def _draw_skeleton(
    draw: ImageDraw.ImageDraw,
    points: np.ndarray,
    seen: np.ndarray,
    links: Sequence[tuple[int, int]],
    sides: Mapping[int, RGB],
    stroke: float,
) -> None:
    for a, b in links:
        if seen[a] and seen[b]:
            ends = [tuple(points[a]), tuple(points[b])]
            draw.line(ends, fill=_WHITE, width=round(1.7 * stroke))
            draw.line(ends, fill=_link_color(sides.get(a, MIDDLE), sides.get(b, MIDDLE)), width=round(stroke))
    for index in np.flatnonzero(seen):
        x, y = points[index]
        for radius, color in ((1.5 * stroke, _WHITE), (1.1 * stroke, sides.get(int(index), MIDDLE))):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)


def _link_color(a: RGB, b: RGB) -> RGB:
    """Return the side of a link that starts in the middle; the middle for one that joins both sides."""
    return a if a == b else b if a == MIDDLE else a if b == MIDDLE else MIDDLE


def _draw_targets(draw: ImageDraw.ImageDraw, points: np.ndarray, places: np.ndarray, stroke: float) -> None:
    """Draw rings for keypoints so far off that the ring lies beside the dot."""
    distances = np.linalg.norm(points - places, axis=-1)
    thin, radius = max(round(0.4 * stroke), 1), 1.4 * stroke
    for index in np.flatnonzero(distances > 4 * stroke):
        x, y = places[index]
        draw.line([tuple(points[index]), (x, y)], fill=_TARGET, width=thin)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=_TARGET, width=2 * thin)


def _draw_score(draw: ImageDraw.ImageDraw, points: np.ndarray, text: str, size: tuple[int, int]) -> None:
    font = ImageFont.load_default(size=max(10, min(size) // 40))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 6
    x = float(np.clip(points[:, 0].mean() - width / 2, 0, max(size[0] - width, 0)))
    y = float(np.clip(points[:, 1].min() - 1.8 * height, 0, max(size[1] - height, 0)))
    draw.rectangle((x, y, x + width, y + height), fill=_BLACK)
    draw.text((x + 3 - left, y + 3 - top), text, fill=_WHITE, font=font)


def draw_boxes(
    image: Image,
    boxes: Float[np.ndarray, "n 4"],
    labels: Int[np.ndarray, " n"],
    names: tuple[str, ...],
    *,
    masks: tuple[Sequence[Bool[np.ndarray, "_ _"]], Int[np.ndarray, "n 2"]] | None = None,
    scores: Float[np.ndarray, " n"] | None = None,
    targets: Float[np.ndarray, "k 4"] | None = None,
) -> Pillow.Image:
    """Draw boxes in the colors of their classes and shaded masks; the last lies on top.

    Args:
        boxes: x1 y1 x2 y2, counted from the outer edge of the first pixel.
        masks: a crop for each box, true on the object, and the x y of its first pixel in the image.
        scores: numbers written with the class above each box; None writes neither.
        targets: boxes that should be there: thin lines over the others.
    """
    colors = class_colors(names)
    size = (image.shape[0], image.shape[1])
    stroke = max(round(min(size) / 250), 1)
    if masks is not None and len(boxes):
        image = _shade_masks(image, *masks, colors[labels], stroke)
    canvas = Pillow.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    places = [_pixel_box(box, size) for box in boxes]
    for place, label in zip(places, labels, strict=True):
        if masks is None:
            # White inside the color keeps the line visible on any background.
            draw.rectangle(place, outline=_WHITE, width=3 * stroke)
        draw.rectangle(place, outline=tuple(colors[label].tolist()), width=2 * stroke if masks is None else stroke)
    for box in () if targets is None else targets:
        draw.rectangle(_pixel_box(box, size), outline=_TARGET, width=stroke)
    for place, label, score in () if scores is None else zip(places, labels, scores, strict=True):
        text = f"{plain_name(names[label])} {score:.2f}"
        _draw_tag(draw, place, text, tuple(colors[label].tolist()), canvas.size)
    return canvas


def _pixel_box(box: np.ndarray, size: Size) -> tuple[int, int, int, int]:
    """Return the first and the last pixel of a box in each direction, inside an image of a height and width."""
    height, width = size
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    left, top = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    return left, top, min(max(x2 - 1, left), width - 1), min(max(y2 - 1, top), height - 1)


def _shade_masks(
    image: Image,
    crops: Sequence[Bool[np.ndarray, "_ _"]],
    corners: Int[np.ndarray, "n 2"],
    colors: UInt8[np.ndarray, "n 3"],
    width: int,
) -> Image:
    """Blend each mask with its color, its outline stronger."""
    painted = image.copy()
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    for crop, (x, y), color in zip(crops, corners.tolist(), colors, strict=True):
        if not crop.size:
            continue
        shape = crop.view(np.uint8)
        inside = cv2.erode(shape, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        part = painted[y : y + crop.shape[0], x : x + crop.shape[1]]
        flat = np.broadcast_to(color, part.shape)
        outline = cv2.addWeighted(part, 1 - _OUTLINE, flat, _OUTLINE, 0)
        cv2.copyTo(cv2.addWeighted(part, 1 - _INSIDE, flat, _INSIDE, 0), inside, part)
        cv2.copyTo(outline, shape - inside, part)
    return painted


def _draw_tag(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], text: str, color: RGB, size: tuple[int, int]
) -> None:
    """Write a text on its color, above the box if there is room, else inside it; never beyond the image."""
    font = ImageFont.load_default(size=max(10, min(size) // 45))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = round(right - left) + 6, round(bottom - top) + 6
    x = min(box[0], max(size[0] - width, 0))
    y = box[1] - height if box[1] >= height else box[1]
    draw.rectangle((x, y, x + width, y + height), fill=color)
    # Black or white, whichever contrasts more. Weights: Rec. 601.
    light = np.dot(color, (0.299, 0.587, 0.114)) > 140
    draw.text((x + 3 - left, y + 3 - top), text, fill=_BLACK if light else _WHITE, font=font)


def draw_label_map(
    image: Image, labels: UInt8[np.ndarray, "h w"], names: tuple[str, ...], fractions: Float[np.ndarray, " k"]
) -> Pillow.Image:
    """Draw each class in its color, its outline stronger, and a legend below the image, largest class first.

    The background and unlabeled pixels (255) keep the image.
    """
    legend = _legend(names, fractions, image.shape[1], image.shape[0])
    canvas = Pillow.new("RGB", (image.shape[1], image.shape[0] + legend.height))
    width = max(1, min(image.shape[:2]) // 500)
    for top in range(0, len(image), _STRIP_ROWS):
        # An outline depends on this many pixels around it.
        low, high = max(top - width, 0), min(top + _STRIP_ROWS + width, len(image))
        painted = _shade(image[low:high], labels[low:high], names, width)
        canvas.paste(Pillow.fromarray(painted[top - low : top - low + _STRIP_ROWS]), (0, top))
    canvas.paste(legend, (0, image.shape[0]))
    return canvas


def shade_label_map(
    image: Image,
    labels: UInt8[np.ndarray, "h w"],
    names: tuple[str, ...],
    *,
    hatched: Bool[np.ndarray, "h w"] | None = None,
) -> Pillow.Image:
    """Draw each class in its color without a legend; `hatched` pixels get white diagonal lines."""
    painted = _shade(image, labels, names, 1)
    if hatched is not None:
        rows, columns = np.indices(labels.shape)
        painted[hatched & ((rows + columns) % 6 < 2)] = _WHITE
    return Pillow.fromarray(painted)


def _shade(
    image: Image, labels: UInt8[np.ndarray, "h w"], names: tuple[str, ...], width: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Blend part of an image with the colors of its classes; outlines are `width` pixels wide on either side."""
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(names)] = class_colors(names)
    bare = np.ones(256, bool)
    bare[: len(names)] = [name.lower() in BACKGROUND for name in names]
    color = colors.take(labels, axis=0)
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    outline = cv2.erode(labels, square) != cv2.dilate(labels, square)
    painted = cv2.addWeighted(image, 1 - _INSIDE, color, _INSIDE, 0)
    painted[outline] = cv2.addWeighted(image, 1 - _OUTLINE, color, _OUTLINE, 0)[outline]
    np.copyto(painted, image, where=bare.take(labels)[..., None])
    return painted


def palette_image(labels: UInt8[np.ndarray, "h w"], names: tuple[str, ...]) -> Pillow.Image:
    """Return a palette image that stores the labels, 255 for none, in the colors of the classes."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(names)] = class_colors(names)
    image = Pillow.fromarray(labels)
    image.putpalette(palette.tobytes())
    return image


def sample_labels(labels: Shaped[np.ndarray, "h w"], frame: Frame) -> Shaped[np.ndarray, "H W"]:
    """Return the label under each pixel of an upright, unrotated frame, of a map of any size."""
    ys, xs = (np.arange(side, dtype=float) for side in frame.size)
    places = (
        frame.to_source(np.stack([xs, np.zeros_like(xs)], 1))[:, 0],
        frame.to_source(np.stack([np.zeros_like(ys), ys], 1))[:, 1],
    )
    columns, rows = (
        np.clip(((place + 0.5) * count / side).astype(int), 0, count - 1)
        for place, count, side in zip(places, labels.shape[::-1], frame.source_size[::-1], strict=True)
    )
    return labels[np.ix_(rows, columns)]


def color_key(names: tuple[str, ...], labels: Sequence[int]) -> list[tuple[str, str]]:
    """Return names and colors (#rrggbb) of some classes without the background."""
    colors = class_colors(names)
    return [
        (plain_name(names[label]), "#{:02x}{:02x}{:02x}".format(*colors[label].tolist()))
        for label in labels
        if names[label].lower() not in BACKGROUND
    ]


def caption_below(image: Image, texts: Sequence[str]) -> Pillow.Image:
    """Return the image with texts in a panel below it."""
    panel = _panel([(text, None) for text in texts], image.shape[1], image.shape[0])
    canvas = Pillow.new("RGB", (image.shape[1], image.shape[0] + panel.height))
    canvas.paste(Pillow.fromarray(image), (0, 0))
    canvas.paste(panel, (0, image.shape[0]))
    return canvas


def caption_over(image: Image, texts: Sequence[str]) -> Pillow.Image:
    """Return the image with texts in a panel over its lower edge."""
    canvas = Pillow.fromarray(image.copy())
    panel = _panel([(text, None) for text in texts], canvas.width, canvas.height)
    canvas.paste(panel, (0, canvas.height - panel.height))
    return canvas


def draw_legend(names: tuple[str, ...], labels: Sequence[int], width: int, height: int) -> Pillow.Image:
    """Return a panel of some classes with their colors, sized for an image of a width and height."""
    colors = class_colors(names).tolist()
    return _panel([(plain_name(names[label]), tuple(colors[label])) for label in labels], width, height)


def _legend(names: tuple[str, ...], fractions: Float[np.ndarray, " k"], width: int, height: int) -> Pillow.Image:
    """Draw the classes of a map with their colors and percentages, as wide as an image."""
    colors = class_colors(names).tolist()
    order = [label for label in np.argsort(-fractions, kind="stable").tolist() if fractions[label] > 0]
    items: list[tuple[str, RGB | None]] = []
    for label in order[:_LISTED]:
        percent = 100 * float(fractions[label])
        text = f"{percent:.0f} %" if percent >= 1 else f"{percent:.1f} %" if percent >= 0.1 else "< 0.1 %"
        items.append((f"{plain_name(names[label])} {text}", tuple(colors[label])))
    if len(order) > _LISTED:
        items.append((f"and {len(order) - _LISTED} more", None))
    return _panel(items, width, height)


def _panel(items: Sequence[tuple[str, RGB | None]], width: int, height: int) -> Pillow.Image:
    """Draw texts, each with a square of its color or without, in as many lines as the width of an image needs."""
    size = max(12, round(min(width, height) / 36))
    font = ImageFont.load_default(size=size)
    gap, line = round(0.6 * size), round(1.5 * size)
    places: list[tuple[int, int]] = []
    x = y = 0
    for text, color in items:
        span = round(font.getlength(text)) + (round(1.4 * size) if color else 0) + 2 * gap
        if x and x + span > width:
            x, y = 0, y + line
        places.append((x + gap, y))
        x += span
    panel = Pillow.new("RGB", (width, y + line + gap if items else 0), _PANEL)
    draw = ImageDraw.Draw(panel)
    for (text, color), (x, y) in zip(items, places, strict=True):
        middle = y + (line + gap) // 2
        if color:
            draw.rectangle((x, middle - size // 2, x + size, middle + size // 2), fill=color, outline=_INK)
            x += round(1.4 * size)
        draw.text((x, middle), text, fill=_INK, font=font, anchor="lm")
    return panel


def plain_name(name: str) -> str:
    """Return the name of a class or keypoint as a person writes it."""
    return name.replace("_", " ")
