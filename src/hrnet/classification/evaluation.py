"""The options of `hrnet evaluate` for classification models, and their labeled images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from hrnet.classification.data import match_classes, open_set
from hrnet.classification.metrics import ClassificationEvaluator
from hrnet.engine.scoring import EvaluationOptions, ScoringSet
from hrnet.inference.processor import Input
from hrnet.nn.task import TaskModel


@dataclass(frozen=True)
class ClassificationEvaluation(EvaluationOptions):
    """Score classes: top-1, top-5, accuracy per class. The names of the folders are the classes."""

    flip: bool = False
    """average with the flipped inputs"""

    def open(self, name: str, model: TaskModel[Any, Any]) -> ScoringSet:
        match = partial(match_classes, class_names=model.spec.class_names)
        data = open_set(self.images, hold_out=self.hold_out, match=match, data_format=self.format)
        images = data.images
        return ScoringSet(
            inputs=[Input(one.path) for one in images],
            evaluator=ClassificationEvaluator(images, model.spec),
            counts=lambda scored: {"images": len(scored)},
            messages=[*data.notes, *data.problems],
            incomplete=bool(data.problems),
            settings={"flip": self.flip},
        )

    def facts(self) -> dict[str, str]:
        return super().facts() | {"flip test": "yes" if self.flip else "no"}
