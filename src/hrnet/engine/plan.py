"""The plan of a run, measured in two of its steps."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import torch

from hrnet.engine.batches import EvaluationBatches, reading
from hrnet.engine.evaluate import run_batch
from hrnet.engine.processes import Processes
from hrnet.engine.progress import duration
from hrnet.nn.task import SampleKey

if TYPE_CHECKING:
    from hrnet.engine.train import Trainer

_READ_SAMPLES = 8


def rehearse(trainer: Trainer) -> str:
    """Take up to two steps and evaluate one batch; return the plan of the run as a table. Nothing is written."""
    spec, world = trainer.spec, trainer.processes.world
    steps, loss, step = min(2, trainer.total), 0.0, 0.0
    with reading(trainer.job.train, trainer.batches, min(trainer.workers, 2)) as batches:
        for _ in range(steps):
            start = time.perf_counter()
            terms, _, _ = trainer.step(batches)
            loss = float(sum(terms.values()))
            step = time.perf_counter() - start
    samples = trainer.batches.micro * spec.accumulate
    reading_time = _reading_seconds(trainer) * samples / max(trainer.workers, 1)
    slowest = max(step, reading_time) if trainer.workers else step + reading_time
    evaluation = _evaluation_seconds(trainer)
    seconds = slowest * trainer.total + evaluation * -(-spec.epochs // spec.evaluate_every)
    bound = "limited by reading" if reading_time > step else "reading keeps up"
    parameters = sum(parameter.numel() for parameter in trainer.shown.parameters())
    rows = {
        "training samples": f"{len(trainer.job.train)}",
        "validation samples": f"{len(trainer.job.validation) if trainer.job.validation is not None else 0}",
        "batch": f"{spec.batch}: {world} processes x {spec.accumulate} parts x {trainer.batches.micro} samples",
        "steps": f"{trainer.total}: {spec.epochs} epochs of {trainer.batches.steps_per_epoch}",
        "network": f"{parameters / 1e6:.2f} million parameters, {trainer.accelerator.mixed_precision.replace('no', 'fp32')}"
        f"{', channels-last' if trainer.channels_last else ''}, on {trainer.device}",
        "loss": f"{loss:.4g} at the {'second' if steps == 2 else 'only'} step",
        "memory": f"{_memory(trainer.device) / 2**30:.2f} GiB per process, and {trainer.workers} workers that read samples",
        "time": f"{slowest:.3g} s per step ({bound}), {evaluation:.3g} s per evaluation: about {duration(seconds)} in all",
    }
    return "\n".join(f"{name:<20} {text}" for name, text in rows.items())


def _reading_seconds(trainer: Trainer) -> float:
    count = min(_READ_SAMPLES, len(trainer.job.train))
    start = time.perf_counter()
    for index in range(count):
        trainer.job.train[SampleKey(0, index)]
    return (time.perf_counter() - start) / count


def _evaluation_seconds(trainer: Trainer) -> float:
    """Return the time of one evaluation, estimated from one batch, without the metrics."""
    samples = trainer.job.validation
    if samples is None or not len(samples):
        return 0.0
    size = min(trainer.batches.micro, len(samples))
    start = time.perf_counter()
    with reading(samples, EvaluationBatches(size, size, Processes()), 0) as batches, trainer.accelerator.autocast():
        run_batch(trainer.shown.eval(), next(batches).to(trainer.device), trainer.shown, flip=False)
    return (time.perf_counter() - start) * EvaluationBatches(len(samples), size, trainer.processes).rounds


def _memory(device: torch.device) -> float:
    """Return the peak memory in bytes, of the device or of this process on a CPU; 0 where the system does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return 0.0
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(largest) * (1 if sys.platform == "darwin" else 1024)
