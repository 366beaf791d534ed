"""Metrics of detections: COCO's average precision of boxes and masks, VOC's of boxes, and the findings of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from hrnet.detection.coco_entries import (
    annotations_of,
    coco_entries,
    compressed,
    decoded,
    default_ids,
    ground_truth_entries,
    is_ignored,
    labeled_detections,
)
from hrnet.detection.matching import (
    Annotations,
    average_precision,
    confusion_matrix,
    count_pairs,
    in_words,
    match_predictions,
    precision_recall,
)
from hrnet.detection.spec import DetectionSpec
from hrnet.engine.coco_metrics import coco_evaluation
from hrnet.engine.evaluator import Case, Chart, Findings, Measure, Series
from hrnet.formats.records import ImageRecord
from hrnet.results import Detections

# COCO's twelve metrics, in its order.
FIGURES = {
    "AP": "COCO's average precision of boxes, mean over IoU thresholds from 0.5 to 0.95 and over classes",
    "AP50": "AP at IoU 0.5",
    "AP75": "AP at IoU 0.75",
    "APS": "AP of objects below 32 x 32 pixels",
    "APM": "AP of objects between 32 x 32 and 96 x 96 pixels",
    "APL": "AP of larger objects",
    "AR1": "recall with one box per class and image, mean over IoU thresholds and classes",
    "AR10": "recall with 10 boxes per class and image",
    "AR100": "recall with 100 boxes per class and image",
    "ARS": "AR100 of objects below 32 x 32 pixels",
    "ARM": "AR100 of objects between 32 x 32 and 96 x 96 pixels",
    "ARL": "AR100 of larger objects",
}
_VOC_FIGURES = {
    "VOC-AP50": "VOC's average precision of boxes at IoU 0.5, mean over classes",
    "VOC07-AP50": "VOC's average precision at eleven recalls, as until VOC 2009",
}
# Images on a report page: the worst ones and random ones.
_NUM_WORST, _NUM_RANDOM = 12, 18
# Maximum number of lines in a chart.
_MAX_LINES = 6
_RECALLS = tuple(index / 100 for index in range(101))
_LEGEND = (
    "Colors are those of the classes and may differ between data sets. Thin yellow lines in predictions are labels."
)


class DetectionEvaluator:
    """Evaluator of detections.

    Args:
        images: labeled images, in the order of the indices of `update`; labels are those of the spec.
        spec: spec of the model.
        category_ids: COCO category id of each class, for `coco_results`; None or empty for `default_ids`.

    Attributes:
        headline: name of the main metric.
    """

    headline = "AP"

    def __init__(
        self, images: Sequence[ImageRecord], spec: DetectionSpec, category_ids: Sequence[int] | None = None
    ) -> None:
        self.images = images
        self.spec = spec
        self.category_ids: tuple[int, ...] = tuple(category_ids) if category_ids else default_ids(spec.class_names)
        self._predictions: dict[int, Detections] = {}
        # COCO's compressed RLE of the masks of each image, much smaller than the masks.
        self._masks: dict[int, list[dict[str, Any]]] = {}

    def update(self, indices: Sequence[int], results: Sequence[Detections]) -> None:
        for index, result in zip(indices, results, strict=True):
            if index in self._predictions:
                continue
            boxes, scores = result.boxes.astype(float), result.scores.astype(float)
            self._predictions[index] = Detections(boxes, scores, result.labels, self.spec.class_names)
            if result.masks is not None:
                size = self.images[index].size
                if result.masks.size != size:
                    raise ValueError(f"The masks of image {index} must have its size {size}, not {result.masks.size}.")
                self._masks[index] = compressed(result.masks)

    def compute(self) -> dict[str, float]:
        """Return the metrics of `FIGURES`, and `AP/NAME` and `mask-AP/NAME` of each labeled class.

        Metrics without labeled objects are left out.
        """
        ground_truths = self._annotations()
        if not any(ground_truth.counted.any() for ground_truth in ground_truths.values()):
            return {}
        metrics = self._coco("bbox")
        if self._has_masks():
            metrics |= {f"mask-{name}": value for name, value in self._coco("segm").items()}
        metrics |= self._voc(ground_truths)
        # Classes last: there may be many.
        return dict(sorted(metrics.items(), key=lambda item: "/" in item[0]))

    def coco_results(self) -> list[dict[str, Any]]:
        """Return all detections as a COCO results list, which `loadRes` of pycocotools reads."""
        return [
            entry
            for index, predictions in sorted(self._predictions.items())
            for entry in coco_entries(predictions, self._masks.get(index), self.images[index].number, self.category_ids)
        ]

    def _annotations(self) -> dict[int, Annotations]:
        """Return the labeled objects of each scored image."""
        return {index: annotations_of(self.images[index]) for index in sorted(self._predictions)}

    def _has_masks(self) -> bool:
        """Return True if masks were predicted and every counted object has one."""
        objects = [one for index in self._predictions for one in self.images[index].objects if not is_ignored(one)]
        return bool(self._masks) and all(one.polygons or one.runs is not None for one in objects)

    def _evaluation(self, kind: Literal["bbox", "segm"]) -> Any:
        order, classes = sorted(self._predictions), range(1, len(self.spec.class_names) + 1)
        results: list[dict[str, Any]] = []
        for index in order:
            entries = coco_entries(self._predictions[index], self._masks.get(index), index, classes)
            if kind == "bbox":
                results += [{key: value for key, value in entry.items() if key != "segmentation"} for entry in entries]
            elif index in self._masks:
                # Without boxes: COCO's code would take their areas for those of the masks.
                results += [{key: value for key, value in entry.items() if key != "bbox"} for entry in entries]
        ground_truth = [entry for index in order for entry in ground_truth_entries(self.images[index], index, kind)]
        sizes = {index: self.images[index].size for index in order}
        return coco_evaluation(kind, sizes, classes, ground_truth, results)

    def _coco(self, kind: Literal["bbox", "segm"]) -> dict[str, float]:
        evaluation = self._evaluation(kind)
        evaluation.summarize()
        values: dict[str, float] = dict(zip(FIGURES, (float(value) for value in evaluation.stats), strict=False))
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        for label, name in enumerate(self.spec.class_names):
            values[f"AP/{name}"] = float(precision[:, :, label].mean())
        # Metrics without labeled objects are -1.
        return {name: value for name, value in values.items() if value >= 0}

    def _matches(self, ground_truths: dict[int, Annotations]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return scores, matches and labels of all boxes, image after image."""
        rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for index, ground_truth in ground_truths.items():
            found = self._predictions[index]
            rows.append((found.scores, match_predictions(ground_truth, found), found.labels))
        scores, matches, labels = map(np.concatenate, zip(*rows, strict=True))
        return scores, matches, labels

    def _voc(self, ground_truths: dict[int, Annotations]) -> dict[str, float]:
        scores, matches, labels = self._matches(ground_truths)
        counts = self._counts(ground_truths)
        areas: list[tuple[float, float]] = []
        for label in np.flatnonzero(counts):
            of_class = labels == label
            precision, recall, _ = precision_recall(scores[of_class], matches[of_class], int(counts[label]))
            areas.append((average_precision(precision, recall), average_precision(precision, recall, eleven=True)))
        plain, eleven = np.mean(areas, axis=0)
        return {"VOC-AP50": float(plain), "VOC07-AP50": float(eleven)}

    def _counts(self, ground_truths: dict[int, Annotations]) -> Int[np.ndarray, " k"]:
        """Return the number of counted objects of each class."""
        labels = np.concatenate([ground_truth.labels[ground_truth.counted] for ground_truth in ground_truths.values()])
        return np.bincount(labels, minlength=len(self.spec.class_names))

    def measures(self) -> dict[str, Measure]:
        """Return how to read the metrics."""
        masks = {
            f"mask-{name}": text.replace("boxes", "masks").replace("box", "mask") for name, text in FIGURES.items()
        }
        return {name: Measure(1, meaning) for name, meaning in (FIGURES | masks | _VOC_FIGURES).items()}

    def findings(self) -> Findings:
        """Return precision-recall curves, the confusion matrix, and the worst and some random images."""
        ground_truths = self._annotations()
        if not any(ground_truth.counted.any() for ground_truth in ground_truths.values()):
            return Findings(measures=self.measures())
        threshold, names = self.best_threshold(ground_truths), self.spec.class_names
        counts = {
            index: count_pairs(ground_truth, self._predictions[index].above(threshold), len(names))
            for index, ground_truth in ground_truths.items()
        }
        return Findings(
            charts=self._charts(ground_truths),
            matrices=(confusion_matrix(np.sum(list(counts.values()), axis=0), names),),
            cases=self._cases(counts, threshold),
            judged=len(ground_truths),
            legend=f"{_LEGEND} Detections with a score of at least {threshold:.2f} are shown, where F1 is highest.",
            measures=self.measures(),
        )

    def best_threshold(self, ground_truths: dict[int, Annotations] | None = None) -> float:
        """Return the score threshold with the highest F1 over all classes."""
        ground_truths = ground_truths or self._annotations()
        scores, matches, _ = self._matches(ground_truths)
        precision, recall, reached = precision_recall(scores, matches, max(int(self._counts(ground_truths).sum()), 1))
        if not len(reached):
            return 0.5
        best = int((2 * precision * recall / np.maximum(precision + recall, 1e-9)).argmax())
        return float(reached[best])

    def _charts(self, ground_truths: dict[int, Annotations]) -> tuple[Chart, ...]:
        kinds: dict[Literal["bbox", "segm"], str] = {"bbox": "boxes"}
        if self._has_masks():
            kinds["segm"] = "masks"
        counts = self._counts(ground_truths)
        frequent = np.argsort(-counts, kind="stable")[:_MAX_LINES]
        names = self.spec.class_names
        charts: list[Chart] = []
        for kind, what in kinds.items():
            # IoU thresholds from 0.5 to 0.95, recalls, classes.
            precision = self._evaluation(kind).eval["precision"][:, :, :, 0, -1]
            mean = precision[:, :, counts > 0].mean(2)
            lines = (("IoU 0.5", mean[0]), ("IoU 0.75", mean[5]), ("mean of 0.5 to 0.95", mean.mean(0)))
            title = f"Precision over recall, {what}"
            charts.append(_chart(title, lines, "The area under the mean line is AP."))
            classes = [(str(names[int(label)]), precision[0, :, label]) for label in frequent if counts[label]]
            if len(names) > 1:
                charts.append(_chart(f"{title} per class, IoU 0.5", classes, _of_classes(len(names))))
        return tuple(charts)

    def _cases(self, counts: dict[int, Int[np.ndarray, "_ _"]], threshold: float) -> tuple[Case, ...]:
        """Return the worst and some random images, in order."""
        # Fraction of the pairs that are wrong; 0 for images without objects and predictions.
        errors = {index: 1 - np.trace(one[:-1, :-1]) / one.sum() if one.any() else 0.0 for index, one in counts.items()}
        shown = set(sorted(errors, key=lambda index: (-errors[index], index))[:_NUM_WORST])
        rest = [index for index in errors if index not in shown]
        shown |= set(Random(0).sample(rest, min(_NUM_RANDOM, len(rest))))
        words = {index: in_words(counts[index], self.spec.class_names) for index in sorted(shown)}
        return tuple(self._case(index, errors[index], text, threshold) for index, text in words.items())

    def _case(self, index: int, error: float, words: str, threshold: float) -> Case:
        image, predictions = self.images[index], self._predictions[index]
        masks = decoded(self._masks[index], image.size) if index in self._masks else None
        shown = replace(predictions, masks=masks, source=image.path).above(threshold)
        ground_truth = labeled_detections(image, self.spec.class_names, masks=self.spec.has_masks)
        height, width = image.size
        region = np.array([-0.5, -0.5, width - 0.5, height - 0.5])
        return Case(image.path, image.size, region, ground_truth, shown, error, words)


def _chart(title: str, lines: Sequence[tuple[str, np.ndarray]], text: str) -> Chart:
    series = tuple(Series(name, _RECALLS, values.tolist()) for name, values in lines)
    return Chart(title, "recall", "precision", series, y_range=(0, 1), text=text)


def _of_classes(count: int) -> str:
    return "The area under a line is AP50 of the class." + (
        f" The {_MAX_LINES} of {count} classes with most objects are shown." if count > _MAX_LINES else ""
    )
