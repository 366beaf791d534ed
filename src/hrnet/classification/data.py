"""Class folders as samples: crops and augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hrnet.classification.processor import center_frame
from hrnet.classification.spec import ClassificationSpec
from hrnet.engine.photometric import recolor
from hrnet.errors import InputError
from hrnet.formats.records import DataSet, ImageRecord
from hrnet.formats.splits import (
    LabeledSet,
    count_of,
    facts,
    listed,
    match_names,
    no_common_name,
    open_evaluation,
    shortened,
)
from hrnet.io.geometry import Frame, Image, Size, warp
from hrnet.io.images import read_labeled
from hrnet.nn.task import Sample, SampleKey, random_generator

# Crops that are drawn before the middle of the image is taken. Source: torchvision's RandomResizedCrop.
_TRIES = 10


@dataclass(frozen=True, slots=True)
class Augment:
    """Random augmentation of training samples; the defaults are those of the published training.

    Source: the released training code: torchvision's RandomResizedCrop, horizontal flip with probability 0.5; mixup
    (arXiv 1710.09412) and CutMix (arXiv 1905.04899) by their papers.
    """

    area: tuple[float, float] = (0.08, 1.0)
    """smallest and largest fraction of the image's area that a crop covers, uniform"""
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """smallest and largest ratio of a crop's width to its height, log-uniform"""
    shift: float = 0.0  # fraction of a crop's side by which it may extend beyond the image, where it is black
    flip: float = 0.5  # probability of a horizontal flip
    color: float = 0.0  # standard deviation of the brightness, contrast and saturation factors around 1
    mixup: float = 0.0
    """0 for none; otherwise a sample is the weighted mean of two, with weights from Beta(mixup, mixup)"""
    cutmix: float = 0.0
    """0 for none; otherwise a rectangle of the sample comes from another, with an area from Beta(cutmix, cutmix). With
    both, each has probability 0.5."""
    mixed: float = 1.0  # probability of mixup or CutMix
    antialias: bool = True  # see `geometry.warp`; also for the images that are scored

    def __post_init__(self) -> None:
        if not 0 < self.area[0] <= self.area[1] <= 1 or not 0 < self.aspect[0] <= self.aspect[1]:
            raise ValueError(f"area must rise within 0 to 1, aspect from a number above 0; got {self}.")
        if min(self.mixup, self.cutmix, self.shift) < 0 or not (0 <= self.mixed <= 1 and 0 <= self.flip <= 1):
            raise ValueError(
                f"mixup, cutmix and shift must not be negative, mixed and flip must be probabilities; got {self}."
            )


ClassificationSet = LabeledSet[ImageRecord]


def classification_set(data: DataSet) -> ClassificationSet:
    """Return the images of one split, each with its label; errors as of `facts`."""
    notes, problems = facts(data)
    images = tuple(image for image in data.images if image.label is not None)
    return LabeledSet(data.classes, images, shortened(problems, data.source), tuple(notes))


# Opens the images to evaluate on.
open_set = partial(open_evaluation, content="classes", convert=classification_set)


def match_classes(data: ClassificationSet, class_names: tuple[str, ...]) -> ClassificationSet:
    """Return a set with the model's classes, matched by name; images of other classes are left out.

    Classes without names (class_0, class_1 ...) are assigned to as many classes in the order of their names, by which the
    published networks number ImageNet's.

    Raises:
        InputError: no name is common.
    """
    labels, lost = match_names(data.class_names, class_names)
    if labels == [*range(len(class_names))]:
        return replace(data, class_names=class_names)
    if len(lost) == len(labels):
        if len(labels) == len(class_names) and class_names == ClassificationSpec(num_classes=len(labels)).class_names:
            note = f"The model's {len(labels)} classes have no names; they are assigned to the folders, sorted by name."
            return replace(data, class_names=class_names, notes=(*data.notes, note))
        raise no_common_name(data.class_names, class_names, "rename the folders")
    images = tuple(
        replace(image, label=labels[image.label])
        for image in data.images
        if image.label is not None and labels[image.label] >= 0
    )
    if not images:
        raise InputError(f"No image of the data set belongs to a class of the model ({listed(class_names)}).")
    left = count_of(len(data.images) - len(images), "image")
    notes = [f"The model does not know {listed(lost)}: {left} left out."] if lost else []
    return replace(data, class_names=class_names, images=images, notes=(*data.notes, *notes))


class ClassificationDataset:
    """Images as inputs of a network. A `SampleKey` gives an augmented crop with the target `labels`, an index the central
    crop without targets.

    Mixed samples also have the targets `second_labels` and `weights`, the weight of the first label in [0, 1].
    """

    def __init__(
        self, images: Sequence[ImageRecord], spec: ClassificationSpec, augment: Augment, seed: int = 0
    ) -> None:
        self.images = images
        self.spec = spec
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        if not isinstance(key, SampleKey):
            one = self.images[key]
            frame = center_frame(one.size, self.spec)
            image = warp(read_labeled(one.path, one.size), frame, antialias=self.augment.antialias)
            return Sample(image, frame, {}, key)
        rng, augment = random_generator(self.seed, key), self.augment
        image, frame, label = self._crop(key.sample, rng)
        targets = {"labels": np.array(label)}
        if augment.mixup or augment.cutmix:
            image, other, weight = self._mixed(image, label, rng)
            targets |= {"second_labels": np.array(other), "weights": np.array(weight, np.float32)}
        return Sample(image, frame, targets, key.sample)

    def _crop(self, index: int, rng: np.random.Generator) -> tuple[Image, Frame, int]:
        one = self.images[index]
        assert one.label is not None
        frame = random_frame(one.size, self.spec.input_size, self.augment, rng)
        crop = warp(read_labeled(one.path, one.size), frame, antialias=self.augment.antialias)
        return recolor(crop, self.augment.color, rng, frame), frame, one.label

    def _mixed(self, image: Image, label: int, rng: np.random.Generator) -> tuple[Image, int, float]:
        """Return the crop with another sample mixed in, that sample's label, and the weight of the first label."""
        augment = self.augment
        if rng.random() >= augment.mixed:
            return image, label, 1.0
        second, _, other = self._crop(int(rng.integers(len(self.images))), rng)
        if augment.mixup and (not augment.cutmix or rng.random() < 0.5):
            weight = float(rng.beta(augment.mixup, augment.mixup))
            return mixup(image, second, weight), other, weight
        weight = float(rng.beta(augment.cutmix, augment.cutmix))
        mixed, left = cutmix(image, second, weight, (rng.random(), rng.random()))
        return mixed, other, left

    def describe(self, index: int) -> str:
        """Return the path of an image."""
        return str(self.images[index].path)


def mixup(first: Image, second: Image, weight: float) -> Image:
    """Return the weighted mean, rounded to bytes; `weight` is that of the first."""
    return np.rint(weight * first.astype(np.float32) + (1 - weight) * second.astype(np.float32)).astype(np.uint8)


def cutmix(first: Image, second: Image, fraction: float, center: tuple[float, float]) -> tuple[Image, float]:
    """Return the first crop with a rectangle of the second, of the same size, and the fraction left of the first.

    Args:
        fraction: fraction that would be left if the rectangle, which has the crop's aspect, lay inside it.
        center: y and x of the rectangle's center as fractions of the sides; the rectangle is cut at the borders.
    """
    size = np.array(first.shape[:2])
    half = np.sqrt(1 - fraction) * size / 2
    low, high = (np.clip(np.rint(np.array(center) * size + side), 0, size).astype(int) for side in (-half, half))
    mixed = first.copy()
    mixed[low[0] : high[0], low[1] : high[1]] = second[low[0] : high[0], low[1] : high[1]]
    return mixed, 1 - float((high - low).prod() / size.prod())


def random_frame(size: Size, input_size: Size, augment: Augment, rng: np.random.Generator) -> Frame:
    """Draw a crop of random area, aspect and position, scaled to the input.

    Source: torchvision's RandomResizedCrop, without rounding sides to whole pixels: crops that do not fit are drawn again;
    after ten tries it is the largest central crop of a possible aspect.
    """
    height, width = size
    sides = np.array([float(width), float(height)])
    crop = _drawn_sides(sides, augment, rng)
    reach = augment.shift * crop
    corner = rng.uniform(-reach, sides - crop + reach)
    scale = np.array(input_size[::-1]) / crop
    # The crop's corner, counted from the outer edge of the first pixel, comes to that of the input's.
    matrix = np.column_stack([np.diag(scale), scale * (0.5 - corner) - 0.5])
    if rng.random() < augment.flip:
        matrix[0] = -matrix[0]
        matrix[0, 2] += input_size[1] - 1
    return Frame(matrix, input_size, size)


def _drawn_sides(sides: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """Draw the width and height of a crop, in pixels of the image."""
    for _ in range(_TRIES):
        area = rng.uniform(*augment.area) * sides.prod()
        aspect = np.exp(rng.uniform(*np.log(augment.aspect)))
        crop = np.sqrt(area * np.array([aspect, 1 / aspect]))
        # A whole image of just this aspect fits in spite of rounding.
        if (crop <= sides * (1 + 1e-9)).all():
            return np.minimum(crop, sides)
    aspect = np.clip(sides[0] / sides[1], *augment.aspect)
    return np.minimum(sides, sides[::-1] * np.array([aspect, 1 / aspect]))
