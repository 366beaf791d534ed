"""Charts as SVG: inline, colored by the page's style, with a description for screen readers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from markupsafe import Markup

from hrnet.engine.evaluator import Chart, Series

# Units of the drawing; text of 12 units is readable where a phone shows the chart at nine tenths of this width.
WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 42
# More points than this cannot be told apart at that width: neighbors are averaged.
MOST_POINTS = 400
MOST_SERIES = 6


class Axis:
    """One axis of a chart: it maps values, `low` at `start` and `high` at `end`, to units of the drawing."""

    def __init__(self, low: float, high: float, start: float, end: float, *, log: bool = False) -> None:
        self.low = low
        self.high = high
        self.start = start
        self.end = end
        self.log = log

    def __call__(self, value: float) -> float:
        low, high = self._scale(self.low), self._scale(self.high)
        return self.start + (self._scale(value) - low) / (high - low) * (self.end - self.start)

    def _scale(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self, count: int = 5) -> list[float]:
        """Return round values along the axis: multiples of 1, 2, 5 times a power of ten; or powers of ten if logarithmic."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            step = max(math.ceil((last - first + 1) / (count + 1)), 1)
            return [10.0**power for power in range(first, last + 1, step)]
        step = round_step((self.high - self.low) / count)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [step * number for number in range(first, last + 1)]


def round_step(least: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is not smaller."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def axes(chart: Chart) -> tuple[Axis, Axis] | None:
    """Return the chart's two axes; None for a chart without points."""
    ys = [y for series in chart.series for run in _runs(series, chart.log) for _, y in run]
    if not ys:
        return None
    xs = [x for series in chart.series for x in series.x]
    low, high = chart.y_range or _bounds(min(ys), max(ys), chart.log)
    left, right = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 0.5, max(xs) + 0.5)
    if 0 < left < 0.2 * right:  # epochs count from zero
        left = 0.0
    return Axis(left, right, LEFT, WIDTH - RIGHT), Axis(low, high, HEIGHT - BOTTOM, TOP, log=chart.log)


def _bounds(low: float, high: float, log: bool) -> tuple[float, float]:
    """Return round values below and above."""
    if log:
        bottom, top = math.floor(math.log10(low)), math.ceil(math.log10(high))
        return 10.0**bottom, 10.0 ** max(top, bottom + 1)
    if low >= 0 and low < 0.5 * high:
        low = 0.0
    if high - low <= 1e-9 * max(abs(high), abs(low)):
        low, high = (0.0, 1.0) if high == 0 else (min(low * 0.9, low * 1.1), max(high * 0.9, high * 1.1))
    step = round_step((high - low) / 5)
    return step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)


def thin(series: Series) -> Series:
    """Return at most `MOST_POINTS` points: means of neighbors, each at the place of the last of them.

    A mean with a value that is not finite is not finite, so that the value stays visible.
    """
    group = math.ceil(len(series.x) / MOST_POINTS)
    if group <= 1:
        return series
    starts = range(0, len(series.x), group)
    places = [series.x[min(start + group, len(series.x)) - 1] for start in starts]
    values = [series.y[start : start + group] for start in starts]
    return Series(series.name, places, [sum(part) / len(part) for part in values])


def _runs(series: Series, log: bool) -> list[list[tuple[float, float]]]:
    """Return the points between gaps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(series.x, series.y, strict=True):
        if math.isfinite(y) and (y > 0 or not log):
            runs[-1].append((x, y))
        else:
            runs.append([])
    return [run for run in runs if run]


def number(value: float) -> str:
    """Return a number with four digits."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value and not 1e-3 <= abs(value) < 1e5:
        digits, power = f"{value:.2e}".split("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"
    return f"{value:.4g}"


def describe(chart: Chart) -> str:
    """Return the chart in words: the ends of each line, its lowest and its highest point."""
    sentences = []
    for series in chart.series:
        points = [point for run in _runs(series, log=False) for point in run]
        if not points:
            sentences.append(f"{series.name}: no values.")
            continue
        low, high = min(points, key=lambda point: point[1]), max(points, key=lambda point: point[1])
        ends = f"from {number(points[0][1])} at {number(points[0][0])} to {number(points[-1][1])} at {number(points[-1][0])}"
        sentences.append(
            f"{series.name}: {ends}; lowest {number(low[1])} at {number(low[0])}, "
            f"highest {number(high[1])} at {number(high[0])}."
        )
    return f"{chart.y_label} over {chart.x_label}. {' '.join(sentences)}"


def draw(chart: Chart) -> Markup:
    """Return the chart, with a red line where a series first is not finite; a line of text without any point."""
    chart = replace(chart, series=tuple(thin(series) for series in chart.series[:MOST_SERIES]))
    found = axes(chart)
    if found is None:
        return Markup('<p class="empty">There is no value to draw.</p>')
    start = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">')
    parts = [start.format(WIDTH, HEIGHT, f"{chart.title}. {describe(chart)}"), *_grid(chart, *found)]
    for place, series in enumerate(chart.series):
        parts += _lines(series, place, chart, *found)
    return Markup("").join([*parts, Markup("</svg>")])


def _grid(chart: Chart, x_axis: Axis, y_axis: Axis) -> Iterator[Markup]:
    tick = Markup('<text class="tick" x="{}" y="{}" {}>{}</text>')
    for value in y_axis.ticks():
        y = _unit(y_axis(value))
        yield Markup('<path class="grid" d="M{} {}H{}"/>').format(LEFT, y, WIDTH - RIGHT)
        yield tick.format(LEFT - 6, y, Markup('dy=".32em" text-anchor="end"'), number(value))
    for value in x_axis.ticks():
        x = _unit(x_axis(value))
        yield Markup('<path class="mark" d="M{} {}v4"/>').format(x, HEIGHT - BOTTOM)
        yield tick.format(x, HEIGHT - BOTTOM + 17, Markup('text-anchor="middle"'), number(value))
    yield Markup('<path class="axis" d="M{} {}H{}"/>').format(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT)
    label = Markup('<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>')
    yield label.format(_unit((LEFT + WIDTH - RIGHT) / 2), HEIGHT - 7, chart.x_label)


def _lines(series: Series, place: int, chart: Chart, x_axis: Axis, y_axis: Axis) -> Iterator[Markup]:
    broken = next((x for x, y in zip(series.x, series.y, strict=True) if not math.isfinite(y)), None)
    if broken is not None:
        yield Markup('<path class="broken" d="M{} {}V{}"/>').format(_unit(x_axis(broken)), TOP, HEIGHT - BOTTOM)
    for run in _runs(series, chart.log):
        units = [(_unit(x_axis(x)), _unit(y_axis(min(max(y, y_axis.low), y_axis.high)))) for x, y in run]
        points = " ".join(f"{x},{y}" for x, y in units)
        yield Markup('<polyline class="line s{}" points="{}"/>').format(place, points)
        if len(run) <= 12:
            for x, y in units:
                yield Markup('<circle class="dot s{}" cx="{}" cy="{}" r="3"/>').format(place, x, y)


def _unit(value: float) -> str:
    """Return a length to a tenth of a unit, without trailing zeros."""
    return f"{value:.1f}".removesuffix(".0")
