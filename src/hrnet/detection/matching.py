"""Predicted boxes matched to labeled ones: the average precision of the VOC challenges, and confusions of classes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float, Int

from hrnet.engine.evaluator import Matrix
from hrnet.results import Detections

# Source: Everingham et al., "The Pascal VOC challenge", IJCV 2010, section 4.2: minimum IoU of a true positive.
MATCH_IOU = 0.5
# Maximum number of rows and columns of a confusion matrix on a page, and of kinds of errors in a sentence.
_MAX_SHOWN_CLASSES, _MAX_KINDS = 20, 3


class Match(IntEnum):
    """Kinds of predictions; ignored ones match crowds or difficult objects."""

    FALSE_POSITIVE = 0
    TRUE_POSITIVE = 1
    IGNORED = 2


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """Labeled boxes of one image.

    Attributes:
        boxes: x1 y1 x2 y2.
        labels: classes.
        crowd: True for groups of objects, which match any number of predictions inside.
        difficult: True for objects that are ignored.
    """

    boxes: Float[np.ndarray, "k 4"]
    labels: Int[np.ndarray, " k"]
    crowd: Bool[np.ndarray, " k"]
    difficult: Bool[np.ndarray, " k"]

    @property
    def counted(self) -> Bool[np.ndarray, " k"]:
        """True for objects that count: neither crowd nor difficult."""
        return ~(self.crowd | self.difficult)


def iou_matrix(
    boxes: Float[np.ndarray, "n 4"], others: Float[np.ndarray, "k 4"], crowd: Bool[np.ndarray, " k"]
) -> Float[np.ndarray, "n k"]:
    """Return the IoU of every pair of boxes; for crowds the intersection over the area of the first box."""
    low, high = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    intersection = np.clip(high - low, 0, None).prod(-1)
    area, other = ((one[:, 2:] - one[:, :2]).prod(-1) for one in (boxes, others))
    union = np.where(crowd, area[:, None], area[:, None] + other - intersection)
    return intersection / np.maximum(union, np.finfo(float).tiny)


def match_predictions(
    ground_truth: Annotations, predictions: Detections, min_iou: float = MATCH_IOU
) -> Int[np.ndarray, " n"]:
    """Return the `Match` of each prediction with the object of its class of highest IoU, which is matched once.

    Source: the development kit of VOC 2012, VOCevaldet.
    """
    matches = np.full(len(predictions.scores), Match.FALSE_POSITIVE, int)
    if not len(ground_truth.labels) or not len(matches):
        return matches
    iou = iou_matrix(predictions.boxes, ground_truth.boxes, ground_truth.crowd)
    iou[predictions.labels[:, None] != ground_truth.labels] = -1
    # Crowds match only predictions that no single object matches.
    single = np.where(ground_truth.crowd, -1, iou)
    best, matched = single.argmax(1), single.max(1) >= min_iou
    matches[~matched & (iou.max(1) >= min_iou)] = Match.IGNORED
    taken: set[int] = set()
    for index in np.argsort(-predictions.scores, kind="stable"):
        if not matched[index]:
            continue
        object_ = int(best[index])
        if ground_truth.difficult[object_]:
            matches[index] = Match.IGNORED
        elif object_ not in taken:
            taken.add(object_)
            matches[index] = Match.TRUE_POSITIVE
    return matches


def precision_recall(
    scores: Float[np.ndarray, " n"], matches: Int[np.ndarray, " n"], objects: int
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Return precision, recall and score after each prediction that is not ignored, best first.

    Args:
        scores: scores of the predictions of all images.
        matches: `Match` of each prediction.
        objects: number of labeled objects that count, at least one.
    """
    order = np.argsort(-scores, kind="stable")
    order = order[matches[order] != Match.IGNORED]
    correct = np.cumsum(matches[order] == Match.TRUE_POSITIVE)
    return correct / np.arange(1, len(order) + 1), correct / objects, scores[order]


def average_precision(
    precision: Float[np.ndarray, " m"], recall: Float[np.ndarray, " m"], *, eleven: bool = False
) -> float:
    """Return the area under the precision envelope.

    Args:
        precision: precision after each prediction, best first.
        recall: recall after each prediction.
        eleven: True for the mean at recalls 0, 0.1, ... 1, as until VOC 2009.
    """
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if eleven:
        # 0.3 is no exact sum of tenths: a recall is reached within a billionth.
        places = np.searchsorted(recall, np.arange(11) / 10 - 1e-9)
        return float(np.append(envelope, 0)[places].mean())
    return float((np.diff(recall, prepend=0) * envelope).sum())


# ---- confusions


def count_pairs(
    ground_truth: Annotations, predictions: Detections, classes: int
) -> Int[np.ndarray, "{classes+1} {classes+1}"]:
    """Return the number of objects per labeled class (row) and predicted class (column).

    The last column holds missed objects, the last row predictions without an object. Pairs are matched from the highest IoU
    down, those of the same class first; crowds and difficult objects are not counted.
    """
    counts = np.zeros((classes + 1, classes + 1), int)
    iou = iou_matrix(predictions.boxes, ground_truth.boxes, ground_truth.crowd)
    same = predictions.labels[:, None] == ground_truth.labels
    # Counted objects first, so that a crowd around an object does not take its prediction.
    order = sorted(
        zip(*np.nonzero((iou >= MATCH_IOU) & ~(ground_truth.crowd & ~same)), strict=True),
        key=lambda pair: (bool(ground_truth.counted[pair[1]]), bool(same[pair]), float(iou[pair])),
        reverse=True,
    )
    used = np.zeros(len(predictions.labels), bool)
    taken = np.zeros(len(ground_truth.labels), bool)
    for one, object_ in order:
        if used[one] or (taken[object_] and not ground_truth.crowd[object_]):
            continue
        used[one] = taken[object_] = True
        if ground_truth.counted[object_]:
            counts[ground_truth.labels[object_], predictions.labels[one]] += 1
    counts[:, classes] += np.bincount(ground_truth.labels[~taken & ground_truth.counted], minlength=classes + 1)
    counts[classes] += np.bincount(predictions.labels[~used], minlength=classes + 1)
    return counts


def confusion_matrix(counts: Int[np.ndarray, "{len(names)+1} {len(names)+1}"], names: tuple[str, ...]) -> Matrix:
    """Return the confusion matrix in percent of each row, limited to the classes with the most errors."""
    classes = len(names)
    wrong = (counts.sum(0) + counts.sum(1) - 2 * np.diagonal(counts))[:classes]
    shown = sorted(np.argsort(-wrong, kind="stable")[:_MAX_SHOWN_CLASSES].tolist())
    shown = [label for label in shown if counts[label].any() or counts[:, label].any()]
    rows = [label for label in [*shown, classes] if counts[label].any()]
    part = counts[np.ix_(rows, [*shown, classes])]
    total = counts[rows].sum(1, keepdims=True)
    columns = [*(names[label] for label in shown), "missed"]
    if (rest := total - part.sum(1, keepdims=True)).any():
        part, columns = np.concatenate([part, rest], axis=1), [*columns, "others"]
    values = tuple(tuple(row) for row in (100 * part / np.maximum(total, 1)).tolist())
    text = "Percent of the labeled objects of the row's class that were predicted as the column's class."
    if classes in rows:
        text += " The last row holds predictions without a labeled object."
    if len(shown) < classes:
        text += f" The {len(shown)} of {classes} classes with the most errors are shown."
    labels = tuple("background" if label == classes else names[label] for label in rows)
    return Matrix("Confusion matrix", labels, tuple(columns), values, text)


def in_words(counts: Int[np.ndarray, "{len(names)+1} {len(names)+1}"], names: tuple[str, ...]) -> str:
    """Return how many objects of an image are correct, and its most frequent errors, as a sentence."""
    classes = len(names)
    objects, right = int(counts[:classes].sum()), int(np.trace(counts[:classes, :classes]))
    words = f"{right} of {objects} objects correct" if objects else "no labeled objects"
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    errors: list[str] = []
    for flat in np.argsort(-wrong, axis=None, kind="stable")[: _MAX_KINDS + 1].tolist():
        ground_truth, predicted = divmod(flat, classes + 1)
        if not (count := int(wrong[ground_truth, predicted])):
            break
        if predicted == classes:
            errors.append(f"{count} x {names[ground_truth]} missed")
        elif ground_truth == classes:
            errors.append(f"{count} x {names[predicted]} without a labeled object")
        else:
            errors.append(f"{count} x {names[ground_truth]} predicted as {names[predicted]}")
    more = [*errors[:_MAX_KINDS], *(["more errors"] if len(errors) > _MAX_KINDS else [])]
    return words + ("; " + ", ".join(more) if more else "")
