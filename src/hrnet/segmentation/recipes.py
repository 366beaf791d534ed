"""Segmentation training runs: the published ones with their figures, and ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hrnet.engine.job import Job
from hrnet.engine.recipe import OURS, SMALL_BACKBONE, PublishedFigure, Recipe, TrainSpec
from hrnet.errors import InputError
from hrnet.formats.compare import Part, hold_out, pair_folders
from hrnet.formats.label_maps import LabeledImage
from hrnet.nn.spec import HRNetSpec, hrnet, hrnet_small_v1, hrnet_small_v2
from hrnet.segmentation.classes import (
    ADE20K,
    CAMVID,
    CAMVID_WEIGHTS,
    CLOTHES,
    CLOTHES_WEIGHTS,
    COCO_STUFF,
    CONTEXT_59,
    CONTEXT_60,
    LIP,
    LIP_PAIRS,
)
from hrnet.segmentation.data import (
    Augment,
    SegmentationDataset,
    SegmentationSet,
    has_part,
    match_classes,
    read_segmentation,
)
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
class SegmentationData:
    """Where images and their label images are.

    Attributes:
        images: folders of training images, or without `annotations` of whole data sets, published or one's own.
        annotations: folders of label images; each goes with the folder of images at the same place.
        parts: of the data sets, to train on.
        val_images: folder to score on, as `images`; None: the part of the training folders for it; without one there is no
            scoring, and the last weights are the best.
        val_annotations: its label images.
        hold_out: where there is nothing to score on, n keeps every n-th training image for it and out of training: those at
            positions 0, n, 2n ... in the order of their paths; 0 keeps none.
        augment: random changes of the training samples.
    """

    images: tuple[Path, ...] = ()
    annotations: tuple[Path, ...] = ()
    parts: tuple[Part, ...] = ("train",)
    val_images: Path | None = None
    val_annotations: Path | None = None
    hold_out: int = 0
    augment: Augment = field(default_factory=Augment)


SegmentationRecipe = Recipe[SegmentationSpec, SegmentationData]


# Source: the released training code: SGD with momentum, weight decay of everything, poly schedule by the step, synchronized
# norms; the paper's iterations are these epochs.
_SGD = TrainSpec(
    optimizer="sgd", weight_decay=1e-4, decay_norms=True, schedule="poly", sync_norm=True, evaluate_every=10
)
# Source: the names of the parameters whose rate the released code multiplies; they cover the OCR head and not the plain one.
_OCR_HEAD_RATE = 10.0


def _bilinear(backbone: HRNetSpec, *, align_corners: bool = False, norm_momentum: float = 0.1) -> HRNetSpec:
    return replace(backbone, fusion_upsample="bilinear", align_corners=align_corners, norm_momentum=norm_momentum)


def _published(value: float, test: str) -> PublishedFigure:
    return PublishedFigure("mIoU", value, test)


def _cityscapes(
    name: str,
    backbone: HRNetSpec,
    miou: float,
    source: str,
    *,
    loss: LossSpec = WEIGHTED_LOSS,
    ocr: OCRSpec | None = None,
    parts: tuple[Part, ...] = ("train",),
) -> SegmentationRecipe:
    again = len(parts) > 1
    return SegmentationRecipe(
        name=f"segmentation-cityscapes-{name}",
        model=SegmentationSpec(
            backbone=_bilinear(backbone, align_corners=bool(ocr), norm_momentum=0.1 if ocr else 0.01),
            input_size=(1024, 2048),
            ocr=ocr,
            loss=loss,
        ),
        data=SegmentationData(images=(Path("data/cityscapes"),), parts=parts, augment=Augment(crop=(512, 1024))),
        # Training on both parts goes on from the weights of the training on one, at a tenth of the rate.
        train=replace(_SGD, epochs=484, batch=12, learning_rate=0.001 if again else 0.01, weight_decay=5e-4),
        published=_published(miou, source),
    )


def _lip(name: str, miou: float, ocr: OCRSpec | None = None) -> SegmentationRecipe:
    size = (473, 473)
    return SegmentationRecipe(
        name=f"segmentation-lip-{name}",
        model=SegmentationSpec(
            LIP,
            LIP_PAIRS,
            _bilinear(hrnet(48), align_corners=bool(ocr), norm_momentum=0.1 if ocr else 0.01),
            input_size=size,
            squash=True,
            ocr=ocr,
        ),
        data=SegmentationData(images=(Path("data/lip"),), augment=Augment(crop=size, scale=(0.5, 1.6))),
        train=replace(_SGD, epochs=150, batch=40, learning_rate=0.007, weight_decay=5e-4),
        published=_published(miou, "arXiv 1908.07919: val, flip"),
    )


def _pascal_context(name: str, classes: tuple[str, ...], miou: float, ocr: OCRSpec | None = None) -> SegmentationRecipe:
    side = 520 if ocr else 480
    return SegmentationRecipe(
        name=f"segmentation-context-{len(classes)}-{name}",
        model=SegmentationSpec(
            classes,
            backbone=_bilinear(hrnet(48), align_corners=bool(ocr), norm_momentum=0.1 if ocr else 0.01),
            input_size=(520, 520),
            ocr=ocr,
        ),
        data=SegmentationData(images=(Path("data/pascal_context"),), augment=Augment(crop=(side, side))),
        train=replace(
            _SGD,
            epochs=200,
            batch=16,
            learning_rate=0.001 if ocr else 0.004,
            head_rate=_OCR_HEAD_RATE if ocr else 1.0,
        ),
        published=_published(miou, "arXiv 1908.07919: val, scales 0.5 to 2 and flip"),
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
    """COCO-Stuff and ADE20K, which were trained from one branch of the released code."""
    head = _OCR_HEAD_RATE if ocr and classes is COCO_STUFF else 1.0
    return SegmentationRecipe(
        name=f"segmentation-{name}",
        model=SegmentationSpec(
            classes,
            backbone=_bilinear(hrnet(48), align_corners=True),
            input_size=(520, 520),
            ocr=ocr,
            loss=RELEASED_HARD_LOSS if ocr else HARD_LOSS,
        ),
        data=SegmentationData(images=(Path(folder),), augment=Augment(crop=(520, 520))),
        train=replace(_SGD, epochs=epochs, batch=16, learning_rate=rate, head_rate=head),
        published=_published(miou, "README of the official repository: val, one scale"),
    )


_README = "README of the official repository: val, one scale"
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
        parts=("train", "val"),
    ),
    _cityscapes(
        "w48-ohem-trainval",
        hrnet(48),
        81.9,
        "README of the official repository: test, six scales and flip; from segmentation-cityscapes-w48-ohem (--init)",
        loss=_HARD,
        parts=("train", "val"),
    ),
    _cityscapes(
        "w48-ocr-trainval",
        hrnet(48),
        82.5,
        "arXiv 1908.07919: test, six scales and flip; from the weights of segmentation-cityscapes-w48-ocr (--init)",
        ocr=_OCR,
        parts=("train", "val"),
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

# What no data set has as a class, so that its own take its place.
OWN_CLASSES = ("of the data set",)


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
        # People who stand: their feet are down, and their left is not told from their right.
        _ours(
            "ccp",
            (448, 288),
            "data/ccp",
            replace(_AUGMENT, rotation=8),
            replace(OURS, epochs=10),
            classes=CLOTHES,
            weights=CLOTHES_WEIGHTS,
        ),
        _ours(
            "camvid",
            (360, 480),
            "data/camvid",
            replace(_AUGMENT, crop=(256, 352), rotation=3, color=0.3),
            replace(OURS, epochs=50, batch=8, evaluate_every=10),
            classes=CAMVID,
            weights=CAMVID_WEIGHTS,
        ),
        _ours(
            "own",
            (384, 384),
            "set",
            _AUGMENT,
            replace(OURS, batch=8, learning_rate=1e-3, ema=0.99, warmup_steps=50),
            5,
        ),
    )
}


def prepare(recipe: SegmentationRecipe) -> Job:
    """Open a recipe's data and build its model.

    Raises:
        InputError: a file is missing or cannot be used.
    """
    data = recipe.data
    pairs = pair_folders(data.images, data.annotations, data.parts)
    sets = [read_segmentation(*pair, part) for pair in pairs for part in data.parts]
    messages: list[str] = []
    spec = _with_classes_of(sets[0], recipe.model, messages)
    sets = [match_classes(one, spec.class_names) for one in sets]
    for one in sets:
        messages += [message for message in (*one.notes, *one.problems) if message not in messages]
    images = [image for one in sets for image in one.images]
    scored = _validation(data, pairs, images, spec, messages)
    held_out = set(scored)
    return Job(
        model=SegmentationModel(spec),
        train=SegmentationDataset(
            [image for image in images if image not in held_out], spec, data.augment, recipe.train.seed
        ),
        validation=SegmentationDataset(scored, spec, data.augment) if scored else None,
        evaluator=lambda: SegmentationEvaluator(scored, spec),
        messages=tuple(messages),
    )


def _with_classes_of(data: SegmentationSet, spec: SegmentationSpec, messages: list[str]) -> SegmentationSpec:
    """The spec for the classes of a data set that has none in common with it, or no names and another number of them."""
    common = {name.lower() for name in data.class_names} & {name.lower() for name in spec.class_names}
    if common or (
        not data.named and len(data.class_names) == len(spec.class_names) and spec.class_names != OWN_CLASSES
    ):
        return spec
    if len(data.class_names) < 2:
        raise InputError(
            f"{data.images[0].labels_path.parent} has one class only, {', '.join(data.class_names)}, so that nothing "
            "can be learned; give what surrounds it a class too."
        )
    messages.append(f"The model learns the data set's {len(data.class_names)} classes: {', '.join(data.class_names)}.")
    if spec.loss.class_weights:
        messages.append("The recipe's weights of classes belong to other classes, and are left out.")
    loss = replace(spec.loss, class_weights=())
    return replace(spec, class_names=data.class_names, pairs=data.pairs, loss=loss)


def _validation(
    data: SegmentationData,
    pairs: Sequence[tuple[Path, Path | None]],
    records: Sequence[LabeledImage],
    spec: SegmentationSpec,
    messages: list[str],
) -> list[LabeledImage]:
    """What is scored on; some of the training images where they are held out.

    Raises:
        InputError: too much is held out.
    """
    images, annotations = data.val_images, data.val_annotations
    if images is None and "val" not in data.parts:
        images, annotations = next((pair for pair in pairs if has_part(*pair, "val")), (None, None))
    if images is not None:
        found = match_classes(read_segmentation(images, annotations, "val"), spec.class_names)
        messages += [message for message in (*found.notes, *found.problems) if message not in messages]
        if data.hold_out:
            messages.append(f"{images} has a validation set: nothing is held out of the training set.")
        return list(found.images)
    if not data.hold_out:
        return []
    _, held = hold_out(records, data.hold_out)
    messages.append(f"{len(held)} images are held out for validation: every {data.hold_out}th by path, from the first.")
    return held
