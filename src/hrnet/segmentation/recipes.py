"""Segmentation training runs: the published ones with their figures, and ours."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from hrnet.engine.recipe import OURS, SMALL_BACKBONE, PublishedFigure, Recipe, TrainSpec
from hrnet.engine.task import Job
from hrnet.errors import InputError
from hrnet.formats.ade20k import ADE20K
from hrnet.formats.coco_stuff import COCO_STUFF
from hrnet.formats.lip import LIP, LIP_PAIRS
from hrnet.formats.pascal_context import CONTEXT_59, CONTEXT_60
from hrnet.formats.published import split_names
from hrnet.formats.splits import OWN_CLASSES, DataSource, Split, TrainingSets, has_common_name, training_images
from hrnet.nn.spec import HRNetSpec, hrnet, hrnet_small_v1, hrnet_small_v2
from hrnet.segmentation.data import Augment, SegmentationDataset, SegmentationSet, match_classes, segmentation_set
from hrnet.segmentation.metrics import SegmentationEvaluator
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.spec import (
    CITYSCAPES_WEIGHTS,
    HARD_LOSS,
    RELEASED_HARD_LOSS,
    WEIGHTED_LOSS,
    LossSpec,
    OCRSpec,
    SegmentationSpec,
)


@dataclass(frozen=True, slots=True)
class SegmentationData(DataSource):
    """Images with label maps, in one's own folders or those of a published data set."""

    augment: Augment = field(default_factory=Augment)  # random changes of the training samples


SegmentationRecipe = Recipe[SegmentationSpec, SegmentationData]


# Source: the released training code: SGD with momentum, weight decay of everything, poly schedule by the step, synchronized
# norms; the paper's iterations are these epochs.
_SGD = TrainSpec(
    optimizer="sgd", weight_decay=1e-4, decay_norms=True, schedule="poly", sync_norm=True, evaluate_every=10
)
# Source: the names of the parameters whose rate the released code multiplies; they cover the OCR head and not the plain one.
_OCR_HEAD_RATE = 10.0


_README = "README of the official repository: val, one scale"


def _bilinear(backbone: HRNetSpec, *, aligned: bool) -> HRNetSpec:
    """Return a backbone with bilinear fusion; the published ones that do not align corners have a slower norm momentum."""
    return replace(backbone, fusion_upsample="bilinear", align_corners=aligned, norm_momentum=0.1 if aligned else 0.01)


def _cityscapes(
    name: str,
    backbone: HRNetSpec,
    miou: float,
    source: str,
    *,
    loss: LossSpec = WEIGHTED_LOSS,
    ocr: OCRSpec | None = None,
    splits: tuple[Split, ...] = ("train",),
) -> SegmentationRecipe:
    again = len(splits) > 1
    return SegmentationRecipe(
        name=f"segmentation-cityscapes-{name}",
        model=SegmentationSpec(
            backbone=_bilinear(backbone, aligned=bool(ocr)), input_size=(1024, 2048), ocr=ocr, loss=loss
        ),
        data=SegmentationData(images=(Path("data/cityscapes"),), splits=splits, augment=Augment(crop=(512, 1024))),
        # Training on both splits starts from the weights of the training on one, at a tenth of the rate.
        train=replace(_SGD, epochs=484, batch=12, learning_rate=0.001 if again else 0.01, weight_decay=5e-4),
        published=PublishedFigure("mIoU", miou, source),
    )


def _lip(name: str, miou: float, ocr: OCRSpec | None = None) -> SegmentationRecipe:
    size = (473, 473)
    return SegmentationRecipe(
        name=f"segmentation-lip-{name}",
        model=SegmentationSpec(
            LIP, LIP_PAIRS, _bilinear(hrnet(48), aligned=bool(ocr)), input_size=size, squash=True, ocr=ocr
        ),
        data=SegmentationData(images=(Path("data/lip"),), augment=Augment(crop=size, scale=(0.5, 1.6))),
        train=replace(_SGD, epochs=150, batch=40, learning_rate=0.007, weight_decay=5e-4),
        published=PublishedFigure("mIoU", miou, "arXiv 1908.07919: val, flip"),
    )


def _pascal_context(name: str, classes: tuple[str, ...], miou: float, ocr: OCRSpec | None = None) -> SegmentationRecipe:
    side = 520 if ocr else 480
    return SegmentationRecipe(
        name=f"segmentation-context-{len(classes)}-{name}",
        model=SegmentationSpec(
            classes, backbone=_bilinear(hrnet(48), aligned=bool(ocr)), input_size=(520, 520), ocr=ocr
        ),
        data=SegmentationData(images=(Path("data/pascal_context"),), augment=Augment(crop=(side, side))),
        train=replace(
            _SGD, epochs=200, batch=16, learning_rate=0.001 if ocr else 0.004, head_rate=_OCR_HEAD_RATE if ocr else 1.0
        ),
        published=PublishedFigure("mIoU", miou, "arXiv 1908.07919: val, scales 0.5 to 2 and flip"),
    )


def _scenes(
    name: str,
    classes: tuple[str, ...],
    folder: str,
    miou: float,
    *,
    epochs: int,
    rate: float,
    ocr: OCRSpec | None = None,
) -> SegmentationRecipe:
    """Return a recipe of COCO-Stuff or ADE20K, which were trained from one branch of the released code."""
    head = _OCR_HEAD_RATE if ocr and classes is COCO_STUFF else 1.0
    return SegmentationRecipe(
        name=f"segmentation-{name}",
        model=SegmentationSpec(
            classes,
            backbone=_bilinear(hrnet(48), aligned=True),
            input_size=(520, 520),
            ocr=ocr,
            loss=RELEASED_HARD_LOSS if ocr else HARD_LOSS,
        ),
        data=SegmentationData(images=(Path(folder),), augment=Augment(crop=(520, 520))),
        train=replace(_SGD, epochs=epochs, batch=16, learning_rate=rate, head_rate=head),
        published=PublishedFigure("mIoU", miou, _README),
    )


_HARD = replace(HARD_LOSS, class_weights=CITYSCAPES_WEIGHTS)
_OCR = OCRSpec()
_PUBLISHED = (
    _cityscapes("w18-small-v1", hrnet_small_v1(), 70.3, _README),
    _cityscapes("w18-small-v2", hrnet_small_v2(), 76.2, _README),
    _cityscapes("w40", hrnet(40), 80.2, "arXiv 1908.07919: val, one scale"),
    _cityscapes("w48", hrnet(48), 81.1, _README),
    _cityscapes("w48-ohem", hrnet(48), 81.2, _README, loss=_HARD),
    _cityscapes("w48-ocr", hrnet(48), 81.6, _README, ocr=_OCR),
    _cityscapes(
        "w48-trainval",
        hrnet(48),
        81.6,
        "arXiv 1908.07919: test, six scales and flip; from the weights of segmentation-cityscapes-w48 (--init)",
        splits=("train", "val"),
    ),
    _cityscapes(
        "w48-ohem-trainval",
        hrnet(48),
        81.9,
        "README of the official repository: test, six scales and flip; from segmentation-cityscapes-w48-ohem (--init)",
        loss=_HARD,
        splits=("train", "val"),
    ),
    _cityscapes(
        "w48-ocr-trainval",
        hrnet(48),
        82.5,
        "arXiv 1908.07919: test, six scales and flip; from the weights of segmentation-cityscapes-w48-ocr (--init)",
        ocr=_OCR,
        splits=("train", "val"),
    ),
    _lip("w48", 55.90),
    _lip("w48-ocr", 56.48, _OCR),
    _pascal_context("w48", CONTEXT_59, 54.0),
    _pascal_context("w48-ocr", CONTEXT_59, 56.2, _OCR),
    _pascal_context("w48", CONTEXT_60, 48.3),
    _pascal_context("w48-ocr", CONTEXT_60, 50.1, _OCR),
    _scenes("coco-stuff-w48", COCO_STUFF, "data/cocostuff", 36.2, epochs=110, rate=0.001),
    _scenes("coco-stuff-w48-ocr", COCO_STUFF, "data/cocostuff", 39.7, epochs=110, rate=0.001, ocr=_OCR),
    _scenes("ade20k-w48", ADE20K, "data/ade20k", 43.1, epochs=120, rate=0.02),
    _scenes("ade20k-w48-ocr", ADE20K, "data/ade20k", 44.5, epochs=120, rate=0.02, ocr=_OCR),
)

# Clothing co-parsing, its 59 classes merged into 12; weights: the fraction of pixels to the power of -0.3, so that the
# background's three quarters do not outvote a belt.
_CLOTHES = split_names(
    "background, hair, skin, upper_clothes, coat, dress, trousers, skirt, legwear, shoes, bag, accessories"
)
_CLOTHES_WEIGHTS = (1.08, 3.7, 2.9, 2.8, 2.5, 2.8, 2.65, 4.2, 5.8, 3.9, 3.6, 4.8)
# CamVid as SegNet's authors reduced it to 11 classes; weights: the fraction of pixels to the power of -0.25, of mean 1.
_CAMVID = split_names("sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist")
_CAMVID_WEIGHTS = (0.97, 0.89, 1.97, 0.83, 1.35, 1.11, 1.89, 1.91, 1.26, 2.2, 2.67)


def _ours(
    name: str,
    size: tuple[int, int],
    folder: str,
    augment: Augment,
    train: TrainSpec,
    hold_out: int = 0,
    classes: tuple[str, ...] = OWN_CLASSES,
    weights: tuple[float, ...] = (),
) -> SegmentationRecipe:
    return SegmentationRecipe(
        name=f"segmentation-{name}",
        model=SegmentationSpec(classes, backbone=SMALL_BACKBONE, input_size=size, loss=LossSpec(weights)),
        data=SegmentationData(images=(Path(folder),), hold_out=hold_out, augment=augment),
        train=train,
    )


_AUGMENT = Augment(scale=(0.6, 1.7), scale_step=0, rotation=10, color=0.2, antialias=True)

RECIPES: dict[str, SegmentationRecipe] = {
    recipe.name: recipe
    for recipe in (
        *_PUBLISHED,
        # Standing people: small rotations, and classes that do not distinguish left from right.
        _ours(
            "ccp",
            (448, 288),
            "data/ccp",
            replace(_AUGMENT, rotation=8),
            replace(OURS, epochs=10),
            classes=_CLOTHES,
            weights=_CLOTHES_WEIGHTS,
        ),
        _ours(
            "camvid",
            (360, 480),
            "data/camvid",
            replace(_AUGMENT, crop=(256, 352), rotation=3, color=0.3),
            replace(OURS, epochs=50, batch=8, evaluate_every=10),
            classes=_CAMVID,
            weights=_CAMVID_WEIGHTS,
        ),
        _ours(
            "own", (384, 384), "set", _AUGMENT, replace(OURS, batch=8, learning_rate=1e-3, ema=0.99, warmup_steps=50), 5
        ),
    )
}


def prepare(recipe: SegmentationRecipe) -> Job:
    """Open a recipe's data and build its model.

    Raises:
        InputError: a file is missing or cannot be used.
    """
    data = recipe.data
    opened = TrainingSets(data, "label_maps", segmentation_set)
    messages: list[str] = []
    spec = _with_classes_of(opened.sets[0], recipe.model, messages)
    train, validation = opened.finish(lambda one: match_classes(one, spec.class_names), messages)
    images = training_images(train, validation)
    scored = validation.images if validation else ()
    return Job(
        model=SegmentationModel(spec),
        train=SegmentationDataset(images, spec, data.augment, recipe.train.seed),
        validation=SegmentationDataset(scored, spec, data.augment) if scored else None,
        evaluator=lambda: SegmentationEvaluator(scored, spec),
        messages=tuple(messages),
    )


def _with_classes_of(data: SegmentationSet, spec: SegmentationSpec, messages: list[str]) -> SegmentationSpec:
    """Return the spec with the classes of the data set, if these have other names, or no names and another number."""
    names = data.class_names
    unnamed = not data.named and len(names) == len(spec.class_names) and spec.class_names != OWN_CLASSES
    if unnamed or has_common_name(names, spec.class_names):
        return spec
    if len(names) < 2:
        raise InputError(
            f"{data.images[0].labels_path.parent} has one class only, {', '.join(names)}, and a model "
            "needs at least two; label the background as a class too."
        )
    messages.append(f"The model learns the data set's {len(names)} classes: {', '.join(names)}.")
    if spec.loss.class_weights:
        messages.append("The recipe's class weights are for other classes and are left out.")
    loss = replace(spec.loss, class_weights=())
    return replace(spec, class_names=names, pairs=data.pairs, loss=loss)
