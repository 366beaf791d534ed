"""Results on pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from hrnet.errors import InputError
from hrnet.geometry import Frame, Image, Points, warp
from hrnet.images import read_image
from hrnet.results import Poses, Source

# Orange for the right side, blue for the left, green between: told apart by the colour-blind too (Okabe and Ito 2008).
RIGHT, LEFT, MIDDLE = (230, 120, 0), (30, 136, 229), (0, 158, 115)
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
# Yellow, which none of the three is: where a keypoint should be.
_MISS = (255, 230, 60)
# Lines are drawn this many times larger and averaged, which smooths them, up to a picture size where that is costly.
_SMOOTHING, _SMOOTH_PIXELS = 3, 4_000_000


def draw_poses(
    poses: Poses, *, threshold: float = 0.3, labels: bool = True, targets: Points | None = None
) -> Pillow.Image:
    """Limbs coloured by side (orange right, blue left, green between), dots on the keypoints, each one's score.

    Args:
        poses: with their source.
        threshold: keypoints with a lower score are left out, and limbs that end there.
        labels: whether the scores are written.
        targets: `n k 2`, where each keypoint should be: a ring, joined to it by a thin line; not a number for none.
    """
    picture = Pillow.fromarray(_picture(poses.source))
    factor = _SMOOTHING if picture.width * picture.height <= _SMOOTH_PIXELS else 1
    canvas = picture.resize((picture.width * factor, picture.height * factor), Pillow.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    sides = _sides(poses)
    for index in range(len(poses)):
        seen = poses.keypoint_scores[index] >= threshold
        points = (poses.keypoints[index] + 0.5) * factor
        stroke = max(_extent(poses.keypoints[index][seen], picture.size) * 0.012, 1.2) * factor
        _draw_person(draw, poses, points, seen, sides, stroke)
        if targets is not None:
            _draw_misses(draw, points[seen], (targets[index][seen] + 0.5) * factor, stroke)
    canvas = canvas.resize(picture.size, Pillow.Resampling.LANCZOS) if factor > 1 else canvas
    draw = ImageDraw.Draw(canvas)
    for index in range(len(poses) if labels else 0):
        seen = poses.keypoint_scores[index] >= threshold
        if seen.any():
            _label(draw, poses.keypoints[index][seen], f"{poses.scores[index]:.2f}", canvas.size)
    return canvas


def draw_pair(truth: Any, found: Any, image: Image, frame: Frame) -> tuple[Pillow.Image, Pillow.Image]:
    """A result as it should be and as it is, each on the part of their picture that a frame shows.

    Args:
        truth: what it should be.
        found: of the same type and number; all of it is drawn, however unsure.
        image: their picture.
        frame: from the picture to what is drawn; its size is that of the drawings.
    """
    if not (isinstance(truth, Poses) and isinstance(found, Poses)):
        raise TypeError(f"{type(truth).__name__} and {type(found).__name__} have no drawing side by side.")
    view = warp(image, frame)
    places = np.where(truth.keypoint_scores[..., None] > 0, frame.to_input(truth.keypoints), np.nan)
    return (
        draw_poses(_shown(places, truth, view), threshold=1, labels=False),
        draw_poses(_shown(frame.to_input(found.keypoints), found, view), threshold=1, labels=False, targets=places),
    )


def _shown(points: Points, poses: Poses, source: Image) -> Poses:
    """Poses at other places of another picture, sure of all points that are numbers and of no other."""
    known: np.ndarray = np.all(np.isfinite(points), axis=-1)
    return replace(
        poses, keypoints=np.where(known[..., None], points, 0), keypoint_scores=known.astype(float), source=source
    )


def _picture(source: Source) -> Image:
    if source is None:
        raise InputError("This result does not know its picture; make it with a Predictor, or give `source`.")
    return read_image(source) if isinstance(source, Path) else source


def _sides(poses: Poses) -> dict[int, tuple[int, int, int]]:
    colours = {left: LEFT for left, _ in poses.pairs} | {right: RIGHT for _, right in poses.pairs}
    return {index: colours.get(index, MIDDLE) for index in range(len(poses.names))}


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
            colour = sides[a] if sides[a] == sides[b] else _either(sides[a], sides[b])
            draw.line(ends, fill=_WHITE, width=round(1.7 * stroke))
            draw.line(ends, fill=colour, width=round(stroke))
    for index in np.flatnonzero(seen):
        x, y = points[index]
        for radius, colour in ((1.5 * stroke, _WHITE), (1.1 * stroke, sides[int(index)])):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


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
