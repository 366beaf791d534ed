"""Results on images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from hrnet.errors import InputError
from hrnet.io.geometry import Frame, Image, Points, warp
from hrnet.io.images import read_image
from hrnet.results import OUTSIDE, Classification, Detections, Masks, Poses, SemanticMap, Source
from hrnet.vis.colors import BACKGROUND, class_colors

# Orange for the right side, blue for the left, green between: told apart by the color-blind too (Okabe and Ito 2008).
RIGHT, LEFT, MIDDLE = (230, 120, 0), (30, 136, 229), (0, 158, 115)
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
# Yellow, which none of the three is: where a keypoint should be.
_MISS = (255, 230, 60)
# Lines are drawn this many times larger and averaged, which smooths them, up to an image size where that is costly.
_SMOOTHING, _SMOOTH_PIXELS = 3, 4_000_000
# How much of a class's color covers the image, inside and along its outline.
_INSIDE, _ALONG = 0.5, 0.85
# Rows of an image that are painted at once.
_ROWS = 512
# Below an image: what colors mean, of so many classes at most.
_PANEL, _INK, _LISTED = (24, 24, 24), (240, 240, 240), 30


def draw_poses(
    poses: Poses, *, threshold: float = 0.3, labels: bool = True, targets: Points | None = None
) -> Pillow.Image:
    """Limbs colored by side (orange right, blue left, green between), dots on the keypoints, each one's score.

    Args:
        poses: with their source.
        threshold: keypoints with a lower score are left out, and limbs that end there.
        labels: whether the scores are written.
        targets: `n k 2`, where each keypoint should be: a ring, joined to it by a thin line; not a number for none.
    """
    image = Pillow.fromarray(_image(poses.source))
    factor = _SMOOTHING if image.width * image.height <= _SMOOTH_PIXELS else 1
    canvas = image.resize((image.width * factor, image.height * factor), Pillow.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    sides = _sides(poses)
    for index in range(len(poses)):
        seen = poses.keypoint_scores[index] >= threshold
        points = (poses.keypoints[index] + 0.5) * factor
        stroke = max(_extent(poses.keypoints[index][seen], image.size) * 0.012, 1.2) * factor
        _draw_person(draw, poses, points, seen, sides, stroke)
        if targets is not None:
            _draw_misses(draw, points[seen], (targets[index][seen] + 0.5) * factor, stroke)
    canvas = canvas.resize(image.size, Pillow.Resampling.LANCZOS) if factor > 1 else canvas
    draw = ImageDraw.Draw(canvas)
    for index in range(len(poses) if labels else 0):
        seen = poses.keypoint_scores[index] >= threshold
        if seen.any():
            _label(draw, poses.keypoints[index][seen], f"{poses.scores[index]:.2f}", canvas.size)
    return canvas


def draw_pair(truth: Any, found: Any, image: Image, frame: Frame) -> tuple[Pillow.Image, Pillow.Image]:
    """A result as it should be and as it is, each on the part of their image that a frame shows.

    Args:
        truth: what it should be.
        found: of the same type and number; all of it is drawn, however unsure.
        image: their image.
        frame: from the image to what is drawn; its size is that of the drawings.
    """
    view = warp(image, frame)
    match truth, found:
        case Poses(), Poses():
            return _pose_pair(truth, found, view, frame)
        case SemanticMap(), SemanticMap():
            return _map_pair(truth, found, view, frame)
        case Detections(), Detections():
            return _object_pair(truth, found, view, frame)
        case Classification(), Classification():
            return _captioned(view, truth, 1), _captioned(view, found, 3)
    raise TypeError(f"{type(truth).__name__} and {type(found).__name__} have no drawing side by side.")


def _pose_pair(truth: Poses, found: Poses, view: Image, frame: Frame) -> tuple[Pillow.Image, Pillow.Image]:
    places = np.where(truth.keypoint_scores[..., None] > 0, frame.to_input(truth.keypoints), np.nan)
    return (
        draw_poses(_shown(places, truth, view), threshold=1, labels=False),
        draw_poses(_shown(frame.to_input(found.keypoints), found, view), threshold=1, labels=False, targets=places),
    )


def _shown(points: Points, poses: Poses, source: Image) -> Poses:
    """Poses at other places of another image, sure of all points that are numbers and of no other."""
    known: np.ndarray = np.all(np.isfinite(points), axis=-1)
    return replace(
        poses, keypoints=np.where(known[..., None], points, 0), keypoint_scores=known.astype(float), source=source
    )


def draw_detections(
    result: Detections,
    *,
    threshold: float = 0.3,
    labels: bool = True,
    targets: Float[np.ndarray, "k 4"] | None = None,
) -> Pillow.Image:
    """Boxes in the colors of their classes, masks tinted, each one's class and score; the best lies on top.

    Args:
        result: with its source.
        threshold: objects with a lower score are left out.
        labels: whether classes and scores are written.
        targets: boxes of what should be found: thin lines over the others.
    """
    image = _image(result.source)
    shown = result[result.scores >= threshold]
    shown = shown[np.argsort(shown.scores, kind="stable")]
    colors = class_colors(shown.names)
    height, width = image.shape[:2]
    stroke = max(round(min(height, width) / 250), 1)
    if shown.masks is not None and len(shown):
        image = _tint(image, shown, colors, stroke)
    canvas = Pillow.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for index in range(len(shown)):
        place, color = _pixel_box(shown.boxes[index], (height, width)), tuple(colors[shown.labels[index]].tolist())
        if shown.masks is None:
            # White inside the color keeps the line visible on whatever lies below.
            draw.rectangle(place, outline=_WHITE, width=3 * stroke)
        draw.rectangle(place, outline=color, width=2 * stroke if shown.masks is None else stroke)
    for box in targets if targets is not None else ():
        draw.rectangle(_pixel_box(box, (height, width)), outline=_MISS, width=stroke)
    for index in range(len(shown) if labels else 0):
        label = int(shown.labels[index])
        text = f"{_plain(shown.names[label])} {shown.scores[index]:.2f}"
        _tag(draw, _pixel_box(shown.boxes[index], (height, width)), text, tuple(colors[label].tolist()), canvas.size)
    return canvas


def _pixel_box(box: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The first and the last pixel of a box in each direction, inside an image of a height and width."""
    height, width = size
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    left, top = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    return left, top, min(max(x2 - 1, left), width - 1), min(max(y2 - 1, top), height - 1)


def _tint(image: Image, result: Detections, colors: UInt8[np.ndarray, "k 3"], width: int) -> Image:
    """Each mask half in its color, its outline stronger."""
    assert result.masks is not None
    painted = image.copy()
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    for crop, (x, y), label in zip(result.masks.crops, result.masks.corners.tolist(), result.labels, strict=True):
        if not crop.size:
            continue
        shape = crop.view(np.uint8)
        inside = cv2.erode(shape, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        part = painted[y : y + crop.shape[0], x : x + crop.shape[1]]
        color = np.broadcast_to(colors[label], part.shape)
        edge = cv2.addWeighted(part, 1 - _ALONG, color, _ALONG, 0)
        cv2.copyTo(cv2.addWeighted(part, 1 - _INSIDE, color, _INSIDE, 0), inside, part)
        cv2.copyTo(edge, shape - inside, part)
    return painted


def _tag(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    text: str,
    color: tuple[int, ...],
    size: tuple[int, int],
) -> None:
    """A text on its color, above the box if there is room, else inside it; never beyond the image."""
    font = ImageFont.load_default(size=max(10, min(size) // 45))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = round(right - left) + 6, round(bottom - top) + 6
    x = min(box[0], max(size[0] - width, 0))
    y = box[1] - height if box[1] >= height else box[1]
    draw.rectangle((x, y, x + width, y + height), fill=color)
    # Black or white, whichever is farther from the color. Weights: Rec. 601.
    light = np.dot(color, (0.299, 0.587, 0.114)) > 140
    draw.text((x + 3 - left, y + 3 - top), text, fill=_BLACK if light else _WHITE, font=font)


def _image(source: Source) -> Image:
    if source is None:
        raise InputError("This result does not know its image; make it with a Predictor, or give `source`.")
    return read_image(source) if isinstance(source, Path) else source


def _sides(poses: Poses) -> dict[int, tuple[int, int, int]]:
    colors = {left: LEFT for left, _ in poses.pairs} | {right: RIGHT for _, right in poses.pairs}
    return {index: colors.get(index, MIDDLE) for index in range(len(poses.names))}


def _extent(points: np.ndarray, size: tuple[int, int]) -> float:
    if len(points) < 2:
        return 0.2 * min(size)
    return float(min(np.linalg.norm(points.max(0) - points.min(0)), np.hypot(*size)))


def _draw_person(
    draw: ImageDraw.ImageDraw,
    poses: Poses,
    points: np.ndarray,
    seen: np.ndarray,
    sides: dict[int, tuple[int, int, int]],
    stroke: float,
) -> None:
    for a, b in poses.links:
        if seen[a] and seen[b]:
            ends = [tuple(points[a]), tuple(points[b])]
            # A link between the sides belongs to neither.
            color = sides[a] if sides[a] == sides[b] else _either(sides[a], sides[b])
            draw.line(ends, fill=_WHITE, width=round(1.7 * stroke))
            draw.line(ends, fill=color, width=round(stroke))
    for index in np.flatnonzero(seen):
        x, y = points[index]
        for radius, color in ((1.5 * stroke, _WHITE), (1.1 * stroke, sides[int(index)])):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)


def _draw_misses(draw: ImageDraw.ImageDraw, points: np.ndarray, places: np.ndarray, stroke: float) -> None:
    """Of those so far off that the ring lies beside the dot."""
    distances = np.linalg.norm(points - places, axis=-1)
    thin, radius = max(round(0.4 * stroke), 1), 1.4 * stroke
    for index in np.flatnonzero(distances > 4 * stroke):
        x, y = places[index]
        draw.line([tuple(points[index]), (x, y)], fill=_MISS, width=thin)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=_MISS, width=2 * thin)


def _either(a: tuple[int, int, int], b: tuple[int, int, int]) -> tuple[int, int, int]:
    """The side of a link from a middle keypoint to a side; middle for one that joins both sides."""
    return b if a == MIDDLE else a if b == MIDDLE else MIDDLE


def _label(draw: ImageDraw.ImageDraw, points: np.ndarray, text: str, size: tuple[int, int]) -> None:
    font = ImageFont.load_default(size=max(10, min(size) // 40))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 6
    x = float(np.clip(points[:, 0].mean() - width / 2, 0, max(size[0] - width, 0)))
    y = float(np.clip(points[:, 1].min() - 1.8 * height, 0, max(size[1] - height, 0)))
    draw.rectangle((x, y, x + width, y + height), fill=_BLACK)
    draw.text((x + 3 - left, y + 3 - top), text, fill=_WHITE, font=font)


def draw_labels(result: SemanticMap) -> Pillow.Image:
    """The image with each class in its color, its outline stronger; below it the classes that are there, largest first.

    The background and what has no label stay as they are.
    """
    image = _image(result.source)
    legend = _legend(result, image.shape[1], image.shape[0])
    canvas = Pillow.new("RGB", (image.shape[1], image.shape[0] + legend.height), _PANEL)
    width = max(1, min(image.shape[:2]) // 500)
    for top in range(0, len(image), _ROWS):
        # Outlines look so far beyond the rows.
        low, high = max(top - width, 0), min(top + _ROWS + width, len(image))
        painted = _paint(image[low:high], result.labels[low:high], result.names, width)
        canvas.paste(Pillow.fromarray(painted[top - low : top - low + _ROWS]), (0, top))
    canvas.paste(legend, (0, image.shape[0]))
    return canvas


def label_image(result: SemanticMap) -> Pillow.Image:
    """A palette image that stores the labels, 255 where there is none, in the colors of the classes."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(result.names)] = class_colors(result.names)
    image = Pillow.fromarray(result.labels)
    image.putpalette(palette.tobytes())
    return image


def color_key(result: Any) -> list[tuple[str, str]]:
    """The classes that a label map or boxes show and their colors, as #rrggbb; nothing for other results."""
    match result:
        case SemanticMap():
            shown = np.flatnonzero(result.shares()).tolist()
        case Detections():
            shown = np.unique(result.labels).tolist()
        case _:
            return []
    colors = class_colors(result.names)
    return [
        (_plain(result.names[label]), "#{:02x}{:02x}{:02x}".format(*colors[label].tolist()))
        for label in shown
        if result.names[label].lower() not in BACKGROUND
    ]


def draw_classes(result: Classification) -> Pillow.Image:
    """The image, below it the best five classes with their scores."""
    image = Pillow.fromarray(_image(result.source))
    panel = _classes_panel(result, 5, image.width, image.height)
    canvas = Pillow.new("RGB", (image.width, image.height + panel.height), _PANEL)
    canvas.paste(image, (0, 0))
    canvas.paste(panel, (0, image.height))
    return canvas


def _classes_panel(result: Classification, count: int, width: int, height: int) -> Pillow.Image:
    """The best classes with their scores, as wide as an image."""
    texts = [f"{_plain(result.names[label])}  {result.scores[label]:.2f}" for label in result.top(count)]
    return _panel([(text, None) for text in texts], width, height)


def _captioned(view: Image, result: Classification, count: int) -> Pillow.Image:
    """An image with the best classes over its lower edge."""
    canvas = Pillow.fromarray(view.copy())
    panel = _classes_panel(result, count, canvas.width, canvas.height)
    canvas.paste(panel, (0, canvas.height - panel.height))
    return canvas


def _paint(
    image: Image, labels: UInt8[np.ndarray, "h w"], names: tuple[str, ...], width: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Part of an image under the colors of its classes; outlines are so many pixels wide on either side."""
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(names)] = class_colors(names)
    bare = np.ones(256, bool)
    bare[: len(names)] = [name.lower() in BACKGROUND for name in names]
    color = colors.take(labels, axis=0)
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    along = cv2.erode(labels, square) != cv2.dilate(labels, square)
    painted = cv2.addWeighted(image, 1 - _INSIDE, color, _INSIDE, 0)
    painted[along] = cv2.addWeighted(image, 1 - _ALONG, color, _ALONG, 0)[along]
    np.copyto(painted, image, where=bare.take(labels)[..., None])
    return painted


def _map_pair(truth: SemanticMap, found: SemanticMap, view: Image, frame: Frame) -> tuple[Pillow.Image, Pillow.Image]:
    """Both maps may be smaller than their image. What is wrong in what was found is hatched."""
    labels, others = (_seen(one.labels, frame) for one in (truth, found))
    rows, columns = np.indices(labels.shape)
    wrong = (labels != OUTSIDE) & (labels != others) & ((rows + columns) % 6 < 2)
    first, second = (_paint(view, one, truth.names, 1) for one in (labels, others))
    second[wrong] = _WHITE
    return Pillow.fromarray(first), Pillow.fromarray(second)


def _object_pair(truth: Detections, found: Detections, view: Image, frame: Frame) -> tuple[Pillow.Image, Pillow.Image]:
    first, second = _in_view(truth, view, frame), _in_view(found, view, frame)
    return (
        draw_detections(first, threshold=0, labels=False),
        draw_detections(second, threshold=0, labels=False, targets=first.boxes),
    )


def _in_view(result: Detections, view: Image, frame: Frame) -> Detections:
    """Objects in what a frame, upright and not turned, shows of their image."""
    # Boxes count from the edge of the first pixel, frames from its center.
    boxes = (frame.to_input(result.boxes.reshape(-1, 2, 2) - 0.5) + 0.5).reshape(-1, 4)
    masks = None
    if result.masks is not None:
        # One whole mask at a time.
        parts = [Masks.of([_seen(result.masks.full(i), frame)], frame.size) for i in range(len(result))]
        corners = np.array([part.corners[0] for part in parts], int).reshape(-1, 2)
        masks = Masks(tuple(part.crops[0] for part in parts), corners, frame.size)
    return replace(result, boxes=boxes, masks=masks, source=view)


def _seen(labels: Shaped[np.ndarray, "h w"], frame: Frame) -> Shaped[np.ndarray, "H W"]:
    """The label under each pixel of what a frame shows, upright and not turned, of a map of any size."""
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


def _legend(result: SemanticMap, width: int, height: int) -> Pillow.Image:
    """The classes of a map with their colors and shares, as wide as an image."""
    shares, colors = result.shares().tolist(), class_colors(result.names)
    order = [label for label in np.argsort(-np.array(shares), kind="stable").tolist() if shares[label] > 0]
    items: list[tuple[str, tuple[int, ...] | None]] = [
        (f"{_plain(result.names[label])} {_percent(shares[label])}", tuple(colors[label].tolist()))
        for label in order[:_LISTED]
    ]
    if len(order) > _LISTED:
        items.append((f"and {len(order) - _LISTED} more", None))
    return _panel(items, width, height)


def _panel(items: list[tuple[str, tuple[int, ...] | None]], width: int, height: int) -> Pillow.Image:
    """Texts, each with a square of its color or without, in as many lines as the width of an image needs."""
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


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"


def _plain(name: str) -> str:
    return name.replace("_", " ")
