"""Small data sets of class folders: images of a color that says their class, with noise."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLORS = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60))


@pytest.fixture
def folders(tmp_path: Path) -> Callable[..., Path]:
    """Makes a data set: parts, each with the number of images of each class."""

    def made(parts: Mapping[str, Mapping[str, int]], name: str = "set") -> Path:
        rng = np.random.default_rng(0)
        colors: dict[str, tuple[int, int, int]] = {}
        for part, classes in parts.items():
            for one, count in classes.items():
                folder = tmp_path / name / part / one
                folder.mkdir(parents=True)
                color = colors.setdefault(one, COLORS[len(colors) % len(COLORS)])
                for number in range(count):
                    pixels = np.clip(rng.normal(color, 25, (40, 48, 3)), 0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number}.png")
        return tmp_path / name

    return made
