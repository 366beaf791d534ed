"""Classification recipes: the published ones with their figures, and ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hrnet.classification.data import (
    Augment,
    ClassificationDataset,
    ClassificationSet,
    classification_set,
    match_classes,
)
from hrnet.classification.metrics import ClassificationEvaluator
from hrnet.classification.model import ClassificationModel
from hrnet.classification.spec import ClassificationSpec
from hrnet.engine.recipe import OURS, SMALL_BACKBONE, PublishedFigure, Recipe, TrainSpec
from hrnet.engine.task import Job
from hrnet.errors import InputError
from hrnet.formats.records import ImageRecord
from hrnet.formats.splits import OWN_CLASSES, DataSource, TrainingSets, has_common_name, listed, training_images
from hrnet.nn.spec import HRNetSpec, StageSpec, hrnet, hrnet_small_v1, hrnet_small_v2


@dataclass(frozen=True, slots=True)
class ClassificationData(DataSource):
    """Images with a class each, as a rule in class folders, which need no annotations."""

    augment: Augment = field(default_factory=Augment)  # random changes of the training samples


ClassificationRecipe = Recipe[ClassificationSpec, ClassificationData]


# Source: the released training code and arXiv 1908.07919, section 7: 0.1 for 256 images per step is 0.05 for 128.
_SGD = TrainSpec(
    epochs=100,
    batch=128,
    optimizer="sgd",
    nesterov=True,
    learning_rate=0.05,
    weight_decay=1e-4,
    decay_norms=True,
    milestones=(30, 60, 90),
)
_COSINE = replace(_SGD, epochs=300, schedule="cosine", milestones=())
_README = "README of the official repository: val, one crop"


def _imagenet(
    name: str,
    backbone: HRNetSpec,
    error: float,
    top_5_error: float | None = None,
    *,
    augment: Augment | None = None,
    train: TrainSpec = _SGD,
) -> ClassificationRecipe:
    """Return a published recipe; errors are in percent, as published."""
    errors = f"error {error} %" + (f", top-5 {top_5_error} %" if top_5_error is not None else "")
    return ClassificationRecipe(
        name=f"classification-imagenet-{name}",
        model=ClassificationSpec(num_classes=1000, backbone=backbone),
        data=ClassificationData(images=(Path("data/imagenet"),), augment=augment or Augment()),
        train=train,
        published=PublishedFigure("top-1", round(100 - error, 1), f"{_README}; {errors}"),
    )


_CUTMIX = Augment(cutmix=1.0)
_PUBLISHED = (
    _imagenet("w18-small-v1", hrnet_small_v1(), 27.7, 9.3),
    _imagenet("w18-small-v2", hrnet_small_v2(), 24.9, 7.6),
    _imagenet("w18", hrnet(18), 23.2, 6.6),
    _imagenet("w30", hrnet(30), 21.8, 5.8),
    _imagenet("w32", hrnet(32), 21.5, 5.8),
    _imagenet("w40", hrnet(40), 21.1, 5.5),
    _imagenet("w44", hrnet(44), 21.1, 5.6),
    _imagenet("w48", hrnet(48), 20.7, 5.5),
    _imagenet("w64", hrnet(64), 20.5, 5.4),
    # Only the cosine schedule over 300 epochs and the use of CutMix were published for these two.
    _imagenet("w18-cutmix", hrnet(18), 22.1, augment=_CUTMIX, train=_COSINE),
    _imagenet("w48-cutmix", hrnet(48), 18.9, augment=_CUTMIX, train=_COSINE),
)

# Images of 32 x 32 are enlarged to twice that, so that the map of the highest resolution has 16 x 16 positions; the
# lowest one has 2 x 2, and is not worth eight times the width.
_TINY_IMAGES = HRNetSpec(
    stages=(StageSpec((32, 48), 2), StageSpec((32, 48, 64), 2), StageSpec((32, 48, 64, 96), 2)),
    bottlenecks=1,
    bottleneck_width=32,
    stem_width=32,
)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

RECIPES: dict[str, ClassificationRecipe] = {
    recipe.name: recipe
    for recipe in (
        *_PUBLISHED,
        ClassificationRecipe(
            name="classification-cifar10",
            model=ClassificationSpec(
                CIFAR10,
                backbone=_TINY_IMAGES,
                input_size=(64, 64),
                head_width=8,
                crop_fraction=1.0,
                label_smoothing=0.1,
            ),
            data=ClassificationData(
                images=(Path("data/cifar10_small"),), augment=Augment(area=(0.6, 1.0), shift=0.1, cutmix=1.0, mixed=0.3)
            ),
            train=replace(OURS, epochs=30, batch=64, weight_decay=0.05, ema=0.99),
        ),
        ClassificationRecipe(
            name="classification-own",
            model=ClassificationSpec(
                OWN_CLASSES, backbone=SMALL_BACKBONE, input_size=(192, 192), head_width=16, label_smoothing=0.1
            ),
            data=ClassificationData(images=(Path("set"),), hold_out=5, augment=Augment(area=(0.3, 1.0), color=0.2)),
            train=replace(OURS, learning_rate=1e-3, ema=0.99, warmup_steps=50),
        ),
    )
}


def prepare(recipe: ClassificationRecipe) -> Job:
    """Open a recipe's data and build its model.

    Raises:
        InputError: a file is missing or cannot be used.
    """
    data = recipe.data
    opened = TrainingSets(data, "classes", classification_set)
    messages: list[str] = []
    spec = _with_classes_of(opened.sets[0], recipe.model, messages)
    train, validation = opened.finish(lambda one: match_classes(one, spec.class_names), messages)
    images = training_images(train, validation)
    _check_classes(images, spec, messages)
    scored = validation.images if validation else ()
    return Job(
        model=ClassificationModel(spec),
        train=ClassificationDataset(images, spec, data.augment, recipe.train.seed),
        validation=ClassificationDataset(scored, spec, data.augment) if scored else None,
        evaluator=lambda: ClassificationEvaluator(scored, spec),
        messages=tuple(messages),
    )


def _with_classes_of(data: ClassificationSet, spec: ClassificationSpec, messages: list[str]) -> ClassificationSpec:
    """Return the spec with the classes of the data set, if the two have none in common."""
    names = data.class_names
    if has_common_name(names, spec.class_names):
        return spec
    if len(names) < 2:
        raise InputError(
            f"{data.images[0].path.parent.parent} has one class only, {', '.join(names)}, and a classifier needs at "
            "least two; add a folder of images of another class."
        )
    messages.append(f"The model learns the data set's {len(names)} classes: {listed(names)}.")
    return replace(spec, class_names=names, num_classes=len(names))


def _check_classes(images: Sequence[ImageRecord], spec: ClassificationSpec, messages: list[str]) -> None:
    """Add a message that names the classes without training images."""
    seen = {image.label for image in images}
    empty = [name for label, name in enumerate(spec.class_names) if label not in seen]
    if empty:
        messages.append(f"There is no image to learn {listed(empty)} from.")
