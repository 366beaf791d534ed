"""The row of the classification task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hrnet.classification.spec import ClassificationSpec
from hrnet.engine.task import Task

if TYPE_CHECKING:
    from hrnet.classification.model import ClassificationModel
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


TASK = Task(
    name="classification",
    spec=ClassificationSpec,
    build=_build,
    recipes=_recipes,
    prepare=_prepare,
)
