"""Pooling of regions with its gradient, ours beside torchvision's, in turns in one process, fp32.

OMP_NUM_THREADS=1 python benchmarks/region_pooling.py [--rounds 9]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro
from torch import Tensor
from torchvision.ops import roi_align

from hrnet.detection import regions as own

STRIDE = 4


@dataclass
class Options:
    rounds: int = 9
    channels: int = 96
    images: int = 4
    regions: int = 128
    """of each image"""


def random_regions(images: int, count: int, height: int, width: int) -> Tensor:
    """People of 15 to 112 pixels, all of which are read from the finest map."""
    sides = torch.rand(images * count, 1) * 60 + 10
    middle = torch.rand(images * count, 2) * torch.tensor([width, height]) * STRIDE
    half = sides * torch.tensor([0.4, 0.8])
    boxes = torch.cat([middle - half, middle + half], 1)
    boxes[:, 0::2].clamp_(0, width * STRIDE)
    boxes[:, 1::2].clamp_(0, height * STRIDE)
    return torch.cat([torch.arange(images).repeat_interleave(count)[:, None], boxes], 1)


def seconds(pool: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    values = pool()
    values.backward(torch.ones_like(values))
    return time.perf_counter() - start


def main(options: Options) -> None:
    # Products for maps of every size, to see where they stop to gain.
    own._MAX_MAP_PIXELS = 2**31
    print(f"{torch.get_num_threads()} threads, {options.images} images, {options.regions} regions of each, ms:")
    print(f"{'map':>12}{'cells':>7}{'torchvision':>13}{'ours':>9}{'ratio':>7}")
    for height, width in ((32, 40), (64, 80), (96, 128), (128, 128), (200, 336)):
        regions = random_regions(options.images, options.regions, height, width)
        level = torch.randn(options.images, options.channels, height, width, requires_grad=True)
        for cells in (7, 14):
            sides: dict[str, Callable[[], Tensor]] = {
                "torchvision": lambda: roi_align(level, regions, cells, 1 / STRIDE, aligned=True),  # noqa: B023
                "ours": lambda: own.pool(level, regions, cells, STRIDE),  # noqa: B023
            }
            times: dict[str, list[float]] = {name: [] for name in sides}
            for turn in range(options.rounds + 1):
                for name, side in sides.items():
                    value = seconds(side)
                    if turn:  # the first is warm-up
                        times[name].append(value)
            theirs, ours = (1000 * statistics.median(times[name]) for name in sides)
            print(f"{f'{height} x {width}':>12}{cells:>7}{theirs:>13.1f}{ours:>9.1f}{ours / theirs:>7.2f}")


if __name__ == "__main__":
    main(tyro.cli(Options))
