"""How the shipped pose model was trained on a CPU: one process a core, weights averaged every few steps.

torchrun --nproc-per-node 2 training/pose.py LSP LSPET LABELS OUT --init FIRST.safetensors --size 128 96 --minutes 90

LABELS is the folder that `pose_labels.py` wrote. Optimizer and augmentation are those of the recipe `pose-lsp`, but the
rate falls as a cosine of the time that has passed, so that a run ends when it was told to, however busy the machine is:
repeatable in kind, not to the bit. Averaging weights, not gradients, keeps the processes from waiting for one another.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.distributed as dist
import tyro
from pose_labels import FACE

import hrnet
from hrnet.engine.evaluate import evaluate
from hrnet.engine.hardware import gains_from_bf16
from hrnet.engine.optim import build_optimizer
from hrnet.engine.transfer import transfer
from hrnet.io.checkpoint import save_model
from hrnet.io.geometry import Frame, flip_order
from hrnet.io.images import read_image
from hrnet.nn.task import Batch, SampleKey
from hrnet.pose.augment import CropLabels
from hrnet.pose.boxes import Instance
from hrnet.pose.data import PoseDataset, open_set, rename_keypoints
from hrnet.pose.metrics import PoseEvaluator
from hrnet.pose.model import PoseModel
from hrnet.pose.recipes import RECIPES

AUGMENT = RECIPES["pose-lsp"].data.augment


@dataclass
class Options:
    lsp: Annotated[Path, tyro.conf.Positional]
    lspet: Annotated[Path, tyro.conf.Positional]
    labels: Annotated[Path, tyro.conf.Positional]
    out: Annotated[Path, tyro.conf.Positional]
    init: str = "pose"
    size: tuple[int, int] = (128, 96)
    padding: float = 1.05
    minutes: float = 90
    batch: int = 32
    learning_rate: float = 1.6e-3
    warmup_steps: int = 100
    average: float = 0.985
    local_steps: int = 8
    repeat_lsp: int = 2
    all_of_lsp: bool = False  # train on the held-out images as well; the figures along the way then say less
    scale: float = AUGMENT.scale
    rotation: float = AUGMENT.rotation
    color: float = AUGMENT.color
    cover: float = 0.0
    evaluate_minutes: float = 7
    seed: int = 0


class Kept(PoseDataset):
    """Samples of images that stay in memory once they were read; hidden face points teach an empty heatmap.

    A share `cover` of the training crops has a rectangle of another crop put upon it, a tenth to a half as wide and as high.
    """

    def __init__(self, *arguments: Any, cover: float = 0.0) -> None:
        super().__init__(*arguments)
        self.images: dict[Path, np.ndarray] = {}
        self.cover = cover
        self.last: np.ndarray | None = None

    def augmented(self, key: SampleKey) -> tuple[np.ndarray, Frame, CropLabels]:
        image, frame, labels = super().augmented(key)
        rng = np.random.default_rng((self.seed, key.epoch, key.sample, 1))
        other, self.last = self.last, image
        if other is None or rng.random() >= self.cover:
            return image, frame, labels
        height, width = (int(side * rng.uniform(0.1, 0.5)) for side in image.shape[:2])
        top, left = (
            int(rng.integers(0, side - part)) for side, part in zip(image.shape, (height, width), strict=False)
        )
        covered = image.copy()
        covered[top : top + height, left : left + width] = other[top : top + height, left : left + width]
        return covered, frame, labels

    def _read(self, instance: Instance) -> np.ndarray:
        if instance.path not in self.images:
            self.images[instance.path] = read_image(instance.path)
        return self.images[instance.path]

    def labels(self, instance: Instance, frame: Frame, cut: np.ndarray | None = None) -> CropLabels:
        labels = super().labels(instance, frame, cut)
        names = self.spec.skeleton.names
        hidden = (instance.visibility == 1) & np.array([name in FACE for name in names])
        flipped = np.linalg.det(frame.matrix[:, :2]) < 0
        hidden = hidden[flip_order(len(names), self.spec.skeleton.pairs)] if flipped else hidden
        return labels._replace(absent=labels.absent | hidden)


class Run:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        if self.world > 1:
            dist.init_process_group("gloo")
        first = hrnet.load(options.init)
        skeleton = open_set(options.lsp / "train", options.labels / "lsp_fit.json").skeleton
        spec = RECIPES["pose-lsp"].model
        self.spec = replace(spec, skeleton=skeleton, input_size=options.size, box_padding=options.padding)
        self.model = PoseModel(self.spec).to(memory_format=torch.channels_last)
        print(*transfer(self.model, first.state_dict(), first.named_outputs(), options.init), sep="\n")
        fit, held_out = self._read(options.lsp, "lsp_fit"), self._read(options.lsp, "lsp_val")
        lsp = fit + held_out if options.all_of_lsp else fit
        augment = replace(AUGMENT, scale=options.scale, rotation=options.rotation, color=options.color)
        together = lsp * options.repeat_lsp + self._read(options.lspet, "lspet")
        self.data = Kept(together, self.spec, augment, options.seed, cover=options.cover)
        self.held_out = Kept(held_out, self.spec, AUGMENT)
        self.bf16 = gains_from_bf16(torch.device("cpu"))
        train = replace(RECIPES["pose-lsp"].train, learning_rate=options.learning_rate)
        self.optimizer = build_optimizer(self.model, train)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.step, self.best, self.start = 0, 0.0, time.time()

    def _read(self, folder: Path, name: str) -> list[Instance]:
        found = open_set(folder / "train", self.options.labels / f"{name}.json")
        return list(rename_keypoints(found, self.spec.skeleton).instances)

    def train(self) -> None:
        draws = self._draws()
        evaluated, progress = time.time(), 0.0
        while progress < 1:
            self._train_step(next(draws), progress)
            if self.step % self.options.local_steps:
                continue
            progress = self._meet()
            if self.rank == 0 and time.time() - evaluated > 60 * self.options.evaluate_minutes:
                self._evaluate()
                evaluated = time.time()
        if self.rank == 0:
            self._evaluate()

    def _draws(self) -> Iterator[list[SampleKey]]:
        together = self.options.batch * self.world
        for epoch in range(1_000_000):
            order = np.random.default_rng((self.options.seed, epoch)).permutation(len(self.data))
            for begin in range(0, len(order) - together + 1, together):
                yield [
                    SampleKey(epoch, int(index)) for index in order[begin + self.rank : begin + together : self.world]
                ]

    def _train_step(self, draws: list[SampleKey], progress: float) -> None:
        warm = min(1.0, (self.step + 1) / self.options.warmup_steps)
        rate = self.options.learning_rate * 0.5 * (1 + math.cos(math.pi * progress)) * warm
        batch = Batch.stack([self.data[draw] for draw in draws]).to(torch.device("cpu"))
        self.model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = self.model.loss(batch)["heatmaps"]
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        if self.rank == 0 and self.step % 64 == 0:
            print(json.dumps({"step": self.step, "loss": float(loss), "rate": rate}), flush=True)

    @torch.no_grad()
    def _meet(self) -> float:
        """Average the weights of all processes; how much of the time has passed, the same for all."""
        values = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        progress = torch.tensor([(time.time() - self.start) / (60 * self.options.minutes)])
        if self.world > 1:
            flat = torch.cat([value.contiguous().reshape(-1) for value in values])
            dist.all_reduce(flat)
            parts = (flat / self.world).split([value.numel() for value in values])
            for value, part in zip(values, parts, strict=True):
                value.copy_(part.view(value.shape))
            dist.broadcast(progress, 0)
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - min(self.options.average, self.step / (self.step + 64)))
            else:
                self.average[name].copy_(value)
        return float(progress)

    def _evaluate(self) -> None:
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        evaluator = PoseEvaluator(self.held_out.instances, self.spec)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            metrics = evaluate(self.model.eval(), self.held_out, evaluator, device=torch.device("cpu"), flip=True)
        save_model(self.options.out / "last.safetensors", self.model)
        if metrics["PCK@0.2/limbs"] > self.best:
            self.best = metrics["PCK@0.2/limbs"]
            save_model(self.options.out / "best.safetensors", self.model)
        self.model.load_state_dict(own)
        print(json.dumps({"step": self.step, "PCK@0.2/limbs": metrics["PCK@0.2/limbs"]}), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    Run(tyro.cli(Options)).train()
