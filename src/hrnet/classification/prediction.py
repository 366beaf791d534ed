"""The options of `hrnet predict` for classification models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hrnet.inference.prediction import PredictionOptions
from hrnet.nn.task import TaskModel
from hrnet.results import Classification


@dataclass(frozen=True)
class ClassificationPrediction(PredictionOptions[Classification]):
    """Write the five most probable classes of each image."""

    flip: bool = False
    """average with the flipped input; a little better, half as fast"""

    def settings(self, model: TaskModel[Any, Any]) -> dict[str, Any]:
        return {"flip": self.flip}
