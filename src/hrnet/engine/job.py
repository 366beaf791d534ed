"""A recipe with its data opened, ready for the training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hrnet.engine.evaluator import Evaluator
from hrnet.nn.task import SampleSource, TaskModel


@dataclass(frozen=True, slots=True)
class Job:
    """A model and its data, as the training loop takes them.

    Attributes:
        model: model with new weights.
        train: training samples.
        validation: validation samples; None without a validation set.
        evaluator: function that returns a new evaluator of the validation samples.
        messages: sentences about inferred values and entries that were left out.
    """

    model: TaskModel[Any, Any]
    train: SampleSource
    validation: SampleSource | None
    evaluator: Callable[[], Evaluator]
    messages: tuple[str, ...] = ()
