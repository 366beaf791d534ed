"""Which boxes are right, and the average precision of the VOC challenges."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float, Int

# Source: Everingham et al., "The Pascal VOC challenge", IJCV 2010, section 4.2: the overlap from which a box is right.
OVERLAP = 0.5


class Verdict(IntEnum):
    """Of one box that was found."""

    WRONG = 0
    RIGHT = 1
    # It shows what need not be found: neither right nor wrong.
    IGNORED = 2


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is to be found in one image.

    Attributes:
        boxes: `k 4`, x1 y1 x2 y2.
        labels: `k`.
        crowd: which are whole groups, any part of which may be found.
        difficult: which need not be found.
    """

    boxes: Float[np.ndarray, "k 4"]
    labels: Int[np.ndarray, " k"]
    crowd: Bool[np.ndarray, " k"]
    difficult: Bool[np.ndarray, " k"]

    @property
    def counted(self) -> Bool[np.ndarray, " k"]:
        """Which have to be found."""
        return ~(self.crowd | self.difficult)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Boxes that were found in one image: `n 4`, x1 y1 x2 y2, with score and label."""

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]


def overlaps(
    boxes: Float[np.ndarray, "n 4"], others: Float[np.ndarray, "k 4"], parts: Bool[np.ndarray, " k"]
) -> Float[np.ndarray, "n k"]:
    """Intersection over union; where `parts`, over the area of the first box alone."""
    low, high = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    area, other = ((one[:, 2:] - one[:, :2]).prod(-1) for one in (boxes, others))
    either = np.where(parts, area[:, None], area[:, None] + other - shared)
    return shared / np.maximum(either, np.finfo(float).tiny)


def judge(truth: Truth, found: Found, overlap: float = OVERLAP) -> Int[np.ndarray, " n"]:
    """A `Verdict` on each box: it is compared with the object of its class that it covers best, which is found once.

    Source: the development kit of VOC 2012, VOCevaldet.
    """
    verdicts = np.full(len(found.scores), Verdict.WRONG, int)
    if not len(truth.labels) or not len(verdicts):
        return verdicts
    shares = overlaps(found.boxes, truth.boxes, truth.crowd)
    shares[found.labels[:, None] != truth.labels] = -1
    # A group is what is left over: it is asked only where no single object is met.
    single = np.where(truth.crowd, -1, shares)
    best, met = single.argmax(1), single.max(1) >= overlap
    ignored = ~met & (shares.max(1) >= overlap)
    verdicts[ignored] = Verdict.IGNORED
    taken: set[int] = set()
    for index in np.argsort(-found.scores, kind="stable"):
        if not met[index]:
            continue
        object_ = int(best[index])
        if truth.difficult[object_]:
            verdicts[index] = Verdict.IGNORED
        elif object_ not in taken:
            taken.add(object_)
            verdicts[index] = Verdict.RIGHT
    return verdicts


def precision_recall(
    scores: Float[np.ndarray, " n"], verdicts: Int[np.ndarray, " n"], objects: int
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Precision, recall and score after each box that counts, best first.

    Args:
        scores: of the boxes of all images.
        verdicts: on them.
        objects: how many there were to find, at least one.
    """
    order = np.argsort(-scores, kind="stable")
    order = order[verdicts[order] != Verdict.IGNORED]
    right = np.cumsum(verdicts[order] == Verdict.RIGHT)
    return right / np.arange(1, len(order) + 1), right / objects, scores[order]


def average_precision(
    precision: Float[np.ndarray, " m"], recall: Float[np.ndarray, " m"], *, eleven: bool = False
) -> float:
    """Area below the precision that is still reached at a recall or beyond it.

    Args:
        precision: after each box, best first.
        recall: the same; it never falls.
        eleven: the mean at recalls 0, 0.1, ... 1 instead, as until VOC 2009.
    """
    reached = np.maximum.accumulate(precision[::-1])[::-1]
    if eleven:
        # As a sum of whole tenths would miss 0.3 by rounding, a recall is reached within a billionth.
        places = np.searchsorted(recall, np.arange(11) / 10 - 1e-9)
        return float(np.append(reached, 0)[places].mean())
    return float((np.diff(recall, prepend=0) * reached).sum())
