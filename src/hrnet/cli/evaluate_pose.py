"""Scoring a pose model, for `hrnet evaluate`."""

from __future__ import annotations

import json
import time
from pathlib import Path

from hrnet.cli.evaluate import Evaluate, Scored, say
from hrnet.engine.evaluate import evaluate
from hrnet.engine.progress import Progress
from hrnet.errors import InputError
from hrnet.inference.runtime import choose_runtime, compile_forward
from hrnet.io.atomic import write_text
from hrnet.pose.data import Augment, PoseDataset, detected_instances, hold_out, rename_keypoints
from hrnet.pose.metrics import PoseEvaluator
from hrnet.pose.model import PoseModel
from hrnet.pose.recipes import read_keypoints, read_truth
from hrnet.pose.spec import PoseSpec

_BATCH = 16


def score(options: Evaluate, model: PoseModel) -> Scored:
    """Score a model on the labeled objects that the options name.

    Raises:
        InputError: labels are missing or cannot be used.
    """
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
            batch=options.batch or _BATCH,
            workers=options.workers,
            progress=progress,
        )
    seconds = time.perf_counter() - start
    if options.results:
        write_text(options.results, json.dumps(evaluator.coco_results()) + "\n")
    counts = {"images": len({instance.image_id for instance in instances}), "objects": len(instances)}
    facts = {"boxes": str(options.boxes)} if options.boxes else {}
    return Scored("pose", evaluator, metrics, counts, seconds, problems, facts)


def _open(options: Evaluate, spec: PoseSpec) -> tuple[PoseEvaluator, bool]:
    """What scores the objects that the options name, and whether any had to be left out."""
    annotations = _annotations(options)
    # What is held out is held out of the training set.
    part = "train" if options.hold_out else "val"
    data = rename_keypoints(read_keypoints(options.images, annotations, part, options.unboxed), spec.skeleton)
    messages = [*data.notes, *data.problems]
    if options.hold_out:
        _, data = hold_out(data, options.hold_out)
    instances = data.instances
    if options.boxes:
        instances, more = detected_instances(data, options.boxes)
        messages += more
    say(messages)
    evaluator = PoseEvaluator(
        instances,
        spec,
        truth=read_truth(annotations, data),
        labeled=options.boxes is None,
        names=data.names,
        images=[image.image_id for image in data.images],
    )
    return evaluator, bool(data.problems)


def _annotations(options: Evaluate) -> Path:
    if options.annotations is None:
        raise InputError(
            f"{options.model} finds keypoints, of which {options.images} has no labels: name --annotations."
        )
    return options.annotations
