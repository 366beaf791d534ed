"""A training run as its folder tells it: the lines of the log, and their curves."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrnet.engine.evaluator import Chart, Series
from hrnet.engine.recipe import LOG, RECIPE
from hrnet.vis.report.svg import MOST_SERIES

# Ratio of the largest to the smallest value above which the small ones could not be seen on a linear axis.
_LOG_ABOVE = 20.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log."""

    step: int  # optimizer steps taken
    epoch: float  # the same in epochs
    seconds: float  # training time
    values: Mapping[str, float]  # numbers of the line by name
    loss: Mapping[str, float]  # terms of the loss; empty for an evaluation
    metrics: Mapping[str, float] | None  # metrics of an evaluation; None for a step

    @property
    def total(self) -> float:
        """The loss that is minimized."""
        return sum(self.loss.values())


@dataclass(frozen=True, slots=True)
class Run:
    """The records in a run folder."""

    name: str
    recipe: Mapping[str, Any]  # content of recipe.json; empty without one
    lines: tuple[Line, ...]  # lines of the log
    damaged: int = 0  # number of lines that cannot be read
    stopped: str = ""  # error that ended the run; empty without one

    @property
    def steps(self) -> list[Line]:
        return [line for line in self.lines if line.loss]

    @property
    def evaluations(self) -> list[Line]:
        return [line for line in self.lines if line.metrics is not None]

    @property
    def train(self) -> Mapping[str, Any]:
        """Training options of the recipe."""
        train = self.recipe.get("train")
        return train if isinstance(train, dict) else {}

    @property
    def epochs(self) -> float | None:
        """Number of epochs that the recipe asks for."""
        value = self.train.get("epochs")
        return value if isinstance(value, int | float) else None


def is_run(folder: Path) -> bool:
    """Return True for the folder of a training run."""
    return (folder / LOG).is_file() or (folder / RECIPE).is_file()


def read_run(folder: Path) -> Run:
    """Return the run of a folder. Missing and damaged records are left out: a broken run needs its page too."""
    lines: list[Line] = []
    damaged, stopped = 0, ""
    for text in _text(folder / LOG).splitlines():
        try:
            content = json.loads(text)
            line = _line(content)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            damaged += 1
            continue
        # A run that was killed and resumed takes some steps again.
        while lines and lines[-1].step > line.step:
            lines.pop()
        lines.append(line)
        stopped = str(content.get("stopped", ""))
    try:
        recipe = json.loads(_text(folder / RECIPE))
    except (ValueError, RecursionError):
        recipe = {}
    return Run(folder.resolve().name, recipe if isinstance(recipe, dict) else {}, tuple(lines), damaged, stopped)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _line(content: dict[str, Any]) -> Line:
    values = {name: float(value) for name, value in content.items() if isinstance(value, int | float)}
    loss, metrics = _numbers(content.get("loss", {})), content.get("metrics")
    metrics = None if metrics is None else _numbers(metrics)
    return Line(int(content["step"]), float(content["epoch"]), values.get("seconds", 0.0), values, loss, metrics)


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """Return values as numbers; some programs write null for NaN, which JSON does not have."""
    return {name: math.nan if value is None else float(value) for name, value in values.items()}


def run_charts(run: Run, headline: str = "") -> tuple[Chart, ...]:
    """Return the curves of loss, metrics, learning rate, gradient and speed over epochs, as far as the log has them.

    Args:
        headline: metric whose chart comes first.
    """
    steps = run.steps
    others: list[Chart] = []
    for name, title, unit in (
        ("learning_rate", "Learning rate", "length of a step"),
        ("gradient", "Gradient", "norm of the gradient"),
        ("samples_per_second", "Speed", "samples per second"),
    ):
        lines = [line for line in steps if name in line.values]
        if lines:
            series = Series(title.lower(), [line.epoch for line in lines], [line.values[name] for line in lines])
            # A rate that falls to zero is clearer on a linear axis.
            log = name == "gradient" and 0 not in series.y and _needs_log_axis(series.y)
            others.append(Chart(title, "epoch", unit, (series,), log=log))
    return (*_loss_chart(steps), *_metric_charts(run.evaluations, headline), *others)


def _needs_log_axis(values: Sequence[float]) -> bool:
    positive = [value for value in values if math.isfinite(value) and value > 0]
    return bool(positive) and max(positive) > _LOG_ABOVE * min(positive)


def _loss_chart(steps: Sequence[Line]) -> tuple[Chart, ...]:
    names = list(dict.fromkeys(name for line in steps for name in line.loss))
    if not names:
        return ()
    epochs, totals = [line.epoch for line in steps], [line.total for line in steps]
    terms = [Series(name, epochs, [line.loss.get(name, math.nan) for line in steps]) for name in names]
    total = [Series("sum", epochs, totals)] if len(names) > 1 else []
    series = (*total, *terms)[:MOST_SERIES]
    return (Chart("Loss", "epoch", "training loss; lower is better", series, log=_needs_log_axis(totals)),)


def _metric_charts(evaluations: Sequence[Line], headline: str) -> list[Chart]:
    """Return one chart for the metrics that begin alike (AP, AP50, APM), which share a unit; details are left out."""
    names = list(dict.fromkeys(name for line in evaluations for name in line.metrics or ()))
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: name != headline):
        if parent_of(name, names) is None:
            letters = re.split(r"[^A-Za-z]", name)[0]
            home = next((other for other in groups if letters.startswith(other)), letters)
            groups.setdefault(home, []).append(name)
    epochs = [line.epoch for line in evaluations]
    charts = []
    for letters, group in groups.items():
        title = group[0] if all(name.startswith(group[0]) for name in group) else letters
        values = {name: [(line.metrics or {}).get(name, math.nan) for line in evaluations] for name in group}
        series = tuple(Series(name, epochs, values[name]) for name in group[:MOST_SERIES])
        charts.append(Chart(title, "epoch", "on the validation images", series))
    return charts


def parent_of(name: str, names: Sequence[str]) -> str | None:
    """Return the metric of which another, ``parent/detail``, is a part; None for a metric of its own.

    Several ``parent/detail`` need no metric of their parent's name.
    """
    found = [other for other in names if name.startswith(f"{other}/")]
    if found:
        return max(found, key=len)
    start, slash, _ = name.partition("/")
    siblings = [other for other in names if slash and other.startswith(f"{start}/")]
    # A metric with parts of its own, and these parts, are no siblings.
    alone = not any(other.startswith(f"{name}/") for other in siblings)
    return start if alone and len(siblings) > 1 else None
