"""What is wrong with a run or an evaluation, in words, and what to look at."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from hrnet.engine.findings import Findings, Measure
from hrnet.vis.report.run import Line, Run, parent_of
from hrnet.vis.report.svg import number

# A loss that rises by this factor above its lowest part is no noise; one that fell by less than this did not fall.
_RISEN, _FALLEN = 1.2, 0.97
# Which part of the way from guessing to perfect is still guessing; and which part lost since the best is worth a word.
_CHANCE, _LOST = 0.05, 0.02


class Remark(NamedTuple):
    """One thing to know.

    Attributes:
        level: ``failed`` where the figures mean nothing, ``warning`` where they may not, ``note`` otherwise.
        text: what was seen.
        cure: what to look at.
    """

    level: Literal["failed", "warning", "note"]
    text: str
    cure: str = ""


def check_run(run: Run, headline: str = "", measures: Mapping[str, Measure] | None = None) -> list[Remark]:
    """Remarks about a training run.

    Args:
        headline: the metric that chooses the best weights.
        measures: how to read the metrics.
    """
    return [*_course(run), *_loss(run), *_evaluations(run), *_past_best(run, headline, measures or {})]


def gravest_first(remarks: Sequence[Remark]) -> list[Remark]:
    return sorted(remarks, key=lambda remark: ("failed", "warning", "note").index(remark.level))


def check_evaluation(metrics: Mapping[str, float], headline: str, findings: Findings) -> list[Remark]:
    """Remarks about one evaluation."""
    if headline not in metrics:
        return [
            Remark(
                "failed",
                f"Nothing could be measured: there is no value of {headline}.",
                "Is anything labeled, and under the names that the model uses? `hrnet data check` tells.",
            )
        ]
    return list(_chance(metrics, headline, findings))


def measure_of(name: str, measures: Mapping[str, Measure]) -> Measure | None:
    """How to read a metric, or the one that it is a part of."""
    return measures.get(name) or measures.get(parent_of(name, list(measures)) or "")


def _course(run: Run) -> Iterator[Remark]:
    if run.stopped:
        yield Remark(
            "failed", f"The run was stopped: {run.stopped}", "The state before it is kept; mend the cause and resume."
        )
    if run.damaged:
        yield Remark("note", f"{run.damaged} lines of the log cannot be read and are left out.")
    if not run.lines:
        yield Remark(
            "failed",
            "The log is empty: not one step was recorded.",
            "Look at what `hrnet train` printed: it may still be reading data, or it ended before its first step. "
            "`hrnet data check` looks through the data.",
        )
        return
    last = run.lines[-1].epoch
    if last <= 1 and run.epochs != 1:
        yield Remark(
            "warning", f"Only {number(last)} epochs are done; no curve says much yet.", "Wait, or resume the run."
        )
    elif run.epochs == 1:
        yield Remark(
            "warning",
            "The recipe asks for one epoch only; hardly anything is learned in that.",
            "Raise `--train.epochs`.",
        )
    elif run.epochs and last < run.epochs:
        yield Remark(
            "note", f"{number(last)} of {number(run.epochs)} epochs are done: it still runs, or was interrupted."
        )


def _loss(run: Run) -> Iterator[Remark]:
    broken = next((line for line in run.steps if not _finite(line)), None)
    if broken is not None:
        what = "gradient" if math.isfinite(broken.total) else "loss"
        yield Remark(
            "failed",
            f"The {what} is not a number from step {broken.step} (epoch {number(broken.epoch)}) on.",
            "Lower `--train.learning-rate` or lengthen `--train.warmup-steps`; set `--train.gradient-clip 1`; try "
            "`--train.precision fp32`; look for damaged images and labels with `hrnet data check`.",
        )
    losses = [line for line in run.steps if math.isfinite(line.total)]
    if len(losses) < 2:
        return
    parts = _parts(losses)
    middles = [statistics.median(line.total for line in part) for part in parts]
    lowest = min(range(len(middles)), key=middles.__getitem__)
    if middles[-1] > _RISEN * middles[lowest]:
        yield Remark(
            "failed",
            f"The loss rises: around {number(middles[lowest])} near epoch {number(parts[lowest][-1].epoch)}, around "
            f"{number(middles[-1])} at the end.",
            "The learning rate is most likely too high: divide it by ten. If the rise begins where the warm-up ends, "
            "warm up longer.",
        )
    elif middles[-1] > _FALLEN * middles[0]:
        yield Remark(
            "warning",
            f"The loss does not fall: around {number(middles[0])} at the beginning, around {number(middles[-1])} at the end.",
            "Is the learning rate too low, or are the labels on the wrong images? `hrnet data show` draws them.",
        )


def _finite(line: Line) -> bool:
    return math.isfinite(line.total) and math.isfinite(line.values.get("gradient", 0.0))


def _parts(lines: list[Line]) -> list[list[Line]]:
    """Up to five parts of about the same length."""
    count = min(5, len(lines))
    ends = [round(len(lines) * part / count) for part in range(count + 1)]
    return [lines[start:end] for start, end in pairwise(ends)]


def _evaluations(run: Run) -> Iterator[Remark]:
    found = run.evaluations
    if not run.lines:
        return
    if not found:
        yield Remark(
            "warning", "The model was not evaluated yet: nothing says how good it is.", "Wait for the first evaluation."
        )
    elif not any(line.metrics for line in found):
        yield Remark(
            "warning",
            "There is no validation: nothing says how good the model is, and the last weights count as the best.",
            "Name labeled images that are not trained on (`--data.val-images`, `--data.val-annotations`).",
        )
    elif len(found) == 1 and run.lines[-1].epoch > 1:
        yield Remark(
            "note", "There was one evaluation only, which makes no curve.", "`--train.evaluate-every` sets how often."
        )


def _chance(metrics: Mapping[str, float], headline: str, findings: Findings) -> Iterator[Remark]:
    value, guess = metrics.get(headline), findings.baseline.get(headline)
    measure = measure_of(headline, findings.measures)
    if value is None or guess is None or measure is None or measure.perfect == guess:
        return
    if (value - guess) / (measure.perfect - guess) <= _CHANCE:
        relation = "no better than" if (value - guess) * (measure.perfect - guess) <= 0 else "hardly better than"
        yield Remark(
            "failed",
            f"{headline} is at chance: {number(value)} is {relation} the {number(guess)} of {findings.baseline_name}.",
            "Was the model trained at all, and for such images and labels, in this order? Look at the images below: "
            "a shift, or exchanged names, that all of them share is a mistake in the labels or the coordinates.",
        )


def _past_best(run: Run, headline: str, measures: Mapping[str, Measure]) -> Iterator[Remark]:
    measured = [
        (line.metrics[headline], line.epoch) for line in run.evaluations if line.metrics and headline in line.metrics
    ]
    measure = measure_of(headline, measures)
    if len(measured) < 2 or measure is None:
        return
    (best, epoch), (last, _) = max(measured, key=lambda pair: pair[0]), measured[-1]
    if best - last > _LOST * measure.perfect:
        yield Remark(
            "note",
            f"{headline} was best at epoch {number(epoch)} ({number(best)}) and is {number(last)} now.",
            "The best weights are kept. More augmentation or data, or fewer epochs, may help.",
        )
