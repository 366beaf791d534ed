"""Pictures a second of `Predictor` over a folder, end to end, and where the time goes; runtimes interleaved in one run.

python benchmarks/prediction.py FOLDER [--model pose] [--rounds 3]
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

import hrnet
from hrnet.images import find_images
from hrnet.predictor import Seconds


@dataclass
class Options:
    folder: Annotated[Path, tyro.conf.Positional]
    model: str = "pose"
    rounds: int = 3
    batch: int = 16


def main(options: Options) -> None:
    paths = find_images(str(options.folder))
    sides = {
        "openvino": hrnet.Predictor(hrnet.load(options.model), runtime="openvino", batch=options.batch),
        "openvino fp32": hrnet.Predictor(
            hrnet.load(options.model), runtime="openvino", precision="fp32", batch=options.batch
        ),
        "torch": hrnet.Predictor(hrnet.load(options.model), runtime="torch", batch=options.batch),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    parts: dict[str, Seconds] = {}
    for predictor in sides.values():
        list(predictor(paths[: options.batch]))  # compiles
    for _ in range(options.rounds):
        for name, predictor in sides.items():
            predictor.seconds = Seconds()
            start = time.perf_counter()
            list(predictor(paths))
            times[name].append(time.perf_counter() - start)
            parts[name] = predictor.seconds
    for name, values in times.items():
        whole, part = statistics.median(values), parts[name]
        print(
            f"{name:<14} {len(paths) / whole:7.1f} pictures a second; network {part.network / times[name][-1]:.0%} of the "
            f"time, read {part.read:.2f} s (overlapping), crop {part.crop:.2f} s, decode {part.decode:.2f} s"
        )


if __name__ == "__main__":
    main(tyro.cli(Options))
