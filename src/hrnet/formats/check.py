"""Checking a data set for all defects before training."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hrnet.errors import InputError
from hrnet.formats.compare import check_between
from hrnet.formats.defects import Draft
from hrnet.formats.label_maps import count_labels
from hrnet.formats.records import DataSet, Defect
from hrnet.formats.registry import read, recognize
from hrnet.formats.sides import unpaired
from hrnet.formats.splits import listed
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
        """Return whether any defect is fatal."""
        return any(defect.severity == "fatal" for defect in self.defects)


def check(
    path: Path,
    images: Path | None = None,
    val: Path | None = None,
    *,
    decode: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Read a data set of any format and check all its images.

    Args:
        path: file or folder.
        images: folder of the images, where it is not the place that the format defines.
        val: another data set, to validate on.
        decode: whether every image is decoded, and pixels instead of bytes are compared across splits.
        progress: function that gets the number of checked images, and of all.

    Raises:
        InputError: a path is of no known format.
    """
    defects: list[Defect] = []
    sets = _read(path, images, defects)
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
    check_between(sets, {path: file.digest for path, file in files.items() if file.digest}, draft)
    order = {"fatal": 0, "warning": 1, "note": 2}
    found = dict.fromkeys([*defects, *draft.defects])
    return Report(tuple(checked), tuple(sorted(found, key=lambda defect: (order[defect.severity], defect.kind))))


def _read(path: Path, images: Path | None, defects: list[Defect]) -> list[DataSet]:
    recognize(path, images)
    draft = Draft(path)
    try:
        return list(read(path, images))
    except InputError as error:
        draft.repeat("file-malformed", error, path)
        defects += draft.defects
        return []


@dataclass(frozen=True, slots=True)
class _File:
    """An image file: the error of reading it, and a digest of its content."""

    error: InputError | None = None
    digest: str = ""


def _examine(sets: Sequence[DataSet], decode: bool, progress: Callable[[int, int], None]) -> dict[Path, _File]:
    """Read every image once."""
    images = list(dict.fromkeys(image.path for one in sets for image in one.images))
    sizes = Counter(path.stat().st_size for path in images)
    found: dict[Path, _File] = {}

    def examine(path: Path) -> _File:
        return _examine_file(path, decode, sizes[path.stat().st_size] > 1)

    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
        for path, result in zip(images, pool.map(examine, images), strict=True):
            found[path] = result
            progress(len(found), len(images))
    return found


def _examine_file(path: Path, decode: bool, twin: bool) -> _File:
    try:
        if decode:
            pixels = read_image(path)
            return _File(digest=f"{pixels.shape} {hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()}")
        # Files of different lengths differ; most need not be read for this.
        digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() if twin else ""
    except InputError as error:
        return _File(error)
    except OSError as error:
        return _File(InputError(f"{path} cannot be read ({error.strerror}); check that you may read it."))
    return _File(digest=digest)


def _without_unreadable(one: DataSet, files: dict[Path, _File], draft: Draft) -> DataSet:
    for image in one.images:
        error = files[image.path].error
        if error is not None:
            draft.repeat("image-unreadable", error, image.path)
    return replace(one, images=tuple(image for image in one.images if files[image.path].error is None))


def _count(one: DataSet, draft: Draft) -> Counter[int]:
    """Return the number of objects, images or pixels of each class."""
    counts: Counter[int] = Counter()
    for image in one.images:
        if image.label is not None:
            counts[image.label] += 1
        elif image.label_map is not None:
            labels = count_labels(image.pixels.items(), one.label_table)
            if not labels:
                draft.say("image-empty", "has nothing labeled: every pixel is ignored", file=image.label_map)
            counts += labels
        elif not image.objects:
            draft.say("image-empty", "has nothing labeled", file=image.path)
        counts.update(thing.label for thing in image.objects if not thing.crowd)
    return counts


def _check_set(one: DataSet, counts: Counter[int], draft: Draft) -> None:
    """Name defects of the split as a whole."""
    part = f" of {one.split}" if one.split else ""
    if not one.images:
        draft.say("set-empty", f"has no image{part} that can be used", file=one.source)
        return
    names = {label: name for label, name in enumerate(one.classes) if one.named or counts[label]}
    twice = {name for name in one.classes if one.classes.count(name) > 1}
    for name in sorted(twice) if all(defect.kind != "class-twice" for defect in draft.defects) else ():
        draft.say("class-twice", f"names the class {name} twice", file=one.source)
    first = one.images[0]
    unit = "pixels" if first.label_map else "objects" if first.label is None else "images"
    unused = [name for label, name in names.items() if not counts[label]]
    if unused and len(unused) < len(names):
        draft.say(
            "class-unused", f"names {len(unused)} classes{part} without {unit}: {listed(unused)}", file=one.source
        )
    elif unused:
        draft.say("set-empty", f"has no {unit}{part} that can be used", file=one.source)
    seen = [(counts[label], name) for label, name in names.items() if counts[label]]
    limit = PIXEL_IMBALANCE if first.label_map else IMBALANCE
    if seen and max(seen)[0] >= limit * min(seen)[0]:
        (most, often), (least, seldom) = max(seen), min(seen)
        text = f"has {most} {unit} of {often} and {least} of {seldom}{part}, {most / least:.0f} to 1"
        draft.say("class-imbalance", text, file=one.source)
    _check_keypoints(one, part, draft)


def _check_keypoints(one: DataSet, part: str, draft: Draft) -> None:
    if not one.keypoints:
        return
    for name in unpaired(one.keypoints) if one.pairs is None else ():
        draft.say("sides-unpaired", f"has {name} and no partner of it", file=one.source)
    labeled = np.zeros(len(one.keypoints), dtype=int)
    for image in one.images:
        for thing in image.objects:
            labeled += 0 if thing.visibility is None else thing.visibility > 0
    unseen = [name for name, count in zip(one.keypoints, labeled, strict=True) if not count]
    if unseen:
        draft.say("keypoint-unseen", f"has no object{part} with {listed(unseen)}", file=one.source)
