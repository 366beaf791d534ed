"""Comparison of the splits of a data set: the same images, other classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations, permutations
from pathlib import Path

from hrnet.formats.defects import Draft
from hrnet.formats.records import DataSet, ImageRecord
from hrnet.formats.splits import kind_of, roles


def check_between(sets: Sequence[DataSet], digests: Mapping[Path, str], draft: Draft) -> None:
    """Name images that occur more than once, and classes and keypoints that the training split lacks.

    Args:
        sets: all splits.
        digests: digest of the content of each image; an image without one differs from all others.
        draft: defects of the data set.
    """
    for one in sets:
        _check_within(one, digests, draft)
    for one, other in combinations(sets, 2):
        if roles(one.split) and roles(other.split) and not roles(one.split) & roles(other.split):
            _check_leak(one, other, digests, draft)
    for train, held_out in permutations(sets, 2):
        if "train" in roles(train.split) and roles(held_out.split) and "train" not in roles(held_out.split):
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
            same = f"is in {one.split} and in {other.split}"
            text = same if path == image.path else f"of {other.split} is {path} of {one.split}"
            draft.say("image-leak", text, file=image.path)


def _check_names(train: DataSet, held_out: DataSet, draft: Draft) -> None:
    if train.format != held_out.format or kind_of(train.split) != kind_of(held_out.split):
        return
    known, found = _labeled(train), _labeled(held_out)
    for name in sorted(found - known):
        if name in train.classes:
            draft.say("class-untrained", f"has {name}, of which {train.split} has none", file=held_out.source)
        else:
            draft.say("class-unknown", f"has the class {name}, which {train.split} does not name", file=held_out.source)
    foreign = [name for name in held_out.keypoints if name not in train.keypoints]
    if foreign:
        draft.say("keypoint-count", f"has the keypoint {foreign[0]}, which {train.split} has not", file=held_out.source)


def _labeled(one: DataSet) -> set[str]:
    """Return the names of the classes that occur; none for label maps."""
    labels = {thing.label for image in one.images for thing in image.objects}
    labels |= {image.label for image in one.images if image.label is not None}
    return {one.classes[label] for label in labels}
