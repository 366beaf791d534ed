"""Images with labeled objects as people have them, and the samples that a detector learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hrnet.detection.augment import Augment, augmented, targets_of
from hrnet.detection.processor import image_frame
from hrnet.detection.spec import DetectionSpec
from hrnet.errors import InputError
from hrnet.formats import compare
from hrnet.formats.compare import Part, choose_part, only_part
from hrnet.formats.defects import sentences
from hrnet.formats.files import entries
from hrnet.formats.recognize import TITLES, read
from hrnet.formats.records import DataSet, ImageRecord, Object
from hrnet.inference.processor import MEAN_COLOR
from hrnet.io.geometry import Size, clip_boxes, warp
from hrnet.io.images import read_labeled
from hrnet.nn.task import Sample, SampleKey, random_generator

# Sentences about what was left out, of one set.
_EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class DetectionSet:
    """What a data set with boxes or masks holds.

    Attributes:
        class_names: a label is a position here.
        category_ids: COCO's number of each class; empty where the format has none.
        images: all that can be used, with and without objects. Every object has a box, cut at the image's borders.
        problems: sentences about what was left out.
        notes: a sentence for each thing that was inferred, or looks wrong.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: tuple[ImageRecord, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_parts(images: Path, annotations: Path | None = None) -> tuple[DataSet, ...]:
    """All parts of a data set whose objects have places: COCO json, Pascal VOC, YOLO, told apart by looking.

    Args:
        images: the folder of the images, or without `annotations` the data set as a whole.
        annotations: a COCO json, a folder of VOC or one of its lists, a data.yaml.

    Raises:
        InputError: it is none of these, or cannot be read as a whole.
    """
    sets = read(images) if annotations is None else read(annotations, images)
    if sets[0].format not in ("coco", "voc", "yolo"):
        raise InputError(
            f"{annotations or images} holds {TITLES[sets[0].format]}, which say nothing of single objects; name a COCO json, "
            "a folder of Pascal VOC, or a YOLO data.yaml."
        )
    # The folder of COCO's own annotations holds the same images with keypoints too.
    return tuple(one for one in sets if "instances" in one.part) or sets


def read_detection(images: Path, annotations: Path | None = None, part: Part = "train") -> DetectionSet:
    """The images and objects of one part of a data set.

    Args:
        images: as of `read_parts`.
        annotations: as of `read_parts`.
        part: which part, where there are several; val takes test where there is no val.

    Raises:
        InputError: as of `read_parts`, or nothing in it can be used.
    """
    sets = read_parts(images, annotations)
    found = detection_set(choose_part(sets, part))
    return replace(found, notes=(*found.notes, *(() if annotations else only_part(sets, part))))


def open_set(images: Path, annotations: Path | None = None, split: Part = "val", *, hold_out: int = 0) -> DetectionSet:
    """Open one split of a data set; with `hold_out` the images that a training with this number holds out.

    Raises:
        InputError: the data set is missing or cannot be used.
    """
    data = read_detection(images, annotations, "train" if hold_out else split)
    return replace(data, images=tuple(compare.hold_out(data.images, hold_out)[1])) if hold_out else data


def detection_set(data: DataSet) -> DetectionSet:
    """The images of one part, whose objects all get boxes.

    Raises:
        InputError: there is no image, or two classes have one name.
    """
    notes, problems = sentences(data)
    if len(set(data.classes)) != len(data.classes):
        raise InputError(f"The list of classes of {data.source} names one twice; give each its own name.")
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
    if not images:
        reason = f"; the first problem: {problems[0]}" if problems else "; list some."
        raise InputError(f"{data.source} has no image that can be used{reason}")
    if len(problems) > _EXAMPLES:
        rest = f"{data.source}: {len(problems) - _EXAMPLES} more cannot be used; `hrnet data check` names all of them."
        problems = [*problems[:_EXAMPLES], rest]
    return DetectionSet(data.classes, data.category_ids, tuple(images), tuple(problems), tuple(notes))


def _box(thing: Object, size: Size) -> Float[np.ndarray, 4] | None:
    """The box, or the bounds of the outline, cut at the borders of the image; None where nothing is left."""
    if thing.box is not None:
        box = thing.box
    elif thing.polygons:
        points = np.concatenate(thing.polygons)
        box = np.concatenate([points.min(0), points.max(0)])
    elif thing.runs is not None and thing.runs.counts[1::2].any():
        rows, columns = np.nonzero(thing.runs.mask())
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)
    else:
        return None
    box = clip_boxes(box[None], size)[0]
    return box if (box[2:] > box[:2]).all() else None


def match_classes(
    data: DetectionSet, class_names: tuple[str, ...], aliases: Sequence[tuple[str, str]] = ()
) -> DetectionSet:
    """The same images with the labels of other classes, matched by name; objects of what these lack are left out.

    Args:
        data: with its own classes.
        class_names: of the model.
        aliases: a class of a data set, and the model's class that it counts as.

    Raises:
        InputError: no name is common, or an alias leads nowhere.
    """
    for theirs, ours in aliases:
        if ours not in class_names:
            raise InputError(f"The alias {theirs} {ours} names no class of the model ({', '.join(class_names[:12])}).")
    places = {_plain(name): label for label, name in enumerate(class_names)}
    places |= {_plain(theirs): class_names.index(ours) for theirs, ours in aliases}
    labels = [places.get(_plain(name), -1) for name in data.class_names]
    if labels == [*range(len(class_names))]:
        return data
    lost = [name for name, label in zip(data.class_names, labels, strict=True) if label < 0]
    if len(lost) == len(labels):
        raise InputError(
            f"The data set's classes ({', '.join(data.class_names[:12])}) have no name in common with the model's "
            f"({', '.join(class_names[:12])}); rename them, or say which is which by --data.aliases."
        )
    shown = ", ".join(lost[:12]) + (f" and {len(lost) - 12} more" if len(lost) > 12 else "")
    images = tuple(
        replace(
            image,
            objects=tuple(replace(one, label=labels[one.label]) for one in image.objects if labels[one.label] >= 0),
        )
        for image in data.images
    )
    # A class that several were made into, or that the data set lacks, has no number of its own in it.
    ids = [data.category_ids[labels.index(label)] for label in range(len(class_names)) if labels.count(label) == 1]
    return replace(
        data,
        class_names=class_names,
        category_ids=tuple(ids) if data.category_ids and len(ids) == len(class_names) else (),
        images=images,
        notes=(*data.notes, *([f"The model does not know {shown}: such objects are left out."] if lost else [])),
    )


def with_stuff(data: DetectionSet, folder: Path) -> DetectionSet:
    """The same images, each with the label image of its stem; images without one are named, and stay.

    Raises:
        InputError: the folder holds none of them.
    """
    maps = {path.stem: path for path in entries(folder) if path.suffix.lower() == ".png"}
    images = tuple(replace(one, label_map=maps.get(one.path.stem)) for one in data.images)
    missing = [one.path for one in images if one.label_map is None]
    if len(missing) == len(images):
        raise InputError(
            f"{folder} holds no label image {missing[0].stem}.png, nor one of any other image of the set; name the "
            "folder with the maps of its pixels' classes, or give --data.stuff without a folder to learn the objects."
        )
    note = f"{len(missing)} images have no label image in {folder}, first {missing[0].name}: their pixels say nothing."
    return replace(data, images=images, problems=(*data.problems, *([note] if missing else [])))


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower())) or name


class DetectionDataset:
    """Images in the input of a network. Asked with a `SampleKey` it gives augmented samples with the targets that
    `targets_of` makes, with a number the whole image without a target."""

    def __init__(self, images: Sequence[ImageRecord], spec: DetectionSpec, augment: Augment, seed: int = 0) -> None:
        self.images = images
        self.spec = spec
        self.augment = augment
        self.seed = seed
        self.stuff = any(image.label_map is not None for image in images)

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
