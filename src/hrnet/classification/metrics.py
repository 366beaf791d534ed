"""Classification metrics: top-1 and top-5 accuracy, accuracy per class, confusion, and cases for a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import Int64

from hrnet.classification.spec import ClassificationSpec
from hrnet.engine.evaluator import Case, Chart, Findings, KeptCases, Measure, Series, confusion_matrix
from hrnet.formats.records import ImageRecord
from hrnet.results import Classification

# Largest number of classes whose accuracies are metrics.
_LISTED_CLASSES = 100
# Predictions that top-5 counts, where there are more classes.
_TOP = 5
# Points of the curve of accuracy over coverage.
_CURVE = 50
_LEGEND = "The left image shows the true class, the right one the three most probable classes with their scores."
_MATRIX_TEXT = "Percentage of the images of a row's class that were predicted as the column's class."


class ClassificationEvaluator:
    """Metrics of one class per labeled image; `update` gets the images' indices."""

    headline = "top-1"

    def __init__(self, images: Sequence[ImageRecord], spec: ClassificationSpec) -> None:
        self.images = images
        self.spec = spec
        # Images of each class (row) by predicted class (column).
        self.confusion: Int64[np.ndarray, "k k"] = np.zeros((spec.num_classes, spec.num_classes), np.int64)
        # For each image: number of classes more probable than its own (-1: not predicted), and the top-1 score.
        self._ranks = np.full(len(images), -1)
        self._scores = np.zeros(len(images))
        self._kept = KeptCases(len(images))

    def update(self, indices: Sequence[int], results: Sequence[Classification]) -> None:
        """Add results by position; of equally probable classes the first ranks higher."""
        for index, result in zip(indices, results, strict=True):
            if self._ranks[index] >= 0:
                continue
            image = self.images[index]
            label = image.label
            assert label is not None
            self._ranks[index] = result.top(len(result.names)).index(label)
            self._scores[index] = result.scores.max()
            self.confusion[label, result.label] += 1
            error = -math.log(max(float(result.scores[label]), 1e-30))
            self._kept.add(index, error, partial(self._case, image, result, label, error))

    def compute(self) -> dict[str, float]:
        """Return the metrics of `_MEANINGS`; `accuracy/NAME` of each class that occurs, for at most 100 classes."""
        ranks = self._ranks[self._ranks >= 0]
        if not len(ranks):
            return {}
        metrics = {"top-1": float(100 * (ranks < 1).mean())}
        if self.spec.num_classes > _TOP:
            metrics["top-5"] = float(100 * (ranks < _TOP).mean())
        labeled = self.confusion.sum(1)
        there = np.flatnonzero(labeled)
        accuracies = 100 * np.diagonal(self.confusion)[there] / labeled[there]
        metrics["mean-accuracy"] = float(accuracies.mean())
        if self.spec.num_classes <= _LISTED_CLASSES:
            names = self.spec.class_names
            metrics |= {
                f"accuracy/{names[label]}": float(value) for label, value in zip(there, accuracies, strict=True)
            }
        return metrics

    def measures(self) -> dict[str, Measure]:
        """Return how to read the metrics."""
        return {name: Measure(100, meaning) for name, meaning in _MEANINGS.items()}

    def findings(self) -> Findings:
        """Return the confusion matrix, the worst and some random images, and the score of the most frequent class."""
        seen = self._ranks >= 0
        if not seen.any():
            return Findings(measures=self.measures())
        return Findings(
            charts=(self._coverage(),),
            matrices=(confusion_matrix(self.confusion, self.spec.class_names, _MATRIX_TEXT),),
            cases=self._kept.in_order(),
            judged=int(seen.sum()),
            legend=_LEGEND,
            baseline=self._blind(),
            baseline_name="the most frequent class, for every image",
            measures=self.measures(),
        )

    def _case(self, image: ImageRecord, result: Classification, label: int, error: float) -> Case:
        ground_truth = Classification(np.eye(1, len(result.names), label)[0], result.names)
        return Case.whole(image.path, image.size, ground_truth, result, error, _describe(result, label))

    def _coverage(self) -> Chart:
        """Return the accuracy over coverage: top-1 of the images with the highest scores, for any fraction of them."""
        seen = np.flatnonzero(self._ranks >= 0)
        order = seen[np.argsort(-self._scores[seen], kind="stable")]
        right = np.cumsum(self._ranks[order] == 0)
        counts = np.unique(np.ceil(np.linspace(0, 1, _CURVE + 1)[1:] * len(order)).astype(int))
        return Chart(
            "Accuracy over coverage",
            "coverage: images with the highest scores, %",
            "top-1, %",
            (Series("top-1", (100 * counts / len(order)).tolist(), (100 * right[counts - 1] / counts).tolist()),),
            (0, 100),
            text="Accuracy if only the images with the highest scores are predicted.",
        )

    def _blind(self) -> dict[str, float]:
        """Return the metrics of predicting the most frequent classes for every image, in closed form."""
        labeled = np.sort(self.confusion.sum(1))[::-1]
        percentages = 100 * np.cumsum(labeled) / labeled.sum()
        baseline = {"top-1": float(percentages[0]), "mean-accuracy": 100 / int((labeled > 0).sum())}
        return baseline | ({"top-5": float(percentages[_TOP - 1])} if len(labeled) > _TOP else {})


_MEANINGS = {
    "top-1": "images whose class has the highest score, %",
    "top-5": "images whose class is among the five highest scores, %",
    "mean-accuracy": "accuracy per class, mean over the classes, %",
    "accuracy": "accuracy per class, %",
}


def _describe(found: Classification, label: int) -> str:
    name, score = found.names[label], float(found.scores[label])
    if found.label == label:
        return f"{name}, score {score:.2f}"
    best = f"{found.name} ({found.scores[found.label]:.2f})"
    place = found.top(len(found.names)).index(label) + 1
    return f"{name} predicted as {best}; the true class has rank {place}, score {score:.2g}"
