"""The row of the detection task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hrnet.detection.spec import DetectionSpec
from hrnet.engine.task import Task

if TYPE_CHECKING:
    from hrnet.detection.evaluation import DetectionEvaluation
    from hrnet.detection.model import DetectionModel
    from hrnet.detection.prediction import DetectionPrediction
    from hrnet.detection.processor import DetectionProcessor
    from hrnet.detection.recipes import DetectionRecipe
    from hrnet.engine.job import Job


def _build(spec: DetectionSpec) -> DetectionModel:
    from hrnet.detection.model import DetectionModel

    return DetectionModel(spec)


def _recipes() -> Mapping[str, DetectionRecipe]:
    from hrnet.detection.recipes import RECIPES

    return RECIPES


def _prepare(recipe: DetectionRecipe) -> Job:
    from hrnet.detection.recipes import prepare

    return prepare(recipe)


def _processor(spec: DetectionSpec) -> DetectionProcessor:
    from hrnet.detection.processor import DetectionProcessor

    return DetectionProcessor(spec)


def _prediction() -> type[DetectionPrediction]:
    from hrnet.detection.prediction import DetectionPrediction

    return DetectionPrediction


def _evaluation() -> type[DetectionEvaluation]:
    from hrnet.detection.evaluation import DetectionEvaluation

    return DetectionEvaluation


TASK = Task(
    name="detection",
    spec=DetectionSpec,
    build=_build,
    processor=_processor,
    prediction=_prediction,
    evaluation=_evaluation,
    recipes=_recipes,
    prepare=_prepare,
    nested_choices=False,  # the recipe chooses the family of the detector
)
