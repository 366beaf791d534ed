"""`hrnet predict`: images in, annotated images and JSON out."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from hrnet.errors import InputError

if TYPE_CHECKING:
    import PIL.Image

    from hrnet.inference.processor import BoxPrompts
    from hrnet.nn.task import TaskModel
    from hrnet.predictor import Seconds
    from hrnet.results import Classification, Detections, Poses, SemanticMap
    from hrnet.segmentation.windows import InferenceMode

    Result = Poses | SemanticMap | Detections | Classification

# What a pattern or a folder may bring; kept here so that help needs neither torch nor Pillow.
_JPEG_QUALITY = 92
# What the stored labels of an image are called: its name and this.
_LABELS = ".labels.png"
# Classes that a line about an image names, and that an error lists.
_NAMED, _LISTED = 4, 100
# Classes that a line about a whole image names, as many as its JSON.
_TOP = 5
# The model that finds people if nobody says otherwise.
_DETECTOR = "detection"
# JPEG stores no longer side.
_JPEG_SIDE = 65_500


@dataclass(frozen=True, slots=True)
class Predict:
    """Write each image with what a model finds in it drawn, and a JSON file beside it.

    A pose model looks into boxes: those of a detector that finds people, or of a file. Of a segmentation model there is
    also NAME.labels.png, which stores the class of every pixel as a palette index. Images that cannot be read are named
    and left out; the exit status is then 1.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """a name that `hrnet models` lists, or a path: .safetensors, a run folder, a checkpoint of another code base (.pth)"""
    source: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE...")]
    """images, folders, patterns; - reads paths from standard input"""
    out: Path = Path("predictions")
    """folder to write to; nothing in it is overwritten"""
    boxes: str | None = None
    """pose: where to look. A detection model by name or path, which finds the people; a .json:
    {"photo.jpg": [[x, y, width, height, score], ...]} or a COCO detection file; or the word whole: each image is one
    object. Without it the detection model inside, where there is one and the model knows people, else whole"""
    runtime: Literal["auto", "torch", "openvino"] = "auto"
    """auto: torch on a GPU, else OpenVINO"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 ..."""
    batch: int | None = None
    """inputs that go through the network together; without it as many as hold two million pixels, at most 16"""
    flip: bool = False
    """average with the mirrored image: a little better, half as fast"""
    windows: bool = False
    """segmentation: overlapping windows of the image at its own scale, not the whole image fitted into the input;
    for images much larger than those of the training"""
    scales: tuple[float, ...] = (1.0,)
    """segmentation: look at the image in each of these sizes and average"""
    threshold: float = 0.3
    """keypoints with a lower score are not drawn"""
    score: float = 0.3
    """objects of which a detection model is less sure are left out, also where it finds the people of a pose model"""
    classes: tuple[str, ...] = ()
    """detection: only objects of these classes"""
    coco_results: Path | None = None
    """detection: write all that is found, however unsure, here as a COCO results file, which --boxes of a pose model reads.
    The number of an image is the one that its name ends in"""
    json: bool = False
    """print one JSON object a line instead, and write nothing"""

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError("no image is named; name files, folders or patterns")
        if self.batch is not None and self.batch < 1:
            raise ValueError("--batch is at least 1")


def main(arguments: list[str]) -> int:
    options = tyro.cli(Predict, args=arguments, prog="hrnet predict")
    from hrnet.io.atomic import check_free
    from hrnet.io.zoo import load
    from hrnet.predictor import Predictor

    if options.coco_results:
        check_free(options.coco_results)
    run = _Run(options)
    model = load(options.model)
    run.check(model)
    find, detector = _where(run, model)
    predictor = Predictor(
        model,
        runtime=options.runtime,
        device=options.device,
        batch=options.batch,
        flip=options.flip,
        protocol=_protocol(options, model),
        detector=detector,
        detector_score=options.score,
    )
    start = time.perf_counter()
    for result in predictor(run.images(), boxes=find, on_error=run.report_unread):
        run.write(result)
        del result  # not held while the next image is looked at
    return run.finish(time.perf_counter() - start, predictor.seconds)


def _where(
    run: _Run, model: TaskModel[Any, Any]
) -> tuple[Callable[[object], BoxPrompts | None] | None, TaskModel[Any, Any] | None]:
    """What says where to look in an image, from a file, or the detector that finds it; neither for whole images."""
    from hrnet.io.zoo import SHIPPED, load
    from hrnet.pose.boxes import finds_people
    from hrnet.pose.model import PoseModel

    boxes = run.options.boxes
    if boxes is None:
        people = isinstance(model, PoseModel) and finds_people(model.spec.skeleton)
        return None, load(_DETECTOR) if people and _DETECTOR in SHIPPED else None
    if boxes == "whole":
        return None, None
    if not model.takes_boxes:
        raise InputError(f"{run.options.model} looks at whole images; leave out --boxes.")
    if Path(boxes).suffix.lower() == ".json":
        return run.boxes(Path(boxes)), None
    return None, load(boxes)


def _protocol(options: Predict, model: TaskModel[Any, Any]) -> InferenceMode | None:
    """How a segmentation model is to look at images; None for the whole image at once."""
    from hrnet.segmentation.model import SegmentationModel
    from hrnet.segmentation.windows import InferenceMode

    if not options.windows and options.scales == (1.0,):
        return None
    if not isinstance(model, SegmentationModel):
        raise InputError(f"--windows and --scales are for segmentation models, which {options.model} is not.")
    windows = "sliding" if options.windows else "whole"
    try:
        return InferenceMode(options.scales, options.flip, windows, native=options.windows)
    except ValueError as error:
        raise InputError(f"{error} Mend --scales.") from None


@dataclass(slots=True)
class _Run:
    """One call: what was done, what failed; how many things were found in how many seconds of drawing; COCO's entries."""

    options: Predict
    done: int = 0
    failed: int = 0
    found: int = 0
    drawing: float = 0.0
    entries: list[dict[str, Any]] = field(default_factory=list)

    def check(self, model: TaskModel[Any, Any]) -> None:
        """Raise InputError if options are given that mean nothing for a model."""
        from hrnet.detection.model import DetectionModel

        options = self.options
        if not isinstance(model, DetectionModel):
            if options.classes or options.coco_results:
                raise InputError(
                    f"--classes and --coco-results are for detection models, which {options.model} is not."
                )
            return
        unknown = [name for name in options.classes if name not in model.spec.class_names]
        if unknown:
            known = ", ".join(model.spec.class_names[:_LISTED])
            raise InputError(f"{options.model} knows no class {unknown[0]!r}; its classes are {known}.")

    def images(self) -> Iterator[Path]:
        """Every image that the sources name, once."""
        from hrnet.io.images import find_images

        lines = (line.strip() for line in sys.stdin)
        sources = chain.from_iterable(lines if name == "-" else (name,) for name in self.options.source)
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

    def boxes(self, path: Path) -> Callable[[object], BoxPrompts | None]:
        """Where to look in an image, from a file; an image that it does not have is one object."""
        from hrnet.pose.boxes import box_key, read_boxes

        table, problems = read_boxes(path)
        for problem in problems:
            self.report(problem)

        def find(image: object) -> BoxPrompts | None:
            key = box_key(image, table) if isinstance(image, Path) else None
            if key is None:
                print(f"hrnet predict: {path} has no boxes for {image}; it is taken as one object.", file=sys.stderr)
                return None
            return table[key]

        return find

    def report(self, message: str) -> None:
        self.failed += 1
        print(f"hrnet predict: {message}", file=sys.stderr)

    def report_unread(self, _: object, error: InputError) -> None:
        self.report(str(error))

    def write(self, result: Result) -> None:
        from hrnet.io.atomic import write_text
        from hrnet.results import Detections, Poses, SemanticMap

        assert isinstance(result.source, Path)
        self.done += 1
        if isinstance(result, Detections):
            result = self._chosen(result)
        self.found += len(result) if isinstance(result, Poses | Detections) else 0
        content: dict[str, Any] = {"file": str(result.source)}
        if self.options.json:
            print(json.dumps(content | result.to_dict()), flush=True)
            return
        assert isinstance(result.source, Path)
        start = time.perf_counter()
        drawing = self._drawn(result)
        suffix = ".png" if result.source.suffix.lower() == ".png" or max(drawing.size) > _JPEG_SIDE else ".jpg"
        with self._free_name(result.source.stem, suffix) as name:
            image = self.options.out / f"{name}{suffix}"
            _save(drawing, image)
            del drawing
            self.drawing += time.perf_counter() - start
            if isinstance(result, SemanticMap):
                labels = self.options.out / f"{name}{_LABELS}"
                _save(result.to_image(), labels)
                # The map itself is in the image of its labels.
                content |= result.to_dict(runs=False) | {"labels": labels.name}
            else:
                content |= result.to_dict()
            write_text(self.options.out / f"{name}.json", json.dumps(content) + "\n")
        print(f"{image}  {_summary(result, self.options.threshold)}")

    def _chosen(self, result: Detections) -> Detections:
        """What is sure enough, of the classes that are asked for; all of them are noted for the COCO results file."""
        if self.options.classes:
            asked = [result.names[label] in self.options.classes for label in result.labels]
            result = result[[index for index, wanted in enumerate(asked) if wanted]]
        if self.options.coco_results:
            self._note(result)
        return result[result.scores >= self.options.score]

    def _note(self, result: Detections) -> None:
        from hrnet.detection.coco_entries import coco_entries, compressed, default_ids
        from hrnet.pose.boxes import image_digits

        assert isinstance(result.source, Path)
        number = image_digits(result.source)
        masks = None if result.masks is None else compressed(result.masks)
        for entry in coco_entries(result, masks, self.done if number is None else number, default_ids(result.names)):
            self.entries.append({"file_name": result.source.name, **entry})

    def _drawn(self, result: Result) -> PIL.Image.Image:
        from hrnet.results import Detections, Poses

        match result:
            case Poses():
                return result.plot(self.options.threshold)
            case Detections():
                return result.plot(self.options.score)
        return result.plot()

    @contextmanager
    def _free_name(self, stem: str, suffix: str) -> Iterator[str]:
        """A name with which no file of those that may be written exists, and which no other run takes meanwhile."""
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
                if not any((folder / f"{name}{end}").exists() for end in (suffix, ".json", _LABELS)):
                    yield name
                    return
            finally:
                claim.unlink(missing_ok=True)

    def finish(self, seconds: float, parts: Seconds) -> int:
        from hrnet.io.atomic import write_text

        if not self.done and not self.failed:
            print("hrnet predict: no image was named", file=sys.stderr)
            return 1
        if self.options.coco_results:
            write_text(self.options.coco_results, json.dumps(self.entries) + "\n")
        if self.done and not self.options.json:
            print(
                f"{self.done} images in {seconds:.1f} s{self._rates(seconds)}" if self.done > 1 else f"{seconds:.1f} s"
            )
            if self.done > 1:
                print(_split(parts, self.drawing))
        if self.failed:
            print(f"hrnet predict: {self.failed} inputs could not be used", file=sys.stderr)
        return 1 if self.failed else 0

    def _rates(self, seconds: float) -> str:
        rates = f" ({self.done / max(seconds, 1e-9):.1f} a second)"
        return rates + (f", {self.found} found ({self.found / max(seconds, 1e-9):.1f} a second)" if self.found else "")


def _split(parts: Seconds, drawing: float) -> str:
    """Where the time went, in words."""
    named = {
        "detect": parts.detect,
        "crop": parts.crop,
        "network": parts.network,
        "decode": parts.decode,
        "draw": drawing,
    }
    spent = ", ".join(f"{name} {seconds:.1f}" for name, seconds in named.items() if seconds)
    return f"seconds: {spent}; read {parts.read:.1f}, beside the rest"


def _save(image: PIL.Image.Image, path: Path) -> None:
    from hrnet.io.atomic import atomic_path

    with atomic_path(path) as temporary:
        form = "PNG" if path.suffix == ".png" else "JPEG"
        quality = {} if form == "PNG" else {"quality": _JPEG_QUALITY}
        image.save(temporary, format=form, **quality)


def _summary(result: Result, threshold: float) -> str:
    from hrnet.results import Classification, Detections, Poses, SemanticMap

    if isinstance(result, Classification):
        return ", ".join(f"{result.names[label]} {result.scores[label]:.2f}" for label in result.top(_TOP))
    if isinstance(result, SemanticMap):
        shares = result.fractions()
        order = sorted(range(len(shares)), key=lambda label: -shares[label])[:_NAMED]
        return ", ".join(f"{result.names[label]} {100 * shares[label]:.1f} %" for label in order if shares[label] > 0)
    people = len(result)
    if not people:
        return "nothing found" + ("; --boxes whole takes the image as one person" if isinstance(result, Poses) else "")
    if isinstance(result, Detections):
        counts = Counter(result.names[label] for label in result.labels.tolist()).most_common(_NAMED)
        return ", ".join(f"{count} {name}" for name, count in counts) + f", best score {result.scores.max():.2f}"
    visible = int((result.keypoint_scores >= threshold).sum())
    noun = "pose" if people == 1 else "poses"
    return (
        f"{people} {noun}, {visible} of {result.keypoint_scores.size} keypoints, best score {result.scores.max():.2f}"
    )
