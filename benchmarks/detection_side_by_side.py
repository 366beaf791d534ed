"""A recipe's Faster R-CNN and torchvision's with ResNet-50-FPN, trained from scratch step by step in turn: each step of both
is on the same batch, with the recipe's optimizer, schedule and averaging; both are scored by our COCO evaluator.

torchvision's learns what lies in crowds and is too small or cut off as background, which ours leaves out.

python benchmarks/detection_side_by_side.py [--images data/pennfudan] [--epochs 14] [--minutes 60]
python benchmarks/detection_side_by_side.py --steps-only 10
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro
from jaxtyping import Float
from torch import Tensor
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from hrnet.detection.boxes import GroundTruth
from hrnet.detection.model import DetectionModel
from hrnet.detection.processor import DetectionOutput
from hrnet.detection.recipes import RECIPES, DetectionRecipe, prepare
from hrnet.detection.spec import DetectionSpec
from hrnet.engine.batches import reading
from hrnet.engine.evaluate import evaluate
from hrnet.engine.progress import Progress
from hrnet.engine.task import Job
from hrnet.engine.train import Trainer
from hrnet.io.geometry import Size
from hrnet.nn.task import Batch, TaskModel


@dataclass
class Options:
    images: Path = Path("data/pennfudan")
    """a data set with boxes; its masks are not used"""
    recipe: str = "detection-pennfudan-faster"
    """with a canvas for all images"""
    epochs: int | None = None
    """instead of the recipe's"""
    minutes: float | None = None
    """both stop after so many, wherever their schedule is, and are scored"""
    steps_only: int | None = None
    """only time so many steps of each, after one that warms up"""
    size: Size | None = None
    """height and width of the input instead of the recipe's, multiples of 32; for a trial"""
    batch: int | None = None
    """instead of the recipe's; for a trial"""
    precision: Literal["auto", "bf16", "fp32"] = "auto"


class FasterRCNN(DetectionModel):
    """As torchvision has it, with new weights; the body first, under the name that the optimizer knows a backbone by."""

    def __init__(self, spec: DetectionSpec) -> None:
        TaskModel.__init__(self, spec)
        network = fasterrcnn_resnet50_fpn(
            weights=None,
            weights_backbone=None,
            num_classes=len(spec.class_names) + 1,
            # The canvas as it is.
            min_size=min(spec.input_size),
            max_size=max(spec.input_size),
            box_detections_per_img=spec.detector.num_detections,
        )
        self.backbone = network.backbone.body  # pyright: ignore[reportAttributeAccessIssue]  # another network under its name
        self.network = network

    def forward(self, images: Float[Tensor, "n c h w"]) -> DetectionOutput:
        found = self.network(list(images))
        count = self.spec.detector.num_detections
        rows = [(one["boxes"], one["scores"], one["labels"] - 1) for one in found]
        columns = zip(*([_filled(value, count) for value in row] for row in rows), strict=True)
        return DetectionOutput(*(torch.stack(values) for values in columns))

    def loss(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        targets = [{"boxes": one.boxes, "labels": one.labels + 1} for one in GroundTruth.from_batch(batch)]
        return self.network(list(batch.images), targets)


def _filled(values: Tensor, count: int) -> Tensor:
    return torch.cat([values, values.new_zeros(count, *values.shape[1:])])[:count]


class Side:
    """One of the two networks on its way through the training."""

    def __init__(self, job: Job, network: type[DetectionModel], recipe: DetectionRecipe, folder: Path) -> None:
        torch.manual_seed(recipe.train.seed)
        self.job = replace(job, model=network(job.model.spec))
        self.trainer = Trainer(self.job, recipe.train, folder, recipe="{}", save=lambda _path, _model, _metrics: None)
        self.seconds: list[float] = []

    def step(self, batches: list[Batch]) -> None:
        start = time.perf_counter()
        self.trainer.step(iter(batches))
        if self.trainer.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - start)

    @property
    def seconds_a_step(self) -> float:
        """The median; the first step warms up."""
        return statistics.median(self.seconds[1:] or self.seconds)

    @property
    def parameters(self) -> float:
        """In millions."""
        return sum(parameter.numel() for parameter in self.trainer.model.parameters()) / 1e6

    def scored(self) -> dict[str, float]:
        """Metrics of the averaged weights, which are those that a run keeps."""
        trainer, samples = self.trainer, self.job.validation
        assert samples is not None
        trainer.shown.load_state_dict(trainer.average.state if trainer.average else trainer.model.state_dict())
        with trainer.accelerator.autocast():
            return evaluate(
                trainer.shown.eval(),
                samples,
                self.job.evaluator(),
                device=trainer.device,
                batch=trainer.batches.micro,
                workers=trainer.workers,
            )


def trained(sides: dict[str, Side], options: Options) -> None:
    """The same batches for both, who take turns in being the first."""
    first = next(iter(sides.values())).trainer
    steps = first.total if options.steps_only is None else min(options.steps_only + 1, first.total)
    end = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    with (
        reading(first.job.train, first.batches, first.workers) as batches,
        Progress("side by side", steps, "steps") as progress,
    ):
        for step in range(steps):
            given = [next(batches) for _ in range(first.spec.accumulate)]
            for side in list(sides.values())[:: 1 if step % 2 else -1]:
                side.step(given)
            progress.advance(1)
            if time.monotonic() > end:
                print(f"stopped after {step + 1} of {steps} steps: {options.minutes} minutes are over")
                return


def recipe_of(options: Options) -> DetectionRecipe:
    recipe = RECIPES[options.recipe]
    return replace(
        recipe,
        model=replace(recipe.model, input_size=options.size or recipe.model.input_size),
        data=replace(recipe.data, images=(options.images,)),
        train=replace(
            recipe.train,
            trackers=(),
            epochs=options.epochs or recipe.train.epochs,
            batch=options.batch or recipe.train.batch,
            precision=options.precision,
        ),
    )


def main(options: Options) -> None:
    recipe = recipe_of(options)
    job = prepare(recipe)
    with tempfile.TemporaryDirectory() as folder:
        sides = {
            "ours": Side(job, DetectionModel, recipe, Path(folder)),
            "torchvision": Side(job, FasterRCNN, recipe, Path(folder)),
        }
        trained(sides, options)
        metrics = {name: side.scored() if options.steps_only is None else {} for name, side in sides.items()}
    ours, theirs = sides.values()
    precision = "bf16" if ours.trainer.accelerator.mixed_precision == "bf16" else "fp32"
    print(
        f"{recipe.name}, {len(job.train)} images at {recipe.model.input_size}, batch {recipe.train.batch}, "
        f"{len(ours.seconds)} steps, {torch.get_num_threads()} threads, {precision}"
    )
    scored = () if options.steps_only is not None else ("AP", "AP50")
    print(f"{'network':<14}{'parameters, M':>14}{'s a step':>10}" + "".join(f"{figure:>8}" for figure in scored))
    for name, side in sides.items():
        figures = "".join(f"{metrics[name].get(figure, 0.0):8.3f}" for figure in scored)
        print(f"{name:<14}{side.parameters:>14.2f}{side.seconds_a_step:>10.3f}{figures}")
    ratios = {"s a step": ours.seconds_a_step / theirs.seconds_a_step} | {
        figure: metrics["ours"][figure] / metrics["torchvision"][figure]
        for figure in scored
        if metrics["torchvision"].get(figure)
    }
    print("ours to torchvision's: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))


if __name__ == "__main__":
    main(tyro.cli(Options))
