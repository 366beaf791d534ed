"""The protocol of what scores results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from hrnet.engine.findings import Findings, Measure


@runtime_checkable
class Evaluator(Protocol):
    """Collects results over a data set and scores them.

    Attributes:
        headline: name of the metric that chooses the best checkpoint; larger is better.
    """

    headline: str

    def update(self, indices: Sequence[int], results: Sequence[Any]) -> None:
        """Add results by their position in the data set; a position seen twice counts once."""
        ...

    def compute(self) -> dict[str, float]:
        """Metrics by name."""
        ...

    def measures(self) -> Mapping[str, Measure]:
        """Return how to read the metrics; ``name/detail`` is read as ``name`` where it is not listed."""
        ...

    def findings(self) -> Findings:
        """What a page about the evaluation shows besides the metrics."""
        ...
