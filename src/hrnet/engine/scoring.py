"""Scoring a model on a labeled data set: the options every task has, and the one loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrnet.engine.evaluator import Evaluator
from hrnet.engine.progress import Progress
from hrnet.errors import InputError
from hrnet.inference.processor import ImageSource, Input

if TYPE_CHECKING:
    from hrnet.nn.task import TaskModel

# `Predictor.run`: positions and results of inputs; the callback hears of those that cannot be read.
Run = Callable[..., Iterator[tuple[int, Any]]]


@dataclass(frozen=True, slots=True)
class ScoringSet:
    """Labeled images, ready to be scored."""

    inputs: Sequence[Input]  # inputs of the model, in the order of the evaluator's positions
    evaluator: Evaluator
    counts: Callable[[Sequence[int]], Mapping[str, int]]
    """function from the scored positions to the numbers of images, objects ... by name"""
    messages: Sequence[str] = ()  # sentences about what was inferred or left out
    incomplete: bool = False  # whether labeled images or objects were left out
    settings: Mapping[str, Any] = field(default_factory=dict)  # further keyword arguments of the `Predictor`
    unit: str = "images"  # name of the inputs, in the plural
    facts: Mapping[str, str] = field(default_factory=dict)  # how the model is run, for the report


@dataclass(frozen=True, slots=True)
class Scored:
    """Outcome of an evaluation."""

    evaluator: Evaluator  # evaluator with all results
    metrics: Mapping[str, float]
    counts: Mapping[str, int]  # numbers of images, objects ... that were scored
    seconds: float
    incomplete: bool  # whether labeled images or objects were left out
    facts: Mapping[str, str]  # how the model was run, for the report


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of an evaluation that every task has. A task derives its own from it and opens its data."""

    images: Path
    """folder of the images, or the whole data set"""
    hold_out: int = 0
    """score only every N-th image, sorted by path: those that `--data.hold-out N` keeps out of training; 0 for all"""
    format: str | None = None
    """format of the data set, where it fits several: coco, yolo, voc, label-maps ..."""
    out: Path | None = None
    """write the metrics to this JSON file; an existing file is not replaced"""
    report: Path | None = None
    """write report.html into this folder: metrics, curves, worst and random images; of a run folder also its course"""
    runtime: str = "auto"
    """auto, openvino, torch; auto is torch on a GPU, else OpenVINO"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 ..."""
    batch: int | None = None
    """inputs per forward; by default as many as hold two million pixels, at most 16"""

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise ValueError("--batch is at least 1")
        if self.hold_out < 0:
            raise ValueError("--hold-out is not negative")

    def outputs(self) -> list[Path]:
        """Return the files that the options name, which must not exist yet."""
        return [self.out] if self.out else []

    def open(self, name: str, model: TaskModel[Any, Any]) -> ScoringSet:
        """Open the labeled images for a model of this name.

        Raises:
            InputError: labels are missing or cannot be used.
        """
        raise NotImplementedError

    def facts(self) -> dict[str, str]:
        """Return what a report says about the options."""
        facts = {"folder": str(self.images)}
        if self.hold_out:
            facts["held out"] = f"every {self.hold_out}th image by path"
        return facts

    def write(self, evaluator: Any) -> None:
        """Write further files that the options name."""


def score(run: Run, data: ScoringSet, say: Callable[[str], None]) -> Scored:
    """Run a model over labeled images and compute its metrics.

    Args:
        run: `Predictor.run` of the model.
        data: labeled images.
        say: called with a sentence for each image that cannot be read, which is left out.
    """
    start, scored = time.perf_counter(), []

    def leave_out(source: ImageSource, error: InputError) -> None:
        say(str(error))

    with Progress("evaluate", len(data.inputs), data.unit) as progress:
        for index, result in run(data.inputs, detect=False, on_error=leave_out):
            data.evaluator.update([index], [result])
            scored.append(index)
            progress.advance(1)
    metrics = data.evaluator.compute()
    seconds = time.perf_counter() - start
    incomplete = data.incomplete or len(scored) < len(data.inputs)
    return Scored(data.evaluator, metrics, data.counts(scored), seconds, incomplete, data.facts)
