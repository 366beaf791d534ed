"""`hrnet predict`: write annotated images and JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, make_dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from hrnet.errors import InputError

if TYPE_CHECKING:
    import PIL.Image

    from hrnet.inference.prediction import PredictionOptions
    from hrnet.predictor import Seconds
    from hrnet.results import Result

USAGE = """usage: hrnet predict MODEL SOURCE... [--out DIR] [--json] [--runtime NAME] [--device NAME] [--batch N] ...

Write each image with the model's results drawn on it, and a JSON file beside it.

MODEL is a name that `hrnet models` lists, or a path: .safetensors, a run folder, a checkpoint of another code base (.pth).
SOURCE is an image, a folder, a pattern, or - for paths on standard input. Images that cannot be read are named and
skipped; the exit status is then 1.
hrnet predict MODEL --help lists the options of that model's task."""
_JPEG_QUALITY = 92
# Longest side of a JPEG file.
_JPEG_SIDE = 65_500


def main(arguments: list[str]) -> int:
    from hrnet.io.zoo import load
    from hrnet.predictor import Predictor
    from hrnet.tasks import task_of

    name = arguments[0]
    model = load(name)
    task = task_of(model.spec)
    if task.prediction is None:
        raise InputError(
            f"{name} is a backbone without a head, which predicts nothing; train one with `hrnet train RECIPE --init {name}`."
        )
    options = _parse(name, task.prediction(), arguments[1:])
    run = _Run(options, options.source)
    options.check(name, model)
    predictor = Predictor(
        model, runtime=options.runtime, device=options.device, batch=options.batch, **options.settings(model)
    )
    start = time.perf_counter()
    results = predictor(run.images(), boxes=options.find_boxes(run.report), on_error=lambda _, error: run.report(error))
    for result in results:
        run.write(result)
        del result  # not held while the next image is read
    return run.finish(time.perf_counter() - start, predictor.seconds)


def _parse(name: str, kind: type[PredictionOptions[Any]], arguments: list[str]) -> Any:
    """Return the options of the model's task, and the sources as `source`."""
    help_text = "images, folders, patterns; - reads paths from standard input"
    about = tyro.conf.arg(metavar="SOURCE...", help=help_text, help_behavior_hint="(required)")
    source = tyro.conf.Positional[Annotated[tuple[str, ...], about]]
    combined = make_dataclass("Predict", [("source", source, field(default=()))], bases=(kind,), frozen=True)
    combined.__doc__ = kind.__doc__
    options: Any = tyro.cli(combined, args=arguments, prog=f"hrnet predict {name}")
    if not options.source:
        print("hrnet predict: no image is named; name files, folders or patterns after the model", file=sys.stderr)
        raise SystemExit(2)
    return options


@dataclass(slots=True)
class _Run:
    """One call: options, sources, and counts of results and failures."""

    options: PredictionOptions[Any]
    sources: tuple[str, ...]
    done: int = 0
    failed: int = 0
    num_objects: int = 0
    drawing: float = 0.0
    entries: list[dict[str, Any]] = field(default_factory=list)

    def images(self) -> Iterator[Path]:
        """Yield every image that the sources name, once."""
        from hrnet.io.images import find_images

        lines = (line.strip() for line in sys.stdin)
        seen: set[Path] = set()
        for source in chain.from_iterable(lines if name == "-" else (name,) for name in self.sources):
            try:
                found = find_images(source) if source else []
            except InputError as error:
                self.report(error)
                continue
            for path in found:
                if path.resolve() not in seen:
                    seen.add(path.resolve())
                    yield path

    def report(self, message: object) -> None:
        """Count and print something that cannot be used."""
        self.failed += 1
        print(f"hrnet predict: {message}", file=sys.stderr)

    def write(self, result: Result) -> None:
        assert isinstance(result.source, Path)
        self.done += 1
        self.entries += self.options.entries(result, self.done)
        result = self.options.select(result)
        self.num_objects += result.count()
        content: dict[str, Any] = {"file": str(result.source)}
        if self.options.json:
            print(json.dumps(content | result.to_dict()), flush=True)
            return
        path = self._write_files(result, content)
        print(f"{path}  {result.summary(self.options.drawing_threshold())}")

    def _write_files(self, result: Result, content: dict[str, Any]) -> Path:
        from hrnet.io.atomic import write_text

        assert isinstance(result.source, Path)
        start = time.perf_counter()
        drawing, attachments = result.plot(self.options.drawing_threshold()), result.attachments()
        suffix = ".png" if result.source.suffix.lower() == ".png" or max(drawing.size) > _JPEG_SIDE else ".jpg"
        with self._free_name(result.source.stem, [suffix, ".json", *attachments]) as name:
            path = self.options.out / f"{name}{suffix}"
            _save(drawing, path)
            self.drawing += time.perf_counter() - start
            for end, image in attachments.items():
                _save(image, self.options.out / f"{name}{end}")
                content[end.split(".")[1]] = f"{name}{end}"
            content |= result.to_file_dict()
            write_text(self.options.out / f"{name}.json", json.dumps(content) + "\n")
        return path

    @contextmanager
    def _free_name(self, stem: str, ends: list[str]) -> Iterator[str]:
        """Yield a name with which no file of these endings exists, and which no other run takes meanwhile."""
        folder = self.options.out
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be written to ({error.strerror}); choose another --out.") from None
        for number in count(1):
            name = stem if number == 1 else f"{stem}-{number}"
            claim = folder / f".{name}.partial"
            try:
                claim.touch(exist_ok=False)
            except FileExistsError:
                continue
            try:
                if not any((folder / f"{name}{end}").exists() for end in ends):
                    yield name
                    return
            finally:
                claim.unlink(missing_ok=True)

    def finish(self, seconds: float, parts: Seconds) -> int:
        """Write the file of all results, print the durations, and return the exit status."""
        from hrnet.formats.splits import count_of

        if not self.done and not self.failed:
            print("hrnet predict: no image was named", file=sys.stderr)
            return 1
        self.options.write_entries(self.entries)
        if self.done == 1 and not self.options.json:
            print(f"{seconds:.1f} s")
        elif self.done and not self.options.json:
            objects = f", {self.num_objects} objects ({self.num_objects / seconds:.1f} per second)"
            print(
                f"{self.done} images in {seconds:.1f} s ({self.done / seconds:.1f} per second)"
                f"{objects if self.num_objects else ''}"
            )
            spent = {name: getattr(parts, name) for name in ("detect", "crop", "network", "decode")}
            spent["draw"] = self.drawing
            text = ", ".join(f"{name} {duration:.1f}" for name, duration in spent.items() if duration)
            print(f"seconds: {text}; read {parts.read:.1f}, in parallel")
        if self.failed:
            print(f"hrnet predict: {count_of(self.failed, 'input')} could not be used", file=sys.stderr)
        return 1 if self.failed else 0


def _save(image: PIL.Image.Image, path: Path) -> None:
    from hrnet.io.atomic import atomic_path

    with atomic_path(path) as temporary:
        if path.suffix == ".png":
            image.save(temporary, format="PNG")
        else:
            image.save(temporary, format="JPEG", quality=_JPEG_QUALITY)
