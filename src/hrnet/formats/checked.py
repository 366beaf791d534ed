"""Checks of images and objects that all readers share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hrnet.errors import InputError
from hrnet.formats.defects import KINDS, Draft
from hrnet.formats.records import ImageRecord, Object
from hrnet.io.geometry import Size
from hrnet.io.images import image_size, looks_whole, read_image

# Largest plausible coordinate in pixels; arithmetic with larger ones may overflow.
LARGEST_COORDINATE = 1e6
# Pixels by which a label may reach beyond its image: annotators round, and count from 0 or from 1.
TOLERANCE = 1.0


def checked_size(path: Path, listed: tuple[object, object] | None, draft: Draft) -> Size | None:
    """Return height and width of an image as labeled; None where it cannot be used, which the draft then names.

    A file that does not end as a whole one does is decoded. `listed` are height and width as the labels state them.
    """
    try:
        size = image_size(path)
        if not looks_whole(path):
            read_image(path)
        if listed is None or listed == size:
            return size
        stored = image_size(path, upright=False)
    except InputError as error:
        draft.add_error("image-unreadable", error, path)
        return None
    if listed == stored:
        return stored
    text = f"has {size[1]} x {size[0]} pixels, the annotations say {listed[1]} x {listed[0]}; it is left out"
    draft.add("image-size", text, file=path)
    return None


def usable(objects: Iterable[Object], size: Size, draft: Draft, file: Path) -> tuple[Object, ...]:
    """Return the usable objects of an image of this size; the draft names the defects of all, in their label file."""
    kept: list[Object] = []
    seen: set[tuple[object, ...]] = set()
    for thing in objects:
        found = list(_defects(thing, size))
        for kind, text in found:
            draft.add(kind, text, thing.place, file)
        if any(KINDS[kind].severity == "fatal" for kind, _ in found):
            continue
        signature = _signature(thing)
        if signature in seen:
            draft.add("object-twice", "equal to an earlier object of the same image", thing.place, file)
        seen.add(signature)
        kept.append(thing)
    return tuple(kept)


def _defects(thing: Object, size: Size) -> Iterator[tuple[str, str]]:
    """Yield kind and text of the defects of an object; after one of its box that is fatal, no other."""
    corner = np.array(size[::-1])
    image = f"its image of {size[1]} x {size[0]}"
    if thing.box is not None:
        low, high = thing.box[:2], thing.box[2:]
        text = "the box {:g} {:g} {:g} {:g} (x1 y1 x2 y2)".format(*thing.box)
        if not ((np.abs(thing.box) <= 2 * LARGEST_COORDINATE).all() and (high > low).all()):
            yield "box-degenerate", f"{text} is degenerate"
            return
        if (low >= corner).any() or (high <= 0).any():
            yield "box-lost", f"{text} lies outside {image}"
            return
        if (low < -TOLERANCE).any() or (high > corner + TOLERANCE).any():
            yield "box-outside", f"{text} reaches beyond {image}"
    labeled = thing.visibility is not None and bool((thing.visibility > 0).any())
    if thing.keypoints is not None and thing.visibility is not None:
        strange = ~np.isin(thing.visibility, (0, 1, 2))
        if strange.any():
            yield "visibility-value", f"the visibility of a keypoint is {thing.visibility[strange][0]:g}"
        points = thing.keypoints[thing.visibility > 0]
        beyond = ((points < -TOLERANCE) | (points > corner)).any(1)
        if beyond.any():
            x, y = points[beyond.argmax()]
            yield "keypoint-outside", f"the keypoint {x:g} {y:g} lies outside {image}"
    if thing.polygons:
        points = np.concatenate(thing.polygons)
        if (points < -TOLERANCE).any() or (points > corner + TOLERANCE).any():
            yield "outline-outside", f"its outline reaches beyond {image}"
    if thing.box is None and thing.region is None and not labeled and not thing.polygons and thing.runs is None:
        yield "object-blank", "neither box, outline nor keypoint"


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


def numbered(images: Iterable[ImageRecord]) -> tuple[ImageRecord, ...]:
    """Return the images with their positions in the set, and their objects with theirs among all objects."""
    count = itertools.count()
    return tuple(
        replace(image, number=place, objects=tuple(replace(thing, number=next(count)) for thing in image.objects))
        for place, image in enumerate(images)
    )
