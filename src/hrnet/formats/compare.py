"""Training and validation beside each other: what is read for which, the same images, other classes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations, permutations
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from hrnet.errors import InputError
from hrnet.formats.defects import Draft
from hrnet.formats.records import DataSet, ImageRecord

Part = Literal["train", "val", "test"]
_ROLE = re.compile(r"train|val|test", re.IGNORECASE)


def roles(part: str) -> set[str]:
    """What a part is for, by its name: train, val, test; trainval is for both, and images of it are theirs too."""
    return {role.lower() for role in _ROLE.findall(part)}


def _names(part: Part) -> tuple[Part, ...]:
    """What a part may be called, best first."""
    return ("val", "test") if part == "val" else (part,)


def choose_part(sets: Sequence[DataSet], part: Part) -> DataSet:
    """The part to train on or to score on; the only one whatever its name, and test where there is no val.

    One that is for nothing else comes before one that is for more: of train, trainval and val each is itself.

    Raises:
        InputError: there are several, and none of such a name.
    """
    narrow = sorted(sets, key=lambda one: len(roles(one.part)))
    wanted = _names(part)
    found = [one for name in wanted for one in narrow if name in roles(one.part)]
    if not found and len(sets) > 1:
        raise InputError(
            f"{sets[0].source} names no set called {' or '.join(wanted)}; add it, or name a file with one set."
        )
    return (found or list(sets))[0]


def has_part(sets: Sequence[DataSet], part: Part) -> bool:
    """Whether a data set has a part of its own for this."""
    return len(sets) > 1 and any(roles(one.part).intersection(_names(part)) for one in sets)


def only_part(sets: Sequence[DataSet], part: Part) -> tuple[str, ...]:
    """What to say where images to score on are taken from the only part there is, which a training may have seen."""
    if part != "val" or len(sets) > 1 or roles(sets[0].part).intersection(_names(part)):
        return ()
    return (
        f"{sets[0].source} has one part, all of which is scored; --hold-out N takes what a training with --data.hold-out N"
        " kept out.",
    )


def pair_folders(
    images: Sequence[Path], annotations: Sequence[Path], parts: Sequence[Part]
) -> list[tuple[Path, Path | None]]:
    """Folders of images with their labels; None where the first is a whole data set.

    Args:
        images: folders of images, or of data sets where there are no `annotations`.
        annotations: the labels of the folder at the same place.
        parts: that are to be read of each.

    Raises:
        InputError: there are not as many of both, or nothing is named.
    """
    if not images or len(annotations) not in (0, len(images)) or not parts:
        raise InputError(
            f"{len(images)} folders of images, {len(annotations)} files or folders of labels, parts {tuple(parts)}: give "
            "one for each, --data.images DIR --data.annotations PATH, or whole data sets by --data.images alone."
        )
    labels: Sequence[Path | None] = annotations or [None] * len(images)
    return list(zip(images, labels, strict=True))


class _Filed(Protocol):
    """What has a file."""

    @property
    def path(self) -> Path: ...


_Kind = TypeVar("_Kind", bound=_Filed)


def hold_out(images: Sequence[_Kind], every: int) -> tuple[list[_Kind], list[_Kind]]:
    """Images in two parts: what is left to train on, and every so-manieth by path to score on, from the first.

    Raises:
        InputError: `every` is below 2, or nothing is left to train on.
    """
    held = sorted(images, key=lambda one: one.path)[::every] if every > 1 else []
    if not held or len(held) == len(images):
        raise InputError(
            f"Of {len(images)} images every {every}th cannot be held out for validation; hold_out is at least 2, and "
            "there must be more images."
        )
    chosen = {one.path for one in held}
    return [one for one in images if one.path not in chosen], held


def check_between(sets: Sequence[DataSet], digests: Mapping[Path, str], draft: Draft) -> None:
    """Note images that occur more than once, and classes and keypoints that training lacks.

    Args:
        sets: all of them.
        digests: what tells the content of an image from that of another; images without differ from all others.
        draft: to note in.
    """
    for one in sets:
        _check_within(one, digests, draft)
    for one, other in combinations(sets, 2):
        if roles(one.part) and roles(other.part) and not roles(one.part) & roles(other.part):
            _check_leak(one, other, digests, draft)
    for train, held_out in permutations(sets, 2):
        if "train" in roles(train.part) and roles(held_out.part) and "train" not in roles(held_out.part):
            _check_names(train, held_out, draft)


def _by_content(one: DataSet, digests: Mapping[Path, str]) -> dict[str, list[ImageRecord]]:
    found: dict[str, list[ImageRecord]] = defaultdict(list)
    for image in one.images:
        found[digests.get(image.path) or str(image.path)].append(image)
    return found


def _check_within(one: DataSet, digests: Mapping[Path, str], draft: Draft) -> None:
    for first, *others in _by_content(one, digests).values():
        for other in others:
            if first.label is not None and first.label != other.label:
                classes = f"{one.classes[first.label]} as {first.path.name}"
                draft.say("image-contradiction", f"is in {classes} too", file=other.path)
            else:
                draft.say("image-twice", f"is {first.path.name} once more", file=other.path)


def _check_leak(one: DataSet, other: DataSet, digests: Mapping[Path, str], draft: Draft) -> None:
    first = _by_content(one, digests)
    for content, images in _by_content(other, digests).items():
        for image in images if content in first else ():
            path = first[content][0].path
            same = f"is in {one.part} and in {other.part}"
            text = same if path == image.path else f"of {other.part} is {path} of {one.part}"
            draft.say("image-leak", text, file=image.path)


def _kind(part: str) -> str:
    """Of the name of a part what is the same for training and validation: instances_train2017, instances_val2017."""
    return _ROLE.sub("", part)


def _check_names(train: DataSet, held_out: DataSet, draft: Draft) -> None:
    if train.format != held_out.format or _kind(train.part) != _kind(held_out.part):
        return
    known, met = _labeled(train), _labeled(held_out)
    for name in sorted(met - known):
        if name in train.classes:
            draft.say("class-untrained", f"has {name}, of which {train.part} has none", file=held_out.source)
        else:
            draft.say("class-unknown", f"has the class {name}, which {train.part} does not name", file=held_out.source)
    foreign = [name for name in held_out.keypoints if name not in train.keypoints]
    if foreign:
        draft.say("keypoint-count", f"has the keypoint {foreign[0]}, which {train.part} has not", file=held_out.source)


def _labeled(one: DataSet) -> set[str]:
    """Names of the classes that occur; none for label images, which are not read here."""
    labels = {thing.label for image in one.images for thing in image.objects}
    labels |= {image.label for image in one.images if image.label is not None}
    return {one.classes[label] for label in labels}
