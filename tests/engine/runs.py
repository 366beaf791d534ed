"""A run that is small enough to repeat, and as a program: several processes that do it together.

python tests/engine/runs.py OUT TASK:WORLD ... forks the processes of one task after the other.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrnet.engine.evaluate import evaluate
from hrnet.engine.evaluator import Findings, Measure
from hrnet.engine.processes import Processes
from hrnet.engine.recipe import TrainSpec
from hrnet.engine.sync_norm import synchronize_norms
from hrnet.engine.task import Job
from hrnet.engine.train import Trainer
from hrnet.io.checkpoint import save_model
from hrnet.io.geometry import Frame
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.nn.task import Sample, SampleKey, random_generator
from hrnet.pose.augment import CropLabels
from hrnet.pose.codecs import make_codec
from hrnet.pose.model import PoseModel
from hrnet.pose.skeletons import Skeleton
from hrnet.pose.spec import PoseSpec
from hrnet.results import Poses

SIZE = (32, 32)
BACKBONE = HRNetSpec(
    stages=(StageSpec((4, 4), 1), StageSpec((4, 4, 4), 1), StageSpec((4, 4, 4, 4), 1)),
    bottlenecks=1,
    bottleneck_width=2,
    stem_width=4,
    high_resolution_only=True,
)
SPEC = PoseSpec(Skeleton(("left_end", "right_end")), BACKBONE, input_size=SIZE)
TRAIN = TrainSpec(
    epochs=4, batch=4, optimizer="adamw", learning_rate=1e-2, ema=0.9, precision="fp32", workers=0, trackers=()
)
COUNTS = (1, 2, 7, 22)


class Sticks:
    """Two bright dots in noise, drawn anew in every epoch."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: SampleKey | int) -> Sample:
        draw = key if isinstance(key, SampleKey) else SampleKey(0, key)
        if draw.sample >= self.count:
            raise IndexError(draw.sample)
        rng = random_generator(0, draw)
        points = rng.uniform(4, 28, (2, 2)).astype(np.float32)
        image = rng.integers(0, 60, (*SIZE, 3), dtype=np.uint8)
        for x, y in points.astype(int):
            image[y - 1 : y + 2, x - 1 : x + 2] = 250
        labels = CropLabels(points, np.ones(2, np.float32), np.zeros(2, bool))
        targets = {"keypoints": points} | labels.encode(make_codec(SPEC.codec, SIZE))
        return Sample(image, Frame.resize(SIZE, SIZE), targets, draw.sample)

    def describe(self, index: int) -> str:
        return f"sticks/{index}.png"


class Distance:
    """Mean distance of the dots, and which positions were seen, in order."""

    headline = "near"

    def __init__(self, samples: Sticks) -> None:
        self.samples = samples
        self.seen: list[int] = []
        self.distances: list[float] = []

    def update(self, indices: Sequence[int], results: Sequence[Poses]) -> None:
        self.seen += indices
        for index, result in zip(indices, results, strict=True):
            labels = self.samples[index].targets["keypoints"]
            self.distances.append(float(np.linalg.norm(result.keypoints[0] - labels, axis=-1).mean()))

    def compute(self) -> dict[str, float]:
        return {"near": -float(np.mean(self.distances)), "count": float(len(self.seen))}

    def measures(self) -> dict[str, Measure]:
        return {}

    def findings(self) -> Findings:
        return Findings()


def new_model(seed: int = 0) -> PoseModel:
    torch.manual_seed(seed)
    model = PoseModel(SPEC)
    # The published start, all weights near zero, hides differences behind batch norm.
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)
    return model


def make_trainer(out: Path, train: TrainSpec = TRAIN, *, count: int = 8, **options: Any) -> Trainer:
    validation = Sticks(5)
    job = Job(new_model(), Sticks(count), validation, lambda: Distance(validation))
    job = replace(job, **options.pop("job", {}))
    return Trainer(
        job,
        train,
        out,
        recipe="{}",
        save=lambda path, model, _: save_model(path, model),
        device="auto",
        **options,
    )


def fork(world: int, task: str, out: Path, wait: float = 300) -> list[int]:
    """Run a task in several processes; exit status of each (-9: killed). What they print is in OUT/TASK-WORLD-RANK.txt."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = [_child(rank, world, port, task, out) for rank in range(world)]
    found: dict[int, int] = {}
    end = time.monotonic() + wait
    while len(found) < world and time.monotonic() < end:
        for pid in set(pids) - found.keys():
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                found[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
        # A process that stands still does not end by itself.
        if len(found) == world - 1:
            for pid in set(pids) - found.keys():
                if _stands_still(pid):
                    os.kill(pid, signal.SIGKILL)
    for pid in set(pids) - found.keys():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        found[pid] = 99
    return [found[pid] for pid in pids]


def _stands_still(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _child(rank: int, world: int, port: int, task: str, out: Path) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        said = os.open(out / f"{task}-{world}-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 2)
        os.environ |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1"}
        os.environ |= {"MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        if task.startswith("fsdp"):
            os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
        TASKS[task](out)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _evaluate(out: Path) -> None:
    """Sets of all sizes; what the first process found."""
    from accelerate import Accelerator

    processes = Processes(Accelerator(cpu=True))
    found = {}
    for count in COUNTS:
        samples = Sticks(count)
        evaluator = Distance(samples)
        metrics = evaluate(
            new_model().eval(), samples, evaluator, device=torch.device("cpu"), batch=2, processes=processes
        )
        assert metrics == processes.broadcast(metrics)
        found[count] = {"seen": evaluator.seen, "metrics": metrics}
    if processes.first:
        (out / f"evaluate-{processes.world}.json").write_text(json.dumps(found))


def _train(out: Path, train: TrainSpec, name: str, **options: Any) -> Trainer:
    trainer = make_trainer(out / f"{name}-{os.environ['WORLD_SIZE']}", train, **options)
    trainer.run()
    return trainer


# Fifty steps of a batch of 12, which 1, 2 and 3 processes divide.
SYNCHRONIZED = replace(
    TRAIN, epochs=25, batch=12, optimizer="sgd", learning_rate=0.01, sync_norm=True, evaluate_every=25
)


def _synchronized(out: Path) -> None:
    """In double precision: rounding in single grows tenfold every few steps, whatever the number of processes."""
    job = {"model": new_model().double(), "validation": None}
    _train(out, SYNCHRONIZED, "synchronized", count=24, job=job)


def _norm(out: Path) -> None:
    """Oracle: torch's batch norm of the whole batch, in double precision; outputs, gradients and running statistics."""
    from accelerate import Accelerator

    processes = Processes(Accelerator(cpu=True))
    # Equal batches; one process with one image; one with none.
    for inner in ([6 * rank // processes.world for rank in range(1, processes.world)], [1, 4], [0, 2]):
        _norm_of_parts(processes, [0, *inner[: processes.world - 1], 6])


def _norm_of_parts(processes: Processes, bounds: list[int]) -> None:
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm2d(3).double()
    torch.nn.init.normal_(norm.weight)
    plain = torch.nn.Sequential(norm)
    images = torch.randn(6, 3, 4, 5, dtype=torch.float64) * 3 + 100
    factors = torch.randn_like(images)
    synchronized = copy.deepcopy(plain)
    synchronize_norms(synchronized, torch.device("cpu"))
    mine = slice(bounds[processes.rank], bounds[processes.rank + 1])
    whole, part = images.clone().requires_grad_(), images[mine].clone().requires_grad_()
    expected, found = plain(whole), synchronized(part)
    (expected * factors).sum().backward()
    (found * factors[mine]).sum().backward()
    close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
    close(found, expected[mine])
    assert part.grad is not None
    assert whole.grad is not None
    close(part.grad, whole.grad[mine])
    for one, other in zip(synchronized.parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        close(processes.mean(one.grad) * processes.world, other.grad)
    for (name, one), other in zip(synchronized.state_dict().items(), plain.state_dict().values(), strict=True):
        close(one, other, msg=name)
    close(synchronized.eval()(images), plain.eval()(images))


def _stop_later(trainer: Any) -> None:
    """SIGTERM for one process only, in its fifth step."""
    step = trainer.step

    def counted(*arguments: Any) -> Any:
        if trainer.position.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    trainer.step = counted


def _die_later(number: int, trainer: Any) -> None:
    step = trainer.step

    def counted(*arguments: Any) -> Any:
        if trainer.position.step == 4:
            os.kill(os.getpid(), number)
        return step(*arguments)

    trainer.step = counted


SAVING = replace(TRAIN, save_every=0)


def _killed(out: Path) -> None:
    trainer = make_trainer(out, SAVING)
    _die_later(signal.SIGKILL, trainer)
    trainer.run()


class _Broken(Sticks):
    """One label is not a number."""

    def __getitem__(self, key: SampleKey | int) -> Sample:
        sample = super().__getitem__(key)
        if sample.index == 3:
            sample.targets["heatmaps"][0, 0] = np.nan
        return sample


def _one(out: Path, change: Callable[[Trainer], None], rank: int = 1) -> None:
    out.mkdir(exist_ok=True)
    trainer = make_trainer(out / "run", replace(TRAIN, timeout=4, save_every=0))
    if trainer.processes.rank == rank:
        change(trainer)
    trainer.run()
    (out / f"stopped-{trainer.processes.rank}").write_text(f"{trainer.stopped} {trainer.position.step}")


TASKS: dict[str, Callable[[Path], object]] = {
    "evaluate": _evaluate,
    "norm": _norm,
    "synchronized": _synchronized,
    "fsdp": lambda out: _train(out, SYNCHRONIZED, "fsdp", count=24),
    "fsdp-resume": lambda out: _train(out, replace(SYNCHRONIZED, epochs=30), "fsdp", count=24, resume=True),
    "stop": lambda out: _one(out / "stop", _stop_later),
    "die": lambda out: _one(out / "die", lambda trainer: _die_later(signal.SIGKILL, trainer)),
    "hang": lambda out: _one(out / "hang", lambda trainer: _die_later(signal.SIGSTOP, trainer)),
    "first-dies": lambda out: _one(out / "first-dies", lambda trainer: _die_later(signal.SIGKILL, trainer), 0),
    "whole": lambda out: make_trainer(out / "whole", SAVING).run(),
    "killed": lambda out: _killed(out / "killed"),
    "resumed": lambda out: make_trainer(out / "killed", SAVING, resume=True).run(),
    "label": lambda out: make_trainer(out / "label", job={"train": _Broken(8)}).run(),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    statuses = {}
    for argument in sys.argv[2:]:
        name, world = argument.split(":")
        begun = time.monotonic()
        statuses[argument] = fork(int(world), name, Path(sys.argv[1]))
        print(argument, statuses[argument], f"{time.monotonic() - begun:.1f} s", flush=True)
    (Path(sys.argv[1]) / "statuses.json").write_text(json.dumps(statuses))
