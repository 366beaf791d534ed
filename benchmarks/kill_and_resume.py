"""Runs killed at random moments and resumed, against the same run left alone; and kills while a state is being written.

python benchmarks/kill_and_resume.py [--runs 21] [--kills 3] [--saves 100]

Every process is forked from this one, which has imported everything, so that a start costs little.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from safetensors.numpy import load_file

import hrnet.cli
import hrnet.cli.train
import hrnet.engine.train  # imported once, for all forks
from hrnet.engine.recipe import BEST, LOG, STATE
from hrnet.engine.state import Position, read_state, write_state
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.pose.recipes import RECIPES
from hrnet.tasks import recipe_to_json


@dataclass
class Options:
    runs: int = 21
    kills: int = 3
    """at most, in one run"""
    saves: int = 100
    seed: int = 0


def synthetic(folder: Path) -> Path:
    """Sixteen images of sticks, their COCO json, and the recipe of a tiny network."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(16):
        ends = rng.uniform(4, 28, (2, 2))
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 32, "height": 32})
        annotations.append({
            "id": number + 1, "image_id": number, "category_id": 1, "bbox": [1, 1, 30, 30], "area": 900, "iscrowd": 0,
            "num_keypoints": 2, "keypoints": np.column_stack([ends, [2, 2]]).ravel().tolist(),
        })  # fmt: skip
    categories = [{"id": 1, "name": "stick", "keypoints": ["left_end", "right_end"], "skeleton": []}]
    labels = folder / "labels.json"
    labels.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    base = RECIPES["pose-lsp"]
    stages = (StageSpec((2, 4), 1), StageSpec((2, 4, 4), 1), StageSpec((2, 4, 4, 4), 1))
    backbone = HRNetSpec(stages, 1, 1, high_resolution_only=True, stem_width=2)
    recipe = replace(
        base,
        model=replace(base.model, backbone=backbone, input_size=(32, 32)),
        data=replace(
            base.data, images=(folder,), annotations=(labels,), val_images=folder, val_annotations=labels, headline=None
        ),
        # A state about every fifth step, besides those after each evaluation.
        train=replace(
            base.train, epochs=10, batch=4, warmup_steps=5, evaluate_every=3, save_every=1e-3, ema=0.99, trackers=(),
            examples=1,
        ),
    )  # fmt: skip
    path = folder / "recipe.json"
    path.write_text(recipe_to_json(recipe))
    return path


def fork(work: Callable[[], int], said: Path) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        # A group of its own, so that no signal of the terminal reaches it.
        os.setpgid(0, 0)
        handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        status = work()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def start(recipe: Path, out: Path, workers: int, resume: bool) -> int:
    arguments = ["train", str(recipe), "--out", str(out), "--device", "cpu", "--train.workers", str(workers)]
    return fork(lambda: hrnet.cli.main([*arguments, *(["--resume"] if resume else [])]), out.with_suffix(".txt"))


def same(one: Path, other: Path) -> bool:
    for name in (STATE, BEST):
        a, b = load_file(one / name), load_file(other / name)
        if a.keys() != b.keys() or any(not np.array_equal(value, b[key]) for key, value in a.items()):
            return False
    return curves(one) == curves(other)


def curves(out: Path) -> list[dict[str, object]]:
    """The log without what a clock says."""
    lines = [json.loads(line) for line in (out / LOG).read_text().splitlines()]
    return [{key: line[key] for key in line.keys() - {"seconds", "samples_per_second"}} for line in lines]


def killed_run(recipe: Path, out: Path, workers: int, seconds: float, kills: int, rng: random.Random) -> list[str]:
    """Start, kill, resume ... until it ends by itself; what hit it. The first kill always does."""
    told: list[str] = []
    for _ in range(rng.randint(1, kills)):
        pid = start(recipe, out, workers, resume=out.exists())
        alive = used_more(pid, rng.uniform(0.05, 0.85) * seconds)
        number = rng.choice([signal.SIGTERM, signal.SIGKILL])
        if alive:
            os.kill(pid, number)
        status = wait(pid)
        if not alive:
            told.append("ended before")
            break
        # SIGTERM gives 0 from a run that saved its state, -15 from one that had not begun.
        told.append(f"{number.name} {status}")
    return told


def used_more(pid: int, seconds: float) -> bool:
    """Wait until a process has used so much processor time, which other work on the machine does not change; False if it
    ended before."""
    ticks = os.sysconf("SC_CLK_TCK")
    while True:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if state == "Z":
            return False
        if (int(fields[10]) + int(fields[11])) / ticks > seconds:
            return True
        time.sleep(0.002)


def kill_while_saving(folder: Path, number: int, rng: random.Random) -> bool:
    """Whether a state can be read, no older than the last that was confirmed."""
    reads, writes = os.pipe()

    def save_forever() -> int:
        for step in range(1, 10_000):
            write_state(folder, {"model.x": torch.full((500_000,), float(step))}, Position(step))
            os.write(writes, step.to_bytes(4, "big"))
        return 0

    pid = fork(save_forever, folder.with_suffix(".txt"))
    os.close(writes)
    confirmed = os.read(reads, 4)
    time.sleep(rng.uniform(0, 0.05 + 0.002 * number))
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    confirmed += os.read(reads, 1 << 20)
    os.close(reads)
    last = int.from_bytes(confirmed[-4:], "big")
    position, tensors, _ = read_state(folder)
    return position.step >= last and bool((tensors["model.x"] == position.step).all())


def main(options: Options) -> None:
    torch.set_num_threads(1)
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good, partial = 0, 0
        for number in range(options.saves):
            states = folder / f"states-{number}"
            states.mkdir()
            good += kill_while_saving(states, number, rng)
            partial += any(states.glob(".*.partial"))
        print(
            f"SIGKILL while saving: {good} of {options.saves} leave a state that can be read; {partial} half files left"
        )
        recipe = synthetic(folder)
        whole: dict[int, float] = {}
        equal = hits = 0
        for number in range(options.runs):
            workers = number % 3
            reference = folder / f"whole-{workers}"
            if workers not in whole:
                _, status, usage = os.wait4(start(recipe, reference, workers, resume=False), 0)
                whole[workers] = usage.ru_utime + usage.ru_stime
                print(
                    f"left alone, {workers} workers: status {status}, {whole[workers]:.1f} s of processor", flush=True
                )
            out = folder / f"run-{number}"
            told = killed_run(recipe, out, workers, whole[workers], options.kills, rng)
            told.append(f"end {wait(start(recipe, out, workers, resume=True))}")
            found = same(reference, out)
            equal += found
            hits += sum(word.startswith("SIG") for word in told)
            print(
                f"run {number}, {workers} workers: {', '.join(told)}: {'equal' if found else 'DIFFERENT'}", flush=True
            )
        together = all(same(folder / "whole-0", folder / f"whole-{workers}") for workers in whole)
        print(
            f"killed and resumed: {equal} of {options.runs} bitwise equal after {hits} kills; "
            f"worker counts equal: {together}"
        )


if __name__ == "__main__":
    main(tyro.cli(Options))
