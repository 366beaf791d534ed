"""A recipe with its data opened, ready for the training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hrnet.engine.evaluator import Evaluator
from hrnet.nn.task import SampleSource, TaskModel


@dataclass(frozen=True, slots=True)
class Job:
    """What a recipe, opened, hands to the training loop.

    Attributes:
        model: with new weights.
        train: samples to learn from.
        validation: samples to score on; None for a run without.
        evaluator: makes what scores them.
        messages: what the reader of the data has to say: inferred things and left-out entries.
    """

    model: TaskModel[Any, Any]
    train: SampleSource
    validation: SampleSource | None
    evaluator: Callable[[], Evaluator]
    messages: tuple[str, ...] = ()
