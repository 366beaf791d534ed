"""The loop of a training that stops and goes on at any time, in one process or several.

Processes average their weights every few steps instead of their gradients at each, so that they hardly wait for one
another. The learning rate falls as a cosine of the samples seen, not of time or epochs.
"""

from __future__ import annotations

import json
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
import torch.distributed as dist

from hrnet.engine.optim import build_optimizer
from hrnet.engine.recipe import TrainSpec
from hrnet.io.atomic import atomic_path
from hrnet.io.checkpoint import save_model
from hrnet.nn.task import Batch, TaskModel


@dataclass
class Schedule:
    samples: int
    """samples of the whole run, after which the learning rate is 0"""
    batch: int
    learning_rate: float
    warmup_steps: int = 60
    average: float = 0.97
    """of the averaged weights, this share stays at each meeting"""
    local_steps: int = 8
    """steps between two meetings of the processes"""
    gradient_clip: float = 0.0
    save_minutes: float = 4
    evaluate_minutes: float = 30
    threads: int = 1
    seed: int = 0


class Run(ABC):
    """A training in a folder: `state.pt`, `last.safetensors` (averaged weights, half precision), `log.jsonl`."""

    def __init__(self, out: Path, model: TaskModel[Any, Any], train: TrainSpec, schedule: Schedule) -> None:
        torch.set_num_threads(schedule.threads)
        cv2.setNumThreads(1)
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        if self.world > 1:
            dist.init_process_group("gloo")
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.schedule = out, schedule
        self.model = model.to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(model, train)
        self.average = {name: value.clone() for name, value in model.state_dict().items()}
        self.step, self.samples = 0, 0
        self._restore()

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Endless, and of other samples after each start."""

    @abstractmethod
    def loss(self, batch: Batch) -> torch.Tensor: ...

    @abstractmethod
    def figures(self) -> dict[str, float]:
        """Scores of the averaged weights."""

    def refresh(self) -> None:  # noqa: B027  # not every run has something to read again
        """What is done every 64 steps, by all processes."""

    def log(self, text: str) -> None:
        if self.rank == 0:
            print(time.strftime("%H:%M:%S"), text, flush=True)

    def train(self) -> None:
        batches, schedule = self.batches(), self.schedule
        start = saved = evaluated = time.time()
        before, losses = self.samples, list[float]()
        while self.samples < schedule.samples:
            losses.append(self._train_step(next(batches)))
            if self.step % schedule.local_steps:
                continue
            self._meet()
            if self.step % 64 == 0:
                speed = (self.samples - before) / (time.time() - start)
                self.log(f"{self.samples} samples, {speed:.1f} a second, loss {sum(losses) / len(losses):.6f}")
                losses = []
                self.refresh()
            if self.rank == 0 and time.time() - saved > 60 * schedule.save_minutes:
                self._save()
                saved = time.time()
            if self.rank == 0 and time.time() - evaluated > 60 * schedule.evaluate_minutes:
                self._evaluate()
                evaluated = time.time()
        if self.rank == 0:
            self._save()
            self._evaluate()

    def _train_step(self, batch: Batch) -> float:
        warm = min(1.0, (self.step + 1) / self.schedule.warmup_steps)
        progress = min(self.samples / self.schedule.samples, 1.0)
        rate = self.schedule.learning_rate * 0.5 * (1 + math.cos(math.pi * progress)) * warm
        self.model.train()
        value = self.loss(batch)
        value.backward()
        if self.schedule.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.gradient_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.samples += self.schedule.batch * self.world
        return float(value.detach())

    @torch.no_grad()
    def _meet(self) -> None:
        """Average the weights of all processes, and these with those before."""
        if self.world > 1:
            values = [value for value in self.model.state_dict().values() if value.is_floating_point()]
            flat = torch.cat([value.contiguous().reshape(-1) for value in values])
            dist.all_reduce(flat)
            parts = (flat / self.world).split([value.numel() for value in values])
            for value, part in zip(values, parts, strict=True):
                value.copy_(part.view(value.shape))
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - min(self.schedule.average, self.step / (self.step + 64)))
            else:
                self.average[name].copy_(value)

    def _restore(self) -> None:
        file = self.out / "state.pt"
        if file.exists():
            state = torch.load(file, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average, self.step, self.samples = state["average"], state["step"], state["samples"]
            self.log(f"goes on after {self.samples} samples")

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "average": self.average,
            "step": self.step, "samples": self.samples,
        }  # fmt: skip
        with atomic_path(self.out / "state.pt") as temporary:
            torch.save(state, temporary)
        save_model(self.out / "last.safetensors", self.model, state=self.average, half=True)

    def _evaluate(self) -> None:
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        self.model.eval()
        with torch.no_grad():
            figures = {"step": self.step, "samples": self.samples, **self.figures()}
        self.model.load_state_dict(own)
        self.log(json.dumps(figures))
        with (self.out / "log.jsonl").open("a") as lines:
            lines.write(json.dumps(figures) + "\n")
