"""Tiny images, and the question whether `check` names a defect."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet.formats.check import check

Paint = Callable[..., Path]
Named = Callable[..., None]


@pytest.fixture
def paint() -> Paint:
    """Writes an image of noise, another one for each seed; 40 x 30 pixels unless a size is given."""

    def write(path: Path, seed: int, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (size[1], size[0], 3) if mode == "RGB" else size[::-1]
        pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def named() -> Named:
    """Asserts that a defect of a kind is found and that its sentence holds some words: a file name, a line, an id."""

    def find(path: Path, kind: str, words: str, val: Path | None = None) -> None:
        found = check(path, val=val).defects
        assert [one for one in found if one.kind == kind and words in str(one)], [f"{one.kind}: {one}" for one in found]

    return find
