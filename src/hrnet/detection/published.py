"""What a detection training run is, and the published ones with their figures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from hrnet.detection.augment import Augment
from hrnet.detection.spec import (
    COCO,
    DetectionSpec,
    DetectorSpec,
    cascade_mask_rcnn,
    cascade_rcnn,
    centernet,
    faster_rcnn,
    fcos,
    hybrid_task_cascade,
    mask_rcnn,
)
from hrnet.engine.recipe import Published, TrainSpec
from hrnet.formats.compare import Part
from hrnet.nn.spec import hrnet


@dataclass(frozen=True, slots=True)
class DetectionData:
    """Where images and their labels are.

    Attributes:
        images: folders of training images, or without `annotations` of whole data sets.
        annotations: COCO jsons, folders of Pascal VOC or lists of theirs, YOLO data.yaml; each goes with the folder of
            images at the same place.
        parts: of the data sets, to train on.
        val_images: folder to score on, as `images`; None: the part for it of the first training set that has one; without
            one there is no scoring, and the last weights are the best.
        val_annotations: its labels.
        hold_out: where there is nothing to score on, n keeps every n-th training image for it and out of training: those at
            positions 0, n, 2n ... in the order of their paths; 0 keeps none.
        stuff: folders of label images for a semantic branch, PNGs with the stems of the images, each folder for the
            `images` at the same place; their numbers are the branch's classes, 255 counts for nothing. None: its targets
            are made of the objects.
        aliases: pairs of a class of the data sets and the model's class that it counts as.
        augment: random changes of the training samples.
    """

    images: tuple[Path, ...] = ()
    annotations: tuple[Path, ...] = ()
    parts: tuple[Part, ...] = ("train",)
    val_images: Path | None = None
    val_annotations: Path | None = None
    hold_out: int = 0
    stuff: tuple[Path, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    augment: Augment = field(default_factory=Augment)


@dataclass(frozen=True, slots=True)
class DetectionRecipe:
    """A training run of a detection network."""

    name: str
    model: DetectionSpec
    data: DetectionData
    train: TrainSpec
    published: Published | None = None


Schedule = Literal["1x", "2x", "20e", "28e"]
# Source: the released configurations: epochs, and those at which the rate falls. mmdetection's own 2x falls at 16 and 22
# instead.
SCHEDULES: dict[Schedule, tuple[int, tuple[int, int]]] = {
    "1x": (12, (8, 11)),
    "2x": (24, (20, 23)),
    "20e": (20, (16, 19)),
    "28e": (28, (24, 27)),
}
# Source: the released ones: SGD with momentum, weight decay of everything, 500 steps from a third of the rate, L2 norm to 35.
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
# Source: the released FCOS, mmdetection: half the rate, which does not rise but jumps; biases twice as fast, without decay.
_SGD_FCOS = replace(_SGD, learning_rate=0.01, warmup="constant", bias_rate=2.0, decay_biases=False)
# Source: the released configurations: three sizes, one of which is drawn; and of FCOS any short side between two.
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


def _figure(percent: float, source: str) -> Published:
    return Published("AP", round(percent / 100, 4), f"{source}; in percent, of boxes (and masks) of val2017")


def _coco(
    family: str,
    detector: DetectorSpec,
    width: int,
    schedule: Schedule,
    ap: float,
    source: str,
    *,
    train: TrainSpec = _SGD,
    augment: Augment | None = None,
    sync_norm: bool = False,
) -> DetectionRecipe:
    model = DetectionSpec(COCO, detector, hrnet(width), frozen_norms=not sync_norm)
    epochs, milestones = SCHEDULES[schedule]
    ending = ("-syncbn" if sync_norm else "") + ("-ms" if augment else "")
    return DetectionRecipe(
        name=f"detection-coco-{family}-w{width}-{schedule}{ending}",
        model=model,
        data=replace(_COCO_DATA, augment=augment or Augment(), stuff=(_STUFF,) * bool(model.pixel_classes)),
        train=replace(train, epochs=epochs, milestones=milestones, sync_norm=sync_norm),
        published=_figure(ap, source),
    )


def _faster(
    width: int, schedule: Schedule, ap: float, source: str, sync_norm: bool = False, multi_scale: bool = False
) -> DetectionRecipe:
    augment = _MULTI_SCALE if multi_scale else None
    return _coco("faster", faster_rcnn(), width, schedule, ap, source, sync_norm=sync_norm, augment=augment)


def _fcos(
    width: int, schedule: Schedule, ap: float, source: str, multi_scale: bool = False, sync_norm: bool = False
) -> DetectionRecipe:
    recipe = _coco(
        "fcos",
        fcos(),
        width,
        schedule,
        ap,
        source,
        train=_SGD_FCOS,
        augment=_MULTI_SCALE_FCOS if multi_scale else None,
        sync_norm=sync_norm,
    )
    if schedule == "2x":
        # As mmdetection's; and as the steps of FCOS's own code: 120 000 and 160 000 of 180 000.
        return replace(recipe, train=replace(recipe.train, milestones=(16, 22)))
    return recipe


def _centernet(width: int, ap: float) -> DetectionRecipe:
    """Source: arXiv 1904.08189 and 1808.01244, with 480 000 steps of 48 images, the rate falling at 450 000. How HRNet was
    put under CenterNet was never published; its norms are trained here."""
    return DetectionRecipe(
        name=f"detection-coco-centernet-w{width}",
        model=DetectionSpec(COCO, centernet(), hrnet(width), input_size=(511, 511), fit="canvas", frozen_norms=False),
        data=replace(_COCO_DATA, augment=Augment(scale=(0.6, 1.4), color=0.4)),
        train=TrainSpec(
            epochs=195, batch=48, learning_rate=2.5e-4, milestones=(183,), sync_norm=True, evaluate_every=5
        ),
        published=_figure(ap, f"{_PAPER}: at the images' own size, with their mirror images"),
    )


PUBLISHED = (
    _faster(18, "1x", 36.2, f"{_PAPER}; {_README}: 36.1; {_MMDET}: 36.9"),
    _faster(18, "2x", 38.0, f"{_PAPER}; {_README}: 38.1; {_MMDET}: 38.9"),
    _faster(32, "1x", 39.6, f"{_PAPER}; {_README}: 39.5; {_MMDET}: 40.2"),
    _faster(32, "2x", 40.9, f"{_PAPER}; {_README}: 40.8; {_MMDET}: 41.4"),
    _faster(40, "1x", 40.4, f"{_README}; {_MMDET}: 41.2"),
    _faster(40, "2x", 41.4, f"{_README}; {_MMDET}: 42.1"),
    _faster(48, "1x", 41.3, f"{_PAPER}; {_README}: 40.9, a run of mmdetection's authors"),
    _faster(48, "2x", 41.8, f"{_PAPER}; {_README}: 41.5, a run of mmdetection's authors"),
    _faster(18, "1x", 37.2, _README, sync_norm=True),
    _faster(18, "1x", 37.6, _README, sync_norm=True, multi_scale=True),
    _faster(18, "2x", 39.4, _README, sync_norm=True, multi_scale=True),
    _faster(32, "1x", 41.0, _README, sync_norm=True, multi_scale=True),
    _faster(32, "2x", 42.6, _README, sync_norm=True, multi_scale=True),
    _coco("cascade", cascade_rcnn(), 18, "20e", 41.3, f"{_PAPER}; {_README} and {_MMDET}: 41.2"),
    _coco("cascade", cascade_rcnn(), 32, "20e", 43.7, f"{_PAPER}; {_MMDET}: 43.3"),
    _coco("cascade", cascade_rcnn(), 40, "20e", 43.8, _MMDET),
    _coco("cascade", cascade_rcnn(), 48, "20e", 44.6, _PAPER),
    _coco("mask", mask_rcnn(), 18, "1x", 37.1, f"{_PAPER}: masks 33.8, another run 37.3 / 34.2; {_MMDET}: 37.7 / 34.2"),
    _coco("mask", mask_rcnn(), 18, "2x", 39.2, f"{_PAPER}: masks 35.3, another run 35.7; {_MMDET}: 39.8 / 36.0"),
    _coco("mask", mask_rcnn(), 32, "1x", 40.9, f"{_PAPER}: masks 36.7, another run 40.7 / 36.8; {_MMDET}: 41.2 / 37.1"),
    _coco("mask", mask_rcnn(), 32, "2x", 42.3, f"{_PAPER}: masks 37.6; {_README}: 42.1 / 37.6; {_MMDET}: 42.5 / 37.8"),
    _coco("mask", mask_rcnn(), 40, "1x", 42.1, f"{_MMDET}: masks 37.5"),
    _coco("mask", mask_rcnn(), 40, "2x", 42.8, f"{_MMDET}: masks 38.2"),
    _coco("mask", mask_rcnn(), 48, "1x", 42.4, f"{_README}: masks 38.1, the columns being swapped there"),
    _coco("mask", mask_rcnn(), 48, "2x", 42.9, f"{_README}: masks 38.3, the columns being swapped there"),
    _coco("cascade-mask", cascade_mask_rcnn(), 18, "20e", 41.9, f"{_PAPER}: masks 36.4; {_MMDET}: 41.6 / 36.4"),
    _coco("cascade-mask", cascade_mask_rcnn(), 32, "20e", 44.5, f"{_PAPER}: masks 38.5; {_MMDET}: 44.3 / 38.6"),
    _coco("cascade-mask", cascade_mask_rcnn(), 40, "20e", 45.1, f"{_MMDET}: masks 39.3"),
    _coco("cascade-mask", cascade_mask_rcnn(), 48, "20e", 46.0, f"{_PAPER}: masks 39.5"),
    _coco("htc", hybrid_task_cascade(), 18, "20e", 43.1, f"{_PAPER}: masks 37.9; {_MMDET}: 42.8 / 37.9"),
    _coco("htc", hybrid_task_cascade(), 32, "20e", 45.3, f"{_PAPER}: masks 39.6; {_MMDET}: 45.4 / 39.9"),
    _coco("htc", hybrid_task_cascade(), 40, "20e", 46.4, f"{_MMDET}: masks 40.8"),
    _coco("htc", hybrid_task_cascade(), 48, "20e", 46.8, f"{_PAPER}: masks 40.7"),
    _coco("htc", hybrid_task_cascade(), 48, "28e", 47.0, f"{_PAPER}: masks 41.0"),
    _fcos(18, "1x", 35.2, f"{_PAPER}, appendix; {_MMDET}: 35.3"),
    _fcos(18, "2x", 37.7, f"{_PAPER}; {_README} and {_MMDET}: 38.2"),
    _fcos(32, "1x", 38.2, f"{_PAPER}, appendix; {_README}: 37.7; {_MMDET}: 39.5"),
    _fcos(32, "2x", 40.3, f"{_PAPER}, appendix; {_MMDET}: 40.8"),
    _fcos(18, "2x", 38.1, f"{_PAPER}, appendix; {_MMDET}: 38.3", multi_scale=True),
    _fcos(32, "2x", 41.4, f"{_PAPER}, appendix; its table and {_MMDET}: 41.9", multi_scale=True),
    _fcos(40, "2x", 42.7, f"{_MMDET}, in a row that says W48", multi_scale=True),
    _fcos(48, "2x", 42.9, f"{_PAPER}, appendix", multi_scale=True),
    _fcos(18, "2x", 39.4, "README of HRNet-FCOS: five levels", multi_scale=True, sync_norm=True),
    _fcos(32, "2x", 42.5, "README of HRNet-FCOS: five levels", multi_scale=True, sync_norm=True),
    _centernet(48, 43.4),
    _centernet(64, 44.0),
)
