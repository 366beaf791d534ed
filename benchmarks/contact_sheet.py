"""Annotated images side by side: `python benchmarks/contact_sheet.py OUT.jpg IMAGE... [--columns 5]`.

With `--detector detection` the people of an image are found first.
With `--model segmentation --labels DIR` the truth, of which each image's PNG lies in DIR, stands left of what was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image

import hrnet
from hrnet.io.geometry import Frame, warp, warp_labels
from hrnet.io.images import image_size, read_image, read_indices
from hrnet.results import IGNORE_INDEX, SemanticMap

CELL = (300, 400)


@dataclass
class Options:
    out: Annotated[Path, tyro.conf.Positional]
    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    model: str = "pose"
    detector: str | None = None
    columns: int = 5
    labels: Path | None = None


def cell_of(path: Path) -> Frame:
    """The image at the size of a cell, so that what is drawn on a small one can be seen."""
    height, width = image_size(path)
    factor = min(CELL[0] / width, CELL[1] / height)
    return Frame.resize((height, width), (round(height * factor), round(width * factor)))


def truth(path: Path, labels: Path, names: tuple[str, ...]) -> Image.Image:
    """An image in the colors of its labels."""
    frame = cell_of(path)
    values = warp_labels(read_indices(labels / f"{path.stem}.png").astype(np.uint8), frame, IGNORE_INDEX)
    return SemanticMap(values, names, warp(read_image(path), frame)).plot()


def main(options: Options) -> None:
    model = hrnet.load(options.model)
    detector = hrnet.load(options.detector) if options.detector else None
    results = hrnet.Predictor(model, detector=detector)(
        [warp(read_image(path), cell_of(path)) for path in options.images]
    )
    tiles: list[Image.Image] = []
    for path, result in zip(options.images, results, strict=True):
        if options.labels is not None:
            tiles.append(truth(path, options.labels, model.spec.class_names))
        tiles.append(result.plot())
    # Legends make tiles higher.
    height = max(CELL[1], *(tile.height for tile in tiles)) + 8
    rows = -(-len(tiles) // options.columns)
    sheet = Image.new("RGB", (options.columns * (CELL[0] + 8), rows * height), "white")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, options.columns)
        sheet.paste(tile, (column * (CELL[0] + 8) + 4, row * height + 4))
    sheet.save(options.out, quality=88)


if __name__ == "__main__":
    main(tyro.cli(Options))
