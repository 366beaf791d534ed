"""A task as a row of `hrnet.tasks.TASKS`: all that the rest of the package asks a task for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hrnet.engine.recipe import Data, Recipe
from hrnet.errors import InputError
from hrnet.inference.processor import Processor
from hrnet.nn.spec import ModelSpec

if TYPE_CHECKING:
    from hrnet.engine.job import Job
    from hrnet.engine.scoring import EvaluationOptions
    from hrnet.inference.prediction import PredictionOptions
    from hrnet.nn.backbone_model import BackboneModel
    from hrnet.nn.task import TaskModel

Spec = TypeVar("Spec", bound=ModelSpec)


def _refuse_training(recipe: Recipe[Any, Any]) -> Job:
    raise InputError(f"{recipe.name} cannot be trained: its task has no training.")


# Without slots, which Python 3.11 cannot combine with a frozen generic dataclass.
@dataclass(frozen=True)
class Task(Generic[Spec, Data]):
    """One task. Its functions import torch and the task's modules when they are called; the row itself does not.

    Attributes:
        name: name of the task, in files and on the command line.
        spec: type of the networks as data.
        build: function that returns a network with new weights.
        processor: function that returns the NumPy side of a network.
        prediction: function that returns the type of the options of `hrnet predict`; None for tasks that predict nothing.
        evaluation: function that returns the type of the options of `hrnet evaluate`; None for tasks without metrics.
        recipes: function that returns the training recipes by name; all have data options of one type.
        prepare: function that opens a recipe's data and builds its model.
        nested_choices: True if the choices inside the spec are subcommands of `hrnet train`.
    """

    name: str
    spec: type[Spec]
    build: Callable[[Spec], TaskModel[Any, Any] | BackboneModel]
    processor: Callable[[Spec], Processor[Any]] | None = None
    prediction: Callable[[], type[PredictionOptions[Any]]] | None = None
    evaluation: Callable[[], type[EvaluationOptions]] | None = None
    recipes: Callable[[], Mapping[str, Recipe[Spec, Data]]] = dict
    prepare: Callable[[Recipe[Spec, Data]], Job] = _refuse_training
    nested_choices: bool = True
