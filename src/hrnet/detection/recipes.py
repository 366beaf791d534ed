"""Detection training runs: the published ones, and ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from hrnet.detection import spec as detection
from hrnet.detection.augment import Augment
from hrnet.detection.data import DetectionDataset, DetectionSet, detection_set, match_classes, with_stuff
from hrnet.detection.metrics import DetectionEvaluator
from hrnet.detection.model import DetectionModel
from hrnet.detection.spec import COCO, MAX_SEMANTIC_CLASSES, DetectionSpec, DetectorSpec, RCNNSpec
from hrnet.engine.recipe import OURS, SMALL_BACKBONE, PublishedFigure, Recipe, TrainSpec
from hrnet.engine.task import Job
from hrnet.errors import InputError
from hrnet.formats.records import ImageRecord
from hrnet.formats.splits import OWN_CLASSES, DataSource, TrainingSets, has_common_name, training_images
from hrnet.io.geometry import Size
from hrnet.nn.spec import hrnet


@dataclass(frozen=True, slots=True)
class DetectionData(DataSource):
    """Images with boxes or masks: COCO json, Pascal VOC, YOLO.

    Attributes:
        stuff: folders of label maps for a semantic branch, one for each of `images`: PNGs with the stems of the images, 255
            is ignored. None: the targets of the branch are made of the objects.
        aliases: pairs of a class of the data sets and the model's class that it counts as.
        augment: random changes of the training samples.
    """

    stuff: tuple[Path, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    augment: Augment = field(default_factory=Augment)


DetectionRecipe = Recipe[DetectionSpec, DetectionData]

DETECTORS: dict[str, DetectorSpec] = {
    "faster": detection.faster_rcnn(),
    "cascade": detection.cascade_rcnn(),
    "mask": detection.mask_rcnn(),
    "cascade-mask": detection.cascade_mask_rcnn(),
    "htc": detection.hybrid_task_cascade(),
    "fcos": detection.fcos(),
    "centernet": detection.centernet(),
}

Schedule = Literal["1x", "2x", "20e", "28e"]
# Source: the released configurations: epochs and milestones.
SCHEDULES: dict[Schedule, tuple[int, tuple[int, int]]] = {
    "1x": (12, (8, 11)),
    "2x": (24, (20, 23)),
    "20e": (20, (16, 19)),
    "28e": (28, (24, 27)),
}
# Source: the released configurations: SGD with momentum, weight decay of all parameters, 500 warm-up steps from a third of
# the learning rate, gradient norm clipped to 35.
_SGD = TrainSpec(
    batch=16,
    optimizer="sgd",
    learning_rate=0.02,
    weight_decay=1e-4,
    decay_norms=True,
    warmup_steps=500,
    warmup_start=1 / 3,
    gradient_clip=35,
)
# Source: the released FCOS, mmdetection: half the learning rate, constant warm-up; twice the rate and no decay for biases.
_SGD_FCOS = replace(_SGD, learning_rate=0.01, warmup="constant", bias_rate=2.0, decay_biases=False)
# Source: the released configurations: one of three sizes; for FCOS any short side between two.
_MULTI_SCALE = Augment(sizes=((1000, 1600), (600, 1000), (800, 1333)))
_MULTI_SCALE_FCOS = Augment(sizes=((640, 1333), (800, 1333)), sizes_between=True)
_COCO_DATA = DetectionData(
    images=(Path("data/coco/train2017"),),
    annotations=(Path("data/coco/annotations/instances_train2017.json"),),
    val_images=Path("data/coco/val2017"),
    val_annotations=Path("data/coco/annotations/instances_val2017.json"),
)
# Source: mmdetection's configuration of HTC.
_STUFF = Path("data/coco/stuffthingmaps/train2017")
_PAPER = "arXiv 1908.07919"
_README = "README of HRNet-Object-Detection"
_MMDET = "mmdetection's model zoo"


def _figure(percent: float, source: str) -> PublishedFigure:
    return PublishedFigure("AP", round(percent / 100, 4), f"{source}; in percent, of boxes (and masks) of val2017")


def _coco(
    family: str,
    width: int,
    schedule: Schedule,
    ap: float,
    source: str,
    *,
    multi_scale: bool = False,
    sync_norm: bool = False,
) -> DetectionRecipe:
    model = DetectionSpec(COCO, DETECTORS[family], hrnet(width), frozen_norms=not sync_norm)
    train, scales = (_SGD_FCOS, _MULTI_SCALE_FCOS) if family == "fcos" else (_SGD, _MULTI_SCALE)
    epochs, milestones = SCHEDULES[schedule]
    if (family, schedule) == ("fcos", "2x"):
        # As mmdetection's; and as the steps of FCOS's own code: 120 000 and 160 000 of 180 000.
        milestones = (16, 22)
    ending = ("-syncbn" if sync_norm else "") + ("-ms" if multi_scale else "")
    return DetectionRecipe(
        name=f"detection-coco-{family}-w{width}-{schedule}{ending}",
        model=model,
        data=replace(
            _COCO_DATA, augment=scales if multi_scale else Augment(), stuff=(_STUFF,) * bool(model.semantic_classes)
        ),
        train=replace(train, epochs=epochs, milestones=milestones, sync_norm=sync_norm),
        published=_figure(ap, source),
    )


def _centernet(width: int, ap: float) -> DetectionRecipe:
    """Source: arXiv 1904.08189 and 1808.01244, with 480 000 steps of 48 images, the rate falling at 450 000. How HRNet was
    used in CenterNet was never published; its norms are trained here."""
    return DetectionRecipe(
        name=f"detection-coco-centernet-w{width}",
        model=DetectionSpec(
            COCO, DETECTORS["centernet"], hrnet(width), input_size=(511, 511), fit="canvas", frozen_norms=False
        ),
        data=replace(_COCO_DATA, augment=Augment(scale=(0.6, 1.4), color=0.4)),
        train=TrainSpec(
            epochs=195, batch=48, learning_rate=2.5e-4, milestones=(183,), sync_norm=True, evaluate_every=5
        ),
        published=_figure(ap, f"{_PAPER}: original image sizes, flip test"),
    )


_PUBLISHED = (
    _coco("faster", 18, "1x", 36.2, f"{_PAPER}; {_README}: 36.1; {_MMDET}: 36.9"),
    _coco("faster", 18, "2x", 38.0, f"{_PAPER}; {_README}: 38.1; {_MMDET}: 38.9"),
    _coco("faster", 32, "1x", 39.6, f"{_PAPER}; {_README}: 39.5; {_MMDET}: 40.2"),
    _coco("faster", 32, "2x", 40.9, f"{_PAPER}; {_README}: 40.8; {_MMDET}: 41.4"),
    _coco("faster", 40, "1x", 40.4, f"{_README}; {_MMDET}: 41.2"),
    _coco("faster", 40, "2x", 41.4, f"{_README}; {_MMDET}: 42.1"),
    _coco("faster", 48, "1x", 41.3, f"{_PAPER}; {_README}: 40.9, a run of mmdetection's authors"),
    _coco("faster", 48, "2x", 41.8, f"{_PAPER}; {_README}: 41.5, a run of mmdetection's authors"),
    _coco("faster", 18, "1x", 37.2, _README, sync_norm=True),
    _coco("faster", 18, "1x", 37.6, _README, sync_norm=True, multi_scale=True),
    _coco("faster", 18, "2x", 39.4, _README, sync_norm=True, multi_scale=True),
    _coco("faster", 32, "1x", 41.0, _README, sync_norm=True, multi_scale=True),
    _coco("faster", 32, "2x", 42.6, _README, sync_norm=True, multi_scale=True),
    _coco("cascade", 18, "20e", 41.3, f"{_PAPER}; {_README} and {_MMDET}: 41.2"),
    _coco("cascade", 32, "20e", 43.7, f"{_PAPER}; {_MMDET}: 43.3"),
    _coco("cascade", 40, "20e", 43.8, _MMDET),
    _coco("cascade", 48, "20e", 44.6, _PAPER),
    _coco("mask", 18, "1x", 37.1, f"{_PAPER}: masks 33.8, another run 37.3 / 34.2; {_MMDET}: 37.7 / 34.2"),
    _coco("mask", 18, "2x", 39.2, f"{_PAPER}: masks 35.3, another run 35.7; {_MMDET}: 39.8 / 36.0"),
    _coco("mask", 32, "1x", 40.9, f"{_PAPER}: masks 36.7, another run 40.7 / 36.8; {_MMDET}: 41.2 / 37.1"),
    _coco("mask", 32, "2x", 42.3, f"{_PAPER}: masks 37.6; {_README}: 42.1 / 37.6; {_MMDET}: 42.5 / 37.8"),
    _coco("mask", 40, "1x", 42.1, f"{_MMDET}: masks 37.5"),
    _coco("mask", 40, "2x", 42.8, f"{_MMDET}: masks 38.2"),
    _coco("mask", 48, "1x", 42.4, f"{_README}: masks 38.1, the columns being swapped there"),
    _coco("mask", 48, "2x", 42.9, f"{_README}: masks 38.3, the columns being swapped there"),
    _coco("cascade-mask", 18, "20e", 41.9, f"{_PAPER}: masks 36.4; {_MMDET}: 41.6 / 36.4"),
    _coco("cascade-mask", 32, "20e", 44.5, f"{_PAPER}: masks 38.5; {_MMDET}: 44.3 / 38.6"),
    _coco("cascade-mask", 40, "20e", 45.1, f"{_MMDET}: masks 39.3"),
    _coco("cascade-mask", 48, "20e", 46.0, f"{_PAPER}: masks 39.5"),
    _coco("htc", 18, "20e", 43.1, f"{_PAPER}: masks 37.9; {_MMDET}: 42.8 / 37.9"),
    _coco("htc", 32, "20e", 45.3, f"{_PAPER}: masks 39.6; {_MMDET}: 45.4 / 39.9"),
    _coco("htc", 40, "20e", 46.4, f"{_MMDET}: masks 40.8"),
    _coco("htc", 48, "20e", 46.8, f"{_PAPER}: masks 40.7"),
    _coco("htc", 48, "28e", 47.0, f"{_PAPER}: masks 41.0"),
    _coco("fcos", 18, "1x", 35.2, f"{_PAPER}, appendix; {_MMDET}: 35.3"),
    _coco("fcos", 18, "2x", 37.7, f"{_PAPER}; {_README} and {_MMDET}: 38.2"),
    _coco("fcos", 32, "1x", 38.2, f"{_PAPER}, appendix; {_README}: 37.7; {_MMDET}: 39.5"),
    _coco("fcos", 32, "2x", 40.3, f"{_PAPER}, appendix; {_MMDET}: 40.8"),
    _coco("fcos", 18, "2x", 38.1, f"{_PAPER}, appendix; {_MMDET}: 38.3", multi_scale=True),
    _coco("fcos", 32, "2x", 41.4, f"{_PAPER}, appendix; its table and {_MMDET}: 41.9", multi_scale=True),
    _coco("fcos", 40, "2x", 42.7, f"{_MMDET}, in a row that says W48", multi_scale=True),
    _coco("fcos", 48, "2x", 42.9, f"{_PAPER}, appendix", multi_scale=True),
    _coco("fcos", 18, "2x", 39.4, "README of HRNet-FCOS: five levels", multi_scale=True, sync_norm=True),
    _coco("fcos", 32, "2x", 42.5, "README of HRNet-FCOS: five levels", multi_scale=True, sync_norm=True),
    _centernet(48, 43.4),
    _centernet(64, 44.0),
)


# ---- recipes for small data and small machines


def _small(detector: RCNNSpec) -> RCNNSpec:
    """Return an R-CNN for small images on a CPU: narrow heads, fewer regions."""
    return replace(
        detector,
        pyramid_width=96,
        head_width=256,
        anchor_samples=128,
        region_samples=128,
        train_proposals=(500, 300),
        test_proposals=(300, 200),
        # The last head is trained with a quarter of the weight, and is not the best one on little data.
        average_masks=True,
        semantic_classes=2 if detector.semantic_classes else 0,
    )


def _standing(detector: DetectorSpec) -> DetectorSpec:
    """Return the detector for people in small images: ratios of one to three, no level for heights of 512 pixels."""
    if not isinstance(detector, RCNNSpec):
        return detector
    return replace(detector, anchor_ratios=(1.0, 2.0, 3.0), num_levels=4)


# Four levels, as no object of a small canvas needs a fifth. Center sampling helps where there are few images.
SMALL_FCOS = replace(
    detection.fcos(),
    pyramid_width=96,
    tower_convs=2,
    ranges=((-1.0, 48.0), (48.0, 96.0), (96.0, 192.0), (192.0, 1e8)),
    center_radius=1.5,
    candidates=300,
    nms_iou=0.6,
)
SMALL: dict[str, DetectorSpec] = {
    **{family: _small(detector) for family, detector in DETECTORS.items() if isinstance(detector, RCNNSpec)},
    "fcos": SMALL_FCOS,
    "centernet": replace(detection.centernet(), width=64, reduce_kernel=1),
}


def _ours(
    name: str,
    detector: DetectorSpec,
    input_size: Size,
    data: DetectionData,
    classes: tuple[str, ...] = OWN_CLASSES,
    train: TrainSpec = OURS,
) -> DetectionRecipe:
    return DetectionRecipe(
        name=f"detection-{name}",
        # The norms are trained, as this small backbone has no pretrained statistics.
        model=DetectionSpec(classes, detector, SMALL_BACKBONE, input_size, fit="canvas", frozen_norms=False),
        data=data,
        train=replace(train, batch=8, learning_rate=1e-3),
    )


_AUGMENT = Augment(scale=(0.6, 1.6), color=0.2, mosaic=0.3, antialias=True)
_PASTE = replace(_AUGMENT, paste=0.3)
_OWN_DATA = DetectionData(images=(Path("set"),), hold_out=5, augment=_AUGMENT)
_OWN_TRAIN = replace(OURS, ema=0.99, warmup_steps=50)

RECIPES: dict[str, DetectionRecipe] = {
    recipe.name: recipe
    for recipe in (
        *_PUBLISHED,
        *(
            _ours(
                f"pennfudan-{family}",
                _standing(detector),
                (256, 320),
                DetectionData(images=(Path("data/pennfudan"),), augment=_PASTE),
                ("person",),
                # Scored once, at the end: the validation images are the test images of the figures.
                replace(OURS, epochs=epochs, evaluate_every=epochs, warmup_steps=30),
            )
            for family, detector in SMALL.items()
            for epochs in (14 if isinstance(detector, RCNNSpec) else 30,)
        ),
        # Blood cells: horizontal flips only, though a microscope has no upright orientation.
        _ours(
            "bccd",
            SMALL_FCOS,
            (384, 512),
            DetectionData(images=(Path("data/bccd"),), augment=replace(_AUGMENT, scale=(0.8, 1.3))),
            ("Platelets", "RBC", "WBC"),
            replace(OURS, epochs=40, evaluate_every=5),
        ),
        _ours(
            "person",
            SMALL_FCOS,
            (320, 320),
            DetectionData(
                images=(Path("data/pennfudan"), Path("data/tiny_coco"), Path("data/lsp")),
                aliases=(("pedestrian", "person"), ("people", "person")),
                augment=replace(_PASTE, scale=(0.25, 1.6), mosaic=0.5),
            ),
            ("person",),
        ),
        _ours("own", SMALL_FCOS, (384, 384), _OWN_DATA, train=_OWN_TRAIN),
        _ours("own-mask", SMALL["mask"], (384, 384), replace(_OWN_DATA, augment=_PASTE), train=_OWN_TRAIN),
    )
}


def prepare(recipe: DetectionRecipe) -> Job:
    """Open a recipe's data and build its model.

    Raises:
        InputError: a file is missing or cannot be used.
    """
    data = recipe.data
    opened = TrainingSets(data, "boxes", detection_set)
    messages: list[str] = []
    spec = _with_classes_of(opened.sets[0], recipe.model, data, messages)
    sets = _with_stuff(opened.sets, spec, data) if data.stuff else opened.sets
    train, validation = opened.finish(lambda one: match_classes(one, spec.class_names, data.aliases), messages, sets)
    images = training_images(train, validation)
    _check_objects(images, spec, messages)
    scored = validation.images if validation else ()
    ids = validation.category_ids if validation else ()
    return Job(
        model=DetectionModel(spec),
        train=DetectionDataset(images, spec, data.augment, recipe.train.seed),
        validation=DetectionDataset(scored, spec, data.augment) if scored else None,
        evaluator=lambda: DetectionEvaluator(scored, spec, ids or None),
        messages=tuple(messages),
    )


def _with_classes_of(
    data: DetectionSet, spec: DetectionSpec, where: DetectionData, messages: list[str]
) -> DetectionSpec:
    """Return the spec for the classes of a data set that has none in common with it."""
    if has_common_name((*data.class_names, *(alias for _, alias in where.aliases)), spec.class_names):
        return spec
    names = data.class_names
    messages.append(f"The model learns the data set's {len(names)} classes: {', '.join(names)}.")
    detector = spec.detector
    if isinstance(detector, RCNNSpec) and detector.semantic_classes:
        # The objects' classes and the background; beyond the number that a label map can hold, HTC works without.
        classes = max(len(names) + 1, detector.semantic_classes if where.stuff else 0)
        if classes > MAX_SEMANTIC_CLASSES:
            messages.append("The semantic branch is left out: it supports at most 254 classes of objects.")
            classes = 0
        detector = replace(detector, semantic_classes=classes)
    return replace(spec, class_names=names, detector=detector)


def _with_stuff(sets: Sequence[DetectionSet], spec: DetectionSpec, data: DetectionData) -> list[DetectionSet]:
    """Return the sets with their semantic label maps."""
    if not spec.semantic_classes:
        raise InputError("Label maps (--data.stuff) are for networks with a semantic branch; leave them out.")
    if len(data.stuff) != len(data.images):
        raise InputError(f"{len(data.images)} folders of images, {len(data.stuff)} of label maps: give one for each.")
    folders = [folder for folder in data.stuff for _ in data.splits]
    return [with_stuff(one, folder) for one, folder in zip(sets, folders, strict=True)]


def _check_objects(images: Sequence[ImageRecord], spec: DetectionSpec, messages: list[str]) -> None:
    """Add a message about the number of objects.

    Raises:
        InputError: there are none to learn from.
    """
    things = [thing for image in images for thing in image.objects]
    ignored = sum(thing.crowd or thing.difficult for thing in things)
    outlined = sum(bool(thing.polygons) or thing.runs is not None for thing in things)
    if len(things) == ignored:
        raise InputError("No object of the model's classes is labeled in the training images; label some.")
    if spec.has_masks and not outlined:
        raise InputError(
            "The training set has boxes only, and this model learns masks; take a recipe without masks (detection-own), or "
            "label outlines."
        )
    text = f"{len(things)} objects in {len(images)} images"
    text += f", {ignored} of them crowds or difficult, which are ignored" if ignored else ""
    if spec.has_masks and outlined < len(things):
        text += f"; {len(things) - outlined} have no outline and are ignored by the mask loss"
    messages.append(f"{text}.")
