"""The options of `hrnet predict` for pose models."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrnet.formats.boxes import BoxTable, read_boxes
from hrnet.inference.prediction import FindBoxes, PredictionOptions
from hrnet.inference.processor import BoxPrompts, ImageSource
from hrnet.nn.task import TaskModel
from hrnet.pose.boxes import finds_people
from hrnet.results import Poses

# The detector of models of people: a shipped model.
_DETECTOR = "detection"


@dataclass(frozen=True)
class PosePrediction(PredictionOptions[Poses]):
    """Estimate keypoints in the boxes of a detector or of a file."""

    boxes: str | None = None
    """boxes to run on: a detection model by name or path; a .json file, {"photo.jpg": [[x, y, width, height, score], ...]}
    or a COCO detection file; or the word whole: each image is one box. Default: the shipped person detector for models of
    people, else whole"""
    score: float = 0.3
    """minimum score of a detection that is used as a box"""
    threshold: float = 0.3
    """minimum score of a keypoint that is drawn"""
    flip: bool = False
    """flip test: average with the flipped input; a little better, half as fast"""

    def settings(self, model: TaskModel[Any, Any]) -> dict[str, Any]:
        return {"flip": self.flip, "detector": self._detector(model), "detector_score": self.score}

    def _detector(self, model: TaskModel[Any, Any]) -> str | None:
        if self.boxes is None:
            return _DETECTOR if finds_people(model.spec.skeleton) else None
        return None if self.boxes == "whole" or self._file() else self.boxes

    def _file(self) -> Path | None:
        return Path(self.boxes) if self.boxes and Path(self.boxes).suffix.lower() == ".json" else None

    def find_boxes(self, report: Callable[[str], None]) -> FindBoxes | None:
        path = self._file()
        if path is None:
            return None
        boxes, problems = read_boxes(path)
        table = BoxTable(boxes, path)
        for problem in problems:
            report(problem)

        def find(image: ImageSource) -> BoxPrompts | None:
            found = table.find(image) if isinstance(image, Path) else None
            if found is None:
                print(f"hrnet predict: {path} has no boxes for {image}; the whole image is one box.", file=sys.stderr)
            return found

        return find

    def drawing_threshold(self) -> float:
        return self.threshold
