"""What an evaluation can show besides its figures: curves, each sample's truth and what was found, what guessing scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """Lines over a common axis.

    Attributes:
        title: what is seen, in a few words.
        x_label: of the axis, with its unit.
        y_label: of the axis, with its unit.
        series: at most six are told apart.
        y_range: bottom and top; None for what the points need.
        log: the y axis is logarithmic; what is not above zero is a gap.
        text: a sentence for a reader who wonders what it means.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    y_range: tuple[float, float] | None = None
    log: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A table of percentages.

    Attributes:
        title: what is seen, in a few words.
        rows: names.
        columns: names.
        values: row after row, from 0 to 100.
        text: a sentence for a reader who wonders what it means.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    text: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One sample, judged.

    Attributes:
        path: of the image.
        size: height and width of the image as it was labeled.
        region: x1 y1 x2 y2, the part of the image that matters.
        truth: a result as it should be.
        found: a result of the same type as it is.
        error: larger is worse; not a number where nothing could be measured.
        words: the error as a person would say it.
    """

    path: Path
    size: Size
    region: Float[ndarray, 4]
    truth: Any
    found: Any
    error: float
    words: str


@dataclass(frozen=True, slots=True)
class Measure:
    """How to read a metric.

    Attributes:
        perfect: what the best model conceivable scores; 0 for an error, of which less is better.
        meaning: in words, without a full stop.
    """

    perfect: float
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a page about an evaluation shows besides its metrics.

    Attributes:
        charts: curves.
        cases: the samples that have a truth, in the order of the data set; of label maps, which are large, the worst and
            some others.
        legend: how to read the drawings of the cases.
        baseline: the metrics of an answer that does not look at the image; empty where there is none.
        baseline_name: that answer in words.
        measures: how to read the metrics; a metric ``name/detail`` that is not listed is read as ``name``.
        matrices: tables of what was taken for what.
        judged: how many samples have a truth; None for as many as there are cases.
    """

    charts: tuple[Chart, ...] = ()
    cases: tuple[Case, ...] = ()
    legend: str = ""
    baseline: Mapping[str, float] = field(default_factory=dict)
    baseline_name: str = ""
    measures: Mapping[str, Measure] = field(default_factory=dict)
    matrices: tuple[Matrix, ...] = ()
    judged: int | None = None
