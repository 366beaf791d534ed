"""Detection training runs: the published ones, and ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hrnet.detection.augment import Augment
from hrnet.detection.data import (
    DetectionDataset,
    DetectionSet,
    detection_set,
    match_classes,
    read_parts,
    with_stuff,
)
from hrnet.detection.metrics import DetectionEvaluator
from hrnet.detection.model import DetectionModel
from hrnet.detection.published import PUBLISHED, DetectionData, DetectionRecipe
from hrnet.detection.spec import (
    MOST_PIXEL_CLASSES,
    DetectionSpec,
    DetectorSpec,
    RCNNSpec,
    cascade_mask_rcnn,
    cascade_rcnn,
    centernet,
    faster_rcnn,
    fcos,
    hybrid_task_cascade,
    mask_rcnn,
)
from hrnet.engine.job import Job
from hrnet.engine.recipe import OURS, TrainSpec
from hrnet.errors import InputError
from hrnet.formats.compare import choose_part, has_part, hold_out, pair_folders
from hrnet.formats.records import DataSet, ImageRecord
from hrnet.io.geometry import Size
from hrnet.nn.spec import SMALL_BACKBONE

# What no data set has as a class, so that its own take its place.
OWN_CLASSES = ("of the data set",)


def _small(detector: RCNNSpec) -> RCNNSpec:
    """A detector that looks into regions, for one small image on a CPU: narrow heads, fewer regions."""
    return replace(
        detector,
        pyramid_width=96,
        head_width=256,
        anchor_samples=128,
        region_samples=128,
        train_proposals=(500, 300),
        test_proposals=(300, 200),
        # The last head learns with a quarter of the weight, and on little data is not the best.
        average_masks=True,
        semantic_classes=2 if detector.semantic_classes else 0,
    )


def _standing(detector: DetectorSpec) -> DetectorSpec:
    """For people in small images, who are one to three times as high as wide, and never 512 pixels high."""
    return (
        replace(detector, anchor_ratios=(1.0, 2.0, 3.0), num_levels=4) if isinstance(detector, RCNNSpec) else detector
    )


# Four levels: none of the objects that fit into a small canvas wants a fifth. Points near the middle of an object learn it,
# as those near its edges say little where there are few images.
SMALL_FCOS = replace(
    fcos(),
    pyramid_width=96,
    tower_convs=2,
    ranges=((-1, 48), (48, 96), (96, 192), (192, 1e8)),
    center_radius=1.5,
    candidates=300,
    nms_iou=0.6,
)
SMALL: dict[str, DetectorSpec] = {
    "faster": _small(faster_rcnn()),
    "cascade": _small(cascade_rcnn()),
    "mask": _small(mask_rcnn()),
    "cascade-mask": _small(cascade_mask_rcnn()),
    "htc": _small(hybrid_task_cascade()),
    "fcos": SMALL_FCOS,
    "centernet": replace(centernet(), width=64, reduce_kernel=1),
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
        # The norms are trained: there are no weights of so small a network whose statistics could be kept.
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
        *PUBLISHED,
        *(
            _ours(
                f"pennfudan-{family}",
                _standing(detector),
                (256, 320),
                DetectionData(images=(Path("data/pennfudan"),), augment=_PASTE),
                ("person",),
                # Scored once, at the end: the images to score on are those that the figures are of.
                replace(OURS, epochs=epochs, evaluate_every=epochs, warmup_steps=30),
            )
            for family, detector in SMALL.items()
            for epochs in (14 if isinstance(detector, RCNNSpec) else 30,)
        ),
        # Cells: none is upside down, but the microscope knows no up, and mirroring is all that is done to it.
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
    opened = [read_parts(*pair) for pair in pair_folders(data.images, data.annotations, data.parts)]
    sets = [detection_set(choose_part(parts, part)) for parts in opened for part in data.parts]
    messages: list[str] = []
    spec = _with_classes_of(sets[0], recipe.model, data, messages)
    if data.stuff:
        sets = _with_stuff(sets, spec, data)
    sets = [match_classes(one, spec.class_names, data.aliases) for one in sets]
    for one in sets:
        messages += [message for message in (*one.notes, *one.problems) if message not in messages]
    images = [image for one in sets for image in one.images]
    _check_objects(images, spec, messages)
    scored = _validation(data, opened, images, spec, messages)
    held_out = {image.path for image in scored.images}
    return Job(
        model=DetectionModel(spec),
        train=DetectionDataset(
            [image for image in images if image.path not in held_out], spec, data.augment, recipe.train.seed
        ),
        validation=DetectionDataset(scored.images, spec, data.augment) if scored.images else None,
        evaluator=lambda: DetectionEvaluator(scored.images, spec, scored.category_ids or None),
        messages=tuple(messages),
    )


def _with_classes_of(
    data: DetectionSet, spec: DetectionSpec, where: DetectionData, messages: list[str]
) -> DetectionSpec:
    """The spec for the classes of a data set that has none in common with it."""
    theirs = {name.lower() for name in (*data.class_names, *(alias for _, alias in where.aliases))}
    if theirs & {name.lower() for name in spec.class_names}:
        return spec
    names = data.class_names
    messages.append(f"The model learns the data set's {len(names)} classes: {', '.join(names)}.")
    detector = spec.detector
    if isinstance(detector, RCNNSpec) and detector.semantic_classes:
        # The objects' classes, and what is none of them; beyond what a map of pixels can tell apart, HTC works without.
        classes = max(len(names) + 1, detector.semantic_classes if where.stuff else 0)
        if classes > MOST_PIXEL_CLASSES:
            messages.append("The semantic branch is left out: it tells at most 254 classes of objects apart.")
            classes = 0
        detector = replace(detector, semantic_classes=classes)
    return replace(spec, class_names=names, detector=detector)


def _with_stuff(sets: Sequence[DetectionSet], spec: DetectionSpec, data: DetectionData) -> list[DetectionSet]:
    """The sets with the maps of their pixels' classes."""
    if not spec.pixel_classes:
        raise InputError(
            "Maps of pixels' classes (--data.stuff) are for networks with a semantic branch; leave them out."
        )
    if len(data.stuff) != len(data.images):
        raise InputError(
            f"{len(data.images)} folders of images and {len(data.stuff)} of maps of pixels' classes: give one for each."
        )
    folders = [folder for folder in data.stuff for _ in data.parts]
    return [with_stuff(one, folder) for one, folder in zip(sets, folders, strict=True)]


def _check_objects(images: Sequence[ImageRecord], spec: DetectionSpec, messages: list[str]) -> None:
    """Say how much there is to learn from; raises InputError where it is nothing."""
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
    text += f", {ignored} of them groups or difficult, which count for nothing" if ignored else ""
    if spec.has_masks and outlined < len(things):
        text += f"; {len(things) - outlined} have no outline, and count for nothing while masks are learned"
    messages.append(f"{text}.")


def _validation(
    data: DetectionData,
    opened: Sequence[tuple[DataSet, ...]],
    images: Sequence[ImageRecord],
    spec: DetectionSpec,
    messages: list[str],
) -> DetectionSet:
    """What is scored on; some of the training images where they are held out, none where nothing is.

    Raises:
        InputError: too much is held out.
    """
    parts: Sequence[DataSet] | None = None
    if data.val_images is not None:
        parts = read_parts(data.val_images, data.val_annotations)
    elif "val" not in data.parts:
        parts = next((one for one in opened if has_part(one, "val")), None)
    if parts is not None:
        found = match_classes(detection_set(choose_part(parts, "val")), spec.class_names, data.aliases)
        messages += [message for message in (*found.notes, *found.problems) if message not in messages]
        if data.hold_out:
            messages.append(f"{parts[0].source} has a validation set: nothing is held out of the training set.")
        return found
    if not data.hold_out:
        return DetectionSet(spec.class_names, (), ())
    _, held = hold_out(images, data.hold_out)
    messages.append(f"{len(held)} images are held out for validation: every {data.hold_out}th by path, from the first.")
    return DetectionSet(spec.class_names, (), tuple(held))
