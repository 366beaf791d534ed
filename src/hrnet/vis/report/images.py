"""Images of a page: ground truth beside prediction, small, inside the page itself."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow

from hrnet.engine.evaluator import Case
from hrnet.errors import InputError
from hrnet.io.geometry import Frame, Size
from hrnet.io.images import read_image

# Longer side of a drawing in pixels; small images are enlarged to it, so that thin lines stay thin, by this at most.
_SIDE, _LARGEST_ENLARGEMENT = 340, 5.0
# At this quality a drawing of that size has at most about 40 kB, whatever is on it.
_QUALITY = 80


class Figure(NamedTuple):
    """A case ready to be shown: JPEG data URIs of one size, both empty where the image cannot be read."""

    name: str
    words: str
    ground_truth: str = ""
    found: str = ""
    size: Size = (0, 0)


def choose(cases: Sequence[Case], worst: int, others: int) -> tuple[list[Case], list[Case]]:
    """Return the worst cases, worst first, and a fixed random sample of the rest in the order of the data set."""
    measured = [index for index, case in enumerate(cases) if np.isfinite(case.error)]
    order = sorted(measured, key=lambda index: (-cases[index].error, index))
    rest = sorted(order[worst:])
    drawn = sorted(random.Random(0).sample(rest, min(others, len(rest))))
    return [cases[index] for index in order[:worst]], [cases[index] for index in drawn]


def figure(case: Case) -> Figure:
    """Draw a case."""
    try:
        image = read_image(case.path)
        if image.shape[:2] != case.size:  # labeled as stored, without the orientation tag
            image = read_image(case.path, upright=False)
    except InputError as error:
        return Figure(case.path.name, f"{case.words} It cannot be shown: {error}")
    frame = view(case)
    expected, found = case.expected.plot_pair(case.found, image, frame)
    return Figure(case.path.name, case.words, _data_uri(expected), _data_uri(found), frame.size)


def view(case: Case) -> Frame:
    """Return the frame of the case's region, edges on edges, at the size that is shown."""
    x1, y1, x2, y2 = (float(value) for value in case.region)
    scale = min(_SIDE / max(x2 - x1, y2 - y1), _LARGEST_ENLARGEMENT)
    size = (max(round((y2 - y1) * scale), 1), max(round((x2 - x1) * scale), 1))
    # The region's corner comes to (-0.5, -0.5), the corner of the first pixel.
    matrix = np.array([[scale, 0, -0.5 - scale * x1], [0, scale, -0.5 - scale * y1]])
    return Frame(matrix, size, case.size)


def _data_uri(image: Pillow.Image) -> str:
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
