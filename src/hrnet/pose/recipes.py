"""Pose training runs: the published ones with their figures, and ours."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from hrnet.errors import InputError
from hrnet.pose.data import (
    Augment,
    KeypointSet,
    PoseDataset,
    read_coco_json,
    read_coco_keypoints,
    rename_keypoints,
)
from hrnet.pose.metrics import PoseEvaluator
from hrnet.pose.model import PoseModel
from hrnet.pose.mpii import is_mpii, read_mpii
from hrnet.pose.skeletons import COCO, LSP, MPII
from hrnet.pose.spec import CodecSpec, PoseSpec
from hrnet.recipe import Published, TrainSpec
from hrnet.spec import HRNetSpec, StageSpec, hrnet
from hrnet.task import Job


@dataclass(frozen=True, slots=True)
class PoseData:
    """Where pictures and COCO (or MPII) keypoint json are; each folder of pictures goes with the json at the same place.

    Attributes:
        images: folders of training pictures.
        annotations: their json.
        val_images: folder of the pictures to score on.
        val_annotations: its json; None: no scoring, the last weights are the best.
        augment: random changes of the training crops.
        headline: the figure that chooses the best weights; see `PoseEvaluator`.
    """

    images: tuple[Path, ...] = ()
    annotations: tuple[Path, ...] = ()
    val_images: Path | None = None
    val_annotations: Path | None = None
    augment: Augment = field(default_factory=Augment)
    headline: Literal["AP", "PCK@0.2", "PCKh@0.5"] | None = None


@dataclass(frozen=True, slots=True)
class PoseRecipe:
    """A training run of a pose network."""

    name: str
    model: PoseSpec
    data: PoseData
    train: TrainSpec
    published: Published | None = None


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
        published=Published(
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
            augment=Augment(scale=0.25, rotation=30, half_body=0),
            headline="PCKh@0.5",
        ),
        train=TrainSpec(batch=128, milestones=(170, 200)),
        published=Published("PCKh@0.5", pckh, "README of the official repository: flip test") if pckh else None,
    )


# Between W18-Small-v1 and -v2 in cost: a wider branch and more fusions than v1, but its thin stem and first stage, which at
# stride 4 take most of the time of v2.
LSP_BACKBONE = HRNetSpec(
    stages=(StageSpec((24, 48), 2, 1), StageSpec((24, 48, 96), 2, 3), StageSpec((24, 48, 96, 192), 2, 1)),
    bottlenecks=1,
    bottleneck_width=32,
    stem_width=32,
    high_resolution_only=True,
)


def _lsp() -> PoseRecipe:
    return PoseRecipe(
        name="pose-lsp",
        model=PoseSpec(
            LSP,
            LSP_BACKBONE,
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
                scale=0.25,
                rotation=40,
                shift=0.05,
                portrait=0.12,
                colour=0.25,
                half_body=0.1,
                empty_outside=True,
                antialias=True,
            ),
        ),
        train=TrainSpec(
            epochs=60,
            batch=32,
            optimizer="adamw",
            learning_rate=2e-3,
            weight_decay=0.01,
            schedule="cosine",
            warmup_steps=500,
            ema=0.999,
            evaluate_every=5,
        ),
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
        _lsp(),
    )
}


def prepare(recipe: PoseRecipe) -> Job:
    """Open a recipe's data and build its model.

    Raises:
        InputError: a file is missing or cannot be used.
    """
    data, spec = recipe.data, recipe.model
    if not data.images or len(data.images) != len(data.annotations):
        raise InputError(
            f"{len(data.images)} folders of pictures and {len(data.annotations)} annotation files: give one json for each "
            "folder, --data.images DIR --data.annotations FILE.json."
        )
    sets = [read_keypoints(folder, file) for folder, file in zip(data.images, data.annotations, strict=True)]
    messages = list(sets[0].notes)
    if not set(spec.skeleton.names) & set(sets[0].skeleton.names):
        spec = replace(spec, skeleton=sets[0].skeleton)
        messages.append(
            f"The model finds the data set's {len(spec.skeleton)} keypoints: {', '.join(spec.skeleton.names)}."
        )
    named = [rename_keypoints(found, spec.skeleton) for found in sets]
    messages += [problem for found in sets for problem in found.problems]
    instances = [instance for found in named for instance in found.instances]
    validation, evaluator = None, lambda: PoseEvaluator((), spec)
    if data.val_images and data.val_annotations:
        found = rename_keypoints(read_keypoints(data.val_images, data.val_annotations), spec.skeleton)
        messages += [message for message in (*found.notes, *found.problems) if message not in messages]
        validation = PoseDataset(found.instances, spec, data.augment)
        truth = None if is_mpii(data.val_annotations) else read_coco_json(data.val_annotations)

        def evaluator() -> PoseEvaluator:
            images = [picture.image_id for picture in found.pictures]
            return PoseEvaluator(
                found.instances, spec, truth=truth, names=found.names, images=images, headline=data.headline
            )

    return Job(
        model=PoseModel(spec),
        train=PoseDataset(instances, spec, data.augment, recipe.train.seed),
        validation=validation,
        evaluator=evaluator,
        messages=tuple(messages),
    )


def read_keypoints(images: Path, annotations: Path) -> KeypointSet:
    """The labelled objects of a COCO or an MPII json, told apart by looking; raises as the readers of the two."""
    return read_mpii(images, annotations) if is_mpii(annotations) else read_coco_keypoints(images, annotations)
