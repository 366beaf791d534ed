"""`hrnet data`: check a data set or draw its labels, before training on it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from hrnet.errors import InputError

if TYPE_CHECKING:
    from hrnet.formats.check import Report
    from hrnet.formats.records import Defect

USAGE = """usage: hrnet data check PATH [--images DIR] [--val PATH] [--decode] [--all] [--json]
       hrnet data show PATH --out DIR [--images DIR] [--count N]

check names all defects of a data set; its exit status is 1 if one of them is fatal.
show writes contact sheets with the labels drawn.

PATH is a data set of any format, which is recognized: COCO, Pascal VOC, YOLO, DeepLabCut, MPII, label maps, class
folders, Cityscapes, LIP, PASCAL-Context, COCO-Stuff 10k or ADE20K.
hrnet data check --help and hrnet data show --help list the options."""
_EXAMPLES = 3
_JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Check:
    """Name all defects of a data set: entries that cannot be used, likely mistakes, facts good to know.

    Every image's header and end are read, which finds missing, damaged and truncated files; label maps are decoded.
    """

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """file or folder of any known format"""
    images: Path | None = None
    """folder of the images, where it is not the place that the format defines"""
    format: str | None = None
    """format of the data set, where it fits several: coco, yolo, voc, label-maps ..."""
    val: Path | None = None
    """data set to validate on; images and classes are compared"""
    decode: bool = False
    """decode every image, which finds damage in the middle and equal pixels in different files"""
    all: bool = False
    """print every defect, not a few of each kind"""
    json: bool = False
    """print one JSON object per line instead"""


@dataclass(frozen=True, slots=True)
class Show:
    """Write contact sheets of a data set with boxes, outlines, keypoints and classes drawn."""

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """file or folder of any known format"""
    out: Path
    """folder for the sheets; nothing in it is overwritten"""
    images: Path | None = None
    """folder of the images, where it is not the place that the format defines"""
    format: str | None = None
    """format of the data set, where it fits several: coco, yolo, voc, label-maps ..."""
    count: int = 24
    """number of images per split, evenly spaced"""
    columns: int = 6
    """images per row"""
    cell: int = 260
    """pixels of an image's longer side"""


def main(arguments: list[str]) -> int:
    verb, *rest = arguments
    if verb == "check":
        return _check(tyro.cli(Check, args=rest, prog="hrnet data check"))
    if verb == "show":
        return _show(tyro.cli(Show, args=rest, prog="hrnet data show"))
    raise InputError(f"unknown command {verb!r}; choose check or show.")


def _check(options: Check) -> int:
    from hrnet.engine.progress import Progress
    from hrnet.formats.check import check

    bars: list[Progress] = []
    with ExitStack() as stack:

        def advance(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(Progress("check", total, "images", quiet=options.json)))
            bars[0].advance(done - bars[0].done)

        report = check(
            options.path,
            options.images,
            options.val,
            decode=options.decode,
            data_format=options.format,
            progress=advance,
        )
    for line in map(_json_line, report.defects) if options.json else _lines(report, options.all):
        print(line)
    return 1 if report.fatal else 0


def _json_line(defect: Defect) -> str:
    names = ("severity", "kind", "text", "file", "place", "cure")
    return json.dumps({name: getattr(defect, name) for name in names}, default=str)


def _lines(report: Report, everything: bool) -> Iterator[str]:
    from hrnet.formats.defects import KINDS
    from hrnet.formats.splits import count_of, describe

    for data in report.sets:
        yield describe(data)
    groups: dict[str, list[Defect]] = {}
    for defect in report.defects:
        groups.setdefault(defect.kind, []).append(defect)
    for kind, defects in groups.items():
        yield f"\n{defects[0].severity}: {KINDS[kind].title} ({kind}, {len(defects)})"
        shown = defects if everything else defects[:_EXAMPLES]
        yield from (f"  {defect}" for defect in shown)
        if len(shown) < len(defects):
            yield f"  and {len(defects) - len(shown)} more; --all prints them"
        yield f"  cure: {KINDS[kind].cure}"
    yield ""
    # In the order of the defects: fatal ones, warnings, notes.
    counts = Counter(defect.severity for defect in report.defects).items()
    yield ", ".join(f"{n} fatal" if name == "fatal" else count_of(n, name) for name, n in counts) or "no defects"


def _show(options: Show) -> int:
    from hrnet.formats.registry import read
    from hrnet.io.atomic import atomic_path
    from hrnet.vis.sheet import contact_sheet

    if min(options.count, options.columns) < 1 or not 16 <= options.cell <= 2000:
        raise InputError("--count and --columns are at least 1, --cell is 16 to 2000; correct them.")
    written = 0
    for data in read(options.path, options.images, None, options.format):
        if not data.images:
            print(f"hrnet data show: {data.source} {data.split} has no image that can be shown", file=sys.stderr)
            continue
        step = max(len(data.images) / options.count, 1)
        chosen = [data.images[int(number * step)] for number in range(min(options.count, len(data.images)))]
        sheet = contact_sheet(data, chosen, min(options.columns, len(chosen)), options.cell)
        path = _free_name(options.out, f"{data.format}-{data.split}" if data.split else data.format)
        with atomic_path(path) as temporary:
            sheet.save(temporary, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)  # thin lines keep their color
        print(f"{path}  {len(chosen)} of {len(data.images)} images")
        written += 1
    return 0 if written else 1


def _free_name(folder: Path, stem: str) -> Path:
    """Return a path that no file has: STEM.jpg, STEM-2.jpg ..."""
    names = chain([stem], (f"{stem}-{number}" for number in count(2)))
    return next(path for name in names if not (path := folder / f"{name}.jpg").exists())
