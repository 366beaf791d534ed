"""The row of the pose task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hrnet.engine.task import Task
from hrnet.pose.spec import PoseSpec

if TYPE_CHECKING:
    from hrnet.engine.job import Job
    from hrnet.pose.model import PoseModel
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


TASK = Task(
    name="pose",
    spec=PoseSpec,
    build=_build,
    recipes=_recipes,
    prepare=_prepare,
)
