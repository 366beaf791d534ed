"""Checks of images and objects that all readers share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hrnet.errors import InputError
from hrnet.formats.defects import Draft
from hrnet.formats.records import Object
from hrnet.io.geometry import Size
from hrnet.io.images import image_size, looks_whole, read_image

# Largest plausible coordinate in pixels; arithmetic with larger ones may overflow.
LARGEST_COORDINATE = 1e6
# Pixels by which a label may reach beyond its image: annotators round, and count from 0 or from 1.
TOLERANCE = 1.0


def checked_size(path: Path, listed: tuple[object, object] | None, draft: Draft) -> Size | None:
    """Return height and width of an image as labeled; None where it cannot be used, which the draft then names.

    A file that does not end as a whole one does is decoded.

    Args:
        path: image file that exists.
        listed: height and width that the labels state; None where they do not.
        draft: defects of the set.
    """
    try:
        size = image_size(path)
        if not looks_whole(path):
            read_image(path)
        if listed is None or listed == size:
            return size
        stored = image_size(path, upright=False)
    except InputError as error:
        draft.repeat("image-unreadable", error, path)
        return None
    if listed == stored:
        return stored
    draft.say(
        "image-size",
        f"has {size[1]} x {size[0]} pixels, the annotations say {listed[1]} x {listed[0]}; it is left out",
        file=path,
    )
    return None


def usable(objects: Iterable[Object], size: Size, draft: Draft, file: Path) -> tuple[Object, ...]:
    """Return the usable objects of one image; the draft names the defects of all.

    Args:
        objects: objects as read.
        size: height and width of their image.
        draft: defects of the set.
        file: label file.
    """
    kept: list[Object] = []
    seen: set[tuple[object, ...]] = set()
    for thing in objects:
        if not _check_object(thing, size, draft, file):
            continue
        signature = _signature(thing)
        if signature in seen:
            draft.say("object-twice", "equal to an earlier object of the same image", thing.place, file)
        seen.add(signature)
        kept.append(thing)
    return tuple(kept)


def _check_object(thing: Object, size: Size, draft: Draft, file: Path) -> bool:
    """Return whether an object can be used; the draft names its defects."""
    height, width = size
    image = f"its image of {width} x {height}"
    if thing.box is not None:
        x1, y1, x2, y2 = thing.box.tolist()
        text = f"the box {x1:g} {y1:g} {x2:g} {y2:g} (x1 y1 x2 y2)"
        if not (max(abs(x1), abs(y1), abs(x2), abs(y2)) <= 2 * LARGEST_COORDINATE and x2 > x1 and y2 > y1):
            draft.say("box-degenerate", f"{text} is degenerate", thing.place, file)
            return False
        if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
            draft.say("box-lost", f"{text} is degenerate or lies outside {image}", thing.place, file)
            return False
        if min(x1, y1) < -TOLERANCE or x2 > width + TOLERANCE or y2 > height + TOLERANCE:
            draft.say("box-outside", f"{text} reaches beyond {image}", thing.place, file)
    if thing.keypoints is not None and thing.visibility is not None:
        points, strange = thing.keypoints[thing.visibility > 0], ~np.isin(thing.visibility, (0, 1, 2))
        if strange.any():
            text = f"the visibility of a keypoint is {thing.visibility[strange][0]:g}"
            draft.say("visibility-value", text, thing.place, file)
        beyond = ((points < -TOLERANCE) | (points > [width, height])).any(1)
        if beyond.any():
            first = points[beyond.argmax()]
            draft.say(
                "keypoint-outside", f"the keypoint {first[0]:g} {first[1]:g} lies outside {image}", thing.place, file
            )
    if thing.polygons:
        points = np.concatenate(thing.polygons)
        if (points < -TOLERANCE).any() or (points > np.array([width, height]) + TOLERANCE).any():
            draft.say("outline-outside", f"its outline reaches beyond {image}", thing.place, file)
    labeled = thing.visibility is not None and bool((thing.visibility > 0).any())
    if thing.box is None and thing.region is None and not labeled and not thing.polygons and thing.runs is None:
        draft.say("object-blank", "neither box, outline nor keypoint", thing.place, file)
    return True


def _signature(thing: Object) -> tuple[object, ...]:
    """Return a key that is equal for objects with the same labels, place and number aside."""
    arrays = (thing.box, thing.keypoints, thing.visibility, thing.region, *thing.polygons)
    runs = None if thing.runs is None else thing.runs.counts.tobytes()
    return thing.label, thing.crowd, runs, *(None if array is None else array.tobytes() for array in arrays)


def bounds(thing: Object) -> Float[np.ndarray, " 4"] | None:
    """Return the box of an object, or the bounds of its outline or mask; None without any."""
    if thing.box is not None:
        return thing.box
    if thing.polygons:
        points = np.concatenate(thing.polygons)
        return np.concatenate([points.min(0), points.max(0)])
    if thing.runs is not None and thing.runs.counts[1::2].any():
        rows, columns = np.nonzero(thing.runs.mask())
        return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)
    return None


def outline(values: list[float]) -> np.ndarray:
    """Return the points of x1 y1 x2 y2 ...; raises ValueError where they enclose nothing."""
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"an outline of {len(values)} numbers, expected x and y of at least 3 points")
    points = np.array(values, dtype=float).reshape(-1, 2)
    if not (np.abs(points) <= LARGEST_COORDINATE).all():
        raise ValueError("a point of its outline is not a finite number of pixels")
    return points


def numbered(objects: Iterable[Object], start: int) -> tuple[Object, ...]:
    """Return the objects with their positions in the file, from `start`."""
    return tuple(replace(thing, number=start + index) for index, thing in enumerate(objects))
