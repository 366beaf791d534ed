"""Files of boxes for top-down models, from a detector or by hand."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hrnet.errors import InputError
from hrnet.formats.files import number_in_name, read_json
from hrnet.inference.processor import BoxPrompts


def read_boxes(path: Path) -> tuple[dict[str, BoxPrompts], list[str]]:
    """Return boxes by image, and a sentence for each entry that was left out.

    Two forms are recognized: ``{"photo.jpg": [[x, y, width, height], ...]}``, with an optional score as fifth number; and a
    COCO detection file, a list of ``{"image_id" or "file_name", "bbox", "score", "category_id"}``, of which category 1 is
    kept, or the only one there is. An empty list means that an image shows nothing. An image_id belongs to the image whose
    name ends in it: 139 to 000000000139.jpg.

    Raises:
        InputError: the file is missing, no json, or of neither form.
    """
    content = read_json(path, "a json with boxes")
    if isinstance(content, dict):
        entries = _mapping_entries(content, path)
    elif isinstance(content, list):
        entries = _coco_entries(content)
    else:
        raise InputError(
            f'{path} holds no boxes; write {{"photo.jpg": [[x, y, width, height], ...]}} or a COCO detection list.'
        )
    # Images with an empty list too: the detector found nothing there.
    named = content if isinstance(content, dict) else {}
    found: dict[str, list[list[float]]] = defaultdict(list, {str(name): [] for name in named})
    problems: list[str] = []
    for name, values in entries:
        numbers = _numbers(values)
        if numbers is not None:
            found[name].append(numbers)
        else:
            what = f"the box {values} of {name}"
            problems.append(f"{path}: {what} is not x, y, width, height of at least one pixel; fix it.")
    return {name: _prompts(np.array(rows).reshape(-1, 5)) for name, rows in found.items()}, problems


def _prompts(rows: Float[np.ndarray, "n 5"]) -> BoxPrompts:
    return BoxPrompts(np.column_stack([rows[:, :2], rows[:, :2] + rows[:, 2:4]]), rows[:, 4])


class BoxTable:
    """Boxes by image, for images by path.

    An image has the entry of its path as given, or the longest end of it that the file names (``b/1.jpg``, ``1.jpg``), or
    of its stem, or of the number that its stem ends in. Entries of a name are for one image of that name only.
    """

    def __init__(self, boxes: dict[str, BoxPrompts], file: Path) -> None:
        self.boxes, self.file = boxes, file
        self._users: dict[str, Path] = {}

    def find(self, path: Path) -> BoxPrompts | None:
        """Return the boxes of an image; None without an entry.

        Raises:
            InputError: another image has the same entry already.
        """
        parts = path.as_posix().split("/")
        keys = [str(path), *("/".join(parts[start:]) for start in range(len(parts)))]
        key = next((key for key in [*keys, path.stem, str(number_in_name(path))] if key in self.boxes), None)
        if key is None:
            return None
        user = self._users.setdefault(key, path)
        if user != path:
            raise InputError(f"{self.file}: {key!r} fits {user} and {path}; name the images by their paths there.")
        return self.boxes[key]


def _mapping_entries(content: dict[str, Any], path: Path) -> Iterator[tuple[str, Any]]:
    for name, boxes in content.items():
        if not isinstance(boxes, list):
            raise InputError(f"{path}: {name} has {boxes!r}, expected a list of boxes; fix it.")
        for box in boxes:
            yield str(name), box


def _coco_entries(content: list[Any]) -> Iterator[tuple[str, Any]]:
    categories = [entry.get("category_id", 1) for entry in content if isinstance(entry, dict)]
    kept = categories[0] if categories and 1 not in categories and len({str(one) for one in categories}) == 1 else 1
    for entry in content:
        if not isinstance(entry, dict):
            yield "a list entry", entry
            continue
        if entry.get("category_id", 1) != kept:
            continue
        name = str(entry.get("file_name", entry.get("image_id")))
        box = entry.get("bbox")
        yield name, [*box, entry.get("score", 1.0)] if isinstance(box, list) else box


def _numbers(values: Any) -> list[float] | None:
    """Return x, y, width, height, score as floats; None if they are not that."""
    if not isinstance(values, list) or len(values) not in (4, 5):
        return None
    try:
        x, y, width, height, score = (float(value) for value in [*values, 1.0][:5])
    except (TypeError, ValueError, OverflowError):
        return None
    usable = all(map(math.isfinite, (x, y, width, height, score))) and width >= 1 and height >= 1
    return [x, y, width, height, score] if usable else None
