"""Classification metrics: top-1 and top-5 accuracy, accuracy per class, confusion, and cases for a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int64

from hrnet.classification.spec import ClassificationSpec
from hrnet.engine.evaluator import Case, Chart, Findings, Matrix, Measure, Series
from hrnet.formats.records import ImageRecord
from hrnet.results import Classification

# Images that are kept for a report: the worst, and some that are chosen in advance.
_WORST, _RANDOM = 12, 18
# Rows and columns of the confusion matrix in a report.
_SHOWN_CLASSES = 20
# Largest number of classes whose accuracies are metrics.
_LISTED_CLASSES = 100
# Predictions that top-5 counts, where there are more classes.
_TOP = 5
# Points of the curve of accuracy over coverage.
_CURVE = 50
_LEGEND = "The left image shows the true class, the right one the three most probable classes with their scores."


class _Kept(NamedTuple):
    """An image for the report: negative log probability of its class, and the prediction."""

    error: float
    prediction: Classification


class ClassificationEvaluator:
    """Scores one class per image.

    Args:
        images: labeled images, in the order of the positions that `update` gets.
        spec: spec of the model.

    Attributes:
        headline: top-1.
    """

    headline = "top-1"

    def __init__(self, images: Sequence[ImageRecord], spec: ClassificationSpec) -> None:
        self.images = images
        self.spec = spec
        # Images of each class (row) by predicted class (column).
        self.confusion: Int64[np.ndarray, "k k"] = np.zeros((spec.num_classes, spec.num_classes), np.int64)
        # For each image: number of classes more probable than its own (-1: not predicted), and the top-1 score.
        self._ranks = np.full(len(images), -1)
        self._scores = np.zeros(len(images))
        self._kept: dict[int, _Kept] = {}
        self._random = set(Random(0).sample(range(len(images)), min(_RANDOM, len(images))))

    def update(self, indices: Sequence[int], results: Sequence[Classification]) -> None:
        """Add results by position; of equally probable classes the first ranks higher."""
        for index, result in zip(indices, results, strict=True):
            if self._ranks[index] >= 0:
                continue
            label = self.images[index].label
            assert label is not None
            self._ranks[index] = result.top(len(result.names)).index(label)
            self._scores[index] = result.scores.max()
            self.confusion[label, result.label] += 1
            self._keep(index, result, label)

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

    def _keep(self, index: int, result: Classification, label: int) -> None:
        """Keep the image if it is among the worst or the random ones; drop one that no longer is."""
        error = -math.log(max(float(result.scores[label]), 1e-30))
        others = [other for other in self._kept if other not in self._random]
        if index not in self._random and len(others) >= _WORST:
            mildest = min(others, key=lambda other: (self._kept[other].error, -other))
            if error <= self._kept[mildest].error:
                return
            del self._kept[mildest]
        self._kept[index] = _Kept(error, result)

    def measures(self) -> dict[str, Measure]:
        """Return how to read the metrics."""
        return _measures()

    def findings(self) -> Findings:
        """Return the confusion matrix, the worst and some random images, and the score of the most frequent class."""
        seen = self._ranks >= 0
        if not seen.any():
            return Findings(measures=_measures())
        return Findings(
            charts=(self._coverage(),),
            matrices=(confusion_matrix(self.confusion, self.spec.class_names),),
            cases=tuple(self._case(index) for index in sorted(self._kept)),
            judged=int(seen.sum()),
            legend=_LEGEND,
            baseline=self._blind(),
            baseline_name="the most frequent class, for every image",
            measures=_measures(),
        )

    def _case(self, index: int) -> Case:
        one, kept = self.images[index], self._kept[index]
        height, width = one.size
        label, names = one.label, self.spec.class_names
        assert label is not None
        ground_truth = Classification(np.eye(1, len(names), label)[0], names)
        region = np.array([-0.5, -0.5, width - 0.5, height - 0.5])
        return Case(
            one.path, one.size, region, ground_truth, kept.prediction, kept.error, _describe(kept.prediction, label)
        )

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


def _measures() -> dict[str, Measure]:
    return {name: Measure(100, meaning) for name, meaning in _MEANINGS.items()}


def confusion_matrix(confusion: Int[np.ndarray, "k k"], names: tuple[str, ...]) -> Matrix:
    """Return the predicted classes of the images of each class in percent, for a report.

    Of many classes those with the most errors are shown; other predictions share one column.
    """
    wrong = confusion.sum(1) + confusion.sum(0) - 2 * np.diagonal(confusion)
    shown = sorted(np.argsort(-wrong, kind="stable")[:_SHOWN_CLASSES].tolist())
    shown = [label for label in shown if confusion[label].any() or confusion[:, label].any()]
    rows = [label for label in shown if confusion[label].any()]
    part, total = confusion[np.ix_(rows, shown)], confusion[rows].sum(1, keepdims=True)
    columns = [names[label] for label in shown]
    if (rest := total - part.sum(1, keepdims=True)).any():
        part, columns = np.concatenate([part, rest], axis=1), [*columns, "others"]
    values = tuple(tuple(row) for row in (100 * part / np.maximum(total, 1)).tolist())
    text = "Percentage of the images of a row's class that were predicted as the column's class."
    if len(shown) < len(names):
        text += f" The {len(shown)} of {len(names)} classes with the most errors are shown."
    return Matrix("Confusion matrix", tuple(names[label] for label in rows), tuple(columns), values, text)


def _describe(found: Classification, label: int) -> str:
    name, score = found.names[label], float(found.scores[label])
    if found.label == label:
        return f"{name}, score {score:.2f}"
    best = f"{found.name} ({found.scores[found.label]:.2f})"
    place = found.top(len(found.names)).index(label) + 1
    return f"{name} predicted as {best}; the true class has rank {place}, score {score:.2g}"
