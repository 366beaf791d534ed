"""The row of the classification task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hrnet.classification.spec import ClassificationSpec
from hrnet.engine.task import Task

if TYPE_CHECKING:
    from hrnet.classification.evaluation import ClassificationEvaluation
    from hrnet.classification.model import ClassificationModel
    from hrnet.classification.prediction import ClassificationPrediction
    from hrnet.classification.processor import ClassificationProcessor
    from hrnet.classification.recipes import ClassificationRecipe
    from hrnet.engine.job import Job


def _build(spec: ClassificationSpec) -> ClassificationModel:
    from hrnet.classification.model import ClassificationModel

    return ClassificationModel(spec)


def _recipes() -> Mapping[str, ClassificationRecipe]:
    from hrnet.classification.recipes import RECIPES

    return RECIPES


def _prepare(recipe: ClassificationRecipe) -> Job:
    from hrnet.classification.recipes import prepare

    return prepare(recipe)


def _processor(spec: ClassificationSpec) -> ClassificationProcessor:
    from hrnet.classification.processor import ClassificationProcessor

    return ClassificationProcessor(spec)


def _prediction() -> type[ClassificationPrediction]:
    from hrnet.classification.prediction import ClassificationPrediction

    return ClassificationPrediction


def _evaluation() -> type[ClassificationEvaluation]:
    from hrnet.classification.evaluation import ClassificationEvaluation

    return ClassificationEvaluation


TASK = Task(
    name="classification",
    spec=ClassificationSpec,
    build=_build,
    processor=_processor,
    prediction=_prediction,
    evaluation=_evaluation,
    recipes=_recipes,
    prepare=_prepare,
)
