"""Opening data sets for training and evaluation: choosing splits, holding images out, matching classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from hrnet.errors import InputError
from hrnet.formats.defects import sentences
from hrnet.formats.reader import Content
from hrnet.formats.records import DataSet
from hrnet.formats.registry import READERS, read

Split = Literal["train", "val", "test"]
# Class of recipes for any data set: no data set has it, so that the network gets the classes of the data set.
OWN_CLASSES = ("of the data set",)
_ROLE = re.compile(r"train|val|test", re.IGNORECASE)
# Problems and names that are listed; the rest are counted.
_LISTED_PROBLEMS, _LISTED_NAMES = 10, 12


@dataclass(frozen=True, slots=True)
class DataSource:
    """Images and labels for training.

    Attributes:
        images: folders of training images, or without `annotations` whole data sets.
        annotations: labels, one file or folder for each folder of images.
        splits: splits to train on.
        val_images: validation images, as `images`; None: the validation split of a training set. Without any there is no
            validation, and the last weights are the best.
        val_annotations: labels of the validation images.
        hold_out: without a validation set, n holds every n-th training image out for validation: those at positions 0, n,
            2n ... in the order of their paths; 0 holds none out.
        format: format of the data sets, a key of `READERS`; None: each is recognized.
    """

    images: tuple[Path, ...] = ()
    annotations: tuple[Path, ...] = ()
    splits: tuple[Split, ...] = ("train",)
    val_images: Path | None = None
    val_annotations: Path | None = None
    hold_out: int = 0
    format: str | None = None


@runtime_checkable
class HasPath(Protocol):
    """A record of an image file."""

    @property
    def path(self) -> Path: ...


Record = TypeVar("Record", bound=HasPath)
AnySet = TypeVar("AnySet", bound="LabeledSet[Any]")


@dataclass(frozen=True, slots=True)
class LabeledSet(Generic[Record]):
    """One split of a data set, as a task uses it.

    Attributes:
        class_names: class names; a label is an index.
        images: usable images.
        problems: sentences about what was left out.
        notes: sentences about what was inferred, or looks wrong.
    """

    class_names: tuple[str, ...]
    images: tuple[Record, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def select(self: AnySet, keep: Callable[[Path], bool]) -> AnySet:
        """Return the set with some of its images, chosen by path."""
        return replace(self, images=tuple(image for image in self.images if keep(image.path)))


def open_splits(
    images: Path, annotations: Path | None, content: Content, data_format: str | None = None
) -> tuple[DataSet, ...]:
    """Read all splits of a data set.

    Args:
        images: folder of the images, or without `annotations` the whole data set.
        annotations: file or folder of the labels.
        content: kind of labels that is needed.
        data_format: key of `READERS`; None: it is recognized.

    Raises:
        InputError: the format does not hold such labels, or the data set cannot be read as a whole.
    """
    place = (images, None) if annotations is None else (annotations, images)
    sets = read(*place, content, data_format)
    # A folder of COCO jsons holds the same images with boxes and with keypoints.
    if content == "keypoints":
        return tuple(one for one in sets if one.keypoints) or sets
    return tuple(one for one in sets if "instances" in one.split) or sets


def describe(data: DataSet) -> str:
    """Return format, split and counts of a set in a line."""
    objects = sum(len(image.objects) for image in data.images)
    counts = (len(data.images), objects, len(data.classes), len(data.keypoints))
    nouns = ("image", "object", "class", "keypoint")
    listed = [count_of(count, noun) for count, noun in zip(counts, nouns, strict=True) if count]
    title = READERS[data.format].title + (f" {data.split}" if data.split else "")
    return f"{title}: {', '.join(listed) or 'nothing'} ({data.source})"


def count_of(count: int, name: str) -> str:
    """Return a number and its noun."""
    return f"{count} {name}" if count == 1 else f"{count} {name}{'es' if name.endswith('s') else 's'}"


def facts(data: DataSet) -> tuple[list[str], list[str]]:
    """Return notes and problems of a set, its counts first.

    Raises:
        InputError: the set has no usable image, or names a class twice.
    """
    notes, problems = sentences(data)
    if len(set(data.classes)) != len(data.classes):
        raise InputError(f"The list of classes of {data.source} names one twice; give each its own name.")
    if not data.images:
        reason = f"; the first problem: {problems[0]}" if problems else "; add some."
        raise InputError(f"{data.source} has no image that can be used{reason}")
    return [f"{describe(data)}.", *notes], problems


def shortened(problems: Sequence[str], source: Path) -> tuple[str, ...]:
    """Return the first problems, and how many more there are."""
    rest = len(problems) - _LISTED_PROBLEMS
    if rest <= 0:
        return tuple(problems)
    more = f"{source}: {rest} more cannot be used; `hrnet data check` names all of them."
    return (*problems[:_LISTED_PROBLEMS], more)


def roles(split: str) -> set[str]:
    """Return the uses of a split, by its name: train, val, test; trainval has two."""
    return {role.lower() for role in _ROLE.findall(split)}


def kind_of(split: str) -> str:
    """Return what a training and a validation split have in common: "instances_2017" of instances_train2017."""
    return _ROLE.sub("", split)


def _names(split: Split) -> tuple[Split, ...]:
    """Return the names of a split, best first: test stands in for a missing val."""
    return ("val", "test") if split == "val" else (split,)


def choose_split(sets: Sequence[DataSet], split: Split) -> DataSet:
    """Return the split to train or to evaluate on; the only one whatever its name, and test where there is no val.

    A split for one use is preferred to one for several: of train, trainval and val each is itself.

    Raises:
        InputError: there are several, and none with such a name.
    """
    narrow = sorted(sets, key=lambda one: len(roles(one.split)))
    found = [one for name in _names(split) for one in narrow if name in roles(one.split)]
    if not found and len(sets) > 1:
        raise InputError(
            f"{sets[0].source} has no split called {' or '.join(_names(split))}; add it, or name a file with one split."
        )
    return (found or list(sets))[0]


def has_split(sets: Sequence[DataSet], split: Split) -> bool:
    """Return whether a data set has a split of its own for this use."""
    return len(sets) > 1 and any(one.images and roles(one.split).intersection(_names(split)) for one in sets)


def only_split(sets: Sequence[DataSet], split: Split) -> tuple[str, ...]:
    """Return a warning where the only split is evaluated, which a training may have seen."""
    if split != "val" or len(sets) > 1 or roles(sets[0].split).intersection(_names(split)):
        return ()
    cure = "--hold-out N takes what a training with --data.hold-out N held out"
    return (f"{sets[0].source} has one split, all of which is scored; {cure}.",)


def open_evaluation(
    images: Path,
    annotations: Path | None = None,
    split: Split = "val",
    *,
    content: Content,
    convert: Callable[[DataSet], AnySet],
    hold_out: int = 0,
    match: Callable[[AnySet], AnySet] | None = None,
    data_format: str | None = None,
) -> AnySet:
    """Open the images to evaluate on.

    Args:
        images, annotations, content, data_format: see `open_splits`.
        split: split; with `hold_out` it is the training split.
        convert: function that makes a task's set of a split.
        hold_out: n takes only the images that a training with this number holds out; 0 takes all.
        match: function that gives the set the classes of the model. As in training, it comes before images are held out:
            it may leave some out, which changes who is the n-th.

    Raises:
        InputError: the data set cannot be used.
    """
    sets = open_splits(images, annotations, content, data_format)
    found = convert(choose_split(sets, "train" if hold_out else split))
    found = match(found) if match else found
    if hold_out:
        return hold_out_images([found], hold_out)[1]
    return replace(found, notes=(*found.notes, *(() if annotations else only_split(sets, split))))


class TrainingSets(Generic[AnySet]):
    """The training splits of a recipe's data, and the images to validate on.

    Args:
        source: images and labels.
        content: kind of labels that is needed.
        convert: function that makes a task's set of a split.

    Raises:
        InputError: a data set is missing or cannot be used.
    """

    def __init__(self, source: DataSource, content: Content, convert: Callable[[DataSet], AnySet]) -> None:
        self._source, self._convert = source, convert
        self._content: Content = content
        pairs = pair_folders(source.images, source.annotations, source.splits)
        self._opened = [open_splits(*pair, content, source.format) for pair in pairs]
        self.sets: list[AnySet] = [convert(choose_split(one, split)) for one in self._opened for split in source.splits]

    def finish(
        self, match: Callable[[AnySet], AnySet], messages: list[str], sets: Sequence[AnySet] | None = None
    ) -> tuple[list[AnySet], AnySet | None]:
        """Match the classes of all sets, and return those to train on and the one to validate on, or None.

        Args:
            match: function that gives a set the classes of the model.
            messages: notes and problems of all sets are added.
            sets: sets in place of `self.sets`.

        Raises:
            InputError: the validation set cannot be used, or `hold_out` leaves nothing.
        """
        train = [match(one) for one in sets or self.sets]
        for one in train:
            _report(one, messages)
        source = self._source
        opened = self._open_validation()
        if opened is not None:
            validation = match(self._convert(choose_split(opened, "val")))
            _report(validation, messages)
            if source.hold_out:
                messages.append(f"{opened[0].source} has a validation set: nothing is held out of the training set.")
            return train, validation
        if not source.hold_out:
            return train, None
        train, held = hold_out_images(train, source.hold_out)
        count = count_of(len(held.images), "image")
        messages.append(f"{count} held out for validation: every {source.hold_out}th by path, from the first.")
        return train, held

    def _open_validation(self) -> tuple[DataSet, ...] | None:
        source = self._source
        if source.val_images is not None:
            return open_splits(source.val_images, source.val_annotations, self._content, source.format)
        if "val" in source.splits:
            return None
        return next((one for one in self._opened if has_split(one, "val")), None)


def _report(data: LabeledSet[Any], messages: list[str]) -> None:
    messages += [message for message in (*data.notes, *data.problems) if message not in messages]


def pair_folders(
    images: Sequence[Path], annotations: Sequence[Path], splits: Sequence[Split]
) -> list[tuple[Path, Path | None]]:
    """Return folders of images with their labels; None where the first is a whole data set.

    Args:
        images: folders of images, or whole data sets where there are no `annotations`.
        annotations: labels of the folder at the same place.
        splits: splits to read.

    Raises:
        InputError: there are not as many of both, or nothing is named.
    """
    if not images or len(annotations) not in (0, len(images)) or not splits:
        raise InputError(
            f"{len(images)} folders of images, {len(annotations)} files or folders of labels, splits {tuple(splits)}: give "
            "one for each, --data.images DIR --data.annotations PATH, or whole data sets by --data.images alone."
        )
    labels: Sequence[Path | None] = annotations or [None] * len(images)
    return list(zip(images, labels, strict=True))


def hold_out_images(sets: Sequence[AnySet], every: int) -> tuple[list[AnySet], AnySet]:
    """Return the sets without every n-th image by path, from the first, and a set of these images.

    Raises:
        InputError: `every` is below 2, or nothing is left to train on.
    """
    paths = sorted({image.path for one in sets for image in one.images})
    held = set(paths[::every]) if every > 1 else set()
    if not held or len(held) == len(paths):
        raise InputError(
            f"hold_out must be at least 2 and leave training images; got {every} for {count_of(len(paths), 'image')}."
        )
    parts = [one.select(held.__contains__) for one in sets]
    images = tuple(sorted((image for one in parts for image in one.images), key=lambda image: image.path))
    return [one.select(lambda path: path not in held) for one in sets], replace(parts[0], images=images)


def training_images(train: Sequence[LabeledSet[Record]], validation: LabeledSet[Record] | None) -> list[Record]:
    """Return the images of all training sets that are not validated on."""
    held = {image.path for image in validation.images} if validation else set[Path]()
    return [image for one in train for image in one.images if image.path not in held]


def plain_name(name: str) -> str:
    """Return the letters and digits of a name in lower case, by which classes are compared."""
    return "".join(filter(str.isalnum, name.lower())) or name


def match_names(
    names: Sequence[str], known: Sequence[str], aliases: Mapping[str, str] | None = None
) -> tuple[list[int], list[str]]:
    """Return for each class of a data set the model's class of the same name, -1 for none, and the unknown names.

    Args:
        names: classes of the data set.
        known: classes of the model.
        aliases: the model's class that a class of the data set counts as.
    """
    places = {plain_name(name): label for label, name in enumerate(known)}
    places |= {plain_name(theirs): list(known).index(ours) for theirs, ours in (aliases or {}).items()}
    labels = [places.get(plain_name(name), -1) for name in names]
    return labels, [name for name, label in zip(names, labels, strict=True) if label < 0]


def no_common_name(names: Sequence[str], known: Sequence[str], cure: str) -> InputError:
    """Return the error for a data set and a model without a common class."""
    return InputError(
        f"The data set's classes ({', '.join(names[:_LISTED_NAMES])}) have no name in common with the model's "
        f"({', '.join(known[:_LISTED_NAMES])}); {cure}."
    )


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    rest = len(names) - _LISTED_NAMES
    return ", ".join(names[:_LISTED_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def has_common_name(names: Sequence[str], known: Sequence[str]) -> bool:
    """Return whether two lists of classes have a name in common, in any case."""
    return bool({name.lower() for name in names} & {name.lower() for name in known})
