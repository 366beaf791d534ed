"""Annotated pictures side by side: `python benchmarks/contact_sheet.py OUT.jpg PICTURE... [--columns 5]`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image

import hrnet
from hrnet.geometry import Frame, warp
from hrnet.images import read_image

CELL = (300, 400)


@dataclass
class Options:
    out: Annotated[Path, tyro.conf.Positional]
    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional]
    model: str = "pose"
    columns: int = 5


def enlarged(path: Path) -> Image.Image:
    """The picture at the size of a cell, so that what is drawn on a small one can be seen."""
    pixels = read_image(path)
    height, width = pixels.shape[:2]
    factor = min(CELL[0] / width, CELL[1] / height)
    frame = Frame.resize((height, width), (round(height * factor), round(width * factor)))
    return Image.fromarray(warp(pixels, frame))


def main(options: Options) -> None:
    import numpy as np

    results = hrnet.Predictor(hrnet.load(options.model))([np.asarray(enlarged(path)) for path in options.pictures])
    rows = -(-len(options.pictures) // options.columns)
    sheet = Image.new("RGB", (options.columns * (CELL[0] + 8), rows * (CELL[1] + 8)), "white")
    for number, result in enumerate(results):
        row, column = divmod(number, options.columns)
        sheet.paste(result.plot(), (column * (CELL[0] + 8) + 4, row * (CELL[1] + 8) + 4))
    sheet.save(options.out, quality=88)


if __name__ == "__main__":
    main(tyro.cli(Options))
