"""`hrnet predict`: pictures in, annotated pictures and JSON out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from hrnet.errors import InputError

if TYPE_CHECKING:
    from hrnet.results import Boxes

# What a pattern or a folder may bring; kept here so that help needs neither torch nor Pillow.
_JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class Predict:
    """Find keypoints in pictures; write each picture annotated, and a JSON file beside it.

    Pictures that cannot be read are named and left out; the exit status is then 1.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """pose, or a path: .safetensors, a run folder, a checkpoint of another HRNet code base (.pth)"""
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
    batch: int = 16
    """objects that go through the network together"""
    flip: bool = False
    """average with the mirrored picture: a little better, half as fast"""
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
    predictor = Predictor(
        load(options.model), runtime=options.runtime, device=options.device, batch=options.batch, flip=options.flip
    )
    start = time.perf_counter()
    for result in predictor(run.pictures(), boxes=find, on_error=run.report_unread):
        run.write(result)
    return run.finish(time.perf_counter() - start)


@dataclass(slots=True)
class _Run:
    """One call: what was done, what failed, which names are taken."""

    options: Predict
    done: int = 0
    failed: int = 0
    taken: set[str] = field(default_factory=set)

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

    def write(self, result: object) -> None:
        from hrnet.atomic import atomic_path, write_text
        from hrnet.results import Poses

        assert isinstance(result, Poses)
        assert isinstance(result.source, Path)
        self.done += 1
        content = {"file": str(result.source), **result.to_dict()}
        if self.options.json:
            print(json.dumps(content), flush=True)
            return
        suffix = ".png" if result.source.suffix.lower() == ".png" else ".jpg"
        picture = self._free_name(result.source.stem, suffix)
        with atomic_path(picture) as temporary:
            form = "PNG" if suffix == ".png" else "JPEG"
            quality = {} if form == "PNG" else {"quality": _JPEG_QUALITY}
            result.plot(self.options.threshold).save(temporary, format=form, **quality)
        write_text(picture.with_suffix(".json"), json.dumps(content) + "\n")
        print(f"{picture}  {_summary(result, self.options.threshold)}")

    def _free_name(self, stem: str, suffix: str) -> Path:
        """A name of which neither the picture nor the JSON exists or was given out."""
        number = 1
        while True:
            name = stem if number == 1 else f"{stem}-{number}"
            path = self.options.out / f"{name}{suffix}"
            if name not in self.taken and not path.exists() and not path.with_suffix(".json").exists():
                self.taken.add(name)
                return path
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


def _summary(result: object, threshold: float) -> str:
    from hrnet.results import Poses

    assert isinstance(result, Poses)
    people = len(result)
    if not people:
        return "nothing found"
    visible = int((result.keypoint_scores >= threshold).sum())
    noun = "pose" if people == 1 else "poses"
    return (
        f"{people} {noun}, {visible} of {result.keypoint_scores.size} keypoints, best score {result.scores.max():.2f}"
    )
