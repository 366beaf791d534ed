"""A training run as its folder tells it: the log's lines, and their curves."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrnet.engine.findings import Chart, Series
from hrnet.engine.recipe import LOG, RECIPE
from hrnet.vis.report.svg import MOST_SERIES

# From the largest to the smallest loss: beyond it the small values could not be seen on a linear axis.
_LOG_ABOVE = 20.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log.

    Attributes:
        step: optimizer steps done.
        epoch: the same in epochs.
        seconds: since the run began.
        values: the numbers of the line by name.
        loss: the terms of the loss; empty where the line is of an evaluation.
        metrics: of an evaluation; None where the line is of a step.
    """

    step: int
    epoch: float
    seconds: float
    values: Mapping[str, float]
    loss: Mapping[str, float]
    metrics: Mapping[str, float] | None

    @property
    def total(self) -> float:
        """The loss that is minimized."""
        return sum(self.loss.values())


@dataclass(frozen=True, slots=True)
class Run:
    """What a run's folder holds about its course.

    Attributes:
        name: of the folder.
        recipe: content of its recipe; empty where there is none.
        lines: of the log.
        damaged: how many lines of the log cannot be read.
        stopped: the words with which the run ended before its time; empty where the log has none.
    """

    name: str
    recipe: Mapping[str, Any]
    lines: tuple[Line, ...]
    damaged: int = 0
    stopped: str = ""

    @property
    def steps(self) -> list[Line]:
        return [line for line in self.lines if line.loss]

    @property
    def evaluations(self) -> list[Line]:
        return [line for line in self.lines if line.metrics is not None]

    @property
    def epochs(self) -> float | None:
        """How many the recipe asks for."""
        train = self.recipe.get("train")
        value = train.get("epochs") if isinstance(train, dict) else None
        return value if isinstance(value, int | float) else None


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training run."""
    return (folder / LOG).is_file() or (folder / RECIPE).is_file()


def read_run(folder: Path) -> Run:
    """The run of a folder. What is missing or damaged is left out, for a page must come of a broken run too."""
    lines: list[Line] = []
    damaged, stopped = 0, ""
    for text in _text(folder / LOG).splitlines():
        try:
            content = json.loads(text)
            line = _line(content)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            damaged += 1
            continue
        # A run that was killed and resumed does some steps again.
        while lines and lines[-1].step > line.step:
            lines.pop()
        lines.append(line)
        stopped = str(content.get("stopped", ""))
    return Run(folder.resolve().name, _recipe(folder / RECIPE), tuple(lines), damaged, stopped)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _recipe(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _line(content: dict[str, Any]) -> Line:
    values = {name: float(value) for name, value in content.items() if isinstance(value, int | float)}
    metrics = content.get("metrics")
    return Line(
        step=int(content["step"]),
        epoch=float(content["epoch"]),
        seconds=float(content.get("seconds", 0)),
        values=values,
        loss=_numbers(content.get("loss", {})),
        metrics=None if metrics is None else _numbers(metrics),
    )


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """JSON has no word for what is not a number; some programs write null."""
    return {name: math.nan if value is None else float(value) for name, value in values.items()}


def run_charts(run: Run, headline: str = "") -> tuple[Chart, ...]:
    """Loss, metrics, learning rate, gradient and speed over epochs; those of which the log has nothing are left out.

    Args:
        headline: the metric whose chart comes first.
    """
    steps = run.steps
    others = [
        Chart(title, "epoch", unit, (_series(title.lower(), steps, name),), log=_spread(steps, name))
        for name, title, unit in (
            ("learning_rate", "Learning rate", "length of a step"),
            ("gradient", "Gradient", "norm of the gradient"),
            ("samples_per_second", "Speed", "samples a second"),
        )
        if any(name in line.values for line in steps)
    ]
    return (*_loss_chart(steps), *_metric_charts(run.evaluations, headline), *others)


def _loss_chart(steps: Sequence[Line]) -> tuple[Chart, ...]:
    names = list(dict.fromkeys(name for line in steps for name in line.loss))
    if not names:
        return ()
    epochs = [line.epoch for line in steps]
    terms = [Series(name, epochs, [line.loss.get(name, math.nan) for line in steps]) for name in names]
    total = [Series("sum", epochs, [line.total for line in steps])] if len(names) > 1 else []
    values = [line.total for line in steps if math.isfinite(line.total) and line.total > 0]
    log = bool(values) and max(values) > _LOG_ABOVE * min(values)
    return (Chart("Loss", "epoch", "what is minimized; lower is better", (*total, *terms)[:MOST_SERIES], log=log),)


def _series(title: str, lines: Sequence[Line], name: str) -> Series:
    there = [line for line in lines if name in line.values]
    return Series(title, [line.epoch for line in there], [line.values[name] for line in there])


def _spread(lines: Sequence[Line], name: str) -> bool:
    """Whether a logarithmic axis shows the values better. A rate that falls to zero is clearer on a linear one."""
    values = [line.values[name] for line in lines if name in line.values and math.isfinite(line.values[name])]
    return name == "gradient" and bool(values) and min(values) > 0 and max(values) > _LOG_ABOVE * min(values)


def _metric_charts(evaluations: Sequence[Line], headline: str) -> list[Chart]:
    """One chart for the metrics that begin alike (AP, AP50, APM), which share a unit; details are left to the table."""
    names = list(dict.fromkeys(name for line in evaluations for name in line.metrics or ()))
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: name != headline):
        if parent_of(name, names) is None:
            letters = name[: re.search(r"[^A-Za-z]|$", name).start()]  # type: ignore[union-attr]  # found always
            home = next((other for other in groups if letters.startswith(other)), letters)
            groups.setdefault(home, []).append(name)
    return [
        Chart(
            group[0] if all(name.startswith(group[0]) for name in group) else letters,
            "epoch",
            "on the validation images",
            tuple(
                Series(
                    name,
                    [line.epoch for line in evaluations],
                    [(line.metrics or {}).get(name, math.nan) for line in evaluations],
                )
                for name in group[:MOST_SERIES]
            ),
        )
        for letters, group in groups.items()
    ]


def parent_of(name: str, names: Sequence[str]) -> str | None:
    """The metric of which another, ``parent/detail``, is a part; None where it is none's.

    Several ``parent/detail`` need no metric of their parent's name.
    """
    found = [other for other in names if name.startswith(f"{other}/")]
    if found:
        return max(found, key=len)
    start, slash, _ = name.partition("/")
    siblings = [other for other in names if slash and other.startswith(f"{start}/")]
    # Not what itself has parts, and those parts.
    alone = not any(other.startswith(f"{name}/") for other in siblings)
    return start if alone and len(siblings) > 1 else None
