"""How good label maps are: intersection over union, accuracy, the same along outlines; and what there is to see of it.

All figures are percentages and come of sums over the whole set, not of means over images: a class that fills few
pixels of many images counts as much as any other. Labeled pixels of the image's own size are counted, no others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Int64, UInt8

from hrnet.engine.findings import Case, Findings, Matrix, Measure
from hrnet.formats.label_maps import LabeledImage, read_labels
from hrnet.results import IGNORE_INDEX, SemanticMap
from hrnet.segmentation.spec import SegmentationSpec

# Source: arXiv 2103.16562, section 4: the outline is this wide, as a share of the image's diagonal.
OUTLINE_SHARE = 0.02
# Pixels that are counted at once: the counting holds eight bytes for each.
_COUNTED = 1 << 22
# Images that are kept to be shown: the worst, and some that were chosen before anything was seen.
_WORST, _CHOSEN = 12, 18
# Longer side of a map that is kept: twice that of a drawing on the page.
_KEPT_SIDE = 680
# Rows and columns of the confusion matrix that a page can show.
_SHOWN_CLASSES = 20
_LEGEND = (
    "The colors are those of the classes; where nothing is labeled the truth stays uncolored. In the prediction, "
    "labeled pixels of the wrong class are hatched."
)


class _Kept(NamedTuple):
    """An image that may be shown: how wrong it is, in words, and its two maps, reduced."""

    error: float
    words: str
    truth: SemanticMap
    found: SemanticMap


class SegmentationEvaluator:
    """Scores one label map an image.

    Args:
        images: in the order of the positions that `update` gets.
        spec: of the model.

    Attributes:
        headline: mIoU.
    """

    headline = "mIoU"

    def __init__(self, images: Sequence[LabeledImage], spec: SegmentationSpec) -> None:
        self.images = images
        self.spec = spec
        classes = len(spec.class_names)
        # Of each class, how many pixels were found to be what; the last column is for those that were not looked at.
        self.confusion: Int64[np.ndarray, "k k+1"] = np.zeros((classes, classes + 1), np.int64)
        # Pixels of outlines: in both, in the truth, in what was found.
        self.outlines: Int64[np.ndarray, "3 k"] = np.zeros((3, classes), np.int64)
        self._seen = np.zeros(len(images), bool)
        self._kept: dict[int, _Kept] = {}
        self._chosen = set(Random(0).sample(range(len(images)), min(_CHOSEN, len(images))))

    def update(self, indices: Sequence[int], results: Sequence[SemanticMap]) -> None:
        """Add results by position; the labels are read here, and forgotten again.

        Raises:
            InputError: labels cannot be read.
            ValueError: a result has another size than the labels.
        """
        for index, result in zip(indices, results, strict=True):
            if self._seen[index]:
                continue
            truth = read_labels(self.images[index])
            if truth.shape != result.labels.shape:
                raise ValueError(f"Image {index} has labels of {truth.shape} and a result of {result.labels.shape}.")
            counts = confusion_counts(truth, result.labels, len(self.spec.class_names))
            self.confusion += counts
            self.outlines += outline_counts(truth, result.labels, len(self.spec.class_names))
            self._keep(index, counts, truth, result)
            self._seen[index] = True

    def compute(self) -> dict[str, float]:
        """See `_MEANINGS`; besides `IoU/NAME` and `boundary-IoU/NAME` of each class that occurs."""
        if not self.confusion.any():
            return {}
        ious, boundary = self._ious(), self._boundary_ious()
        hits, labeled, _ = self._counts()
        accuracies = 100 * hits / np.maximum(labeled, 1)
        metrics = {
            "mIoU": _mean_of_numbers(ious),
            "mIoU-published": float(np.nan_to_num(ious).mean()),
            "pixel-accuracy": float(100 * hits.sum() / labeled.sum()),
            "mean-accuracy": float(accuracies[labeled > 0].mean()),
            "mean-accuracy-published": float(accuracies.mean()),
            "boundary-mIoU": _mean_of_numbers(boundary),
        }
        for name, values in (("IoU", ious), ("boundary-IoU", boundary)):
            metrics |= {f"{name}/{one}": float(value) for one, value in zip(self.spec.class_names, values, strict=True)}
        return {name: value for name, value in metrics.items() if math.isfinite(value)}

    def _counts(self) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
        """Pixels of each class that were found, that are labeled, and that are either labeled or found."""
        classes = len(self.confusion)
        hits, labeled = np.diagonal(self.confusion), self.confusion.sum(1)
        return hits, labeled, labeled + self.confusion[:, :classes].sum(0) - hits

    def _ious(self) -> Float[np.ndarray, " k"]:
        """Of each class; not a number for one that is neither labeled nor found."""
        hits, _, either = self._counts()
        return _share(hits, either)

    def _boundary_ious(self) -> Float[np.ndarray, " k"]:
        both, truth, found = self.outlines
        return _share(both, truth + found - both)

    def _keep(self, index: int, counts: Int[np.ndarray, "k k+1"], truth: np.ndarray, result: SemanticMap) -> None:
        """Remember the image if it is one of the worst or of the chosen; forget one that no longer is."""
        labeled = int(counts.sum())
        error = 100 * (1 - float(np.trace(counts)) / labeled) if labeled else math.nan
        worst = sorted((kept.error for other, kept in self._kept.items() if other not in self._chosen), reverse=True)
        if index not in self._chosen and (not labeled or (len(worst) >= _WORST and error <= worst[-1])):
            return
        names = self.spec.class_names
        maps = (SemanticMap(reduce_labels(labels, _KEPT_SIDE), names) for labels in (truth, result.labels))
        self._kept[index] = _Kept(error, _words(counts, names), *maps)
        others = [other for other in self._kept if other not in self._chosen]
        if len(others) > _WORST:
            del self._kept[min(others, key=lambda other: (self._kept[other].error, -other))]

    def measures(self) -> dict[str, Measure]:
        """Return how to read the metrics."""
        return _measures()

    def findings(self) -> Findings:
        """The confusion matrix, the worst and some other images, and what the most frequent class would score."""
        if not self.confusion.any():
            return Findings(measures=_measures())
        cases = tuple(self._case(index) for index in sorted(self._kept))
        return Findings(
            matrices=(confusion_matrix(self.confusion, self.spec.class_names),),
            cases=cases,
            judged=int(self._seen.sum()),
            legend=_LEGEND,
            baseline=self._blind(),
            baseline_name="the most frequent class, for every pixel",
            measures=_measures(),
        )

    def _case(self, index: int) -> Case:
        one, kept = self.images[index], self._kept[index]
        height, width = one.size
        region = np.array([-0.5, -0.5, width - 0.5, height - 0.5])
        return Case(one.path, one.size, region, kept.truth, kept.found, kept.error, kept.words)

    def _blind(self) -> dict[str, float]:
        """Closed form: all labeled pixels are called the class that most of them have."""
        labeled = self.confusion.sum(1)
        share = 100 * labeled.max() / labeled.sum()
        present, classes = int((labeled > 0).sum()), len(labeled)
        return {
            "mIoU": share / present,
            "mIoU-published": share / classes,
            "pixel-accuracy": share,
            "mean-accuracy": 100 / present,
            "mean-accuracy-published": 100 / classes,
        }


_MEANINGS = {
    "mIoU": "intersection over union, mean over the classes that are labeled or found, %",
    "mIoU-published": "the same over all classes, 0 for one that never occurs, as in the published figures, %",
    "pixel-accuracy": "labeled pixels that are right, %",
    "mean-accuracy": "labeled pixels of a class that are right, mean over the labeled classes, %",
    "mean-accuracy-published": "the same over all classes, 0 for one that is not labeled, %",
    "boundary-mIoU": "mIoU of the strips along the outlines, 2 % of the image's diagonal wide, %",
    "IoU": "intersection over union of each class, %",
    "boundary-IoU": "the same along the outlines, %",
}


def _measures() -> dict[str, Measure]:
    return {name: Measure(100, meaning) for name, meaning in _MEANINGS.items()}


def _share(part: np.ndarray, whole: np.ndarray) -> Float[np.ndarray, " k"]:
    """In percent; not a number of nothing."""
    return np.where(whole > 0, 100 * part / np.maximum(whole, 1), np.nan)


def _mean_of_numbers(values: Float[np.ndarray, " k"]) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else math.nan


def confusion_counts(
    truth: UInt8[np.ndarray, "h w"], found: UInt8[np.ndarray, "h w"], classes: int
) -> Int64[np.ndarray, "k k+1"]:
    """How many pixels of each class (row) were found to be what (column; the last one: 255, not looked at).

    Pixels whose truth is 255 are left out.
    """
    counts = np.zeros(256 * 256, np.int64)
    flat_truth, flat_found = truth.ravel(), found.ravel()
    for start in range(0, len(flat_truth), _COUNTED):
        part = slice(start, start + _COUNTED)
        counts += np.bincount(flat_truth[part].astype(np.intp) * 256 + flat_found[part], minlength=len(counts))
    table = counts.reshape(256, 256)[:classes]
    return np.concatenate([table[:, :classes], table[:, IGNORE_INDEX:]], axis=1)


def outline_counts(
    truth: UInt8[np.ndarray, "h w"], found: UInt8[np.ndarray, "h w"], classes: int
) -> Int64[np.ndarray, "3 k"]:
    """Of each class, the pixels of its outline in both maps, in the truth, and in what was found.

    The outline of a class is the strip of its pixels from which a pixel of something else, or the world beyond the
    image's edge, is no farther than 2 % of the diagonal (along the farther axis). What is not labeled counts as
    something else in both maps.
    Source: arXiv 2103.16562, section 4, and its published code, where erosions by 3 x 3 pixels are repeated.
    """
    distance = max(round(OUTLINE_SHARE * math.hypot(*truth.shape)), 1)
    seen = np.where(truth == IGNORE_INDEX, np.uint8(IGNORE_INDEX), found)
    in_truth, in_found = outline(truth, distance), outline(seen, distance)
    chosen = (in_truth & in_found & (truth == seen), in_truth, in_found)
    maps = (truth, truth, seen)
    return np.stack(
        [np.bincount(labels[where], minlength=256)[:classes] for labels, where in zip(maps, chosen, strict=True)]
    )


def outline(labels: UInt8[np.ndarray, "h w"], distance: int) -> Bool[np.ndarray, "h w"]:
    """Pixels in whose square of 2 * distance + 1 pixels a side there is another label, or no image."""
    # A square whose smallest and largest label agree holds one label: two passes serve all classes at once.
    square = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    inside = cv2.erode(labels, square) == cv2.dilate(labels, square)
    margin = np.ones(labels.shape, bool)
    margin[distance:-distance, distance:-distance] = False
    return ~inside | margin


def reduce_labels(labels: UInt8[np.ndarray, "h w"], side: int) -> UInt8[np.ndarray, "H W"]:
    """At most so many pixels on the longer side, each with the label of the pixel that lies at its middle."""
    height, width = labels.shape
    scale = min(side / max(height, width), 1.0)
    rows, columns = (
        np.minimum(((np.arange(max(round(length * scale), 1)) + 0.5) / scale).astype(int), length - 1)
        for length in (height, width)
    )
    return labels[np.ix_(rows, columns)]


def confusion_matrix(confusion: Int[np.ndarray, "k k+1"], names: tuple[str, ...]) -> Matrix:
    """What the labeled pixels of each class were found to be, in percent of them, for a page.

    Of many classes those with the most mistakes are shown; what is found besides them stands in one column.
    """
    classes = len(names)
    wrong = confusion.sum(1) + confusion[:, :classes].sum(0) - 2 * np.diagonal(confusion)
    shown = sorted(np.argsort(-wrong, kind="stable")[:_SHOWN_CLASSES].tolist())
    shown = [label for label in shown if confusion[label].any() or confusion[:, label].any()]
    rows = [label for label in shown if confusion[label].any()]
    part = confusion[np.ix_(rows, shown)]
    labeled = confusion[rows].sum(1, keepdims=True)
    columns = [names[label] for label in shown]
    if (rest := labeled - part.sum(1, keepdims=True)).any():
        part, columns = np.concatenate([part, rest], axis=1), [*columns, "others"]
    values = tuple(tuple(row) for row in (100 * part / np.maximum(labeled, 1)).tolist())
    text = "Of the pixels that are labeled as the row says, so many percent were found to be what the column says."
    if len(shown) < classes:
        text += f" Shown are the {len(shown)} of {classes} classes with the most mistakes."
    return Matrix("What is taken for what", tuple(names[label] for label in rows), tuple(columns), values, text)


def _words(counts: Int[np.ndarray, "k k+1"], names: tuple[str, ...]) -> str:
    """How much of an image is wrong, and what most of it."""
    labeled = int(counts.sum())
    if not labeled:
        return "nothing is labeled"
    right = 100 * np.trace(counts) / labeled
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    if not wrong.any():
        return "all labeled pixels are right"
    truth, found = divmod(int(wrong.argmax()), wrong.shape[1])
    what = names[found] if found < len(names) else "nothing"
    share = 100 * wrong.max() / labeled
    return f"{right:.1f} % of the labeled pixels are right; {share:.1f} % are {names[truth]} taken for {what}"
