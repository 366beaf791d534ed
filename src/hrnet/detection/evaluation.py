"""The options of `hrnet evaluate` for detection models, and their labeled images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hrnet.detection.data import match_classes, open_set
from hrnet.detection.metrics import DetectionEvaluator
from hrnet.engine.scoring import EvaluationOptions, ScoringSet
from hrnet.inference.processor import Input
from hrnet.io.atomic import write_text
from hrnet.io.images import read_labeled
from hrnet.nn.task import TaskModel


@dataclass(frozen=True)
class DetectionEvaluation(EvaluationOptions):
    """Score boxes and masks: COCO's average precision, and VOC's."""

    annotations: Path | None = None
    """labels: a COCO json, a folder of Pascal VOC or one of its lists, a YOLO data.yaml; not needed where --images is a
    whole data set"""
    aliases: tuple[tuple[str, str], ...] = ()
    """a class of the data set and the model's class that it counts as, for each whose names differ"""
    results: Path | None = None
    """write the objects to this COCO results file"""

    def outputs(self) -> list[Path]:
        return [path for path in (self.out, self.results) if path]

    def open(self, name: str, model: TaskModel[Any, Any]) -> ScoringSet:
        spec = model.spec
        match = partial(match_classes, class_names=spec.class_names, aliases=self.aliases)
        data = open_set(self.images, self.annotations, hold_out=self.hold_out, match=match, data_format=self.format)
        images = data.images

        def counts(scored: Sequence[int]) -> dict[str, int]:
            return {"images": len(scored), "objects": sum(len(images[index].objects) for index in scored)}

        return ScoringSet(
            inputs=[Input(one.path, read=partial(read_labeled, one.path, one.size)) for one in images],
            evaluator=DetectionEvaluator(images, spec, data.category_ids),
            counts=counts,
            messages=[*data.notes, *data.problems],
            incomplete=bool(data.problems),
        )

    def facts(self) -> dict[str, str]:
        return super().facts() | ({"labels": str(self.annotations)} if self.annotations else {})

    def write(self, evaluator: DetectionEvaluator) -> None:
        if self.results:
            write_text(self.results, json.dumps(evaluator.coco_results()) + "\n")
