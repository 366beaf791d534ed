"""Metrics of label maps: IoU, accuracy and boundary IoU; and the contents of a report.

All metrics are percentages of sums over the whole set, not means over images. Only labeled pixels count, at the image's
own size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Int64, UInt8

from hrnet.engine.evaluator import Case, Findings, KeptCases, Measure, confusion_matrix
from hrnet.formats.label_maps import LabeledImage, read_labels
from hrnet.results import IGNORE_INDEX, SemanticMap
from hrnet.segmentation.spec import SegmentationSpec

# Source: arXiv 2103.16562, section 4: width of the outline as a fraction of the image's diagonal.
OUTLINE_FRACTION = 0.02
# Pixels that are counted at once: counting holds eight bytes for each.
_CHUNK_PIXELS = 1 << 22
# Longer side of a map for the report: twice that of a drawing on the page.
_REPORT_SIDE = 680
_LEGEND = (
    "Every class has its color; unlabeled pixels of the ground truth have none. In the prediction, labeled pixels of the "
    "wrong class are hatched."
)
_MATRIX_TEXT = "Percentage of the pixels labeled as the row's class that are predicted as the column's class."


class SegmentationEvaluator:
    """Metrics of label maps, one per labeled image; `update` gets the images' indices."""

    headline = "mIoU"

    def __init__(self, images: Sequence[LabeledImage], spec: SegmentationSpec) -> None:
        self.images = images
        self.spec = spec
        classes = len(spec.class_names)
        # Pixels by label (row) and prediction (column); the last column: pixels outside the input.
        self.confusion: Int64[np.ndarray, "k k+1"] = np.zeros((classes, classes + 1), np.int64)
        # Pixels of the outlines of each class: in both maps, in the ground truth, in the prediction.
        self.outlines: Int64[np.ndarray, "3 k"] = np.zeros((3, classes), np.int64)
        self._seen = np.zeros(len(images), bool)
        self._kept = KeptCases(len(images))

    def update(self, indices: Sequence[int], results: Sequence[SemanticMap]) -> None:
        """Add the results of images by index; their labels are read here. A second result of an image is left out.

        Raises:
            InputError: labels cannot be read.
            ValueError: a result and its labels differ in size.
        """
        for index, result in zip(indices, results, strict=True):
            if self._seen[index]:
                continue
            ground_truth = read_labels(self.images[index])
            if ground_truth.shape != result.labels.shape:
                raise ValueError(
                    f"Image {index} has labels of {ground_truth.shape} and a result of {result.labels.shape}."
                )
            counts = confusion_counts(ground_truth, result.labels, len(self.spec.class_names))
            self.confusion += counts
            self.outlines += outline_counts(ground_truth, result.labels, len(self.spec.class_names))
            labeled = counts.sum()
            error = 100 * (1 - float(np.trace(counts)) / labeled) if labeled else math.nan
            self._kept.add(index, error, partial(self._case, index, counts, (ground_truth, result.labels), error))
            self._seen[index] = True

    def compute(self) -> dict[str, float]:
        """Return the metrics of `_MEANINGS`, `IoU/NAME` and `boundary-IoU/NAME` of each class that occurs."""
        if not self.confusion.any():
            return {}
        hits, labeled = np.diagonal(self.confusion), self.confusion.sum(1)
        # NaN for a class that is neither labeled nor predicted.
        ious = _percent(hits, labeled + self.confusion[:, :-1].sum(0) - hits)
        both, expected, found = self.outlines
        boundary = _percent(both, expected + found - both)
        accuracies = 100 * hits / np.maximum(labeled, 1)
        metrics = {
            "mIoU": _nanmean(ious),
            "mIoU-published": float(np.nan_to_num(ious).mean()),
            "pixel-accuracy": float(100 * hits.sum() / labeled.sum()),
            "mean-accuracy": float(accuracies[labeled > 0].mean()),
            "mean-accuracy-published": float(accuracies.mean()),
            "boundary-mIoU": _nanmean(boundary),
        }
        for name, values in (("IoU", ious), ("boundary-IoU", boundary)):
            metrics |= {f"{name}/{one}": float(value) for one, value in zip(self.spec.class_names, values, strict=True)}
        return {name: value for name, value in metrics.items() if math.isfinite(value)}

    def measures(self) -> dict[str, Measure]:
        """Return how to read the metrics."""
        return {name: Measure(100, meaning) for name, meaning in _MEANINGS.items()}

    def findings(self) -> Findings:
        """Return the confusion matrix, the worst and some random images, and the baseline of the most frequent class."""
        if not self.confusion.any():
            return Findings(measures=self.measures())
        return Findings(
            matrices=(confusion_matrix(self.confusion, self.spec.class_names, _MATRIX_TEXT),),
            cases=self._kept.in_order(),
            judged=int(self._seen.sum()),
            legend=_LEGEND,
            baseline=self._baseline(),
            baseline_name="the most frequent class, for every pixel",
            measures=self.measures(),
        )

    def _case(self, index: int, counts: Int[np.ndarray, "k k+1"], maps: Sequence[np.ndarray], error: float) -> Case:
        image, names = self.images[index], self.spec.class_names
        ground_truth, found = (SemanticMap(reduce_labels(labels, _REPORT_SIDE), names) for labels in maps)
        return Case.whole(image.path, image.size, ground_truth, found, error, _describe(counts, names))

    def _baseline(self) -> dict[str, float]:
        """Return the metrics of predicting the most frequent class at every pixel, in closed form."""
        labeled = self.confusion.sum(1)
        frequent = 100 * labeled.max() / labeled.sum()
        present, classes = int((labeled > 0).sum()), len(labeled)
        return {
            "mIoU": frequent / present,
            "mIoU-published": frequent / classes,
            "pixel-accuracy": frequent,
            "mean-accuracy": 100 / present,
            "mean-accuracy-published": 100 / classes,
        }


_MEANINGS = {
    "mIoU": "mean IoU over the classes that are labeled or predicted, %",
    "mIoU-published": "mean IoU over all classes, 0 for one that never occurs, as in the published figures, %",
    "pixel-accuracy": "accuracy over the labeled pixels, %",
    "mean-accuracy": "mean of the per-class accuracies over the labeled classes, %",
    "mean-accuracy-published": "mean of the per-class accuracies over all classes, 0 for one that is not labeled, %",
    "boundary-mIoU": "mIoU of the outlines, 2 % of the image's diagonal wide, %",
    "IoU": "IoU per class, %",
    "boundary-IoU": "IoU of the outlines per class, %",
}


def _percent(part: Int64[np.ndarray, " k"], whole: Int64[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Return percentages; NaN for a whole of 0."""
    return np.where(whole > 0, 100 * part / np.maximum(whole, 1), np.nan)


def _nanmean(values: Float[np.ndarray, " k"]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def confusion_counts(
    ground_truth: UInt8[np.ndarray, "h w"], found: UInt8[np.ndarray, "h w"], classes: int
) -> Int64[np.ndarray, "k k+1"]:
    """Return the confusion matrix: labels in rows, predictions in columns, the last one for pixels outside the input.

    Pixels labeled 255 are ignored.
    """
    counts = np.zeros(256 * 256, np.int64)
    flat_ground_truth, flat_found = ground_truth.ravel(), found.ravel()
    for start in range(0, len(flat_ground_truth), _CHUNK_PIXELS):
        part = slice(start, start + _CHUNK_PIXELS)
        counts += np.bincount(flat_ground_truth[part].astype(np.intp) * 256 + flat_found[part], minlength=len(counts))
    table = counts.reshape(256, 256)[:classes]
    return np.concatenate([table[:, :classes], table[:, IGNORE_INDEX:]], axis=1)


def outline_counts(
    ground_truth: UInt8[np.ndarray, "h w"], found: UInt8[np.ndarray, "h w"], classes: int
) -> Int64[np.ndarray, "3 k"]:
    """Return, per class, the pixels of its outline in both maps, in the ground truth and in the prediction.

    The outline of a class is its pixels that are no farther than 2 % of the diagonal (along the farther axis) from a
    pixel of another class or from the image's edge. An unlabeled pixel counts as another class in both maps.
    Source: arXiv 2103.16562, section 4, and its published code, where erosions by 3 x 3 pixels are repeated.
    """
    distance = max(round(OUTLINE_FRACTION * math.hypot(*ground_truth.shape)), 1)
    seen = np.where(ground_truth == IGNORE_INDEX, np.uint8(IGNORE_INDEX), found)
    in_ground_truth, in_found = outline(ground_truth, distance), outline(seen, distance)
    chosen = (in_ground_truth & in_found & (ground_truth == seen), in_ground_truth, in_found)
    maps = (ground_truth, ground_truth, seen)
    return np.stack(
        [np.bincount(labels[where], minlength=256)[:classes] for labels, where in zip(maps, chosen, strict=True)]
    )


def outline(labels: UInt8[np.ndarray, "h w"], distance: int) -> Bool[np.ndarray, "h w"]:
    """Return the pixels whose square of 2 * distance + 1 pixels a side holds another label or crosses the edge."""
    # A square whose smallest and largest labels are equal holds one label: two passes serve all classes at once.
    square = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    inside = cv2.erode(labels, square) == cv2.dilate(labels, square)
    margin = np.ones(labels.shape, bool)
    margin[distance:-distance, distance:-distance] = False
    return ~inside | margin


def reduce_labels(labels: UInt8[np.ndarray, "h w"], side: int) -> UInt8[np.ndarray, "H W"]:
    """Return a label map of at most `side` pixels on the longer side, sampled at the middles of its pixels."""
    height, width = labels.shape
    scale = min(side / max(height, width), 1.0)
    rows, columns = (
        np.minimum(((np.arange(max(round(length * scale), 1)) + 0.5) / scale).astype(int), length - 1)
        for length in (height, width)
    )
    return labels[np.ix_(rows, columns)]


def _describe(counts: Int[np.ndarray, "k k+1"], names: tuple[str, ...]) -> str:
    """Return the accuracy of an image and its most frequent mistake, in words."""
    labeled = int(counts.sum())
    if not labeled:
        return "no labeled pixels"
    right = 100 * np.trace(counts) / labeled
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    if not wrong.any():
        return "all labeled pixels are correct"
    ground_truth, found = divmod(int(wrong.argmax()), wrong.shape[1])
    what = names[found] if found < len(names) else "outside the input"
    most = 100 * wrong.max() / labeled
    return (
        f"{right:.1f} % of the labeled pixels are correct; {most:.1f} % are {names[ground_truth]} predicted as {what}"
    )
