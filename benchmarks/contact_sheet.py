"""The README's image: `python benchmarks/contact_sheet.py OUT.jpg IMAGE...`, people found by `detection`, posed by `pose`.

The README's has astronaut.jpg (in the package), basketball1.png (Debian's opencv-doc), camera.png (scikit-image) and
grace_hopper.jpg (matplotlib), in this order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image, ImageOps

import hrnet

GAP = 6


@dataclass
class Options:
    out: Annotated[Path, tyro.conf.Positional]
    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    height: int = 360


def main(options: Options) -> None:
    predictor = hrnet.Predictor(hrnet.load("pose"), detector=hrnet.load("detection"))
    images = [result.plot() for result in predictor(options.images)]
    images = [ImageOps.contain(image, (10 * options.height, options.height)) for image in images]
    sheet = Image.new("RGB", (sum(image.width + GAP for image in images) - GAP, options.height), "white")
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width + GAP
    sheet.save(options.out, quality=88)


if __name__ == "__main__":
    main(tyro.cli(Options))
