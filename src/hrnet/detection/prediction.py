"""The options of `hrnet predict` for detection models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrnet.detection.coco_entries import coco_entries, compressed, default_ids
from hrnet.errors import InputError
from hrnet.formats.files import number_in_name
from hrnet.inference.prediction import PredictionOptions
from hrnet.io.atomic import check_free, write_text
from hrnet.nn.task import TaskModel
from hrnet.results import Detections

# Classes that an error lists.
_LISTED = 100


@dataclass(frozen=True)
class DetectionPrediction(PredictionOptions[Detections]):
    """Detect objects: boxes, classes, scores and, for models that have them, masks."""

    score: float = 0.3
    """minimum score of a detection"""
    classes: tuple[str, ...] = ()
    """only objects of these classes"""
    coco_results: Path | None = None
    """write all objects, of any score, to this COCO results file, which --boxes of a pose model reads; an image's id is
    the number that its name ends in, if all names end in different ones, else its position"""

    def check(self, name: str, model: TaskModel[Any, Any]) -> None:
        unknown = [one for one in self.classes if one not in model.spec.class_names]
        if unknown:
            known = ", ".join(model.spec.class_names[:_LISTED])
            raise InputError(f"{name} has no class {unknown[0]!r}; choose from {known}.")
        if self.coco_results:
            check_free(self.coco_results)

    def select(self, result: Detections) -> Detections:
        return self._of_classes(result).above(self.score)

    def _of_classes(self, result: Detections) -> Detections:
        wanted = [result.names[label] in self.classes for label in result.labels.tolist()]
        return result[np.array(wanted, bool)] if self.classes else result

    def drawing_threshold(self) -> float:
        return self.score

    def entries(self, result: Detections, number: int) -> list[dict[str, Any]]:
        if self.coco_results is None or not isinstance(result.source, Path):
            return []
        result, path = self._of_classes(result), result.source
        masks = None if result.masks is None else compressed(result.masks)
        found = coco_entries(result, masks, number, default_ids(result.names))
        return [{"file_name": path.as_posix(), **entry} for entry in found]

    def write_entries(self, entries: list[dict[str, Any]]) -> None:
        if self.coco_results is None:
            return
        paths = [Path(name) for name in dict.fromkeys(entry["file_name"] for entry in entries)]
        numbers = {path.as_posix(): number_in_name(path) for path in paths}
        if None not in numbers.values() and len(set(numbers.values())) == len(paths):
            entries = [{**entry, "image_id": numbers[entry["file_name"]]} for entry in entries]
        if len({path.name for path in paths}) == len(paths):
            entries = [{**entry, "file_name": Path(entry["file_name"]).name} for entry in entries]
        write_text(self.coco_results, json.dumps(entries) + "\n")
