"""The options of `hrnet predict` for segmentation models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hrnet.errors import InputError
from hrnet.inference.prediction import PredictionOptions
from hrnet.nn.task import TaskModel
from hrnet.results import SemanticMap
from hrnet.segmentation.processor import SegmentationProcessor
from hrnet.segmentation.windows import InferenceMode, Windowed


@dataclass(frozen=True)
class SegmentationPrediction(PredictionOptions[SemanticMap]):
    """Label every pixel. NAME.labels.png stores the class of every pixel as a palette index."""

    windows: bool = False
    """sliding windows at the image's own scale instead of the whole image resized into the input; for images much larger
    than those of the training"""
    scales: tuple[float, ...] = (1.0,)
    """multi-scale: predict the image at each of these sizes and average"""
    flip: bool = False
    """flip test: average with the flipped input; a little better, half as fast"""

    def settings(self, model: TaskModel[Any, Any]) -> dict[str, Any]:
        if not self.windows and self.scales == (1.0,):
            return {"flip": self.flip}
        windows = "sliding" if self.windows else "whole"
        try:
            mode = InferenceMode(self.scales, self.flip, windows, native=self.windows)
        except ValueError as error:
            raise InputError(f"{error} Fix --scales.") from None
        return {"windows": Windowed(SegmentationProcessor(model.spec), mode, self.batch)}
