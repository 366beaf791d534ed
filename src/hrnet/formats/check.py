"""Checking a data set for all defects before training, in each split and between them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from pathlib import Path

import numpy as np

from hrnet.errors import InputError
from hrnet.formats.defects import Draft
from hrnet.formats.label_maps import count_labels
from hrnet.formats.records import DataSet, Defect, ImageRecord
from hrnet.formats.registry import read, recognize
from hrnet.formats.sides import unpaired
from hrnet.formats.splits import kind_of, listed, roles
from hrnet.io.images import read_image

# Ratio of the most to the least frequent class from which on it is noted.
IMBALANCE, PIXEL_IMBALANCE = 20, 200


@dataclass(frozen=True, slots=True)
class Report:
    """The splits of a data set, and every defect once, the worst first."""

    sets: tuple[DataSet, ...]
    defects: tuple[Defect, ...]

    @property
    def fatal(self) -> bool:
        return any(defect.severity == "fatal" for defect in self.defects)


def check(
    path: Path,
    images: Path | None = None,
    val: Path | None = None,
    *,
    decode: bool = False,
    data_format: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Read a data set of any format and check all its images.

    Args:
        path: file or folder.
        images: folder of the images, where it is not the place that the format defines.
        val: another data set, to validate on.
        decode: whether every image is decoded, and pixels instead of bytes are compared across splits.
        data_format: key of `READERS`; None: it is recognized.
        progress: function that gets the number of checked images, and of all.

    Raises:
        InputError: a path is of no known format.
    """
    defects: list[Defect] = []
    sets = _read(path, images, defects, data_format)
    if val is not None:
        others = _read(val, images if recognize(val) != "coco" else None, defects)
        # The caller's names of the two are compared, whatever the files call them.
        sets = [replace(one, split="train") for one in sets[:1]] + sets[1:] if len(sets) == 1 else sets
        sets += [replace(one, split="val") if len(others) == 1 else one for one in others]
    files = _examine(sets, decode, progress)
    checked: list[DataSet] = []
    for one in sets:
        draft = Draft(one.source)
        draft.defects += one.defects
        one = _without_unreadable(one, files, draft)
        checked.append(one)
        _check_set(one, _count(one, draft), draft)
        defects += draft.defects
    draft = Draft(path)
    _check_between(sets, {path: found for path, found in files.items() if isinstance(found, str) and found}, draft)
    order = {"fatal": 0, "warning": 1, "note": 2}
    found = dict.fromkeys([*defects, *draft.defects])
    return Report(tuple(checked), tuple(sorted(found, key=lambda defect: (order[defect.severity], defect.kind))))


def _read(path: Path, images: Path | None, defects: list[Defect], data_format: str | None = None) -> list[DataSet]:
    recognize(path, images, None, data_format)
    draft = Draft(path)
    try:
        return list(read(path, images, None, data_format))
    except InputError as error:
        draft.add_error("file-malformed", error, path)
        defects += draft.defects
        return []


# A digest of the content of an image, empty where no other can be equal; or the error of reading it.
_Examined = str | InputError


def _examine(sets: Sequence[DataSet], decode: bool, progress: Callable[[int, int], None]) -> dict[Path, _Examined]:
    """Read every image once."""
    images = list(dict.fromkeys(image.path for one in sets for image in one.images))
    sizes = Counter(path.stat().st_size for path in images)
    found: dict[Path, _Examined] = {}

    def examine(path: Path) -> _Examined:
        return _examine_file(path, decode, sizes[path.stat().st_size] > 1)

    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
        for path, result in zip(images, pool.map(examine, images), strict=True):
            found[path] = result
            progress(len(found), len(images))
    return found


def _examine_file(path: Path, decode: bool, twin: bool) -> _Examined:
    try:
        if decode:
            pixels = read_image(path)
            return f"{pixels.shape} {hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()}"
        # Files of different lengths differ; most need not be read for this.
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() if twin else ""
    except InputError as error:
        return error
    except OSError as error:
        return InputError(f"{path} cannot be read ({error.strerror}); check that you may read it.")


def _without_unreadable(one: DataSet, files: Mapping[Path, _Examined], draft: Draft) -> DataSet:
    kept: list[ImageRecord] = []
    for image in one.images:
        found = files[image.path]
        if isinstance(found, InputError):
            draft.add_error("image-unreadable", found, image.path)
        else:
            kept.append(image)
    return replace(one, images=tuple(kept))


def _count(one: DataSet, draft: Draft) -> Counter[int]:
    """Return the number of objects, images or pixels of each class."""
    counts: Counter[int] = Counter()
    for image in one.images:
        if image.label is not None:
            counts[image.label] += 1
        elif image.label_map is not None:
            labels = count_labels(image.pixels.items(), one.label_table)
            if not labels:
                draft.add("image-empty", "has nothing labeled: every pixel is ignored", file=image.label_map)
            counts += labels
        elif not image.objects:
            draft.add("image-empty", "has nothing labeled", file=image.path)
        counts.update(thing.label for thing in image.objects if not thing.crowd)
    return counts


def _check_set(one: DataSet, counts: Counter[int], draft: Draft) -> None:
    """Name defects of the split as a whole."""
    part = f" of {one.split}" if one.split else ""
    if not one.images:
        draft.add("set-empty", f"has no image{part} that can be used", file=one.source)
        return
    names = {label: name for label, name in enumerate(one.classes) if one.named or counts[label]}
    twice = {name for name in one.classes if one.classes.count(name) > 1}
    for name in sorted(twice) if all(defect.kind != "class-twice" for defect in draft.defects) else ():
        draft.add("class-twice", f"names the class {name} twice", file=one.source)
    first = one.images[0]
    unit = "pixels" if first.label_map else "objects" if first.label is None else "images"
    unused = [name for label, name in names.items() if not counts[label]]
    if unused and len(unused) < len(names):
        text = f"names {len(unused)} classes{part} without {unit}: {listed(unused)}"
        draft.add("class-unused", text, file=one.source)
    elif unused:
        draft.add("set-empty", f"has no {unit}{part} that can be used", file=one.source)
    seen = [(counts[label], name) for label, name in names.items() if counts[label]]
    limit = PIXEL_IMBALANCE if first.label_map else IMBALANCE
    if seen and max(seen)[0] >= limit * min(seen)[0]:
        (most, often), (least, seldom) = max(seen), min(seen)
        text = f"has {most} {unit} of {often} and {least} of {seldom}{part}, {most / least:.0f} to 1"
        draft.add("class-imbalance", text, file=one.source)
    _check_keypoints(one, part, draft)


def _check_keypoints(one: DataSet, part: str, draft: Draft) -> None:
    if not one.keypoints:
        return
    for name in unpaired(one.keypoints) if one.pairs is None else ():
        draft.add("sides-unpaired", f"has {name} and no partner of it", file=one.source)
    labeled = np.zeros(len(one.keypoints), dtype=int)
    for image in one.images:
        for thing in image.objects:
            labeled += 0 if thing.visibility is None else thing.visibility > 0
    unseen = [name for name, count in zip(one.keypoints, labeled, strict=True) if not count]
    if unseen:
        draft.add("keypoint-unseen", f"has no object{part} with {listed(unseen)}", file=one.source)


def _check_between(sets: Sequence[DataSet], digests: Mapping[Path, str], draft: Draft) -> None:
    """Name images that occur more than once, and classes and keypoints that the training split lacks.

    An image without a digest of its content differs from all others.
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
                draft.add("image-contradiction", f"is in {classes} too", file=other.path)
            else:
                draft.add("image-twice", f"is {first.path.name} once more", file=other.path)


def _check_leak(one: DataSet, other: DataSet, digests: Mapping[Path, str], draft: Draft) -> None:
    first = _by_content(one, digests)
    for content, images in _by_content(other, digests).items():
        for image in images if content in first else ():
            path = first[content][0].path
            same = f"is in {one.split} and in {other.split}"
            text = same if path == image.path else f"of {other.split} is {path} of {one.split}"
            draft.add("image-leak", text, file=image.path)


def _check_names(train: DataSet, held_out: DataSet, draft: Draft) -> None:
    if train.format != held_out.format or kind_of(train.split) != kind_of(held_out.split):
        return
    known, found = _labeled(train), _labeled(held_out)
    for name in sorted(found - known):
        if name in train.classes:
            draft.add("class-untrained", f"has {name}, of which {train.split} has none", file=held_out.source)
        else:
            draft.add("class-unknown", f"has the class {name}, which {train.split} does not name", file=held_out.source)
    foreign = [name for name in held_out.keypoints if name not in train.keypoints]
    if foreign:
        draft.add("keypoint-count", f"has the keypoint {foreign[0]}, which {train.split} has not", file=held_out.source)


def _labeled(one: DataSet) -> set[str]:
    """Return the names of the classes that occur; none for label maps."""
    labels = {thing.label for image in one.images for thing in image.objects}
    labels |= {image.label for image in one.images if image.label is not None}
    return {one.classes[label] for label in labels}
