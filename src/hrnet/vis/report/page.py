"""The page: what was measured and how a run went, put into one HTML file that needs nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hrnet.engine.evaluator import Evaluator
from hrnet.engine.findings import Case, Chart, Findings, Measure
from hrnet.io.atomic import write_text
from hrnet.vis.report.checks import Remark, check_evaluation, check_run, gravest_first, measure_of
from hrnet.vis.report.images import choose, figure
from hrnet.vis.report.run import Run, parent_of, read_run, run_charts
from hrnet.vis.report.svg import draw, number

REPORT = "report.html"
_WORST, _RANDOM = 12, 6


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation found.

    Attributes:
        metrics: by name.
        headline: the metric that counts most.
        findings: what there is to see.
    """

    metrics: Mapping[str, float]
    headline: str
    findings: Findings

    @classmethod
    def of(cls, evaluator: Evaluator, metrics: Mapping[str, float]) -> Evaluation:
        """Of an evaluator that has seen all results and computed these metrics."""
        return cls(metrics, evaluator.headline, evaluator.findings())


class _Row(NamedTuple):
    """One metric of a table, as text."""

    name: str
    value: str
    baseline: str
    meaning: str


class _Details(NamedTuple):
    """Parts of metrics: a row a part, a column a metric, and a bar from 0 to 100 of the first column."""

    columns: Sequence[str]
    rows: Sequence[tuple[str, float, float | None, Sequence[str]]]


class _Drawn(NamedTuple):
    chart: Chart
    svg: Markup


def write_report(
    path: Path, title: str, facts: Mapping[str, str], evaluation: Evaluation | None = None, run: Run | None = None
) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        title: in one line.
        facts: what was looked at, by name: the model, the images.
        evaluation: figures and images.
        run: the course of a training.
    """
    headline = evaluation.headline if evaluation else ""
    findings = evaluation.findings if evaluation else Findings()
    remarks = check_run(run, headline, findings.measures) if run is not None else []
    # A run without validation has nothing to score, which its own remarks say.
    if evaluation and (evaluation.metrics or run is None):
        remarks += check_evaluation(evaluation.metrics, headline, findings)
    worst, others = choose(findings.cases, _WORST, _RANDOM)
    text = (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            facts=facts,
            remarks=gravest_first(remarks),
            verdict=_verdict(remarks),
            headline=_headline(evaluation) if evaluation else None,
            baseline_name=findings.baseline_name if findings.baseline else "",
            rows=_rows(evaluation) if evaluation else [],
            details=_details(evaluation) if evaluation else [],
            charts=[_Drawn(chart, draw(chart)) for chart in findings.charts],
            worst=[figure(case) for case in worst],
            others=[figure(case) for case in others],
            count=len(findings.cases) if findings.judged is None else findings.judged,
            legend=findings.legend,
            colors=_colors([*worst, *others]),
            matrices=findings.matrices,
            run=_run_facts(run) if run is not None else None,
            run_charts=[_Drawn(chart, draw(chart)) for chart in run_charts(run, headline)] if run is not None else [],
            recipe=json.dumps(run.recipe, indent=2, ensure_ascii=False) if run is not None and run.recipe else "",
            version=metadata.version("hrnet"),
        )
    )
    write_text(path, text)


def write_run_report(
    folder: Path, evaluator: Evaluator | None = None, metrics: Mapping[str, float] | None = None
) -> Path:
    """Write `report.html` into the folder of a training run, from its log and its recipe.

    Args:
        folder: of the run.
        evaluator: of the last evaluation, with all its results; None where there was none.
        metrics: what it computed.

    Returns:
        The page.

    Raises:
        InputError: the disk is full or the folder cannot be written.
    """
    run = read_run(folder)
    evaluation = Evaluation.of(evaluator, metrics or {}) if evaluator is not None else None
    write_report(folder / REPORT, f"Training run {run.name}", {}, evaluation, run)
    return folder / REPORT


@cache
def _environment() -> Environment:
    """Everything that is filled in is escaped: names of files and classes come from anywhere."""
    environment = Environment(
        loader=PackageLoader("hrnet.vis", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = _code
    environment.filters["plain"] = _plain
    return environment


def _code(text: str) -> Markup:
    """What stands between backticks as code."""
    parts = (
        Markup("<code>{}</code>" if place % 2 else "{}").format(part) for place, part in enumerate(text.split("`"))
    )
    return Markup("").join(parts)


def _plain(name: str) -> str:
    """A class's or keypoint's name as a person writes it."""
    return name.replace("_", " ")


def _colors(cases: Sequence[Case]) -> list[tuple[str, str]]:
    """What the colors of the drawings mean, each once."""
    return list(
        dict.fromkeys(pair for case in cases for one in (case.expected, case.found) for pair in one.color_key())
    )


def _verdict(remarks: Sequence[Remark]) -> tuple[str, str]:
    levels = {remark.level for remark in remarks}
    if "failed" in levels:
        return "failed", "This failed. What follows cannot be relied on."
    if "warning" in levels:
        return "warning", "Look at this first."
    return "fine", "No sign of failure was found."


def format_metric(value: float, measure: Measure | None) -> str:
    """Return a metric as text: percentages and errors to a hundredth, fractions to a ten-thousandth."""
    if measure is None or not math.isfinite(value):
        return number(value)
    return f"{value:.{4 if measure.perfect == 1 else 2}f}"


def _row(evaluation: Evaluation, name: str) -> _Row:
    findings = evaluation.findings
    measure = measure_of(name, findings.measures)
    value, guess = evaluation.metrics.get(name), findings.baseline.get(name)
    return _Row(
        name,
        "not measured" if value is None else format_metric(value, measure),
        "" if guess is None else format_metric(guess, measure),
        measure.meaning if measure and name in findings.measures else "",
    )


def _headline(evaluation: Evaluation) -> _Row:
    return _row(evaluation, evaluation.headline)


def _rows(evaluation: Evaluation) -> list[_Row]:
    """All metrics that are no part of another, the headline first."""
    names = sorted(evaluation.metrics, key=lambda name: name != evaluation.headline)
    return [_row(evaluation, name) for name in names if parent_of(name, names) is None]


def _details(evaluation: Evaluation) -> list[_Details]:
    """The parts of metrics; metrics with parts of the same names share a table."""
    names = sorted(evaluation.metrics, key=lambda name: not name.startswith(evaluation.headline))
    tables: list[dict[str, dict[str, float]]] = []
    for name in names:
        parent = parent_of(name, names)
        if parent is None:
            continue
        part = name.removeprefix(f"{parent}/")
        home = next((table for table in tables if parent in table), None)
        home = home or next((table for table in tables if any(part in parts for parts in table.values())), None)
        if home is None:
            home = {}
            tables.append(home)
        home.setdefault(parent, {})[part] = evaluation.metrics[name]
    return [_table(table, evaluation) for table in tables]


def _table(table: Mapping[str, Mapping[str, float]], evaluation: Evaluation) -> _Details:
    findings = evaluation.findings
    parts = list(dict.fromkeys(part for values in table.values() for part in values))
    first, values = next(iter(table.items()))
    measure = measure_of(first, findings.measures)
    full = (measure.perfect if measure else 0) or max(values.values()) or 1
    rows = []
    for part in parts:
        texts = [
            format_metric(column[part], measure_of(name, findings.measures)) if part in column else "–"  # noqa: RUF001
            for name, column in table.items()
        ]
        guess = findings.baseline.get(f"{first}/{part}")
        mark = None if guess is None else _percent(guess, full)
        rows.append((_plain(part), _percent(values.get(part, 0), full), mark, texts))
    return _Details(list(table), rows)


def _percent(value: float, full: float) -> float:
    return round(min(max(100 * value / full, 0), 100), 1) if math.isfinite(value) else 0.0


def _run_facts(run: Run) -> dict[str, str]:
    """How far the run is, and the numbers of its recipe that are asked for most."""
    facts: dict[str, str] = {}
    if run.lines:
        last = run.lines[-1]
        of = f" of {number(run.epochs)}" if run.epochs else ""
        facts |= {"epochs": f"{number(last.epoch)}{of}", "steps": str(last.step), "time": _duration(last.seconds)}
    train = run.recipe.get("train")
    for name in ("batch", "optimizer", "learning_rate", "schedule", "ema", "seed"):
        if isinstance(train, dict) and name in train:
            facts[name.replace("_", " ")] = str(train[name])
    if run.recipe.get("name"):
        facts = {"recipe": str(run.recipe["name"]), **facts}
    return facts


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
