"""`hrnet evaluate`: a model and labelled pictures become figures."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from hrnet.errors import InputError


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Score a model on labelled pictures."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """pose, or a path as for predict"""
    images: Path
    """folder of the pictures"""
    annotations: Path
    """a COCO keypoint json"""
    boxes: Path | None = None
    """a COCO detection file to look into, instead of the labelled boxes; only average precision is measured then"""
    flip: bool = False
    """average with the mirrored pictures"""
    antialias: bool = True
    """reduce large pictures without skipping pixels; the published figures were measured with --no-antialias"""
    out: Path | None = None
    """write the figures here as JSON"""
    results: Path | None = None
    """write the poses here as a COCO results file"""
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
    from hrnet.pose.data import Augment, PoseDataset, read_coco_json, rename_keypoints
    from hrnet.pose.metrics import PoseEvaluator
    from hrnet.pose.model import PoseModel
    from hrnet.pose.mpii import is_mpii
    from hrnet.pose.recipes import read_keypoints
    from hrnet.runtime import choose_runtime, compile_forward
    from hrnet.zoo import load

    model = load(options.model)
    if not isinstance(model, PoseModel):
        raise InputError(f"{options.model} is no pose model, the kind that this version scores.")
    data = rename_keypoints(read_keypoints(options.images, options.annotations), model.spec.skeleton)
    for message in (*data.notes, *data.problems):
        print(f"hrnet evaluate: {message}", file=sys.stderr)
    instances = data.instances
    if options.boxes:
        from hrnet.pose.data import detected_instances

        instances, problems = detected_instances(data, options.boxes)
        for problem in problems:
            print(f"hrnet evaluate: {problem}", file=sys.stderr)
    evaluator = PoseEvaluator(
        instances,
        model.spec,
        truth=None if is_mpii(options.annotations) else read_coco_json(options.annotations),
        labelled=options.boxes is None,
        names=data.names,
        images=[picture.image_id for picture in data.pictures],
    )
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
    for name, value in metrics.items():
        print(f"{name:<24} {value:.4f}" if name.startswith("A") else f"{name:<24} {value:.2f}")
    print(f"{images} pictures, {len(instances)} objects in {seconds:.1f} s")
    return 1 if data.problems else 0
