"""`hrnet evaluate`: a model and labelled pictures become figures."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from hrnet.errors import InputError

if TYPE_CHECKING:
    from hrnet.pose.metrics import PoseEvaluator
    from hrnet.pose.spec import PoseSpec


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Score a model on labelled pictures."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """pose, or a path as for predict"""
    images: Path
    """folder of the pictures"""
    annotations: Path
    """their labels: a COCO or MPII keypoint json, a YOLO data.yaml, a DeepLabCut csv"""
    boxes: Path | None = None
    """a COCO detection file to look into, instead of the labelled boxes; only average precision is measured then"""
    unboxed: Literal["whole", "keypoints"] = "whole"
    """the box of an object that has none: the whole picture, or the bounds of its keypoints and a margin"""
    flip: bool = False
    """average with the mirrored pictures"""
    hold_out: int = 0
    """score only every N-th picture, sorted by path: those that `--data.hold-out N` keeps out of a training; 0 for all"""
    antialias: bool = True
    """reduce large pictures without skipping pixels; the published figures were measured with --no-antialias"""
    out: Path | None = None
    """write the figures here as JSON"""
    results: Path | None = None
    """write the poses here as a COCO results file"""
    report: Path | None = None
    """write report.html into this folder: figures, curves, worst and random pictures; of a run folder also its course"""
    runtime: Literal["auto", "torch", "openvino"] = "auto"
    """auto: torch on a GPU, else OpenVINO"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 ..."""
    batch: int = 16
    """objects that go through the network together"""
    workers: int = 0
    """processes that read pictures"""


def main(arguments: list[str]) -> int:
    options = tyro.cli(Evaluate, args=arguments, prog="hrnet evaluate")
    from hrnet.atomic import write_text
    from hrnet.engine.evaluate import evaluate
    from hrnet.engine.progress import Progress
    from hrnet.pose.data import Augment, PoseDataset
    from hrnet.pose.model import PoseModel
    from hrnet.runtime import choose_runtime, compile_forward
    from hrnet.zoo import load

    model = load(options.model)
    if not isinstance(model, PoseModel):
        raise InputError(f"{options.model} is no pose model, the kind that this version scores.")
    evaluator, problems = _open(options, model.spec)
    instances = evaluator.instances
    _, device = choose_runtime(options.runtime, options.device)
    start = time.perf_counter()
    with Progress("evaluate", len(instances), "objects") as progress:
        metrics = evaluate(
            model,
            PoseDataset(instances, model.spec, Augment(antialias=options.antialias)),
            evaluator,
            device=device,
            forward=compile_forward(model, runtime=options.runtime, device=options.device),
            flip=options.flip,
            batch=options.batch,
            workers=options.workers,
            progress=progress,
        )
    seconds = time.perf_counter() - start
    images = len({instance.image_id for instance in instances})
    content = {
        "task": "pose",
        "model": options.model,
        "metrics": metrics,
        "images": images,
        "seconds": round(seconds, 2),
    }
    # Written before anything is printed, which may fail where the output is cut short.
    if options.out:
        write_text(options.out, json.dumps(content, indent=2) + "\n")
    if options.results:
        write_text(options.results, json.dumps(evaluator.coco_results()) + "\n")
    page = _write_report(options, evaluator, metrics, images) if options.report else None
    for name, value in metrics.items():
        print(f"{name:<24} {value:.4f}" if name.startswith("A") else f"{name:<24} {value:.2f}")
    print(f"{images} pictures, {len(instances)} objects in {seconds:.1f} s")
    if page:
        print(f"{page} shows them")
    return 1 if problems else 0


def _open(options: Evaluate, spec: PoseSpec) -> tuple[PoseEvaluator, bool]:
    """What scores the objects that the options name, and whether any had to be left out."""
    from hrnet.pose.data import detected_instances, hold_out, rename_keypoints
    from hrnet.pose.metrics import PoseEvaluator
    from hrnet.pose.recipes import read_keypoints, read_truth

    # What is held out is held out of the training set.
    part = "train" if options.hold_out else "val"
    data = rename_keypoints(read_keypoints(options.images, options.annotations, part, options.unboxed), spec.skeleton)
    messages = [*data.notes, *data.problems]
    if options.hold_out:
        _, data = hold_out(data, options.hold_out)
    instances = data.instances
    if options.boxes:
        instances, more = detected_instances(data, options.boxes)
        messages += more
    for message in messages:
        print(f"hrnet evaluate: {message}", file=sys.stderr)
    evaluator = PoseEvaluator(
        instances,
        spec,
        truth=read_truth(options.annotations, data),
        labelled=options.boxes is None,
        names=data.names,
        images=[picture.image_id for picture in data.pictures],
    )
    return evaluator, bool(data.problems)


def _write_report(options: Evaluate, evaluator: PoseEvaluator, metrics: dict[str, float], images: int) -> Path:
    from hrnet.report import REPORT, Evaluation, is_run, read_run, write_report

    assert options.report is not None
    path, model = options.report / REPORT, Path(options.model)
    facts = {"model": options.model, "pictures": str(images), "objects": str(len(evaluator.instances))}
    facts |= {"folder": str(options.images), "labels": str(options.annotations)}
    if options.boxes:
        facts["boxes"] = str(options.boxes)
    if options.hold_out:
        facts["held out"] = f"every {options.hold_out}th picture by path"
    facts["mirrored too"] = "yes" if options.flip else "no"
    write_report(
        path,
        f"{model.name} on {options.images.resolve().name}",
        facts,
        Evaluation.of(evaluator, metrics),
        read_run(model) if is_run(model) else None,
    )
    return path
