"""The training loop of every task."""

from __future__ import annotations

import contextlib
import copy
import math
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.optim import Optimizer

from hrnet.engine.batches import Batches, reading
from hrnet.engine.evaluate import Interrupted, evaluate
from hrnet.engine.evaluator import Evaluator
from hrnet.engine.finite import Cause, input_cause, step_cause, stop_for
from hrnet.engine.hardware import default_workers, gains_from_bf16, gains_from_channels_last, keep_freed_memory
from hrnet.engine.journal import Journal, example_positions, example_sheet
from hrnet.engine.optim import MovingAverage, build_optimizer, gradient_norm, learning_rate, set_rate
from hrnet.engine.processes import Processes, StopSignals, whole
from hrnet.engine.progress import Progress
from hrnet.engine.recipe import BEST, TrainSpec
from hrnet.engine.state import Position, collect, has_state, read_state, restore, write_state
from hrnet.engine.sync_norm import synchronize_norms
from hrnet.engine.task import Job
from hrnet.engine.watch import Watch
from hrnet.errors import InputError
from hrnet.io.atomic import remove_partial
from hrnet.nn.task import Batch, TaskModel

_LOG_EVERY = 50


class _Loss(nn.Module):
    """The loss as a module's forward, which is what data-parallel wrappers synchronize."""

    def __init__(self, model: TaskModel[Any, Any]) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        try:
            return self.model.loss(batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            height, width = batch.images.shape[2:]
            raise InputError(
                f"Batch norm cannot learn from a single pixel, all that is left of one image of {height} x {width} at the"
                " lowest resolution; train with a larger --train.batch or --model.input-size."
            ) from error


class Trainer:
    """One run in one folder, in all processes of the launch.

    Args:
        out: run folder.
        recipe: recipe of the run as JSON, kept with its state.
        save: function that writes the best weights, given path, model and metrics.
        resume: True to resume from the folder's last state.
        flip: True to average with horizontally flipped inputs when scoring.
        device: ``cpu``, or ``auto`` for the device that Accelerate finds.
        cure: sentence that says how to resume, printed when another process has died.
        report: function that writes the run's page, given the last evaluator (or None) and its metrics.

    Attributes:
        stopped: signal that interrupted the run; 0 for none.
        messages: sentences about the state that is resumed.
    """

    def __init__(
        self,
        job: Job,
        spec: TrainSpec,
        out: Path,
        *,
        recipe: str,
        save: Callable[[Path, TaskModel[Any, Any], dict[str, float]], None],
        resume: bool = False,
        flip: bool = False,
        device: str = "auto",
        cure: str = "",
        report: Callable[[Evaluator | None, dict[str, float]], None] = lambda _evaluator, _metrics: None,
    ) -> None:
        self.job = job
        self.spec = spec
        self.out = out
        self.save = save
        self.flip = flip
        self.report = report
        # Accelerate keeps the precision of the first run in a process, and refuses a second run of another.
        AcceleratorState._reset_state()
        # With synchronized norms the buffers are equal everywhere as they are.
        self.accelerator: Accelerator = Accelerator(
            # Without another device Accelerate must be told so, or the processes would not connect.
            cpu=device == "cpu" or not torch.accelerator.is_available(),
            mixed_precision=_precision(spec, device),
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=not spec.sync_norm)],
        )
        self.device: torch.device = self.accelerator.device
        self.processes: Processes = Processes(self.accelerator)
        self.watch: Watch = Watch(self.processes, spec.timeout, cure)
        self.signals: StopSignals = StopSignals()
        self.stopped: int = 0
        self.messages: list[str] = []
        self._build()
        self.position: Position = Position(recipe=recipe, log_bytes=0)
        if resume and self.processes.broadcast(has_state(out)):
            self._restore()
        self.batches: Batches = Batches(len(job.train), spec, self.processes, self.position.step)
        self.total: int = spec.epochs * self.batches.steps_per_epoch
        self.workers: int = default_workers() if spec.workers is None else spec.workers
        self.journal: Journal | None = None

    def _build(self) -> None:
        if self.accelerator.distributed_type == DistributedType.FSDP:
            if not self.accelerator.is_fsdp2:
                raise InputError("Only version 2 of FSDP is supported; add --fsdp_version 2 to accelerate launch.")
            if self.spec.optimizer == "muon":
                raise InputError("Muon needs whole kernels, which FSDP shards; train without it, or with AdamW.")
        bf16 = self.accelerator.mixed_precision == "bf16"
        fast = gains_from_channels_last(self.device, bf16)
        self.channels_last: bool = fast if self.spec.channels_last is None else self.spec.channels_last
        if self.device.type == "cpu":
            keep_freed_memory()
        model = self.job.model.to(self.device)
        if self.channels_last:
            model = model.to(memory_format=torch.channels_last)
            # A false alarm about 1 x 1 kernels, whose memory layout is the same either way.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        # The copy that is evaluated and saved: whole, however the training model is wrapped.
        self.shown: TaskModel[Any, Any] = copy.deepcopy(model)
        if self.spec.sync_norm and self.processes.world > 1:
            synchronize_norms(model, self.device)
        # In one call, because FSDP replaces the optimizer's parameters.
        self.loss: nn.Module
        self.loss, optimizer = self.accelerator.prepare(_Loss(model), build_optimizer(model, self.spec))
        self.optimizer: Optimizer = optimizer.optimizer
        self.model: TaskModel[Any, Any] = self.accelerator.unwrap_model(self.loss).model
        self.average: MovingAverage | None = MovingAverage(self.model, self.spec.ema) if self.spec.ema else None

    def _restore(self) -> None:
        """Read the state in the first process only: other machines may not see the run folder."""
        read = self.processes.broadcast(read_state(self.out) if self.processes.first else None)
        assert read is not None
        self.position, tensors, message = read
        self.messages += [message] if message else []
        restore(tensors, self.model, self.average, self.optimizer)

    def run(self) -> dict[str, float]:
        """Train to the end or until a signal; return the metrics of the last evaluation."""
        with self.signals, self.watch:
            if self.processes.first:
                self.journal = Journal(self.out, self.position.step, self.position.log_bytes, self.spec.trackers)
                remove_partial(self.out)
            try:
                with reading(self.job.train, self.batches, self.workers) as batches:
                    self._loop(batches)
            except InputError as error:
                self._log({"stopped": str(error)}, {})
                if self.processes.first:
                    self.report(None, {})
                raise
            finally:
                if self.journal:
                    self.journal.close()
        return self.position.metrics

    def _loop(self, batches: Iterator[Batch]) -> None:
        position, per_epoch = self.position, self.batches.steps_per_epoch
        saved = started = time.monotonic()
        before = position.seconds
        left = (self.total - position.step) * self.spec.batch
        quiet = not self.processes.first
        with Progress(f"train {self.out.name}", left, "samples", quiet=quiet) as progress:
            while True:
                if self._evaluation_due() and not self._evaluate():
                    return self.save_state()
                if position.step >= self.total:
                    return None
                save_due = self.processes.first and time.monotonic() - saved > 60 * self.spec.save_every
                terms, norm, (stop, save) = self.step(batches, save_due)
                position.seconds = before + time.monotonic() - started
                progress.advance(self.spec.batch, f"epoch {position.step / per_epoch:.1f} of {self.spec.epochs}")
                if position.step % _LOG_EVERY == 0 or position.step % per_epoch == 0:
                    self._log_step(terms, norm, progress.rate)
                if stop:
                    self.stopped = stop
                    return self.save_state()
                if save:
                    self.save_state()
                    saved = time.monotonic()

    def step(self, batches: Iterator[Batch], save_due: bool = False) -> tuple[dict[str, Tensor], Tensor, list[int]]:
        """Take one step of the optimizer.

        Returns:
            The loss by its terms, the norm of the gradient, and two values reduced over all processes: the
            received signal or 0, and whether to save.

        Raises:
            InputError: a value is not finite; the weights are unchanged.
        """
        step = self.position.step
        # The seed of dropout depends on the seed of the run, the step and the process alone.
        seeds = np.random.SeedSequence((self.spec.seed, step, self.processes.rank))
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))
        self.loss.train()
        set_rate(self.optimizer, learning_rate(self.spec, step, self.batches.steps_per_epoch))
        terms, seen, causes = self._gradients(batches)
        spread = gradient_norm(self.model.parameters())
        norm = whole(spread)
        finite = torch.isfinite(torch.stack([norm, *terms.values()])).all()
        broken, *reduced = self.processes.all_reduce_max(bool(causes) or not finite, self.signals.received, save_due)
        if broken:
            found = None if causes else step_cause(self.model, terms, self.job.train, seen)
            stop_for([*causes, *([found] if found else [])], step, self.processes)
        if self.spec.gradient_clip:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), self.spec.gradient_clip, spread)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average:
            self.average.update(step)
        self.position.step += 1
        return terms, norm, reduced

    def _gradients(self, batches: Iterator[Batch]) -> tuple[dict[str, Tensor], list[int], list[Cause]]:
        """Accumulate the gradients of a batch; return its loss by terms, its samples, and inputs that are not finite."""
        total: dict[str, Tensor] = {}
        seen: list[int] = []
        causes: list[Cause] = []
        for part in range(self.spec.accumulate):
            batch = next(batches)
            seen += batch.indices
            cause = input_cause(batch, self.job.train)
            causes += [cause] if cause else []
            batch = batch.to(self.device)
            last = part == self.spec.accumulate - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.loss):
                with self.accelerator.autocast():
                    terms = self.loss(batch)
                loss = torch.stack(list(terms.values())).sum() / self.spec.accumulate
                self.accelerator.backward(loss)
            for name, value in terms.items():
                total[name] = total.get(name, 0) + value.detach() / self.spec.accumulate
        return total, seen, causes

    def _evaluation_due(self) -> bool:
        step, per_epoch = self.position.step, self.batches.steps_per_epoch
        if step == self.position.evaluated or step % per_epoch:
            return False
        return step // per_epoch % self.spec.evaluate_every == 0 or step == self.total

    def _evaluate(self) -> bool:
        """Score the averaged weights, or the current ones without an average; keep the best, and save the state.

        Returns False if it was interrupted; a resumed run repeats it.
        """
        weights = self.average.state if self.average else self.model.state_dict()
        self.shown.load_state_dict({name: whole(value) for name, value in weights.items()})
        # Without synchronized norms the statistics differ between processes.
        self.processes.sync_from_first(list(self.shown.state_dict().values()))
        self.shown.eval()
        metrics: dict[str, float] = {}
        headline: float | None = None
        evaluator: Evaluator | None = None
        if self.job.validation is not None:
            evaluator = self.job.evaluator()
            try:
                with self.accelerator.autocast():
                    metrics = evaluate(
                        self.shown,
                        self.job.validation,
                        evaluator,
                        device=self.device,
                        flip=self.flip,
                        batch=self.batches.micro,
                        workers=self.workers,
                        processes=self.processes,
                        stop=lambda: bool(self.signals.received),
                    )
            except Interrupted:
                (self.stopped,) = self.processes.all_reduce_max(self.signals.received)
                return False
            headline = metrics.get(evaluator.headline)
        self._keep(headline, metrics)
        if self.processes.first:
            self.report(evaluator, metrics)
        return True

    def _keep(self, headline: float | None, metrics: dict[str, float]) -> None:
        position = self.position
        value = -math.inf if headline is None or math.isnan(headline) else headline
        # Among equals the later: metrics saturate on small sets, and the learning rate has fallen since.
        best = headline is None or position.best is None or value >= position.best
        position.evaluated, position.metrics = position.step, metrics
        if best:
            position.best = None if headline is None else value
        if self.processes.first:
            if best:
                self.save(self.out / BEST, self.shown, metrics)
            self._show_examples()
        self._log({"metrics": metrics, "best": best}, metrics)
        self.save_state()

    def _show_examples(self) -> None:
        samples = self.job.validation
        if self.journal and samples is not None and self.spec.examples:
            positions = example_positions(len(samples), self.spec.examples)
            with self.accelerator.autocast():
                sheet = example_sheet(self.shown, samples, positions, self.device)
            self.journal.show(sheet, self.position.step, self.position.step // self.batches.steps_per_epoch)

    def save_state(self) -> None:
        """Write the training state that `resume` reads."""
        tensors = collect(self.model, self.average, self.optimizer)
        if self.processes.first:
            self.position.log_bytes = self.journal.log_bytes if self.journal else 0
            write_state(self.out, tensors, self.position)

    def _log_step(self, terms: dict[str, Tensor], norm: Tensor, rate: float) -> None:
        means = self.processes.mean(torch.stack(list(terms.values()))).tolist()
        values = dict(zip(terms, means, strict=True))
        self._log({"loss": values, "gradient": float(norm), "samples_per_second": round(rate, 2)}, values)

    def _log(self, values: dict[str, Any], curves: dict[str, float]) -> None:
        if self.journal is None:
            return
        step = self.position.step
        rate = learning_rate(self.spec, step, self.batches.steps_per_epoch)
        epoch, seconds = round(step / self.batches.steps_per_epoch, 3), round(self.position.seconds, 1)
        line = {"step": step, "epoch": epoch, "seconds": seconds, "learning_rate": rate, **values}
        self.journal.write(line, {**curves, "learning_rate": rate})


def _precision(spec: TrainSpec, device: str) -> str:
    if spec.precision == "auto":
        kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
        return "bf16" if gains_from_bf16(torch.device(kind)) else "no"
    return "bf16" if spec.precision == "bf16" else "no"
