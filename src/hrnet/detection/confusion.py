"""What is taken for what: found objects beside labeled ones, counted and said."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from hrnet.detection.voc import OVERLAP, Found, Truth, overlaps
from hrnet.engine.findings import Matrix

# Rows and columns of the confusion matrix that a page can show.
_SHOWN_CLASSES = 20
# Kinds of mistakes that a sentence names.
_NAMED = 3


def count_pairs(truth: Truth, found: Found, classes: int) -> Int[np.ndarray, "k+1 k+1"]:
    """How many labeled objects of each class (row) were found to be what (column).

    The last column is for what was missed, the last row for what was found where nothing is labeled. Objects are paired
    from the largest overlap down, those of the same class before others; what need not be found is not counted.
    """
    counts = np.zeros((classes + 1, classes + 1), int)
    shares = overlaps(found.boxes, truth.boxes, truth.crowd)
    same = found.labels[:, None] == truth.labels
    # Objects that have to be found come first, so that none is lost to a group around it.
    order = sorted(
        zip(*np.nonzero((shares >= OVERLAP) & ~(truth.crowd & ~same)), strict=True),
        key=lambda pair: (bool(truth.counted[pair[1]]), bool(same[pair]), float(shares[pair])),
        reverse=True,
    )
    used = np.zeros(len(found.labels), bool)
    taken = np.zeros(len(truth.labels), bool)
    for one, object_ in order:
        if used[one] or (taken[object_] and not truth.crowd[object_]):
            continue
        used[one] = taken[object_] = True
        if truth.counted[object_]:
            counts[truth.labels[object_], found.labels[one]] += 1
    counts[:, classes] += np.bincount(truth.labels[~taken & truth.counted], minlength=classes + 1)
    counts[classes] += np.bincount(found.labels[~used], minlength=classes + 1)
    return counts


def confusion_matrix(counts: Int[np.ndarray, "k+1 k+1"], names: tuple[str, ...]) -> Matrix:
    """What the labeled objects of each class were found to be, in percent of them, for a page.

    Of many classes those with the most mistakes are shown.
    """
    classes = len(names)
    wrong = (counts.sum(0) + counts.sum(1) - 2 * np.diagonal(counts))[:classes]
    shown = sorted(np.argsort(-wrong, kind="stable")[:_SHOWN_CLASSES].tolist())
    shown = [label for label in shown if counts[label].any() or counts[:, label].any()]
    rows = [label for label in [*shown, classes] if counts[label].any()]
    part = counts[np.ix_(rows, [*shown, classes])]
    total = counts[rows].sum(1, keepdims=True)
    columns = [*(names[label] for label in shown), "missed"]
    if (rest := total - part.sum(1, keepdims=True)).any():
        part, columns = np.concatenate([part, rest], axis=1), [*columns, "others"]
    values = tuple(tuple(row) for row in (100 * part / np.maximum(total, 1)).tolist())
    text = "Of the objects that are labeled as the row says, so many percent were found to be what the column says."
    if classes in rows:
        text += " The last row is what was found where nothing is labeled."
    if len(shown) < classes:
        text += f" Shown are the {len(shown)} of {classes} classes with the most mistakes."
    labels = tuple("nothing" if label == classes else names[label] for label in rows)
    return Matrix("What is taken for what", labels, tuple(columns), values, text)


def in_words(counts: Int[np.ndarray, "k+1 k+1"], names: tuple[str, ...]) -> str:
    """How many objects of an image are right, and its most frequent mistakes."""
    classes = len(names)
    objects, right = int(counts[:classes].sum()), int(np.trace(counts[:classes, :classes]))
    words = f"{right} of {objects} objects are found" if objects else "nothing is to be found here"
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    mistakes: list[str] = []
    for flat in np.argsort(-wrong, axis=None, kind="stable")[: _NAMED + 1].tolist():
        truth, found = divmod(flat, classes + 1)
        if not (count := int(wrong[truth, found])):
            break
        if found == classes:
            mistakes.append(f"{count} x {names[truth]} missed")
        elif truth == classes:
            mistakes.append(f"{count} x {names[found]} where none is labeled")
        else:
            mistakes.append(f"{count} x {names[truth]} taken for {names[found]}")
    more = [*mistakes[:_NAMED], *(["more mistakes"] if len(mistakes) > _NAMED else [])]
    return words + ("; " + ", ".join(more) if more else "")
