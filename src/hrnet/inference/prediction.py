"""The options of `hrnet predict`: those of every task, and what a task adds to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hrnet.inference.processor import BoxPrompts, ImageSource

if TYPE_CHECKING:
    from hrnet.nn.task import TaskModel

Result = TypeVar("Result")
FindBoxes = Callable[[ImageSource], BoxPrompts | None]


@dataclass(frozen=True)
class PredictionOptions(Generic[Result]):
    """Options of a prediction that every task has. A task derives its own from it."""

    out: Path = Path("predictions")
    """output folder; existing files are kept, new ones get other names"""
    json: bool = False
    """print one JSON object per line instead of writing files"""
    runtime: str = "auto"
    """auto, openvino, torch; auto is torch on a GPU, else OpenVINO"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 ..."""
    batch: int | None = None
    """inputs per forward; by default as many as hold two million pixels, at most 16"""

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise ValueError("--batch is at least 1")

    def check(self, name: str, model: TaskModel[Any, Any]) -> None:
        """Raise InputError where the options do not fit a model of this name."""

    def settings(self, model: TaskModel[Any, Any]) -> dict[str, Any]:
        """Return further keyword arguments of the `Predictor`."""
        return {}

    def find_boxes(self, report: Callable[[str], None]) -> FindBoxes | None:
        """Return the source of boxes for a top-down model, None for the detector or whole images.

        Args:
            report: called with a sentence for each entry that cannot be used.
        """
        return None

    def select(self, result: Result) -> Result:
        """Return the part of a result that is written."""
        return result

    def drawing_threshold(self) -> float:
        """Return the minimum score of an object or keypoint that is drawn."""
        return 0.3

    def entries(self, result: Result, number: int) -> list[dict[str, Any]]:
        """Return a result's entries of the file that `write_entries` writes."""
        return []

    def write_entries(self, entries: list[dict[str, Any]]) -> None:
        """Write the entries of all results to a file that the options name."""
