"""Looking for all that is wrong with a data set before anything is trained on it."""

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
from hrnet.formats.masks import IGNORE, count_values
from hrnet.formats.recognize import read, recognize
from hrnet.formats.records import DataSet, Defect
from hrnet.formats.sides import unpaired
from hrnet.io.images import looks_whole, read_image, read_indices

# How much more often one class occurs than another before it is worth a note.
IMBALANCE, PIXEL_IMBALANCE = 20, 200


@dataclass(frozen=True, slots=True)
class Report:
    """What was found: the sets, and every defect once, the worst first."""

    sets: tuple[DataSet, ...]
    defects: tuple[Defect, ...]

    @property
    def fatal(self) -> bool:
        """Whether any defect is fatal."""
        return any(defect.severity == "fatal" for defect in self.defects)


def check(
    path: Path,
    images: Path | None = None,
    val: Path | None = None,
    *,
    decode: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Read a data set of any format and look at all its images.

    Args:
        path: a file or folder.
        images: the folder of the images, where they are not where the format has them.
        val: another one, to be validated on.
        decode: decode every image, and compare pixels across sets, not bytes. Otherwise only those that do not end as a
            whole file does; label images always.
        progress: is told how many images are done, of how many.

    Raises:
        InputError: a path is of no known format.
    """
    defects: list[Defect] = []
    sets = _read(path, images, defects)
    if val is not None:
        others = _read(val, images if recognize(val) != "coco" else None, defects)
        # What is compared is what the caller calls training and validation, whatever the files call it.
        sets = [replace(one, part="train") for one in sets[:1]] + sets[1:] if len(sets) == 1 else sets
        sets += [replace(one, part="val") if len(others) == 1 else one for one in others]
    files = _examine(sets, decode, progress)
    for one in sets:
        draft = Draft(one.source)
        draft.defects += one.defects
        counts = _count(one, files, draft)
        _check_set(one, counts, draft)
        defects += draft.defects
    draft = Draft(path)
    check_between(sets, {path: file.digest for path, file in files.items() if file.digest}, draft)
    order = {"fatal": 0, "warning": 1, "note": 2}
    found = dict.fromkeys([*defects, *draft.defects])
    return Report(tuple(sets), tuple(sorted(found, key=lambda defect: (order[defect.severity], defect.kind))))


def _read(path: Path, images: Path | None, defects: list[Defect]) -> list[DataSet]:
    recognize(path)
    draft = Draft(path)
    try:
        return list(read(path, images))
    except InputError as error:
        draft.repeat("file-malformed", error, path)
        defects += draft.defects
        return []


@dataclass(frozen=True, slots=True)
class _File:
    """What looking at one file gave: why it cannot be read, what tells it from others, pixels of each label."""

    error: InputError | None = None
    digest: str = ""
    labels: Counter[int] | None = None


def _examine(sets: Sequence[DataSet], decode: bool, progress: Callable[[int, int], None]) -> dict[Path, _File]:
    """Every image and every label image, once."""
    images = list(dict.fromkeys(image.path for one in sets for image in one.images))
    maps = {image.label_map for one in sets for image in one.images if image.label_map}
    sizes = Counter(path.stat().st_size for path in images)
    found: dict[Path, _File] = {}

    def look(path: Path) -> _File:
        if path in maps:
            return _look_at_labels(path)
        return _look(path, decode, sizes[path.stat().st_size] > 1)

    work = [*images, *sorted(maps)]
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
        for path, result in zip(work, pool.map(look, work), strict=True):
            found[path] = result
            progress(len(found), len(work))
    return found


def _look(path: Path, decode: bool, twin: bool) -> _File:
    """One image: decoded where asked for or where its end is not that of a whole file."""
    try:
        if decode or not looks_whole(path):
            pixels = read_image(path)
            if decode:
                return _File(digest=f"{pixels.shape} {hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()}")
        # Files of different lengths differ; most need not be read for this.
        digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() if twin else ""
    except InputError as error:
        return _File(error)
    except OSError as error:
        return _File(InputError(f"{path} cannot be read ({error.strerror}); check that you may read it."))
    return _File(digest=digest)


def _look_at_labels(path: Path) -> _File:
    try:
        return _File(labels=count_values(read_indices(path)))
    except InputError as error:
        return _File(error)


def _count(one: DataSet, files: dict[Path, _File], draft: Draft) -> Counter[int]:
    """How often each class is labeled: objects, images or pixels; what cannot be read is reported on the way."""
    counts: Counter[int] = Counter()
    for image in one.images:
        error = files[image.path].error
        if error is not None:
            draft.repeat("image-unreadable", error, image.path)
        if image.label is not None:
            counts[image.label] += 1
        elif image.label_map is not None:
            counts += _label_counts(image.label_map, files[image.label_map], one, draft)
        elif not image.objects:
            draft.say("image-empty", "has nothing labeled", file=image.path)
        counts.update(thing.label for thing in image.objects if not thing.crowd)
    return counts


def _label_counts(path: Path, file: _File, one: DataSet, draft: Draft) -> Counter[int]:
    if file.error is not None or file.labels is None:
        draft.repeat("label-unreadable", file.error or InputError("cannot be read"), path)
        return Counter()
    known = {value: count for value, count in file.labels.items() if value != IGNORE}
    limit = len(one.classes) or IGNORE
    strange = sorted(value for value in known if not 0 <= value < limit)
    if strange:
        text = (
            f"has the value {strange[0]} in {known[strange[0]]} pixels, expected 0 to {limit - 1} or {IGNORE} to ignore"
        )
        draft.say("class-unknown", text, file=path)
    if not known:
        draft.say("image-empty", "has nothing labeled: every pixel is to be ignored", file=path)
    return Counter({value: count for value, count in known.items() if value not in strange})


def _check_set(one: DataSet, counts: Counter[int], draft: Draft) -> None:
    """What only shows in the set as a whole."""
    part = f" of {one.part}" if one.part else ""
    if not one.images:
        draft.say("set-empty", f"has no image{part} that can be used", file=one.source)
        return
    if one.format == "masks" and not one.classes:
        names = {value: str(value) for value in counts}
    else:
        names = dict(enumerate(one.classes))
    unit = {"masks": "pixels", "folders": "images"}.get(one.format, "objects")
    unused = [name for label, name in names.items() if not counts[label]]
    if unused and len(unused) < len(names):
        draft.say("class-unused", f"names {len(unused)} classes{part} without {unit}: {_some(unused)}", file=one.source)
    elif unused:
        draft.say("set-empty", f"has no {unit}{part} that can be used", file=one.source)
    seen = [(counts[label], name) for label, name in names.items() if counts[label]]
    limit = PIXEL_IMBALANCE if one.format == "masks" else IMBALANCE
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
        draft.say("keypoint-unseen", f"has no object{part} with {_some(unseen)}", file=one.source)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
