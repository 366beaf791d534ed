"""Images with label maps as samples: crops and augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hrnet.engine.photometric import recolor
from hrnet.errors import InputError
from hrnet.formats.label_maps import LabeledImage, read_labels
from hrnet.formats.records import DataSet
from hrnet.formats.splits import LabeledSet, facts, match_names, no_common_name, open_evaluation, shortened
from hrnet.io.geometry import Frame, Size, flip_order, warp, warp_labels
from hrnet.io.images import read_labeled
from hrnet.nn.task import Sample, SampleKey, random_generator
from hrnet.results import IGNORE_INDEX
from hrnet.segmentation.processor import image_frame
from hrnet.segmentation.spec import SegmentationSpec


@dataclass(frozen=True, slots=True)
class Augment:
    """Random augmentation of training samples; the defaults are those of the published training.

    Source: the released training code: a factor of 0.5 to 2.1 in steps of 0.1 (0.5 to 1.6 for LIP; the paper says 0.5 to 2),
    applied to the image in its canvas; black at the right and bottom where the crop is larger; a crop anywhere in the
    rest; a flip with probability 0.5. A deliberate difference: labels are read at the middle of an input's pixel, as the
    image is, while the released code reads them up to half a pixel of the image above and left of it.
    """

    crop: Size | None = None  # height and width of the sample; None for the canvas
    scale: tuple[float, float] = (0.5, 2.1)  # smallest and largest factor
    scale_step: float = 0.1
    """distance between the possible factors, which are equally probable; 0: any factor, log-uniform"""
    flip: float = 0.5  # probability of a horizontal flip
    rotation: float = 0.0  # maximum rotation around the middle in degrees, uniform
    color: float = 0.0  # standard deviation of the brightness, contrast and saturation factors around 1
    antialias: bool = False  # see `geometry.warp`; also for the images that are scored

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] or self.scale_step < 0:
            raise ValueError(f"scale must rise from a number above 0, scale_step must not be negative; got {self}.")
        if self.crop is not None and min(self.crop) < 32:
            raise ValueError(f"crop must be at least 32 x 32; got {self.crop}.")


@dataclass(frozen=True, slots=True)
class SegmentationSet(LabeledSet[LabeledImage]):
    """One split of a data set with label maps."""

    pairs: tuple[tuple[int, int], ...] = ()  # classes that change places in a flipped image
    named: bool = True  # whether the data set names its classes; otherwise their numbers stand for names


def segmentation_set(data: DataSet) -> SegmentationSet:
    """Return the images of one split with their label maps; errors as of `facts`."""
    notes, problems = facts(data)
    pairs = data.pairs or ()
    if pairs:
        names = ", ".join(f"{data.classes[a]}/{data.classes[b]}" for a, b in pairs)
        notes.append(f"Left-right pairs: {names}.")
    images = tuple(
        LabeledImage(record.path, record.label_map, record.size, data.label_table or tuple(range(len(data.classes))))
        for record in data.images
        if record.label_map is not None
    )
    return SegmentationSet(data.classes, images, shortened(problems, data.source), tuple(notes), pairs, data.named)


# Opens the images to evaluate on.
open_set = partial(open_evaluation, content="label_maps", convert=segmentation_set)


def match_classes(data: SegmentationSet, class_names: tuple[str, ...]) -> SegmentationSet:
    """Return a set with the model's classes, matched by name; pixels of other classes are ignored.

    Classes without names are the model's at the same positions.

    Raises:
        InputError: no name is common, or there are more classes without names than names.
    """
    if data.class_names == class_names:
        return data
    notes = list(data.notes)
    if data.named:
        found, lost = match_names(data.class_names, class_names)
        labels = [IGNORE_INDEX if label < 0 else label for label in found]
        if len(lost) == len(labels):
            raise no_common_name(data.class_names, class_names, "rename them in classes.txt")
        pixels = "its pixels are" if len(lost) == 1 else "their pixels are"
        notes += [f"The model does not know {', '.join(lost)}: {pixels} ignored."] if lost else []
    else:
        if len(data.class_names) > len(class_names):
            raise InputError(
                f"The data set's {len(data.class_names)} classes have no names, and the model has only {len(class_names)}; "
                "write their names into classes.txt, one per line."
            )
        labels = list(range(len(data.class_names)))
        notes.append(
            f"The classes 0 to {len(labels) - 1} have no names; they are the model's: {', '.join(class_names[:12])}."
        )
    table = np.array([*labels, *[IGNORE_INDEX] * (IGNORE_INDEX + 1 - len(labels))])
    meanings = {meaning: tuple(table[list(meaning)].tolist()) for meaning in {one.meaning for one in data.images}}
    return replace(
        data,
        class_names=class_names,
        pairs=tuple((labels[a], labels[b]) for a, b in data.pairs if IGNORE_INDEX not in (labels[a], labels[b])),
        images=tuple(replace(one, meaning=meanings[one.meaning]) for one in data.images),
        notes=tuple(notes),
    )


class SegmentationDataset:
    """Images as inputs of a network: a `SampleKey` gives an augmented crop with the target `labels` (`h w`, bytes), an index
    the whole image without targets."""

    def __init__(self, images: Sequence[LabeledImage], spec: SegmentationSpec, augment: Augment, seed: int = 0) -> None:
        self.images = images
        self.spec = spec
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        one = self.images[key.sample if isinstance(key, SampleKey) else key]
        image = read_labeled(one.path, one.size)
        if not isinstance(key, SampleKey):
            frame = image_frame(one.size, self.spec)
            return Sample(warp(image, frame, antialias=self.augment.antialias), frame, {}, key)
        rng = random_generator(self.seed, key)
        frame = random_frame(one.size, self.spec, self.augment, rng)
        labels = warp_labels(read_labels(one), frame, IGNORE_INDEX)
        if np.linalg.det(frame.matrix[:, :2]) < 0 and self.spec.pairs:
            order = flip_order(IGNORE_INDEX + 1, self.spec.pairs)
            labels = np.array(order, np.uint8)[labels]
        crop = recolor(warp(image, frame, antialias=self.augment.antialias), self.augment.color, rng, frame)
        return Sample(crop, frame, {"labels": labels}, key.sample)

    def describe(self, index: int) -> str:
        """Return the path of an image."""
        return str(self.images[index].path)


def random_frame(size: Size, spec: SegmentationSpec, augment: Augment, rng: np.random.Generator) -> Frame:
    """Draw the crop of a training sample in an image of this height and width."""
    scaled = image_frame(size, spec, _draw_scale(augment, rng))
    crop = augment.crop or spec.input_size
    # Size of the image in its canvas.
    shown = np.round(np.abs(np.diag(scaled.matrix[:, :2])) * size[::-1]).astype(int)
    room = np.maximum(shown - crop[::-1], 0)
    corner = rng.integers(0, room + 1)
    matrix = scaled.matrix - np.column_stack([np.zeros((2, 2)), corner])
    if augment.rotation:
        angle = np.deg2rad(rng.uniform(-augment.rotation, augment.rotation))
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        middle = (np.array(crop[::-1]) - 1) / 2
        matrix = turn @ matrix
        matrix[:, 2] += middle - turn @ middle
    if rng.random() < augment.flip:
        matrix = np.diag([-1.0, 1.0]) @ matrix
        matrix[0, 2] += crop[1] - 1
    return Frame(matrix, crop, size)


def _draw_scale(augment: Augment, rng: np.random.Generator) -> float:
    low, high = augment.scale
    if not augment.scale_step:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))
    steps = round((high - low) / augment.scale_step)
    return low + int(rng.integers(0, steps + 1)) * augment.scale_step
