"""How good classes of whole images are: top-1 and top-5 accuracy, of each class too, and what there is to see of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int64

from hrnet.classification.spec import ClassificationSpec
from hrnet.engine.findings import Case, Chart, Findings, Matrix, Measure, Series
from hrnet.formats.records import ImageRecord
from hrnet.results import Classification

# Images that are kept to be shown: the worst, and some that were chosen before anything was seen.
_WORST, _CHOSEN = 12, 18
# Rows and columns of the confusion matrix that a page can show.
_SHOWN_CLASSES = 20
# The accuracy of each class is a metric where there are no more than these.
_LISTED_CLASSES = 100
# Answers that are right if one of them is, where there are more classes than these.
_TOP = 5
# Points of the curve over the least sure images.
_CURVE = 50
_LEGEND = "On each image stands its class, and on its twin the three most probable ones with their probabilities."


class _Kept(NamedTuple):
    """An image that may be shown: minus the logarithm of its class's probability, and what was found."""

    error: float
    found: Classification


class ClassificationEvaluator:
    """Scores one class an image.

    Args:
        images: in the order of the positions that `update` gets, each with its label.
        spec: of the model.

    Attributes:
        headline: top-1.
    """

    headline = "top-1"

    def __init__(self, images: Sequence[ImageRecord], spec: ClassificationSpec) -> None:
        self.images = images
        self.spec = spec
        # Of each class (row), how many images were found to be what.
        self.confusion: Int64[np.ndarray, "k k"] = np.zeros((spec.num_classes, spec.num_classes), np.int64)
        # Of each image: how many classes are more probable than its own (-1: not seen), and how sure the best one is.
        self._ranks = np.full(len(images), -1)
        self._sure = np.zeros(len(images))
        self._kept: dict[int, _Kept] = {}
        self._chosen = set(Random(0).sample(range(len(images)), min(_CHOSEN, len(images))))

    def update(self, indices: Sequence[int], results: Sequence[Classification]) -> None:
        """Add results by position; of equally probable classes the first counts as the better."""
        for index, result in zip(indices, results, strict=True):
            if self._ranks[index] >= 0:
                continue
            label = self.images[index].label
            assert label is not None
            self._ranks[index] = result.top(len(result.names)).index(label)
            self._sure[index] = result.scores.max()
            self.confusion[label, result.label] += 1
            self._keep(index, result, label)

    def compute(self) -> dict[str, float]:
        """See `_MEANINGS`; `accuracy/NAME` of each class that occurs, of at most 100."""
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
        """Remember the image if it is one of the worst or of the chosen; forget one that no longer is."""
        error = -math.log(max(float(result.scores[label]), 1e-30))
        others = [other for other in self._kept if other not in self._chosen]
        if index not in self._chosen and len(others) >= _WORST:
            mildest = min(others, key=lambda other: (self._kept[other].error, -other))
            if error <= self._kept[mildest].error:
                return
            del self._kept[mildest]
        self._kept[index] = _Kept(error, result)

    def findings(self) -> Findings:
        """The confusion matrix, the worst and some other images, and what the most frequent class would score."""
        seen = self._ranks >= 0
        if not seen.any():
            return Findings(measures=_measures())
        return Findings(
            charts=(self._sureness(),),
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
        truth = Classification(np.eye(1, len(names), label)[0], names)
        region = np.array([-0.5, -0.5, width - 0.5, height - 0.5])
        return Case(one.path, one.size, region, truth, kept.found, kept.error, _words(kept.found, label))

    def _sureness(self) -> Chart:
        """How accurate the surest images are, for any share of them."""
        seen = np.flatnonzero(self._ranks >= 0)
        order = seen[np.argsort(-self._sure[seen], kind="stable")]
        right = np.cumsum(self._ranks[order] == 0)
        counts = np.unique(np.ceil(np.linspace(0, 1, _CURVE + 1)[1:] * len(order)).astype(int))
        return Chart(
            "Accuracy of the surest images",
            "images that are answered, %",
            "top-1, %",
            (Series("top-1", (100 * counts / len(order)).tolist(), (100 * right[counts - 1] / counts).tolist()),),
            (0, 100),
            text="If only the images that the model is surest of are answered, so many of the answers are right.",
        )

    def _blind(self) -> dict[str, float]:
        """Closed form: all images get the classes that are most frequent among them, in this order."""
        labeled = np.sort(self.confusion.sum(1))[::-1]
        shares = 100 * np.cumsum(labeled) / labeled.sum()
        baseline = {"top-1": float(shares[0]), "mean-accuracy": 100 / int((labeled > 0).sum())}
        return baseline | ({"top-5": float(shares[_TOP - 1])} if len(labeled) > _TOP else {})


_MEANINGS = {
    "top-1": "images whose class is the most probable one, %",
    "top-5": "images whose class is among the five most probable ones, %",
    "mean-accuracy": "images of a class that are right, mean over the classes, %",
    "accuracy": "images of each class that are right, %",
}


def _measures() -> dict[str, Measure]:
    return {name: Measure(100, meaning) for name, meaning in _MEANINGS.items()}


def confusion_matrix(confusion: Int[np.ndarray, "k k"], names: tuple[str, ...]) -> Matrix:
    """What the images of each class were found to show, in percent of them, for a page.

    Of many classes those with the most mistakes are shown; what is found besides them stands in one column.
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
    text = "Of the images of the class that the row says, so many percent were found to be what the column says."
    if len(shown) < len(names):
        text += f" Shown are the {len(shown)} of {len(names)} classes with the most mistakes."
    return Matrix("What is taken for what", tuple(names[label] for label in rows), tuple(columns), values, text)


def _words(found: Classification, label: int) -> str:
    name, score = found.names[label], float(found.scores[label])
    if found.label == label:
        return f"{name}, with a probability of {score:.2f}"
    best = f"{found.name} ({found.scores[found.label]:.2f})"
    place = found.top(len(found.names)).index(label) + 1
    return f"{name} taken for {best}; the right class comes at place {place}, with a probability of {score:.2g}"
