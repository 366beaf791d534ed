"""Confusion of classes: predictions matched to labeled objects, as counts, as a matrix and in words."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from hrnet.detection.voc import MATCH_IOU, Annotations, Predictions, iou_matrix
from hrnet.engine.evaluator import Matrix

# Maximum number of rows and columns of a confusion matrix on a page.
_MAX_SHOWN_CLASSES = 20
# Maximum number of kinds of errors in a sentence.
_MAX_KINDS = 3


def count_pairs(
    ground_truth: Annotations, predictions: Predictions, classes: int
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
