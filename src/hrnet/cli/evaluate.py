"""`hrnet evaluate`: a model and labeled images become figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from hrnet.errors import InputError

if TYPE_CHECKING:
    from hrnet.engine.evaluator import Evaluator


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Score a model on labeled images."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """a name or a path, as for predict"""
    images: Path
    """folder of the images"""
    annotations: Path | None = None
    """their labels. Pose: a COCO or MPII keypoint json, a YOLO data.yaml, a DeepLabCut csv. Detection: a COCO json, a
    folder of Pascal VOC or one of its lists, a YOLO data.yaml. Segmentation: the folder of the label images. May be left
    out where --images is a whole data set, but for pose. Classification has none: the folders' names are the classes"""
    boxes: Path | None = None
    """pose: a COCO detection file to look into, instead of the labeled boxes; only average precision is measured then"""
    unboxed: Literal["whole", "keypoints"] = "whole"
    """pose: the box of an object that has none: the whole image, or the bounds of its keypoints and a margin"""
    flip: bool = False
    """average with the mirrored images"""
    scales: tuple[float, ...] = (1.0,)
    """segmentation: look at each image in each of these sizes and average"""
    windows: bool = False
    """segmentation: overlapping windows of the image at its own scale, not the whole image fitted into the input"""
    protocol: Literal["plain", "published"] = "plain"
    """segmentation: published: scores fused and windows laid as in the released evaluation of the model's data set"""
    hold_out: int = 0
    """score only every N-th image, sorted by path: those that `--data.hold-out N` keeps out of a training; 0 for all"""
    antialias: bool = True
    """pose: reduce large images without skipping pixels; the published figures were measured with --no-antialias"""
    out: Path | None = None
    """write the figures here as JSON; what is there is not replaced"""
    results: Path | None = None
    """pose and detection: write what is found here as a COCO results file"""
    aliases: tuple[tuple[str, str], ...] = ()
    """detection: a class of the data set and the model's class that it counts as, for each whose names differ"""
    report: Path | None = None
    """write report.html into this folder: figures, curves, worst and random images; of a run folder also its course"""
    runtime: Literal["auto", "torch", "openvino"] = "auto"
    """auto: torch on a GPU, else OpenVINO"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 ..."""
    batch: int | None = None
    """inputs that go through the network together; without it 16, of large ones fewer"""
    workers: int = 0
    """pose: processes that read images"""

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise ValueError("--batch is at least 1")
        if self.workers < 0 or self.hold_out < 0:
            raise ValueError("--workers and --hold-out are not negative")


@dataclass(frozen=True, slots=True)
class Scored:
    """What came of an evaluation.

    Attributes:
        task: its name.
        evaluator: that has seen all results.
        metrics: that it computed.
        counts: how many images, and whatever else, were looked at.
        seconds: that it took.
        problems: whether something had to be left out.
        facts: about how it was done, for the page.
    """

    task: str
    evaluator: Evaluator
    metrics: Mapping[str, float]
    counts: Mapping[str, int]
    seconds: float
    problems: bool
    facts: Mapping[str, str]


def main(arguments: list[str]) -> int:
    options = tyro.cli(Evaluate, args=arguments, prog="hrnet evaluate")
    from hrnet.io.atomic import check_free, write_text
    from hrnet.vis.report import REPORT

    page = options.report / REPORT if options.report else None
    for path in (options.out, options.results, page):
        if path:
            check_free(path)
    scored = _score(options)
    content = {
        "task": scored.task,
        "model": options.model,
        "metrics": scored.metrics,
        "images": scored.counts["images"],
        "seconds": round(scored.seconds, 2),
    }
    # Written before anything is printed, which may fail where the output is cut short.
    if options.out:
        write_text(options.out, json.dumps(content, indent=2) + "\n")
    if page:
        _write_report(options, page, scored)
    width = max((len(name) for name in scored.metrics), default=0)
    for name, value in scored.metrics.items():
        # Average precisions and recalls are shares of one, everything else is not.
        digits = 4 if name.startswith("A") or "-A" in name else 2
        print(f"{name:<{max(width, 24)}} {value:.{digits}f}")
    counts = ", ".join(f"{count} {what}" for what, count in scored.counts.items())
    print(f"{counts} in {scored.seconds:.1f} s")
    if page:
        print(f"{page} shows them")
    return 1 if scored.problems else 0


def _score(options: Evaluate) -> Scored:
    from hrnet.classification.model import ClassificationModel
    from hrnet.detection.model import DetectionModel
    from hrnet.io.zoo import load
    from hrnet.pose.model import PoseModel
    from hrnet.segmentation.model import SegmentationModel

    match load(options.model):
        case PoseModel() as model:
            from hrnet.cli import evaluate_pose

            _refuse(options, "a pose model", ("scales", "windows", "protocol", "aliases"))
            return evaluate_pose.score(options, model)
        case DetectionModel() as model:
            from hrnet.cli import evaluate_detection

            others = ("boxes", "unboxed", "flip", "scales", "windows", "protocol", "antialias", "workers")
            _refuse(options, "a detection model", others)
            return evaluate_detection.score(options, model)
        case SegmentationModel() as model:
            from hrnet.cli import evaluate_segmentation

            _refuse(options, "a segmentation model", ("boxes", "unboxed", "antialias", "results", "workers", "aliases"))
            return evaluate_segmentation.score(options, model)
        case ClassificationModel() as model:
            from hrnet.cli import evaluate_classification

            others = ("annotations", "boxes", "unboxed", "scales", "windows", "protocol", "antialias", "results")
            _refuse(options, "a classification model", (*others, "workers", "aliases"))
            return evaluate_classification.score(options, model)
    raise InputError(f"{options.model} is a model of a kind that this version does not score.")


def _refuse(options: Evaluate, kind: str, names: Sequence[str]) -> None:
    """Raise InputError if an option is given that means nothing for a kind of model."""
    # Defaults stand in the constructor; attributes of a class with slots are their descriptors.
    plain = Evaluate(options.model, options.images)
    for name in names:
        if getattr(options, name) != getattr(plain, name):
            raise InputError(f"{options.model} is {kind}, for which --{name} means nothing; leave it out.")


def say(messages: Sequence[str]) -> None:
    """Sentences about the data, beside the figures."""
    for message in messages:
        print(f"hrnet evaluate: {message}", file=sys.stderr)


def _write_report(options: Evaluate, path: Path, scored: Scored) -> None:
    from hrnet.vis.report import Evaluation, is_run, read_run, write_report

    model = Path(options.model)
    facts = {"model": options.model} | {what: str(count) for what, count in scored.counts.items()}
    facts |= {"folder": str(options.images)}
    if options.annotations:
        facts["labels"] = str(options.annotations)
    facts |= scored.facts
    if options.hold_out:
        facts["held out"] = f"every {options.hold_out}th image by path"
    facts["mirrored too"] = "yes" if options.flip else "no"
    write_report(
        path,
        f"{model.name} on {options.images.resolve().name}",
        facts,
        Evaluation.of(scored.evaluator, scored.metrics),
        read_run(model) if is_run(model) else None,
    )
