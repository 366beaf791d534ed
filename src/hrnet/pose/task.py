"""The row of the pose task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hrnet.engine.task import Task
from hrnet.pose.spec import PoseSpec

if TYPE_CHECKING:
    from hrnet.engine.job import Job
    from hrnet.pose.evaluation import PoseEvaluation
    from hrnet.pose.model import PoseModel
    from hrnet.pose.prediction import PosePrediction
    from hrnet.pose.processor import PoseProcessor
    from hrnet.pose.recipes import PoseRecipe


def _build(spec: PoseSpec) -> PoseModel:
    from hrnet.pose.model import PoseModel

    return PoseModel(spec)


def _recipes() -> Mapping[str, PoseRecipe]:
    from hrnet.pose.recipes import RECIPES

    return RECIPES


def _prepare(recipe: PoseRecipe) -> Job:
    from hrnet.pose.recipes import prepare

    return prepare(recipe)


def _processor(spec: PoseSpec) -> PoseProcessor:
    from hrnet.pose.processor import PoseProcessor

    return PoseProcessor(spec)


def _prediction() -> type[PosePrediction]:
    from hrnet.pose.prediction import PosePrediction

    return PosePrediction


def _evaluation() -> type[PoseEvaluation]:
    from hrnet.pose.evaluation import PoseEvaluation

    return PoseEvaluation


TASK = Task(
    name="pose",
    spec=PoseSpec,
    build=_build,
    processor=_processor,
    prediction=_prediction,
    evaluation=_evaluation,
    recipes=_recipes,
    prepare=_prepare,
)
