"""The page: an evaluation and the course of a run in one HTML file that needs nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hrnet.engine.evaluator import Case, Chart, Evaluator, Findings, Measure
from hrnet.engine.progress import duration
from hrnet.io.atomic import write_text
from hrnet.vis.draw import plain_name
from hrnet.vis.report.checks import Remark, check_evaluation, check_run, gravest_first, measure_of
from hrnet.vis.report.images import choose, figure
from hrnet.vis.report.run import Run, parent_of, read_run, run_charts
from hrnet.vis.report.svg import draw, number

REPORT = "report.html"
_WORST, _RANDOM = 12, 6


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome of one evaluation."""

    metrics: Mapping[str, float]  # metrics by name
    headline: str  # most important metric
    findings: Findings  # further contents of the page

    @classmethod
    def of(cls, evaluator: Evaluator, metrics: Mapping[str, float]) -> Evaluation:
        """Return the outcome of an evaluator that has all results and computed these metrics."""
        return cls(metrics, evaluator.headline, evaluator.findings())


class _Row(NamedTuple):
    """One metric of a table, as text."""

    name: str
    value: str
    baseline: str
    meaning: str


class _Details(NamedTuple):
    """Parts of metrics: a row per part, a column per metric, and a bar from 0 to 100 of the first column."""

    columns: Sequence[str]
    rows: Sequence[tuple[str, float, float | None, Sequence[str]]]


class _Drawn(NamedTuple):
    chart: Chart
    svg: Markup


def write_report(
    path: Path, title: str, facts: Mapping[str, str], evaluation: Evaluation | None = None, run: Run | None = None
) -> None:
    """Write the page to a file.

    Args:
        facts: names of the model, the images ... by kind.
        evaluation: metrics and images.
        run: course of a training.
    """
    headline = evaluation.headline if evaluation else ""
    findings = evaluation.findings if evaluation else Findings()
    remarks = check_run(run, headline, findings.measures) if run is not None else []
    # A run without validation has nothing to score, which its own remarks say.
    if evaluation and (evaluation.metrics or run is None):
        remarks += check_evaluation(evaluation.metrics, headline, findings)
    worst, others = choose(findings.cases, _WORST, _RANDOM)
    content = {
        "title": title,
        "facts": facts,
        "remarks": gravest_first(remarks),
        "verdict": _verdict(remarks),
        "headline": _row(evaluation, headline) if evaluation else None,
        "baseline_name": findings.baseline_name if findings.baseline else "",
        "rows": _rows(evaluation) if evaluation else [],
        "details": _details(evaluation) if evaluation else [],
        "charts": [_Drawn(chart, draw(chart)) for chart in findings.charts],
        "worst": [figure(case) for case in worst],
        "others": [figure(case) for case in others],
        "count": len(findings.cases) if findings.judged is None else findings.judged,
        "legend": findings.legend,
        "colors": _colors([*worst, *others]),
        "matrices": findings.matrices,
        "run": _run_facts(run) if run is not None else None,
        "run_charts": [_Drawn(chart, draw(chart)) for chart in run_charts(run, headline)] if run is not None else [],
        "recipe": json.dumps(run.recipe, indent=2, ensure_ascii=False) if run is not None and run.recipe else "",
        "version": metadata.version("hrnet"),
    }
    write_text(path, _environment().get_template("page.html").render(content))


def write_run_report(
    folder: Path, evaluator: Evaluator | None = None, metrics: Mapping[str, float] | None = None
) -> Path:
    """Write `report.html` into the folder of a training run, from its log and its recipe; return its path.

    Args:
        folder: run folder.
        evaluator: last evaluator, with all its results; None without an evaluation.
        metrics: metrics that it computed.

    Raises:
        InputError: the disk is full or the folder cannot be written.
    """
    run = read_run(folder)
    evaluation = Evaluation.of(evaluator, metrics or {}) if evaluator is not None else None
    write_report(folder / REPORT, f"Training run {run.name}", {}, evaluation, run)
    return folder / REPORT


@cache
def _environment() -> Environment:
    """Return the templates. All values are escaped: names of files and classes come from anywhere."""
    environment = Environment(
        loader=PackageLoader("hrnet.vis", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = _code
    environment.filters["plain"] = plain_name
    return environment


def _code(text: str) -> Markup:
    """Mark up the text between backticks as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>" if i % 2 else "{}").format(part) for i, part in enumerate(parts))


def _colors(cases: Sequence[Case]) -> list[tuple[str, str]]:
    """Return the classes in the drawings with their colors, each once."""
    shown = (result for case in cases for result in (case.expected, case.found))
    return list(dict.fromkeys(pair for result in shown for pair in result.color_key()))


def _verdict(remarks: Sequence[Remark]) -> tuple[str, str]:
    verdicts = {"failed": "This failed. The rest of the page cannot be relied on.", "warning": "Look at this first."}
    level = next((level for level in verdicts if any(remark.level == level for remark in remarks)), "fine")
    return level, verdicts.get(level, "No sign of failure was found.")


def format_metric(name: str, value: float, measures: Mapping[str, Measure]) -> str:
    """Return a metric as text: percentages and errors to a hundredth, fractions to a ten-thousandth."""
    measure = measure_of(name, measures)
    if measure is None or not math.isfinite(value):
        return number(value)
    return f"{value:.{4 if measure.perfect == 1 else 2}f}"


def _row(evaluation: Evaluation, name: str) -> _Row:
    findings = evaluation.findings
    value, guess = evaluation.metrics.get(name), findings.baseline.get(name)
    return _Row(
        name,
        "not measured" if value is None else format_metric(name, value, findings.measures),
        "" if guess is None else format_metric(name, guess, findings.measures),
        findings.measures[name].meaning if name in findings.measures else "",
    )


def _rows(evaluation: Evaluation) -> list[_Row]:
    """Return all metrics that are no part of another, the headline first."""
    names = sorted(evaluation.metrics, key=lambda name: name != evaluation.headline)
    return [_row(evaluation, name) for name in names if parent_of(name, names) is None]


def _details(evaluation: Evaluation) -> list[_Details]:
    """Return the parts of metrics; metrics with parts of the same names share a table."""
    names = sorted(evaluation.metrics, key=lambda name: not name.startswith(evaluation.headline))
    tables: list[dict[str, dict[str, float]]] = []
    for name in names:
        parent = parent_of(name, names)
        if parent is None:
            continue
        part = name.removeprefix(f"{parent}/")
        same_parent = (table for table in tables if parent in table)
        same_part = (table for table in tables if any(part in parts for parts in table.values()))
        home = next(chain(same_parent, same_part), None)
        if home is None:
            tables.append(home := {})
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
            format_metric(name, column[part], findings.measures) if part in column else "–"  # noqa: RUF001
            for name, column in table.items()
        ]
        guess = findings.baseline.get(f"{first}/{part}")
        mark = None if guess is None else _percent(guess, full)
        rows.append((plain_name(part), _percent(values.get(part, 0), full), mark, texts))
    return _Details(list(table), rows)


def _percent(value: float, full: float) -> float:
    return round(min(max(100 * value / full, 0), 100), 1) if math.isfinite(value) else 0.0


def _run_facts(run: Run) -> dict[str, str]:
    """Return the progress of a run, and the most important values of its recipe."""
    facts: dict[str, str] = {"recipe": str(run.recipe["name"])} if run.recipe.get("name") else {}
    if run.lines:
        last = run.lines[-1]
        of = f" of {number(run.epochs)}" if run.epochs else ""
        time = duration(last.seconds) if math.isfinite(last.seconds) else "unknown"
        facts |= {"epochs": f"{number(last.epoch)}{of}", "steps": str(last.step), "time": time}
    for name in ("batch", "optimizer", "learning_rate", "schedule", "ema", "seed"):
        if name in run.train:
            facts[name.replace("_", " ")] = str(run.train[name])
    return facts
