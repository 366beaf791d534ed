"""The one list of tasks, and everything that is looked up in it. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from types import GenericAlias
from typing import TYPE_CHECKING, Any, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from hrnet.classification.spec import ClassificationSpec
from hrnet.detection.spec import DetectionSpec
from hrnet.engine.recipe import Recipe
from hrnet.engine.task import Task, deferred
from hrnet.errors import InputError
from hrnet.nn.spec import BackboneSpec, ModelSpec
from hrnet.pose.spec import PoseSpec
from hrnet.segmentation.spec import SegmentationSpec

if TYPE_CHECKING:
    from hrnet.engine.task import Job
    from hrnet.nn.backbone_model import BackboneModel
    from hrnet.nn.task import TaskModel


_ROWS: tuple[Task[Any, Any], ...] = (
    Task.of_folder(PoseSpec),
    Task.of_folder(ClassificationSpec),
    Task.of_folder(SegmentationSpec),
    Task.of_folder(DetectionSpec, nested_choices=False),  # the recipe chooses the family of the detector
    # A backbone without a head can be stored and loaded, but neither trained nor run.
    Task("backbone", BackboneSpec, deferred("hrnet.nn.backbone_model:BackboneModel")),
)
TASKS: dict[str, Task[Any, Any]] = {task.name: task for task in _ROWS}


def task_of(spec: ModelSpec) -> Task[Any, Any]:
    """Return the task that a spec belongs to.

    Raises:
        InputError: no task has specs of this type.
    """
    for task in TASKS.values():
        if isinstance(spec, task.spec):
            return task
    known = ", ".join(task.spec.__name__ for task in TASKS.values())
    raise InputError(f"{type(spec).__name__} is no spec of a known task; expected one of {known}.")


def create_model(spec: ModelSpec) -> TaskModel[Any, Any] | BackboneModel:
    """Return a model with new weights, drawn from torch's generator as the published training starts."""
    return task_of(spec).model()(spec)


def prepare(recipe: Recipe[Any, Any]) -> Job:
    """Open a recipe's data and build its model.

    Raises:
        InputError: a file is missing or cannot be used.
    """
    return task_of(recipe.model).prepare()(recipe)


def recipes() -> dict[str, Recipe[Any, Any]]:
    """Return all recipes by name."""
    return {name: recipe for task in TASKS.values() for name, recipe in task.recipes().items()}


def find_recipe(name: str) -> Recipe[Any, Any]:
    """Return a recipe by name, or from a JSON file or the recipe.json of a run folder.

    Raises:
        InputError: there is none, or the file holds no recipe.
    """
    known = recipes()
    if name in known:
        return known[name]
    path = Path(name) / "recipe.json" if Path(name).is_dir() else Path(name)
    if not path.is_file():
        raise InputError(
            f"There is no recipe {name!r}; `hrnet recipes` lists them, and a recipe.json can be named too."
        )
    try:
        return recipe_from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} holds no recipe ({error}); `hrnet recipes NAME` prints one.") from None


def override_recipe(recipe: Recipe[Any, Any], overrides: Mapping[str, object]) -> Recipe[Any, Any]:
    """Return a recipe with other values of some fields, by their names with dots: ``train.epochs``.

    Raises:
        InputError: there is no such field, or a value does not fit.
    """
    cure = f"`hrnet recipes {recipe.name}` prints all"
    return _override(recipe_to_json(recipe), overrides, _recipe_type, f"The recipe {recipe.name}", cure)


def override_spec(spec: ModelSpec, overrides: Mapping[str, object], source: str) -> ModelSpec:
    """Return a spec with other values of some fields, by their names with dots: ``backbone.align_corners``.

    Args:
        spec: network as data.
        overrides: values, as in JSON, by field.
        source: name of the checkpoint, for messages.

    Raises:
        InputError: there is no such field, or a value does not fit.
    """
    cure = f"choose from {', '.join(field.name for field in fields(spec))}, with dots between levels"
    return _override(spec_to_json(spec), overrides, lambda task: task.spec, f"The model of {source}", cure)


def _override(
    text: str, overrides: Mapping[str, object], type_of: Callable[[Task[Any, Any]], Any], subject: str, cure: str
) -> Any:
    content = json.loads(text)
    for name, value in overrides.items():
        *path, last = name.split(".")
        owner = content
        for key in path:
            owner = owner.get(key) if isinstance(owner, dict) else None
        if not isinstance(owner, dict) or last not in owner or name == "task":
            raise InputError(f"{subject} has no field {name!r}; {cure}.")
        owner[last] = value
    try:
        return _from_content(content, type_of)
    except ValueError as error:
        raise InputError(f"{subject} with other values: {str(error).rstrip('.')}.") from None


def spec_to_json(spec: ModelSpec) -> str:
    """Return a spec as one line of JSON that names its task."""
    return _to_json(task_of(spec), type(spec), spec)


def spec_from_json(text: str) -> ModelSpec:
    """Return the spec that `spec_to_json` wrote.

    Raises:
        ValueError: the task is unknown, or a field does not fit; names the field.
    """
    return _from_json(text, lambda task: task.spec)


def recipe_to_json(recipe: Recipe[Any, Any]) -> str:
    """Return a recipe as one line of JSON that names its task."""
    return _to_json(task_of(recipe.model), _type_of(recipe), recipe)


def recipe_from_json(text: str) -> Recipe[Any, Any]:
    """Return the recipe that `recipe_to_json` wrote; raises as `spec_from_json`."""
    return _from_json(text, _recipe_type)


def _type_of(recipe: Recipe[Any, Any]) -> Any:
    return GenericAlias(Recipe, (type(recipe.model), type(recipe.data)))


def _recipe_type(task: Task[Any, Any]) -> Any:
    for recipe in task.recipes().values():
        return _type_of(recipe)
    raise ValueError(f"the task {task.name!r} has no recipes")


def _to_json(task: Task[Any, Any], kind: Any, value: Any) -> str:
    return json.dumps({"task": task.name, **TypeAdapter(kind).dump_python(value, mode="json")})


def _from_json(text: str, type_of: Callable[[Task[Any, Any]], Any]) -> Any:
    return _from_content(json.loads(text), type_of)


def _from_content(content: Any, type_of: Callable[[Task[Any, Any]], Any]) -> Any:
    name = content.pop("task", None) if isinstance(content, dict) else None
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}, expected one of {', '.join(TASKS)}")
    # pydantic refuses a configuration beside a dataclass, and applies that of a tuple to the dataclasses inside it.
    wrapped = cast(Any, GenericAlias(tuple, (type_of(TASKS[name]),)))
    adapter = TypeAdapter[Any](wrapped, config=ConfigDict(extra="forbid"))
    try:
        return adapter.validate_python((content,))[0]
    except ValidationError as error:
        raise ValueError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    """Return the first problem of a value with the name of its field."""
    first = error.errors(include_url=False)[0]
    *owner, field = map(str, first["loc"][1:] or ("value",))
    if first["type"] == "unexpected_keyword_argument":
        return f"unknown field {field!r}" + (f" in {'.'.join(owner)}" if owner else "")
    problem = first["msg"].removeprefix("Value error, ")
    return f"{'.'.join([*owner, field])}: {problem[:1].lower()}{problem[1:]}"
