"""Images of a page: truth beside what was found, small, inside the page itself."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from hrnet.engine.findings import Case
from hrnet.errors import InputError
from hrnet.io.geometry import Frame, Image
from hrnet.io.images import read_image

# Longer side of a drawing in pixels; small images are enlarged to it, so that thin lines stay thin, but not more than this.
_SIDE, _LARGEST_ENLARGEMENT = 340, 5.0
# A drawing of that size has at most about 40 kB at this quality, whatever is on it.
_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Figure:
    """A case ready to be shown.

    Attributes:
        name: of the image's file.
        words: the error in words.
        truth: a JPEG data URI; empty where the image cannot be read, of which `words` then speaks.
        found: the same.
        size: height and width of both.
    """

    name: str
    words: str
    truth: str = ""
    found: str = ""
    size: tuple[int, int] = (0, 0)


def choose(cases: Sequence[Case], worst: int, others: int) -> tuple[list[Case], list[Case]]:
    """The worst cases, worst first, and some of the rest, drawn the same way every time; in the order of the data set."""
    measured = [index for index, case in enumerate(cases) if np.isfinite(case.error)]
    order = sorted(measured, key=lambda index: (-cases[index].error, index))
    rest = sorted(order[worst:])
    drawn = sorted(random.Random(0).sample(rest, min(others, len(rest))))
    return [cases[index] for index in order[:worst]], [cases[index] for index in drawn]


def figure(case: Case) -> Figure:
    """A case drawn."""
    try:
        image = _read(case)
    except InputError as error:
        return Figure(case.path.name, f"{case.words} It cannot be shown: {error}")
    frame = view(case)
    truth, found = case.expected.plot_pair(case.found, image, frame)
    return Figure(case.path.name, case.words, _data_uri(truth), _data_uri(found), frame.size)


def view(case: Case) -> Frame:
    """The case's region, edges on edges, at the size that is shown."""
    x1, y1, x2, y2 = (float(value) for value in case.region)
    scale = min(_SIDE / max(x2 - x1, y2 - y1), _LARGEST_ENLARGEMENT)
    size = (max(round((y2 - y1) * scale), 1), max(round((x2 - x1) * scale), 1))
    # The region's corner comes to (-0.5, -0.5), the corner of the first pixel.
    matrix = np.array([[scale, 0, -0.5 - scale * x1], [0, scale, -0.5 - scale * y1]])
    return Frame(matrix, size, case.size)


def _read(case: Case) -> Image:
    image = read_image(case.path)
    # Labeled as stored, without the orientation tag.
    return image if image.shape[:2] == case.size else read_image(case.path, upright=False)


def _data_uri(image: Pillow.Image) -> str:
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
