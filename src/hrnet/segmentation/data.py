"""Images with a class for every pixel, as people have them, crops of them, and the augmentation."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hrnet.engine.photometric import recolor
from hrnet.errors import InputError
from hrnet.formats import compare, masks
from hrnet.formats.compare import Part, choose_part, roles
from hrnet.formats.label_maps import LabeledImage, misfit, read_labels, read_values, strange, strange_values
from hrnet.formats.masks import count_values
from hrnet.formats.records import DataSet
from hrnet.formats.sides import infer_pairs
from hrnet.io.geometry import Frame, Size, flip_order, warp, warp_labels
from hrnet.io.images import image_size, read_labeled
from hrnet.nn.task import Sample, SampleKey, random_generator
from hrnet.results import IGNORE_INDEX
from hrnet.segmentation.layouts import Layout, find_layout, find_part
from hrnet.segmentation.processor import image_frame
from hrnet.segmentation.spec import SegmentationSpec

# Sentences about what was left out, of one set.
_EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Augment:
    """What is changed at random in a training sample. The defaults are those of the published training.

    Source: the released training code: a factor of 0.5 to 2.1 in steps of 0.1 (0.5 to 1.6 for LIP; the paper says 0.5 to 2),
    applied to the image in its canvas; black at the right and bottom where the crop is larger; a crop anywhere in what is
    left; mirrored every second time. A deliberate difference: labels are read at the middle of an input's pixel, as the
    image is, while the released code reads them up to half a pixel of the image above and left of it.

    Attributes:
        crop: height and width of the sample; None for the canvas.
        scale: the smallest and largest factor.
        scale_step: between the factors that are drawn, all equally often; 0 draws any, their logarithms evenly.
        flip: how often a sample is mirrored.
        rotation: degrees; the sample is turned by up to this angle, evenly drawn, around its middle.
        color: deviation of brightness, contrast and saturation from 1.
        antialias: see `geometry.warp`; also of the images that are scored.
    """

    crop: Size | None = None
    scale: tuple[float, float] = (0.5, 2.1)
    scale_step: float = 0.1
    flip: float = 0.5
    rotation: float = 0.0
    color: float = 0.0
    antialias: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] or self.scale_step < 0:
            raise ValueError(f"scale goes from a number above 0 up, scale_step is not negative: {self}.")
        if self.crop is not None and min(self.crop) < 32:
            raise ValueError(f"crop is at least 32 x 32, not {self.crop}.")


@dataclass(frozen=True, slots=True)
class SegmentationSet:
    """What a data set with label images holds.

    Attributes:
        class_names: a label is a position here.
        pairs: classes that change places in the mirrored image.
        images: that can be used.
        problems: sentences about what was left out.
        notes: a sentence for each thing that was inferred.
        named: whether the data set names its classes; otherwise their numbers stand for names.
    """

    class_names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    images: tuple[LabeledImage, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    named: bool = True


def read_segmentation(images: Path, annotations: Path | None = None, part: Part = "train") -> SegmentationSet:
    """The labeled images of one part of a data set, told apart by looking.

    Every label image is read once: what has numbers that mean nothing, another size or no partner is left out and named.

    Args:
        images: the folder of the images, or without `annotations` that of the whole data set.
        annotations: the folder of the label images.
        part: which part, where there are several; val takes test where there is no val.

    Raises:
        InputError: there are no label images, or none that can be used.
    """
    layout = find_layout(images, part) if annotations is None else find_part(images, annotations, part)
    if layout is not None:
        return _published(layout)
    sets = masks.read(images) if annotations is None else masks.read(annotations, images)
    data = choose_part(sets, part)
    files = [(record.path, record.label_map) for record in data.images if record.label_map is not None]
    looked, problems = _look_at(files)
    problems = [f"{defect} {defect.cure.capitalize()}." for defect in data.defects] + problems
    names, notes = _names(data, {value for one in looked for value in one.counts})
    pairs = infer_pairs(names)
    if pairs:
        notes.append(f"Left-right pairs by name: {', '.join(f'{names[a]}/{names[b]}' for a, b in pairs)}.")
    records, more = _understood(looked, tuple(range(len(names))))
    return _checked(
        SegmentationSet(names, pairs, records, (*problems, *more), tuple(notes), bool(data.classes)), data.source
    )


def open_set(
    images: Path, annotations: Path | None = None, split: Part = "val", *, hold_out: int = 0
) -> SegmentationSet:
    """Open one split of a data set; with `hold_out` the images that a training with this number holds out.

    Raises:
        InputError: the data set is missing or cannot be used.
    """
    data = read_segmentation(images, annotations, "train" if hold_out else split)
    return replace(data, images=tuple(compare.hold_out(data.images, hold_out)[1])) if hold_out else data


def has_part(images: Path, annotations: Path | None, part: Part) -> bool:
    """Whether a data set has this part; arguments as of `read_segmentation`."""
    try:
        layout = find_layout(images, part) if annotations is None else find_part(images, annotations, part)
    except InputError:
        return False
    if layout is not None:
        return annotations is None
    wanted = {"val", "test"} if part == "val" else {part}
    sets = masks.read(images) if annotations is None else masks.read(annotations, images)
    return len(sets) > 1 and any(wanted & roles(one.part) for one in sets)


def _published(layout: Layout) -> SegmentationSet:
    looked, problems = _look_at(layout.files)
    images, more = _understood(looked, layout.meaning)
    note = f"{layout.source} is {layout.title}: {len(images)} images, {len(layout.class_names)} classes."
    problems = (*layout.problems, *problems, *more)
    return _checked(SegmentationSet(layout.class_names, layout.pairs, images, problems, (note,)), layout.source)


def _names(data: DataSet, seen: set[int]) -> tuple[tuple[str, ...], list[str]]:
    """The names of the classes, or their numbers, and what is to be said about that."""
    if seen and seen <= {0, IGNORE_INDEX} and IGNORE_INDEX in seen:
        raise InputError(
            f"{data.source} has no values but 0 and {IGNORE_INDEX}, and {IGNORE_INDEX} is ignored; save class 2 as 1."
        )
    if data.classes:
        if len(set(data.classes)) != len(data.classes):
            raise InputError(f"The list of classes of {data.source} names one twice; give each its own name.")
        return data.classes, []
    count = max((value for value in seen if value < IGNORE_INDEX), default=0) + 1
    note = f"{data.source} has no classes.txt, so that its classes are called 0 to {count - 1}; names go there, one a line."
    return tuple(str(label) for label in range(count)), [note]


def match_classes(data: SegmentationSet, class_names: tuple[str, ...]) -> SegmentationSet:
    """The same images with the labels of other classes, matched by name; what these lack counts for nothing.

    Classes without names are taken for those at the same places.

    Raises:
        InputError: no name is common, or there are more classes without names than names.
    """
    if data.class_names == class_names:
        return data
    theirs = [_plain(name) for name in class_names]
    places = {name: place for place, name in enumerate(theirs)}
    notes = list(data.notes)
    if data.named:
        labels = [places.get(_plain(name), IGNORE_INDEX) for name in data.class_names]
        lost = [name for name, label in zip(data.class_names, labels, strict=True) if label == IGNORE_INDEX]
        if len(lost) == len(labels):
            raise InputError(
                f"The data set's classes ({', '.join(data.class_names[:12])}) have no name in common with the model's "
                f"({', '.join(class_names[:12])}); rename them in classes.txt."
            )
        notes += [f"The model does not know {', '.join(lost)}: {_its(lost)} pixels count for nothing."] if lost else []
    else:
        if len(data.class_names) > len(class_names):
            raise InputError(
                f"The data set's {len(data.class_names)} classes have no names, and the model knows {len(class_names)}; "
                "write their names into classes.txt, one a line."
            )
        labels = list(range(len(data.class_names)))
        notes.append(f"The classes 0 to {len(labels) - 1} are taken for the model's: {', '.join(class_names[:12])}.")
    table = np.array([*labels, *[IGNORE_INDEX] * (IGNORE_INDEX + 1 - len(labels))])
    meanings = {meaning: tuple(table[list(meaning)].tolist()) for meaning in {one.meaning for one in data.images}}
    return replace(
        data,
        class_names=class_names,
        pairs=tuple((labels[a], labels[b]) for a, b in data.pairs if IGNORE_INDEX not in (labels[a], labels[b])),
        images=tuple(replace(one, meaning=meanings[one.meaning]) for one in data.images),
        notes=tuple(notes),
    )


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def _its(names: Sequence[str]) -> str:
    return "its" if len(names) == 1 else "their"


@dataclass(frozen=True, slots=True)
class _Looked:
    """An image, its label image, the size of both, and how many pixels have each number."""

    path: Path
    labels_path: Path
    size: Size
    counts: Counter[int]


def _look_at(files: Sequence[tuple[Path, Path]]) -> tuple[list[_Looked], list[str]]:
    """Read all label images, and of the images the headers; sentences about those that cannot be used."""
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
        found = list(pool.map(_look, files))
    return [one for one in found if isinstance(one, _Looked)], [one for one in found if isinstance(one, str)]


def _look(files: tuple[Path, Path]) -> _Looked | str:
    path, labels_path = files
    try:
        values = read_values(labels_path)
        # Labeled as it is shown, or as it is stored: many programs do not look at the orientation tag.
        sizes = (image_size(path), image_size(path, upright=False))
    except InputError as error:
        return str(error)
    size = (values.shape[0], values.shape[1])
    return (
        _Looked(path, labels_path, size, count_values(values))
        if size in sizes
        else misfit(path, labels_path, size, sizes[0])
    )


def _understood(looked: Sequence[_Looked], meaning: tuple[int, ...]) -> tuple[tuple[LabeledImage, ...], list[str]]:
    """The images whose numbers all mean something, and sentences about the others."""
    images: list[LabeledImage] = []
    problems: list[str] = []
    for one in looked:
        image = LabeledImage(one.path, one.labels_path, one.size, meaning)
        meaningless = strange_values(one.counts, meaning)
        if meaningless:
            problems.append(strange(image, meaningless[0], one.counts[meaningless[0]]))
        else:
            images.append(image)
    return tuple(images), problems


def _checked(data: SegmentationSet, source: Path) -> SegmentationSet:
    """The set, with few of many problems; raises InputError where nothing is left."""
    if not data.images:
        reason = (
            f"; the first problem: {data.problems[0]}" if data.problems else "; put label images beside its images."
        )
        raise InputError(f"{source} has no labeled image that can be used{reason}")
    if len(data.problems) <= _EXAMPLES:
        return data
    rest = len(data.problems) - _EXAMPLES
    more = f"{source}: {rest} more cannot be used; `hrnet data check` names all of them."
    return replace(data, problems=(*data.problems[:_EXAMPLES], more))


class SegmentationDataset:
    """Images in the canvas of a network. Asked with a `SampleKey` it gives augmented crops with the target `labels`
    (`h w`, bytes), with a number the whole image without a target."""

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
        crop = recolor(warp(image, frame, antialias=self.augment.antialias), self.augment.color, rng)
        return Sample(crop, frame, {"labels": labels}, key.sample)

    def describe(self, index: int) -> str:
        """The image's file."""
        return str(self.images[index].path)


def random_frame(size: Size, spec: SegmentationSpec, augment: Augment, rng: np.random.Generator) -> Frame:
    """Where a training sample lies in an image of this height and width."""
    scaled = image_frame(size, spec, _draw_scale(augment, rng))
    crop = augment.crop or spec.input_size
    # What the image fills of its canvas.
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
