"""The only list of tasks: ModelSpec and Recipe as closed unions, and what is built from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from hrnet.classification import recipes as classification
from hrnet.classification.model import ClassificationModel
from hrnet.classification.spec import ClassificationSpec
from hrnet.detection import recipes as detection
from hrnet.detection.model import DetectionModel
from hrnet.detection.spec import DetectionSpec
from hrnet.engine.job import Job
from hrnet.errors import InputError
from hrnet.nn.backbone_model import BackboneModel, BackboneSpec
from hrnet.nn.task import TaskModel
from hrnet.pose import recipes as pose
from hrnet.pose.model import PoseModel
from hrnet.pose.spec import PoseSpec
from hrnet.segmentation import recipes as segmentation
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.spec import SegmentationSpec

ModelSpec = PoseSpec | ClassificationSpec | SegmentationSpec | DetectionSpec | BackboneSpec
Recipe = (
    pose.PoseRecipe | classification.ClassificationRecipe | segmentation.SegmentationRecipe | detection.DetectionRecipe
)
_SPECS: dict[str, type[Any]] = {
    "pose": PoseSpec,
    "classification": ClassificationSpec,
    "segmentation": SegmentationSpec,
    "detection": DetectionSpec,
    "backbone": BackboneSpec,
}
_RECIPES: dict[str, type[Any]] = {
    "pose": pose.PoseRecipe,
    "classification": classification.ClassificationRecipe,
    "segmentation": segmentation.SegmentationRecipe,
    "detection": detection.DetectionRecipe,
}
RECIPES: dict[str, Recipe] = {
    **pose.RECIPES,
    **classification.RECIPES,
    **segmentation.RECIPES,
    **detection.RECIPES,
}


def task_of(value: ModelSpec | Recipe) -> str:
    """The name of the task that a spec or a recipe belongs to."""
    spec = value.model if isinstance(value, Recipe) else value
    return next(name for name, kind in _SPECS.items() if isinstance(spec, kind))


def build_model(spec: ModelSpec) -> TaskModel[Any]:
    """A model with new weights, drawn from torch's generator as the published training starts."""
    match spec:
        case PoseSpec():
            return PoseModel(spec)
        case ClassificationSpec():
            return ClassificationModel(spec)
        case SegmentationSpec():
            return SegmentationModel(spec)
        case DetectionSpec():
            return DetectionModel(spec)
        case BackboneSpec():
            return BackboneModel(spec)


def prepare(recipe: Recipe) -> Job:
    """Open a recipe's data and build its model.

    Raises:
        InputError: a file is missing or cannot be used.
    """
    match recipe:
        case pose.PoseRecipe():
            return pose.prepare(recipe)
        case classification.ClassificationRecipe():
            return classification.prepare(recipe)
        case segmentation.SegmentationRecipe():
            return segmentation.prepare(recipe)
        case detection.DetectionRecipe():
            return detection.prepare(recipe)


def find_recipe(name: str) -> Recipe:
    """A recipe by name, or from a JSON file or the recipe.json of a run folder.

    Raises:
        InputError: there is none, or the file holds no recipe.
    """
    if name in RECIPES:
        return RECIPES[name]
    path = Path(name) / "recipe.json" if Path(name).is_dir() else Path(name)
    if not path.is_file():
        raise InputError(
            f"There is no recipe {name!r}; `hrnet recipes` lists them, and a recipe.json can be named too."
        )
    try:
        return recipe_from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} holds no recipe ({str(error).splitlines()[0]}); `hrnet recipes NAME` prints one."
        ) from None


def spec_to_json(spec: ModelSpec) -> str:
    """A spec as one line of JSON that names its task."""
    return _to_json(spec, _SPECS)


def spec_from_json(text: str) -> ModelSpec:
    """The reverse of `spec_to_json`.

    Raises:
        ValueError: no such task, or a field that does not fit.
    """
    return _from_json(text, _SPECS)


def recipe_to_json(recipe: Recipe) -> str:
    """A recipe as one line of JSON that names its task."""
    return _to_json(recipe, _RECIPES)


def recipe_from_json(text: str) -> Recipe:
    """The reverse of `recipe_to_json`; raises as `spec_from_json`."""
    return _from_json(text, _RECIPES)


def _to_json(value: Any, kinds: dict[str, type[Any]]) -> str:
    task = task_of(value)
    return json.dumps({"task": task, **TypeAdapter(kinds[task]).dump_python(value, mode="json")})


def _from_json(text: str, kinds: dict[str, type[Any]]) -> Any:
    content = json.loads(text)
    task = content.pop("task", None) if isinstance(content, dict) else None
    if task not in kinds:
        raise ValueError(f"unknown task {task!r}, expected one of {', '.join(kinds)}")
    adapter = TypeAdapter(kinds[task])
    value = adapter.validate_python(content)
    # pydantic passes over fields that it does not know; here one is a typing error, or the work of a newer version.
    unknown = _unknown(content, adapter.dump_python(value, mode="json"))
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}")
    return value


def _unknown(given: Any, known: Any) -> list[str]:
    if isinstance(given, dict) and isinstance(known, dict):
        inner = [name for key in given.keys() & known.keys() for name in _unknown(given[key], known[key])]
        return sorted(given.keys() - known.keys()) + inner
    if isinstance(given, list) and isinstance(known, list):
        return [name for one, other in zip(given, known, strict=False) for name in _unknown(one, other)]
    return []
