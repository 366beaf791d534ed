"""Training steps of one network, interleaved in one run: bf16 and channels-last against fp32 and contiguous.

python benchmarks/training_speed.py [--rounds 7] [--batch 32] [--size 192 160]
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import tyro

from hrnet.engine.hardware import bf16_unit
from hrnet.io.geometry import Frame
from hrnet.nn.task import Batch
from hrnet.pose.model import PoseModel
from hrnet.pose.recipes import RECIPES


@dataclass
class Options:
    rounds: int = 7
    batch: int = 32
    size: tuple[int, int] = (192, 160)
    recipe: str = "pose-lsp"


def step_of(model: PoseModel, batch: Batch, fast: bool) -> Callable[[], None]:
    model = copy.deepcopy(model).train()
    images = batch.images
    if fast:
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    batch = replace(batch, images=images)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            loss = model.loss(batch)["heatmaps"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def main(options: Options) -> None:
    spec = replace(RECIPES[options.recipe].model, input_size=options.size)
    model = PoseModel(spec)
    joints = len(spec.skeleton)
    frame = Frame.resize(options.size, options.size)
    points = torch.rand(options.batch, joints, 2) * torch.tensor(options.size[::-1])
    batch = Batch(
        images=torch.rand(options.batch, 3, *options.size),
        frames=(frame,) * options.batch,
        targets={"keypoints": points, "visibility": torch.ones(options.batch, joints)},
        indices=tuple(range(options.batch)),
    )
    sides = {
        "fp32 contiguous": step_of(model, batch, fast=False),
        "bf16 channels-last": step_of(model, batch, fast=True),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(options.rounds + 1):
        for name, step in sides.items():
            start = time.perf_counter()
            step()
            if round_:  # the first is warm-up
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(
        f"{options.recipe} at {options.size}, batch {options.batch}, unit {bf16_unit()}, {torch.get_num_threads()} threads"
    )
    for name, value in medians.items():
        print(f"{name:<20} {value:.3f} s per step, {options.batch / value:.1f} images per second")
    slow, fast = medians.values()
    print(f"ratio {slow / fast:.2f}")


if __name__ == "__main__":
    main(tyro.cli(Options))
