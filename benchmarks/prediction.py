"""Time per image of `Predictor` over a folder, end to end, and where it goes; runtimes interleaved in one run.

python benchmarks/prediction.py FOLDER [--model pose|detection|...] [--rounds 3]
python benchmarks/prediction.py FOLDER --detector detection|RUN|FILE --draw   # people: found, posed, drawn
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

import hrnet
from hrnet.inference.forward import Precision
from hrnet.io.images import find_images
from hrnet.predictor import Seconds
from hrnet.results import Detections, Poses


@dataclass
class Options:
    folder: Annotated[Path, tyro.conf.Positional]
    model: str = "pose"
    detector: str | None = None
    """finds the people that a pose model looks at; a name, a run folder or a file"""
    rounds: int = 3
    images: int | None = None
    """only so many, spread over the folder"""
    batch: int | None = None
    """inputs that go through the network together; without it as many as hold two million pixels, at most 16"""
    runtimes: tuple[str, ...] = ("openvino", "openvino fp32", "torch")
    draw: bool = False
    """draw each result too"""


def predictor_of(options: Options, runtime: str) -> hrnet.Predictor:
    name, _, form = runtime.partition(" ")
    precision: Precision = "fp32" if form == "fp32" else "auto"
    detector = None
    if options.detector:
        detector = hrnet.Predictor(hrnet.load(options.detector), runtime=name, precision=precision)
    model = hrnet.load(options.model)
    return hrnet.Predictor(model, runtime=name, precision=precision, batch=options.batch, detector=detector)


def run(options: Options, predictor: hrnet.Predictor, paths: list[Path]) -> tuple[int, float]:
    """How many people or objects are found, and the seconds of drawing."""
    found, drawing = 0, 0.0
    for result in predictor(paths):
        found += len(result) if isinstance(result, Poses | Detections) else 0
        if options.draw:
            start = time.perf_counter()
            result.plot()
            drawing += time.perf_counter() - start
    return found, drawing


def main(options: Options) -> None:
    paths = find_images(str(options.folder))
    paths = paths[:: max(len(paths) // options.images, 1)][: options.images] if options.images else paths
    sides = {runtime: predictor_of(options, runtime) for runtime in options.runtimes}
    times: dict[str, list[float]] = {name: [] for name in sides}
    parts: dict[str, dict[str, float]] = {}
    counts: dict[str, int] = {}
    for predictor in sides.values():
        list(predictor(paths))  # compiles, once for each size of input
    for _ in range(options.rounds):
        for name, predictor in sides.items():
            for one in (predictor, predictor.detector):
                if one is not None:
                    one.seconds = Seconds()
            start = time.perf_counter()
            counts[name], drawing = run(options, predictor, paths)
            times[name].append(time.perf_counter() - start)
            parts[name] = asdict(predictor.seconds) | {"draw": drawing}
    for name, values in times.items():
        whole = statistics.median(values)
        split = ", ".join(
            f"{part} {1000 * seconds / len(paths):.1f}" for part, seconds in parts[name].items() if seconds
        )
        rates = f"{len(paths) / whole:.1f} images and {counts[name] / whole:.1f} results per second"
        print(f"{name:<14} {1000 * whole / len(paths):8.1f} ms per image ({split}; reading overlaps); {rates}")


if __name__ == "__main__":
    main(tyro.cli(Options))
