"""The training loop of every task."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, is_tensorboard_available
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hrnet.engine.evaluate import evaluate
from hrnet.engine.hardware import default_workers, gains_from_bf16
from hrnet.engine.optim import MovingAverage, build_optimizer, gradient_norm, learning_rate
from hrnet.engine.progress import Progress
from hrnet.engine.state import Position, load_state
from hrnet.engine.state import save_state as write_state
from hrnet.errors import InputError
from hrnet.recipe import TrainSpec
from hrnet.task import Batch, Draw, Evaluator, Job, TaskModel

STATE = "last.safetensors"
BEST = "best.safetensors"
LOG = "log.jsonl"
_LOG_EVERY = 50


class _Loss(nn.Module):
    """The loss as a module's forward, which is what data-parallel wrappers synchronise."""

    def __init__(self, model: TaskModel[Any]) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.model.loss(batch)


class _Batches:
    """Batches of one process from a step onwards, to the end of the run.

    The order of an epoch follows from the seed and the epoch alone; each process takes its part of every batch.
    """

    def __init__(self, count: int, spec: TrainSpec, accelerator: Accelerator, start: int) -> None:
        self.count, self.spec, self.start = count, spec, start
        self.steps_per_epoch = max(count // spec.batch, 1)
        self.rank, self.world = accelerator.process_index, accelerator.num_processes

    def __iter__(self) -> Iterator[list[Draw]]:
        micro = self.spec.batch // (self.world * self.spec.accumulate)
        for epoch in range(self.start // self.steps_per_epoch, self.spec.epochs):
            order = np.random.default_rng((self.spec.seed, epoch)).permutation(self.count)
            first = self.start % self.steps_per_epoch if epoch == self.start // self.steps_per_epoch else 0
            for step in range(first, self.steps_per_epoch):
                batch = np.resize(order[step * self.spec.batch : (step + 1) * self.spec.batch], self.spec.batch)
                for part in range(self.spec.accumulate):
                    begin = (part * self.world + self.rank) * micro
                    yield [Draw(epoch, int(index)) for index in batch[begin : begin + micro]]


class Trainer:
    """One run in one folder.

    Args:
        job: model and data.
        spec: how to train.
        out: the run's folder.
        recipe: the run's recipe as JSON, kept with its state.
        save: writes the best weights, given path, model and metrics.
        resume: go on from the folder's last state.
        flip: score with the mirrored images too.
        device: ``cpu``, or ``auto`` for what Accelerate finds.
    """

    def __init__(
        self,
        job: Job,
        spec: TrainSpec,
        out: Path,
        *,
        recipe: str,
        save: Callable[[Path, TaskModel[Any], dict[str, float]], None],
        resume: bool = False,
        flip: bool = False,
        device: str = "auto",
    ) -> None:
        self.job, self.spec, self.out, self.save, self.flip = job, spec, out, save, flip
        self.accelerator = Accelerator(
            cpu=device == "cpu",
            mixed_precision=_precision(spec, device),
            log_with="tensorboard" if is_tensorboard_available() else None,
            project_dir=out,
        )
        self.device = self.accelerator.device
        if spec.batch % (self.accelerator.num_processes * spec.accumulate):
            raise InputError(
                f"A batch of {spec.batch} cannot be divided among {self.accelerator.num_processes} processes and "
                f"{spec.accumulate} accumulation steps; choose a multiple of their product."
            )
        bf16 = self.accelerator.mixed_precision == "bf16"
        self.channels_last = bf16 if spec.channels_last is None else spec.channels_last
        model = job.model.to(self.device)
        if self.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self.model: TaskModel[Any] = model
        self.optimizer = build_optimizer(model, spec)
        self.average = MovingAverage(model, spec.ema) if spec.ema else None
        self.position = Position(recipe=recipe)
        if resume and (out / STATE).exists():
            self.position = load_state(out / STATE, model, self.average, self.optimizer)
        self.loss = self.accelerator.prepare(_Loss(model))
        self.batches = _Batches(len(job.train), spec, self.accelerator, self.position.step)
        self.total = spec.epochs * self.batches.steps_per_epoch
        self.workers = default_workers() if spec.workers is None else spec.workers

    def run(self) -> dict[str, float]:
        """Train to the end; the metrics of the last evaluation."""
        metrics: dict[str, float] = {}
        self.accelerator.init_trackers("tensorboard")
        loader = iter(
            DataLoader(
                self.job.train,  # type: ignore[arg-type]  # a SampleSource is all that the loader needs of a Dataset
                batch_sampler=self.batches,
                collate_fn=Batch.stack,
                num_workers=self.workers,
                prefetch_factor=4 if self.workers else None,
            )
        )
        saved = started = time.monotonic()
        before = self.position.seconds
        per_epoch = self.batches.steps_per_epoch
        title = f"train {self.out.name}"
        quiet = not self.accelerator.is_main_process
        with Progress(title, (self.total - self.position.step) * self.spec.batch, "samples", quiet=quiet) as progress:
            while self.position.step < self.total:
                terms, norm = self._step(loader)
                self.position.step += 1
                self.position.seconds = before + time.monotonic() - started
                epoch = self.position.step / per_epoch
                progress.advance(self.spec.batch, f"epoch {epoch:.1f} of {self.spec.epochs}")
                if self.position.step % _LOG_EVERY == 0 or self.position.step % per_epoch == 0:
                    values = {name: float(value) for name, value in terms.items()}
                    self._log({"loss": values, "gradient": float(norm), "samples_per_second": round(progress.rate, 2)})
                if self.position.step % per_epoch == 0 and self._evaluation_due(self.position.step // per_epoch):
                    metrics = self._evaluate()
                    self.save_state()
                    saved = time.monotonic()
                elif time.monotonic() - saved > 60 * self.spec.save_every:
                    self.save_state()
                    saved = time.monotonic()
        self.accelerator.end_training()
        return metrics

    def _step(self, loader: Iterator[Batch]) -> tuple[dict[str, Tensor], Tensor]:
        step = self.position.step
        # Counted, not consumed: what dropout draws follows from the seed and the step.
        torch.manual_seed(hash((self.spec.seed, step)) % 2**63)
        self.loss.train()
        rate = learning_rate(self.spec, step, self.batches.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total: dict[str, Tensor] = {}
        seen: list[int] = []
        for part in range(self.spec.accumulate):
            batch = next(loader).to(self.device)
            seen += batch.indices
            last = part == self.spec.accumulate - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.loss):
                with self.accelerator.autocast():
                    terms = self.loss(batch)
                loss = torch.stack(list(terms.values())).sum() / self.spec.accumulate
                self.accelerator.backward(loss)
            for name, value in terms.items():
                total[name] = total.get(name, 0) + value.detach() / self.spec.accumulate
        norm = gradient_norm(self.model.parameters())
        if not torch.isfinite(norm):
            files = ", ".join(str(index) for index in seen)
            raise InputError(
                f"The loss or its gradient is not finite at step {step}; nothing was changed or saved since. "
                f"The batch holds the samples {files}: look at them, or lower the learning rate."
            )
        if self.spec.gradient_clip:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), self.spec.gradient_clip, norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average:
            self.average.update(self.model, step)
        return total, norm

    def _evaluation_due(self, epoch: int) -> bool:
        return epoch % self.spec.evaluate_every == 0 or epoch == self.spec.epochs

    def _evaluate(self) -> dict[str, float]:
        """Score the averaged weights if there are any, and keep them if they are the best so far."""
        weights = self.average.state if self.average else None
        with _swapped(self.model, weights):
            self.model.eval()
            metrics: dict[str, float] = {}
            if self.job.validation is not None:
                evaluator: Evaluator = self.job.evaluator()
                with self.accelerator.autocast():
                    metrics = evaluate(
                        self.model,
                        self.job.validation,
                        evaluator,
                        device=self.device,
                        flip=self.flip,
                        batch=max(self.spec.batch // self.spec.accumulate // self.accelerator.num_processes, 1),
                        workers=self.workers,
                        rank=self.accelerator.process_index,
                        world=self.accelerator.num_processes,
                        gather=gather_object,
                    )
                headline: float | None = metrics.get(evaluator.headline)
            else:
                headline = None
            best = headline is None or self.position.best is None or headline > self.position.best
            if best:
                self.position.best = headline
                if self.accelerator.is_main_process:
                    self.save(self.out / BEST, self.model, metrics)
        self._log({"metrics": metrics, "best": best})
        return metrics

    def save_state(self) -> None:
        """Write the state that `resume` goes on from."""
        if self.accelerator.is_main_process:
            write_state(self.out / STATE, self.model, self.average, self.optimizer, self.position)

    def _log(self, values: dict[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        step = self.position.step
        line = {
            "step": step,
            "epoch": round(step / self.batches.steps_per_epoch, 3),
            "seconds": round(self.position.seconds, 1),
            "learning_rate": learning_rate(self.spec, step, self.batches.steps_per_epoch),
            **values,
        }
        with (self.out / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        curves = {**values.get("loss", {}), **values.get("metrics", {}), "learning_rate": line["learning_rate"]}
        self.accelerator.log(curves, step=step)


def _precision(spec: TrainSpec, device: str) -> str:
    if spec.precision == "auto":
        kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
        return "bf16" if gains_from_bf16(torch.device(kind)) else "no"
    return "bf16" if spec.precision == "bf16" else "no"


@contextlib.contextmanager
def _swapped(model: nn.Module, weights: dict[str, Tensor] | None) -> Iterator[None]:
    """The model with other weights for a while."""
    if weights is None:
        yield
        return
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    try:
        yield
    finally:
        model.load_state_dict(own)
