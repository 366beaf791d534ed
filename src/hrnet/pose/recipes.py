"""Pose training runs: the published ones with their figures, and ours."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hrnet.engine.job import Job
from hrnet.engine.recipe import OURS, PublishedFigure, Recipe, TrainSpec
from hrnet.errors import InputError
from hrnet.formats.coco import read_coco_json
from hrnet.formats.compare import choose_part
from hrnet.formats.recognize import read
from hrnet.nn.spec import HRNetSpec, StageSpec, hrnet
from hrnet.pose.augment import Augment
from hrnet.pose.data import (
    KeypointSet,
    PoseDataset,
    Unboxed,
    coco_truth,
    hold_out,
    keypoint_set,
    read_coco_keypoints,
    rename_keypoints,
)
from hrnet.pose.metrics import PoseEvaluator
from hrnet.pose.model import PoseModel
from hrnet.pose.mpii import is_mpii, read_mpii
from hrnet.pose.skeletons import COCO, LSP, MPII, Skeleton
from hrnet.pose.spec import CodecSpec, PoseSpec


@dataclass(frozen=True, slots=True)
class PoseData:
    """Where images and their labels are: COCO or MPII json, YOLO data.yaml, DeepLabCut csv.

    Attributes:
        images: folders of training images.
        annotations: their labels; each folder goes with the file at the same place.
        val_images: folder of the images to score on.
        val_annotations: its labels; None: those that a data.yaml names; without any there is no scoring, and the last weights
            are the best.
        hold_out: where there is no validation set, n keeps every n-th training image for scoring and out of training: those
            at positions 0, n, 2n ... in the order of their paths; 0 keeps none.
        unboxed: the box of an object whose format has none: the whole image, or the bounds of its keypoints and a margin.
        augment: random changes of the training crops.
        headline: the figure that chooses the best weights; see `PoseEvaluator`.
    """

    images: tuple[Path, ...] = ()
    annotations: tuple[Path, ...] = ()
    val_images: Path | None = None
    val_annotations: Path | None = None
    hold_out: int = 0
    unboxed: Unboxed = "whole"
    augment: Augment = field(default_factory=Augment)
    headline: Literal["AP", "PCK@0.2", "PCK-AUC", "PCKh@0.5"] | None = None


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
            augment=Augment(scale=0.25, rotation=30, half_body=0),
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


def _lsp() -> PoseRecipe:
    return PoseRecipe(
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
                rotation=25,
                upright=0.8,
                shift=0.04,
                portrait=0.04,
                color=0.15,
                half_body=0,
                empty_outside=True,
                antialias=True,
            ),
        ),
        train=replace(OURS, batch=64),
    )


def _own() -> PoseRecipe:
    """For any keypoints: the network gets those of the data set, of which every fifth image is kept for scoring."""
    return PoseRecipe(
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
                scale=0.25, rotation=30, shift=0.05, color=0.25, half_body=0, empty_outside=True, antialias=True
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
        _lsp(),
        _own(),
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
            f"{len(data.images)} folders of images and {len(data.annotations)} annotation files: give one json for each "
            "folder, --data.images DIR --data.annotations FILE.json."
        )
    sets = [
        read_keypoints(folder, file, unboxed=data.unboxed)
        for folder, file in zip(data.images, data.annotations, strict=True)
    ]
    messages = list(sets[0].notes)
    if not set(spec.skeleton.names) & set(sets[0].skeleton.names):
        spec = replace(spec, skeleton=sets[0].skeleton)
        messages.append(
            f"The model finds the data set's {len(spec.skeleton)} keypoints: {', '.join(spec.skeleton.names)}."
        )
    messages += [problem for found in sets for problem in found.problems]
    validation = _validation(data, sets, messages)
    instances = [instance for found in sets for instance in rename_keypoints(found, spec.skeleton).instances]
    if validation is None:
        scored, evaluator = None, lambda: PoseEvaluator((), spec)
    else:
        found, truth = rename_keypoints(validation[0], spec.skeleton), validation[1]
        scored = PoseDataset(found.instances, spec, data.augment)

        def evaluator() -> PoseEvaluator:
            images = [image.image_id for image in found.images]
            return PoseEvaluator(
                found.instances, spec, truth=truth, names=found.names, images=images, headline=data.headline
            )

    return Job(
        model=PoseModel(spec),
        train=PoseDataset(instances, spec, data.augment, recipe.train.seed),
        validation=scored,
        evaluator=evaluator,
        messages=tuple(messages),
    )


def _validation(
    data: PoseData, sets: list[KeypointSet], messages: list[str]
) -> tuple[KeypointSet, dict[str, Any] | None] | None:
    """What is scored on, with its truth in COCO's form; None for nothing. Images that are held out leave `sets`.

    Raises:
        InputError: too much or too little is asked for.
    """
    images, annotations = data.val_images, data.val_annotations
    if images is None or annotations is None:
        images, annotations = next(
            (pair for pair in zip(data.images, data.annotations, strict=True) if has_validation(*pair)), (None, None)
        )
    if images is None or annotations is None:
        return _held_out(data, sets, messages) if data.hold_out else None
    if data.hold_out:
        messages.append(f"{annotations} has a validation set: nothing is held out of the training set.")
    found = read_keypoints(images, annotations, part="val", unboxed=data.unboxed)
    messages += [message for message in (*found.notes, *found.problems) if message not in messages]
    return found, read_truth(annotations, found)


def _held_out(
    data: PoseData, sets: list[KeypointSet], messages: list[str]
) -> tuple[KeypointSet, dict[str, Any] | None]:
    """Every n-th image, which leaves `sets`, with its truth in COCO's form; raises InputError where that cannot be."""
    if data.hold_out < 2 or len(sets) != 1:
        raise InputError(
            f"hold_out is {data.hold_out}, of {len(sets)} training sets: it is at least 2 and takes every n-th image of "
            "one set; name a validation set by --data.val-images and --data.val-annotations instead."
        )
    sets[0], held = hold_out(sets[0], data.hold_out)
    messages.append(
        f"{len(held.images)} images are held out for validation: every {data.hold_out}th by path, from the first."
    )
    return held, read_truth(data.annotations[0], held)


def read_keypoints(
    images: Path, annotations: Path, part: Literal["train", "val"] = "train", unboxed: Unboxed = "whole"
) -> KeypointSet:
    """The labeled objects of COCO or MPII json, of a YOLO data.yaml or a DeepLabCut csv, told apart by looking.

    Args:
        images: the folder of the images.
        annotations: their labels.
        part: which set, where the labels name several; val takes test where there is no val.
        unboxed: see `keypoint_set`.

    Raises:
        InputError: as the readers.
    """
    if is_mpii(annotations):
        return read_mpii(images, annotations)
    if annotations.suffix.lower() == ".json" or not annotations.exists():
        return read_coco_keypoints(images, annotations)
    return keypoint_set(choose_part(read(annotations, images), part), unboxed)


def has_validation(images: Path, annotations: Path) -> bool:
    """Whether labels name a set to train on and another one."""
    return annotations.suffix.lower() in (".yaml", ".yml") and len(read(annotations, images)) > 1


def read_truth(annotations: Path, data: KeypointSet) -> dict[str, Any] | None:
    """What average precision is measured against: the content of a COCO json, or the same of another format.

    None where there is nothing to measure against: MPII's people and objects without boxes have no area.
    """
    if is_mpii(annotations):
        return None
    return read_coco_json(annotations) if annotations.suffix.lower() == ".json" else coco_truth(data)
