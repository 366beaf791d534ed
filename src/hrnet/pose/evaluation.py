"""The options of `hrnet evaluate` for pose models, and their labeled objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hrnet.engine.scoring import EvaluationOptions, ScoringSet
from hrnet.inference.processor import BoxPrompts, Input
from hrnet.io.atomic import write_text
from hrnet.io.images import read_labeled
from hrnet.nn.task import TaskModel
from hrnet.pose.boxes import Instance
from hrnet.pose.data import detected_instances, keypoint_set, open_set, read_ground_truth, rename_keypoints
from hrnet.pose.metrics import PoseEvaluator


@dataclass(frozen=True)
class PoseEvaluation(EvaluationOptions):
    """Score keypoints: PCK, COCO's average precision, pixels."""

    annotations: Path | None = None
    """labels: a COCO or MPII keypoint json, a YOLO data.yaml, a DeepLabCut csv; not needed where --images is a whole data
    set"""
    boxes: Path | None = None
    """a COCO detection file with boxes to run on, instead of the labeled boxes; only average precision is measured then"""
    unboxed: Literal["whole", "keypoints"] = "whole"
    """box of an object without one: the whole image, or the bounds of its keypoints and a margin"""
    flip: bool = False
    """flip test: average with the flipped inputs, as the published figures do"""
    antialias: bool = True
    """average the pixels of reduced images; the published figures were measured with --no-antialias"""
    results: Path | None = None
    """write the poses to this COCO results file"""

    def outputs(self) -> list[Path]:
        return [path for path in (self.out, self.results) if path]

    def open(self, name: str, model: TaskModel[Any, Any]) -> ScoringSet:
        spec = model.spec
        data = open_set(
            self.images,
            self.annotations,
            convert=partial(keypoint_set, unboxed=self.unboxed),
            hold_out=self.hold_out,
            match=partial(rename_keypoints, skeleton=spec.skeleton),
            data_format=self.format,
        )
        messages = [*data.notes, *data.problems]
        instances: Sequence[Instance] = data.instances
        if self.boxes:
            instances, more = detected_instances(data, self.boxes)
            messages += more
        evaluator = PoseEvaluator(
            instances,
            spec,
            ground_truth=read_ground_truth(data),
            labeled=self.boxes is None,
            names=data.names,
            images=[image.image_id for image in data.images],
        )

        def counts(scored: Sequence[int]) -> dict[str, int]:
            return {"images": len({instances[index].image_id for index in scored}), "objects": len(scored)}

        return ScoringSet(
            inputs=[instance_input(instance) for instance in instances],
            evaluator=evaluator,
            counts=counts,
            messages=messages,
            incomplete=bool(data.problems),
            settings={"flip": self.flip, "antialias": self.antialias},
            unit="objects",
        )

    def facts(self) -> dict[str, str]:
        files = {"labels": self.annotations, "boxes": self.boxes}
        named = {name: str(path) for name, path in files.items() if path}
        return super().facts() | named | {"flip test": "yes" if self.flip else "no"}

    def write(self, evaluator: PoseEvaluator) -> None:
        if self.results:
            write_text(self.results, json.dumps(evaluator.coco_results()) + "\n")


def instance_input(instance: Instance) -> Input:
    """Return the input of one object: its box in its image."""
    prompts = BoxPrompts(np.asarray(instance.box, float)[None], np.ones(1))
    return Input(instance.path, prompts, partial(read_labeled, instance.path, instance.size))
