"""The row of the segmentation task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hrnet.engine.task import Task
from hrnet.segmentation.spec import SegmentationSpec

if TYPE_CHECKING:
    from hrnet.engine.job import Job
    from hrnet.segmentation.evaluation import SegmentationEvaluation
    from hrnet.segmentation.model import SegmentationModel
    from hrnet.segmentation.prediction import SegmentationPrediction
    from hrnet.segmentation.processor import SegmentationProcessor
    from hrnet.segmentation.recipes import SegmentationRecipe


def _build(spec: SegmentationSpec) -> SegmentationModel:
    from hrnet.segmentation.model import SegmentationModel

    return SegmentationModel(spec)


def _recipes() -> Mapping[str, SegmentationRecipe]:
    from hrnet.segmentation.recipes import RECIPES

    return RECIPES


def _prepare(recipe: SegmentationRecipe) -> Job:
    from hrnet.segmentation.recipes import prepare

    return prepare(recipe)


def _processor(spec: SegmentationSpec) -> SegmentationProcessor:
    from hrnet.segmentation.processor import SegmentationProcessor

    return SegmentationProcessor(spec)


def _prediction() -> type[SegmentationPrediction]:
    from hrnet.segmentation.prediction import SegmentationPrediction

    return SegmentationPrediction


def _evaluation() -> type[SegmentationEvaluation]:
    from hrnet.segmentation.evaluation import SegmentationEvaluation

    return SegmentationEvaluation


TASK = Task(
    name="segmentation",
    spec=SegmentationSpec,
    build=_build,
    processor=_processor,
    prediction=_prediction,
    evaluation=_evaluation,
    recipes=_recipes,
    prepare=_prepare,
)
