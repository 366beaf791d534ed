"""The protocol of evaluators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from hrnet.engine.findings import Findings, Measure


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
