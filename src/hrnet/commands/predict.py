"""`hrnet predict`: pictures in, annotated pictures and JSON out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from hrnet.errors import InputError

if TYPE_CHECKING:
    import PIL.Image

    from hrnet.results import Boxes, Classification, Poses, SemanticMap
    from hrnet.segmentation.windows import Protocol
    from hrnet.task import TaskModel

# What a pattern or a folder may bring; kept here so that help needs neither torch nor Pillow.
_JPEG_QUALITY = 92
# What the stored labels of a picture are called: its name and this.
_LABELS = ".labels.png"
# Classes that a line about a picture names.
_NAMED = 4
# JPEG stores no longer side.
_JPEG_SIDE = 65_500


@dataclass(frozen=True, slots=True)
class Predict:
    """Write each picture with what a model finds in it drawn, and a JSON file beside it.

    Of a segmentation model also NAME.labels.png, which stores the class of every pixel as a palette index. Pictures that
    cannot be read are named and left out; the exit status is then 1.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """pose, segmentation, or a path: .safetensors, a run folder, a checkpoint of another HRNet code base (.pth)"""
    source: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE...")]
    """pictures, folders, patterns; - reads paths from standard input"""
    out: Path = Path("predictions")
    """folder to write to; nothing in it is overwritten"""
    boxes: Path | None = None
    """where to look: {"photo.jpg": [[x, y, width, height, score], ...]} or a COCO detection file; without it,
    or with the word whole, each picture is one object"""
    runtime: Literal["auto", "torch", "openvino"] = "auto"
    """auto: torch on a GPU, else OpenVINO"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 ..."""
    batch: int | None = None
    """inputs that go through the network together; without it as many as hold two million pixels, at most 16"""
    flip: bool = False
    """average with the mirrored picture: a little better, half as fast"""
    windows: bool = False
    """segmentation: overlapping windows of the picture at its own scale, not the whole picture fitted into the input;
    for pictures much larger than those of the training"""
    scales: tuple[float, ...] = (1.0,)
    """segmentation: look at the picture in each of these sizes and average"""
    threshold: float = 0.3
    """keypoints with a lower score are not drawn"""
    json: bool = False
    """print one JSON object a line instead, and write nothing"""


def main(arguments: list[str]) -> int:
    options = tyro.cli(Predict, args=arguments, prog="hrnet predict")
    from hrnet.predictor import Predictor
    from hrnet.zoo import load

    run = _Run(options)
    find = None
    if options.boxes is not None and str(options.boxes) != "whole":
        find = run.boxes(options.boxes)
    model = load(options.model)
    predictor = Predictor(
        model,
        runtime=options.runtime,
        device=options.device,
        batch=options.batch,
        flip=options.flip,
        protocol=_protocol(options, model),
    )
    start = time.perf_counter()
    for result in predictor(run.pictures(), boxes=find, on_error=run.report_unread):
        run.write(result)
        del result  # not held while the next picture is looked at
    return run.finish(time.perf_counter() - start)


def _protocol(options: Predict, model: TaskModel[Any]) -> Protocol | None:
    """How a segmentation model is to look at pictures; None for the whole picture at once."""
    from hrnet.segmentation.model import SegmentationModel
    from hrnet.segmentation.windows import Protocol

    if not options.windows and options.scales == (1.0,):
        return None
    if not isinstance(model, SegmentationModel):
        raise InputError(f"--windows and --scales are for segmentation models, which {options.model} is not.")
    windows = "sliding" if options.windows else "whole"
    try:
        return Protocol(options.scales, options.flip, windows, native=options.windows)
    except ValueError as error:
        raise InputError(f"{error} Mend --scales.") from None


@dataclass(slots=True)
class _Run:
    """One call: what was done, what failed."""

    options: Predict
    done: int = 0
    failed: int = 0

    def pictures(self) -> Iterator[Path]:
        """Every picture that the sources name, once."""
        from hrnet.images import find_images

        names = self.options.source
        sources = (line.strip() for line in sys.stdin) if names == ("-",) else iter(names)
        seen: set[Path] = set()
        for source in sources:
            if not source:
                continue
            try:
                found = find_images(source)
            except InputError as error:
                self.report(str(error))
                continue
            for path in found:
                if path.resolve() not in seen:
                    seen.add(path.resolve())
                    yield path

    def boxes(self, path: Path) -> Callable[[object], Boxes | None]:
        """Where to look in a picture, from a file; a picture that it does not have is one object."""
        from hrnet.pose.boxes import box_key, read_boxes

        table, problems = read_boxes(path)
        for problem in problems:
            self.report(problem)

        def find(picture: object) -> Boxes | None:
            key = box_key(picture, table) if isinstance(picture, Path) else None
            if key is None:
                print(f"hrnet predict: {path} has no boxes for {picture}; it is taken as one object.", file=sys.stderr)
                return None
            return table[key]

        return find

    def report(self, message: str) -> None:
        self.failed += 1
        print(f"hrnet predict: {message}", file=sys.stderr)

    def report_unread(self, _: object, error: InputError) -> None:
        self.report(str(error))

    def write(self, result: Poses | SemanticMap | Classification) -> None:
        from hrnet.atomic import write_text
        from hrnet.results import Poses, SemanticMap

        assert isinstance(result.source, Path)
        self.done += 1
        content: dict[str, Any] = {"file": str(result.source)}
        if self.options.json:
            print(json.dumps(content | result.to_dict()), flush=True)
            return
        drawing = result.plot(self.options.threshold) if isinstance(result, Poses) else result.plot()
        suffix = ".png" if result.source.suffix.lower() == ".png" or max(drawing.size) > _JPEG_SIDE else ".jpg"
        name = self._free_name(result.source.stem, suffix)
        picture = self.options.out / f"{name}{suffix}"
        _save(drawing, picture)
        del drawing
        if isinstance(result, SemanticMap):
            labels = self.options.out / f"{name}{_LABELS}"
            _save(result.to_image(), labels)
            # The map itself is in the picture of its labels.
            content |= result.to_dict(runs=False) | {"labels": labels.name}
        else:
            content |= result.to_dict()
        write_text(self.options.out / f"{name}.json", json.dumps(content) + "\n")
        print(f"{picture}  {_summary(result, self.options.threshold)}")

    def _free_name(self, stem: str, suffix: str) -> str:
        """A name with which no file of those that may be written exists."""
        number = 1
        while True:
            name = stem if number == 1 else f"{stem}-{number}"
            paths = [self.options.out / f"{name}{end}" for end in (suffix, ".json", _LABELS)]
            if not any(path.exists() for path in paths):
                return name
            number += 1

    def finish(self, seconds: float) -> int:
        if not self.done and not self.failed:
            print("hrnet predict: no picture was named", file=sys.stderr)
            return 1
        if self.done and not self.options.json:
            rate = self.done / max(seconds, 1e-9)
            print(
                f"{self.done} pictures in {seconds:.1f} s ({rate:.1f} a second)"
                if self.done > 1
                else f"{seconds:.1f} s"
            )
        if self.failed:
            print(f"hrnet predict: {self.failed} inputs could not be used", file=sys.stderr)
        return 1 if self.failed else 0


def _save(picture: PIL.Image.Image, path: Path) -> None:
    from hrnet.atomic import atomic_path

    with atomic_path(path) as temporary:
        form = "PNG" if path.suffix == ".png" else "JPEG"
        quality = {} if form == "PNG" else {"quality": _JPEG_QUALITY}
        picture.save(temporary, format=form, **quality)


def _summary(result: Poses | SemanticMap | Classification, threshold: float) -> str:
    from hrnet.results import Classification, SemanticMap

    if isinstance(result, Classification):
        return f"{result.name} {result.scores[result.label]:.2f}"
    if isinstance(result, SemanticMap):
        shares = result.shares()
        order = sorted(range(len(shares)), key=lambda label: -shares[label])[:_NAMED]
        return ", ".join(f"{result.names[label]} {100 * shares[label]:.1f} %" for label in order if shares[label] > 0)
    people = len(result)
    if not people:
        return "nothing found"
    visible = int((result.keypoint_scores >= threshold).sum())
    noun = "pose" if people == 1 else "poses"
    return (
        f"{people} {noun}, {visible} of {result.keypoint_scores.size} keypoints, best score {result.scores.max():.2f}"
    )
