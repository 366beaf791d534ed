"""Pose training runs: the published ones with their figures, and ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from hrnet.engine.recipe import OURS, PublishedFigure, Recipe, TrainSpec
from hrnet.engine.task import Job
from hrnet.errors import InputError
from hrnet.formats.splits import DataSource, TrainingSets
from hrnet.nn.spec import HRNetSpec, StageSpec, hrnet
from hrnet.pose.augment import Augment
from hrnet.pose.data import KeypointSet, PoseDataset, Unboxed, keypoint_set, read_ground_truth, rename_keypoints
from hrnet.pose.metrics import PoseEvaluator
from hrnet.pose.model import PoseModel
from hrnet.pose.skeletons import COCO, LSP, MPII, Skeleton
from hrnet.pose.spec import CodecSpec, PoseSpec


@dataclass(frozen=True, slots=True)
class PoseData(DataSource):
    """Images with keypoints: COCO or MPII json, YOLO data.yaml, DeepLabCut csv."""

    unboxed: Unboxed = "whole"
    """box of an object without one: the whole image, or the bounds of its keypoints and a margin"""
    augment: Augment = field(default_factory=Augment)  # random changes of the training crops
    headline: Literal["AP", "PCK@0.2", "PCK-AUC", "PCKh@0.5"] | None = None
    """metric that chooses the best weights; see `PoseEvaluator`"""


PoseRecipe = Recipe[PoseSpec, PoseData]


def _coco(width: int, size: tuple[int, int], ap: float) -> PoseRecipe:
    large = size == (384, 288)
    return PoseRecipe(
        name=f"pose-coco-w{width}-{size[0]}x{size[1]}",
        model=PoseSpec(
            COCO,
            hrnet(width, high_resolution_only=True),
            input_size=size,
            codec=CodecSpec(heatmap_sigma=3.0 if large else 2.0),
        ),
        data=PoseData(
            images=(Path("data/coco/train2017"),),
            annotations=(Path("data/coco/annotations/person_keypoints_train2017.json"),),
            val_images=Path("data/coco/val2017"),
            val_annotations=Path("data/coco/annotations/person_keypoints_val2017.json"),
            headline="AP",
        ),
        # Four devices with 32 (24) samples each. No weight decay: the published code configures one and never uses it.
        train=TrainSpec(batch=96 if large and width == 48 else 128, milestones=(170, 200)),
        published=PublishedFigure(
            "AP", ap, "README of the official repository: val2017, detector boxes of person AP 56.4, flip"
        ),
    )


def _mpii(width: int, pckh: float | None) -> PoseRecipe:
    return PoseRecipe(
        name=f"pose-mpii-w{width}-256x256",
        model=PoseSpec(MPII, hrnet(width, high_resolution_only=True), input_size=(256, 256)),
        data=PoseData(
            images=(Path("data/mpii/images"),),
            annotations=(Path("data/mpii/annotations/train.json"),),
            val_images=Path("data/mpii/images"),
            val_annotations=Path("data/mpii/annotations/valid.json"),
            augment=Augment(scale=0.25, rotation=30.0, half_body=0.0),
            headline="PCKh@0.5",
        ),
        train=TrainSpec(batch=128, milestones=(170, 200)),
        published=PublishedFigure("PCKh@0.5", pckh, "README of the official repository: flip test") if pckh else None,
    )


# Of our own recipes. Between W18-Small-v1 and -v2 in cost: a wider branch and more fusions than v1, but its thin stem and
# first stage, which at stride 4 take most of the time of v2.
SMALL_POSE_BACKBONE = HRNetSpec(
    stages=(StageSpec((24, 48), 2, 1), StageSpec((24, 48, 96), 2, 3), StageSpec((24, 48, 96, 192), 2, 1)),
    bottlenecks=1,
    bottleneck_width=32,
    stem_width=32,
    high_resolution_only=True,
)


_LSP = PoseRecipe(
    name="pose-lsp",
    model=PoseSpec(
        LSP,
        SMALL_POSE_BACKBONE,
        input_size=(192, 160),
        codec=CodecSpec("udp", heatmap_sigma=2.0, blur=9),
        box_padding=1.15,
    ),
    data=PoseData(
        images=(Path("data/lsp/train"), Path("data/lspet/train")),
        annotations=(Path("data/lsp/annotations/train.json"), Path("data/lspet/annotations/train.json")),
        val_images=Path("data/lsp/test"),
        val_annotations=Path("data/lsp/annotations/test.json"),
        augment=Augment(
            scale=0.18,
            rotation=25.0,
            upright=0.8,
            shift=0.04,
            portrait=0.04,
            color=0.15,
            half_body=0.0,
            empty_outside=True,
            antialias=True,
        ),
    ),
    train=replace(OURS, batch=64),
)

# Any keypoints: those of the data set, of which every fifth image is held out.
_OWN = PoseRecipe(
    name="pose-own",
    model=PoseSpec(
        # No data set has this one keypoint in common, so its own take its place.
        Skeleton(("of the data set",)),
        SMALL_POSE_BACKBONE,
        input_size=(256, 256),
        codec=CodecSpec("udp", heatmap_sigma=2.0, blur=9),
        box_padding=1.1,
    ),
    data=PoseData(
        images=(Path("images"),),
        annotations=(Path("labels.json"),),
        hold_out=5,
        headline="PCK-AUC",  # on whole images of one animal PCK@0.2 is soon 100
        augment=Augment(
            scale=0.25, rotation=30.0, shift=0.05, color=0.25, half_body=0.0, empty_outside=True, antialias=True
        ),
    ),
    train=replace(OURS, learning_rate=1e-3, warmup_steps=50, ema=0.99),
)

RECIPES: dict[str, PoseRecipe] = {
    recipe.name: recipe
    for recipe in (
        _coco(32, (256, 192), 0.744),
        _coco(32, (384, 288), 0.758),
        _coco(48, (256, 192), 0.751),
        _coco(48, (384, 288), 0.763),
        _mpii(32, 90.3),
        _mpii(48, None),
        _LSP,
        _OWN,
    )
}


def prepare(recipe: PoseRecipe) -> Job:
    """Open a recipe's data and build its model.

    Raises:
        InputError: a file is missing or cannot be used.
    """
    data, spec = recipe.data, recipe.model
    if data.hold_out and len(data.images) > 1:
        raise InputError(
            f"hold_out takes images of one training set, not of {len(data.images)}; name a validation set by "
            "--data.val-images and --data.val-annotations instead."
        )
    opened = TrainingSets(data, "keypoints", partial(keypoint_set, unboxed=data.unboxed))
    messages: list[str] = []
    found = opened.sets[0].skeleton
    if not set(spec.skeleton.names) & set(found.names):
        spec = replace(spec, skeleton=found)
        messages.append(f"The model learns the data set's {len(found)} keypoints: {', '.join(found.names)}.")
    train, validation = opened.finish(lambda one: rename_keypoints(one, spec.skeleton), messages)
    instances = [instance for one in train for instance in one.instances]
    if not instances or (validation is not None and not validation.instances):
        raise InputError(
            f"hold_out is {data.hold_out}, which leaves no labeled object to train or to validate on; hold out other images."
        )
    return Job(
        model=PoseModel(spec),
        train=PoseDataset(instances, spec, data.augment, recipe.train.seed),
        validation=None if validation is None else PoseDataset(validation.instances, spec, data.augment),
        evaluator=_evaluator(validation, spec, data.headline),
        messages=tuple(messages),
    )


def _evaluator(validation: KeypointSet | None, spec: PoseSpec, headline: str | None) -> Callable[[], PoseEvaluator]:
    if validation is None:
        return lambda: PoseEvaluator((), spec)
    ground_truth, images = read_ground_truth(validation), [image.image_id for image in validation.images]
    return lambda: PoseEvaluator(
        validation.instances, spec, ground_truth=ground_truth, names=validation.names, images=images, headline=headline
    )
