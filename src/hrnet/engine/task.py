"""A task as a row of `hrnet.tasks.TASKS`: all that the rest of the package asks a task for."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hrnet.engine.recipe import Data, Recipe
from hrnet.errors import InputError
from hrnet.inference.processor import Processor
from hrnet.nn.spec import ModelSpec

if TYPE_CHECKING:
    from hrnet.engine.evaluator import Evaluator
    from hrnet.engine.scoring import EvaluationOptions
    from hrnet.inference.prediction import PredictionOptions
    from hrnet.nn.backbone_model import BackboneModel
    from hrnet.nn.task import SampleSource, TaskModel

Spec = TypeVar("Spec", bound=ModelSpec)


def deferred(name: str) -> Callable[[], Any]:
    """Return a function that imports an object, given as ``module:name``, when it is called."""
    return partial(pkgutil.resolve_name, name)


def _refuse_training(recipe: Recipe[Any, Any]) -> Job:
    raise InputError(f"{recipe.name} cannot be trained: its task has no training.")


# Without slots, which Python 3.11 cannot combine with a frozen generic dataclass.
@dataclass(frozen=True)
class Task(Generic[Spec, Data]):
    """One task. Its fields are functions that import torch and the task's modules when they are called (`deferred`)."""

    name: str  # name of the task, in files and on the command line
    spec: type[Spec]  # type of the networks as data
    model: Callable[[], Callable[[Spec], TaskModel[Any, Any] | BackboneModel]]  # returns the type of the networks
    processor: Callable[[], Callable[[Spec], Processor[Any]]] | None = None
    """returns the type of the NumPy side of a network; None for tasks that predict nothing"""
    prediction: Callable[[], type[PredictionOptions[Any]]] | None = None
    """returns the type of the options of `hrnet predict`; None as for `processor`"""
    evaluation: Callable[[], type[EvaluationOptions]] | None = None
    """returns the type of the options of `hrnet evaluate`; None for tasks without metrics"""
    recipes: Callable[[], Mapping[str, Recipe[Spec, Data]]] = dict
    """returns the training recipes by name; all have data options of one type"""
    prepare: Callable[[], Callable[[Recipe[Spec, Data]], Job]] = lambda: _refuse_training
    """returns the function that opens a recipe's data and builds its model"""
    nested_choices: bool = True  # True if the choices inside the spec are subcommands of `hrnet train`

    @classmethod
    def of_folder(cls, spec: type[Spec], *, nested_choices: bool = True) -> Task[Spec, Any]:
        """Return the row of a task whose files and classes have the usual names.

        Args:
            spec: `PoseSpec` of pose/spec.py, beside which model.py has `PoseModel`, recipes.py `RECIPES` and `prepare`.
            nested_choices: see above.
        """
        folder, prefix = spec.__module__.rpartition(".")[0], spec.__name__.removesuffix("Spec")

        def named(file: str) -> Callable[[], Any]:
            return deferred(f"{folder}.{file}:{prefix}{file.capitalize()}")

        return cls(
            folder.rpartition(".")[2],
            spec,
            named("model"),
            named("processor"),
            named("prediction"),
            named("evaluation"),
            deferred(f"{folder}.recipes:RECIPES"),
            deferred(f"{folder}.recipes:prepare"),
            nested_choices,
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A model and its data, as the training loop takes them."""

    model: TaskModel[Any, Any]  # model with new weights
    train: SampleSource
    validation: SampleSource | None  # validation samples; None without a validation set
    evaluator: Callable[[], Evaluator]  # function that returns a new evaluator of the validation samples
    messages: tuple[str, ...] = ()  # sentences about inferred values and entries that were left out
