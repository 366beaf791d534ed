"""The protocol of evaluators, and the contents of an evaluation report: curves, judged samples, a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from numpy import ndarray

from hrnet.io.geometry import Size


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
