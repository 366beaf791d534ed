"""A recipe's network and torchvision's ResNet-18, trained one after the other in the same way: data, order, augmentation,
steps, optimizer, schedule and averaging are those of the recipe.

python benchmarks/classification_side_by_side.py CIFAR [--epochs 30] [--optimizer adamw] [--images 200]
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from jaxtyping import Float
from torch import Tensor
from torchvision.models import resnet18

from hrnet.classification.data import ClassificationDataset
from hrnet.classification.metrics import ClassificationEvaluator
from hrnet.classification.model import ClassificationModel
from hrnet.classification.processor import ClassificationOutput
from hrnet.classification.recipes import RECIPES, ClassificationRecipe, prepare
from hrnet.classification.spec import ClassificationSpec
from hrnet.engine.task import Job
from hrnet.engine.train import Trainer
from hrnet.nn.backbone import count_multiply_accumulates
from hrnet.nn.task import TaskModel


@dataclass
class Options:
    images: Annotated[Path, tyro.conf.Positional]
    """folder with train/CLASS/ and test/CLASS/ or val/CLASS/"""
    recipe: str = "classification-cifar10"
    epochs: int | None = None
    """instead of the recipe's"""
    optimizer: Literal["muon", "adamw"] | None = None
    """instead of the recipe's; of ResNet-18's wide layers Muon takes three times as long as the gradient"""
    most_images: int | None = None
    """only so many for training and for scoring, spread over the classes; for a trial"""


class ResNet18(ClassificationModel):
    """As torchvision has it, with new weights; under the name that the optimizer knows a backbone by."""

    def __init__(self, spec: ClassificationSpec) -> None:
        TaskModel.__init__(self, spec)
        self.backbone = resnet18(num_classes=spec.num_classes)  # pyright: ignore[reportAttributeAccessIssue]  # another network under its name

    def forward(self, images: Float[Tensor, "n c h w"]) -> ClassificationOutput:
        return ClassificationOutput(self.backbone(self.normalize(images)))


def trained(job: Job, recipe: ClassificationRecipe) -> str:
    """Train and score; a line of the table."""
    model = job.model
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    with torch.device("meta"):
        twin = type(model)(model.spec).eval()
        cost = count_multiply_accumulates(twin, torch.empty(1, 3, *model.spec.input_size)) / 1e6
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(job, recipe.train, Path(folder), recipe="{}", save=lambda _path, _model, _metrics: None)
        metrics = trainer.run()
        if trainer.stopped:
            raise SystemExit("stopped before its time; nothing can be compared")
    minutes = (time.perf_counter() - start) / 60
    return f"{type(model).__name__:<22}{metrics['top-1']:>8.2f}{minutes:>10.1f}{parameters:>12.2f}{cost:>14.0f}"


def thinned(samples: ClassificationDataset, count: int | None) -> ClassificationDataset:
    if count is None:
        return samples
    images = samples.images[:: max(len(samples) // count, 1)]
    return ClassificationDataset(images, samples.spec, samples.augment, samples.seed)


def main(options: Options) -> None:
    recipe = RECIPES[options.recipe]
    train = replace(
        recipe.train,
        trackers=(),
        epochs=options.epochs or recipe.train.epochs,
        optimizer=options.optimizer or recipe.train.optimizer,
    )
    recipe = replace(recipe, data=replace(recipe.data, images=(options.images,)), train=train)
    lines: list[str] = []
    for network in (ClassificationModel, ResNet18):
        torch.manual_seed(recipe.train.seed)
        job = prepare(recipe)
        lines.append(trained(with_parts(job, network(job.model.spec), options.most_images), recipe))
    print(f"{'network':<22}{'top-1, %':>8}{'minutes':>10}{'parameters, M':>14}{'operations, M':>14}")
    print("\n".join(lines))


def with_parts(job: Job, model: ClassificationModel, images: int | None) -> Job:
    """The job with another network, and of a trial few images."""
    learned, scored = job.train, job.validation
    assert isinstance(learned, ClassificationDataset)
    assert isinstance(scored, ClassificationDataset)
    scored = thinned(scored, images)
    return replace(
        job,
        model=model,
        train=thinned(learned, images),
        validation=scored,
        evaluator=lambda: ClassificationEvaluator(scored.images, scored.spec),
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
