"""Images with labeled objects as people have them, and the samples that a detector learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hrnet.detection.augment import Augment, augmented, targets_of
from hrnet.detection.processor import image_frame
from hrnet.detection.spec import DetectionSpec
from hrnet.errors import InputError
from hrnet.formats.checked import bounds
from hrnet.formats.files import entries
from hrnet.formats.records import DataSet, ImageRecord, Object
from hrnet.formats.splits import (
    LabeledSet,
    Split,
    facts,
    listed,
    match_names,
    no_common_name,
    open_evaluation,
    shortened,
)
from hrnet.inference.processor import MEAN_COLOR
from hrnet.io.geometry import Size, clip_boxes, warp
from hrnet.io.images import read_labeled
from hrnet.nn.task import Sample, SampleKey, random_generator


@dataclass(frozen=True, slots=True)
class DetectionSet(LabeledSet[ImageRecord]):
    """One split of a data set with boxes or masks. Every object has a box, clipped to its image.

    Attributes:
        category_ids: COCO's id of each class; empty where the format has none.
    """

    category_ids: tuple[int, ...] = ()


def open_set(
    images: Path,
    annotations: Path | None = None,
    split: Split = "val",
    *,
    hold_out: int = 0,
    match: Callable[[DetectionSet], DetectionSet] | None = None,
    data_format: str | None = None,
) -> DetectionSet:
    """Open the images to evaluate on; arguments and errors as of `open_evaluation`."""
    return open_evaluation(
        images,
        annotations,
        split,
        content="boxes",
        convert=detection_set,
        hold_out=hold_out,
        match=match,
        data_format=data_format,
    )


def detection_set(data: DataSet) -> DetectionSet:
    """Return the images of one split, whose objects all get boxes; errors as of `facts`."""
    notes, problems = facts(data)
    images: list[ImageRecord] = []
    for image in data.images:
        objects: list[Object] = []
        for thing in image.objects:
            box = _box(thing, image.size)
            if box is None:
                problems.append(f"{image.file}: {thing.place}: it has neither a box nor an outline with an area.")
            else:
                objects.append(replace(thing, box=box))
        images.append(replace(image, objects=tuple(objects)))
    return DetectionSet(data.classes, tuple(images), shortened(problems, data.source), tuple(notes), data.category_ids)


def _box(thing: Object, size: Size) -> Float[np.ndarray, " 4"] | None:
    """Return the box of an object clipped to its image; None where nothing is left."""
    box = bounds(thing)
    if box is None:
        return None
    box = clip_boxes(box[None], size)[0]
    return box if (box[2:] > box[:2]).all() else None


def match_classes(
    data: DetectionSet, class_names: tuple[str, ...], aliases: Sequence[tuple[str, str]] = ()
) -> DetectionSet:
    """Return a set with the model's classes, matched by name; objects of other classes are left out.

    Args:
        data: set with its own classes.
        class_names: classes of the model.
        aliases: pairs of a class of the data set and the model's class that it counts as.

    Raises:
        InputError: no name is common, or an alias leads nowhere.
    """
    for theirs, ours in aliases:
        if ours not in class_names:
            raise InputError(f"The alias {theirs} {ours} names no class of the model ({listed(class_names)}).")
    labels, lost = match_names(data.class_names, class_names, dict(aliases))
    if labels == [*range(len(class_names))]:
        return data
    if len(lost) == len(labels):
        raise no_common_name(data.class_names, class_names, "rename them, or match them by --data.aliases")
    images = tuple(
        replace(
            image,
            objects=tuple(replace(one, label=labels[one.label]) for one in image.objects if labels[one.label] >= 0),
        )
        for image in data.images
    )
    # A class that several were merged into, or that the data set lacks, has no id of its own in it.
    ids = [data.category_ids[labels.index(label)] for label in range(len(class_names)) if labels.count(label) == 1]
    return replace(
        data,
        class_names=class_names,
        category_ids=tuple(ids) if data.category_ids and len(ids) == len(class_names) else (),
        images=images,
        notes=(*data.notes, *([f"The model does not know {listed(lost)}: such objects are left out."] if lost else [])),
    )


def with_stuff(data: DetectionSet, folder: Path) -> DetectionSet:
    """Return a set whose images have the label map of their stem; images without one are named, and stay.

    Raises:
        InputError: the folder holds none of them.
    """
    maps = {path.stem: path for path in entries(folder) if path.suffix.lower() == ".png"}
    images = tuple(replace(one, label_map=maps.get(one.path.stem)) for one in data.images)
    missing = [one.path for one in images if one.label_map is None]
    if len(missing) == len(images):
        raise InputError(
            f"{folder} has no label map {missing[0].stem}.png, nor one of any other image of the set; name the folder of the "
            "label maps, or give --data.stuff without a folder to learn the objects."
        )
    if not missing:
        return replace(data, images=images)
    note = f"{len(missing)} images have no label map in {folder}, first {missing[0].name}: their pixels are ignored."
    return replace(data, images=images, problems=(*data.problems, note))


class DetectionDataset:
    """Images in the input of a network. Asked with a `SampleKey` it gives augmented samples with the targets that
    `targets_of` makes, with a number the whole image without a target."""

    def __init__(self, images: Sequence[ImageRecord], spec: DetectionSpec, augment: Augment, seed: int = 0) -> None:
        self.images = images
        self.spec = spec
        self.augment = augment
        self.seed = seed
        self.stuff: bool = any(image.label_map is not None for image in images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        if isinstance(key, SampleKey):
            rng = random_generator(self.seed, key)
            view = augmented(self.images, key.sample, self.spec, self.augment, rng)
            return Sample(view.image, view.frame, targets_of(view, self.spec, self.stuff), key.sample)
        record = self.images[key]
        frame = image_frame(record.size, self.spec)
        image = read_labeled(record.path, record.size)
        return Sample(warp(image, frame, antialias=self.augment.antialias, fill=MEAN_COLOR), frame, {}, key)

    def describe(self, index: int) -> str:
        """The image's file."""
        return str(self.images[index].path)
