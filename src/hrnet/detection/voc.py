"""Matching of predicted boxes to labeled ones, and the average precision of the VOC challenges."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float, Int

# Source: Everingham et al., "The Pascal VOC challenge", IJCV 2010, section 4.2: minimum IoU of a true positive.
MATCH_IOU = 0.5


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


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Predicted boxes of one image, x1 y1 x2 y2, with scores and labels."""

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]


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
    ground_truth: Annotations, predictions: Predictions, min_iou: float = MATCH_IOU
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
