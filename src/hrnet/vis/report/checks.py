"""Remarks about a run or an evaluation: signs of failure in words, each with its cure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from hrnet.engine.evaluator import Findings, Measure
from hrnet.vis.report.run import Line, Run, parent_of
from hrnet.vis.report.svg import number

# A loss that rises by this factor above its lowest fifth is no noise; one that fell by less than this did not fall.
_RISEN, _FALLEN = 1.2, 0.97
# Fraction of the way from the baseline to perfect that still is chance; fraction lost since the best that gets a note.
_CHANCE, _LOST = 0.05, 0.02


class Remark(NamedTuple):
    """One thing to know."""

    level: Literal["failed", "warning", "note"]  # failed: figures mean nothing; warning: they may
    text: str
    cure: str = ""


def check_run(run: Run, headline: str = "", measures: Mapping[str, Measure] | None = None) -> list[Remark]:
    """Return remarks about a training run.

    Args:
        headline: metric that selects the best weights.
        measures: descriptions of the metrics.
    """
    return [*_course(run), *_loss(run), *_evaluations(run), *_past_best(run, headline, measures or {})]


def gravest_first(remarks: Sequence[Remark]) -> list[Remark]:
    return sorted(remarks, key=lambda remark: ("failed", "warning", "note").index(remark.level))


def measure_of(name: str, measures: Mapping[str, Measure]) -> Measure | None:
    """Return the description of a metric, or of the one that it is a part of."""
    return measures.get(name) or measures.get(parent_of(name, list(measures)) or "")


def _course(run: Run) -> Iterator[Remark]:
    if run.stopped:
        cure = "The state before it is kept; fix the cause and resume."
        yield Remark("failed", f"The run was stopped: {run.stopped}", cure)
    if run.damaged:
        yield Remark("note", f"{run.damaged} lines of the log cannot be read and are left out.")
    if not run.lines:
        cure = "Read the output of `hrnet train`: it may be reading data still. `hrnet data check` checks the data."
        yield Remark("failed", "The log is empty: not one step was recorded.", cure)
        return
    last = run.lines[-1].epoch
    if run.epochs == 1:
        text = "The recipe asks for one epoch only, in which a model learns hardly anything."
        yield Remark("warning", text, "Raise `--train.epochs`.")
    elif last <= 1:
        text = f"Only {number(last)} epochs are done; no curve says much yet."
        yield Remark("warning", text, "Wait, or resume the run.")
    elif run.epochs and last < run.epochs:
        done = f"{number(last)} of {number(run.epochs)} epochs are done"
        yield Remark("note", f"{done}: the run goes on still, or was interrupted.")


def _loss(run: Run) -> Iterator[Remark]:
    finite = [math.isfinite(line.total) and math.isfinite(line.values.get("gradient", 0.0)) for line in run.steps]
    if not all(finite):
        line = run.steps[finite.index(False)]
        what = "gradient" if math.isfinite(line.total) else "loss"
        yield Remark(
            "failed",
            f"The {what} is not a number from step {line.step} (epoch {number(line.epoch)}) on.",
            "Lower `--train.learning-rate` or lengthen `--train.warmup-steps`; set `--train.gradient-clip 1`; try "
            "`--train.precision fp32`; look for damaged images and labels with `hrnet data check`.",
        )
    losses = [line for line in run.steps if math.isfinite(line.total)]
    if len(losses) < 2:
        return
    parts = _parts(losses)
    middles = [statistics.median(line.total for line in part) for part in parts]
    first, last, lowest = middles[0], middles[-1], min(middles)
    if last > _RISEN * lowest:
        epoch = number(parts[middles.index(lowest)][-1].epoch)
        yield Remark(
            "failed",
            f"The loss rises: around {number(lowest)} near epoch {epoch}, around {number(last)} at the end.",
            "The learning rate is most likely too high: divide it by ten. If the rise begins where the warm-up ends, "
            "warm up longer.",
        )
    elif last > _FALLEN * first:
        text = f"The loss does not fall: around {number(first)} at the beginning, around {number(last)} at the end."
        cure = "Is the learning rate too low, or are the labels on the wrong images? `hrnet data show` draws them."
        yield Remark("warning", text, cure)


def _parts(lines: list[Line]) -> list[list[Line]]:
    """Divide lines into up to five parts of about the same length."""
    count = min(5, len(lines))
    ends = [round(len(lines) * part / count) for part in range(count + 1)]
    return [lines[start:end] for start, end in pairwise(ends)]


def _evaluations(run: Run) -> Iterator[Remark]:
    found = run.evaluations
    if not run.lines:
        return
    if not found:
        text = "The model was not evaluated yet: no metric says how good it is."
        yield Remark("warning", text, "Wait for the first evaluation.")
    elif not any(line.metrics for line in found):
        text = "There is no validation: no metric says how good the model is, and the last weights count as the best."
        cure = "Name labeled images that are not trained on (`--data.val-images`, `--data.val-annotations`)."
        yield Remark("warning", text, cure)
    elif len(found) == 1 and run.lines[-1].epoch > 1:
        text = "There was one evaluation only, which makes no curve."
        yield Remark("note", text, "`--train.evaluate-every` sets how often.")


def check_evaluation(metrics: Mapping[str, float], headline: str, findings: Findings) -> list[Remark]:
    """Return remarks about one evaluation."""
    value, baseline = metrics.get(headline), findings.baseline.get(headline)
    measure = measure_of(headline, findings.measures)
    if value is None:
        text = f"Nothing could be measured: there is no value of {headline}."
        cure = "Is anything labeled, and under the names that the model uses? `hrnet data check` tells."
        return [Remark("failed", text, cure)]
    if baseline is None or measure is None or measure.perfect == baseline:
        return []
    progress = (value - baseline) / (measure.perfect - baseline)
    if not progress <= _CHANCE:  # or not a number
        return []
    relation = "no better than" if progress <= 0 else "hardly better than"
    return [
        Remark(
            "failed",
            f"{headline} is at chance: {number(value)} is {relation} the {number(baseline)} of {findings.baseline_name}.",
            "Was the model trained at all, and for such images and labels, in this order? Look at the images below: "
            "a shift, or exchanged names, that all of them share is a mistake in the labels or the coordinates.",
        )
    ]


def _past_best(run: Run, headline: str, measures: Mapping[str, Measure]) -> Iterator[Remark]:
    measure = measure_of(headline, measures)
    measured = [
        (line.metrics[headline], line.epoch) for line in run.evaluations if line.metrics and headline in line.metrics
    ]
    if len(measured) < 2 or measure is None:
        return
    (best, epoch), (last, _) = max(measured, key=lambda pair: pair[0]), measured[-1]
    if best - last > _LOST * measure.perfect:
        text = f"{headline} was best at epoch {number(epoch)} ({number(best)}) and is {number(last)} now."
        cure = "The best weights are kept. More augmentation or data, or fewer epochs, may help."
        yield Remark("note", text, cure)
