"""The protocol of evaluators, and the contents of an evaluation report: curves, judged samples, a baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from hrnet.io.geometry import Size

# Images that a report keeps: the worst, and random ones, chosen before any is scored.
_NUM_WORST, _NUM_RANDOM = 12, 18
# Rows and columns of a confusion matrix.
_MATRIX_CLASSES = 20


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart: its name and its points, x rising. A y that is not finite is a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over a common axis, whose labels have the unit."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]  # lines, at most six of which get colors of their own
    y_range: tuple[float, float] | None = None  # bottom and top of the y axis; None to fit the points
    log: bool = False  # True for a logarithmic y axis, where values that are not positive are gaps
    text: str = ""  # one sentence of explanation


@dataclass(frozen=True, slots=True)
class Matrix:
    """A table of percentages, 0 to 100, with one sentence of explanation."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    text: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One sample, judged."""

    path: Path  # path of the image
    size: Size  # height and width of the image as labeled
    region: Float[ndarray, 4]  # x1 y1 x2 y2 of the part of the image to draw
    expected: Any  # ground truth, as a result
    found: Any  # the prediction, a result of the same type
    error: float  # error of the prediction, larger is worse; NaN where it is undefined
    words: str  # the error in words

    @classmethod
    def whole(cls, path: Path, size: Size, expected: Any, found: Any, error: float, words: str) -> Case:
        """Return the case of a whole image."""
        height, width = size
        return cls(path, size, np.array([-0.5, -0.5, width - 0.5, height - 0.5]), expected, found, error, words)


@dataclass(frozen=True, slots=True)
class Measure:
    """Description of a metric."""

    perfect: float  # value of a perfect model; 0 for an error
    meaning: str = ""  # explanation without a full stop


@dataclass(frozen=True, slots=True)
class Findings:
    """Contents of an evaluation report besides the metrics.

    Attributes:
        charts: curves.
        cases: labeled samples in the order of the data set; for label maps, which are large, the worst and some others.
        legend: explanation of the drawings.
        baseline: metrics of a prediction that ignores the image; empty without one.
        baseline_name: that prediction in words.
        measures: descriptions of the metrics; ``name/detail`` falls back to ``name``.
        matrices: confusion matrices.
        judged: number of labeled samples; None for the number of cases.
    """

    charts: tuple[Chart, ...] = ()
    cases: tuple[Case, ...] = ()
    legend: str = ""
    baseline: Mapping[str, float] = field(default_factory=dict)
    baseline_name: str = ""
    measures: Mapping[str, Measure] = field(default_factory=dict)
    matrices: tuple[Matrix, ...] = ()
    judged: int | None = None


class KeptCases:
    """The worst images and some random ones, of data sets whose results are too large to keep all."""

    def __init__(self, num_images: int) -> None:
        self._random = set(Random(0).sample(range(num_images), min(_NUM_RANDOM, num_images)))
        self._cases: dict[int, Case] = {}

    def add(self, index: int, error: float, case: Callable[[], Case]) -> None:
        """Keep an image if it is one of the worst or of the random ones; drop one that no longer is."""
        if index not in self._random:
            others = [other for other in self._cases if other not in self._random]
            mildest = min(others, key=lambda other: (self._cases[other].error, -other), default=-1)
            if math.isnan(error) or (len(others) >= _NUM_WORST and error <= self._cases[mildest].error):
                return
            if len(others) >= _NUM_WORST:
                del self._cases[mildest]
        self._cases[index] = case()

    def in_order(self) -> tuple[Case, ...]:
        """Return the kept images in the order of the data set."""
        return tuple(self._cases[index] for index in sorted(self._cases))


def confusion_matrix(
    counts: Int[ndarray, "r c"], names: tuple[str, ...], text: str, more: tuple[str, str] | None = None
) -> Matrix:
    """Return a confusion matrix in percent of each row, limited to the classes with the most errors.

    Args:
        counts: number per labeled class (row) and predicted class (column); a last row or column may belong to no class.
        names: names of the classes.
        text: explanation of the numbers.
        more: names of the last row and column, which belong to no class; None: a last column is one of the others.
    """
    classes = len(names)
    wrong = counts.sum(1)[:classes] + counts.sum(0)[:classes] - 2 * np.diagonal(counts)[:classes]
    shown = sorted(np.argsort(-wrong, kind="stable")[:_MATRIX_CLASSES].tolist())
    shown = [label for label in shown if counts[label].any() or counts[:, label].any()]
    last = [classes] if more else []
    rows = [label for label in [*shown, *last] if counts[label].any()]
    part, total = counts[np.ix_(rows, [*shown, *last])], counts[rows].sum(1, keepdims=True)
    row_names, column_names = ((*names, name) for name in more or ("", ""))
    columns = [column_names[label] for label in [*shown, *last]]
    if (rest := total - part.sum(1, keepdims=True)).any():
        part, columns = np.concatenate([part, rest], axis=1), [*columns, "others"]
    values = tuple(tuple(row) for row in (100 * part / np.maximum(total, 1)).tolist())
    if len(shown) < classes:
        text += f" The {len(shown)} of {classes} classes with the most errors are shown."
    return Matrix("Confusion matrix", tuple(row_names[label] for label in rows), tuple(columns), values, text)


@runtime_checkable
class Evaluator(Protocol):
    """An accumulator of results over a data set that computes metrics.

    Attributes:
        headline: name of the metric that selects the best checkpoint; larger is better.
    """

    headline: str

    def update(self, indices: Sequence[int], results: Sequence[Any]) -> None:
        """Add results by their position in the data set; a repeated position is ignored."""
        ...

    def compute(self) -> dict[str, float]:
        """Return the metrics by name."""
        ...

    def measures(self) -> Mapping[str, Measure]:
        """Return how to read the metrics; ``name/detail`` is read as ``name`` where it is not listed."""
        ...

    def findings(self) -> Findings:
        """Return the contents of an evaluation report besides the metrics."""
        ...
