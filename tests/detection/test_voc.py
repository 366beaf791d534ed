"""Oracles: a slow reference of VOC's rules written here, closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from hrnet.detection.confusion import confusion_matrix, count_pairs, in_words
from hrnet.detection.voc import Found, Truth, Verdict, average_precision, judge, overlaps, precision_recall


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.uniform(0, 60, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(5, 30, (count, 2))], axis=1)


def random_image(rng: np.random.Generator, classes: int) -> tuple[Truth, Found]:
    """Objects, most of them found about where they are, some of another class, some twice, and some that are not there."""
    count = int(rng.integers(0, 8))
    truth = Truth(
        random_boxes(rng, count), rng.integers(0, classes, count), np.zeros(count, bool), rng.random(count) < 0.3
    )
    near = np.repeat(truth.boxes, 2, axis=0) + rng.normal(0, 3, (2 * count, 4))
    boxes = np.concatenate([near, random_boxes(rng, 4)])
    labels = np.concatenate([np.repeat(truth.labels, 2), rng.integers(0, classes, 4)])
    keep = rng.random(len(boxes)) < 0.8
    return truth, Found(boxes[keep], rng.permutation(len(boxes))[keep] / len(boxes), labels[keep])


def iou(one: np.ndarray, other: np.ndarray) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return width * height / (areas - width * height)


def slow_ap(images: list[tuple[Truth, Found]], label: int, eleven: bool) -> float:
    """VOC's rules, one box after the other, best first over all images."""
    found = [
        (float(found.scores[i]), number, found.boxes[i])
        for number, (_, found) in enumerate(images)
        for i in range(len(found.scores))
        if found.labels[i] == label
    ]
    found.sort(key=lambda one: -one[0])
    wanted = sum(int(((t.labels == label) & ~t.difficult).sum()) for t, _ in images)
    used: set[tuple[int, int]] = set()
    hits: list[bool] = []
    for _, number, box in found:
        truth = images[number][0]
        objects = [i for i in range(len(truth.labels)) if truth.labels[i] == label]
        best = max(objects, key=lambda i: iou(box, truth.boxes[i]), default=None)
        if best is None or iou(box, truth.boxes[best]) < 0.5:
            hits.append(False)
        elif not truth.difficult[best]:
            hits.append((number, best) not in used)
            used.add((number, best))
    points = [(sum(hits[: n + 1]) / wanted, sum(hits[: n + 1]) / (n + 1)) for n in range(len(hits))]
    if eleven:
        return sum(max((p for r, p in points if r >= t / 10 - 1e-9), default=0) for t in range(11)) / 11
    area, last = 0.0, 0.0
    for recall, _ in points:
        area += (recall - last) * max(p for r, p in points if r >= recall)
        last = recall
    return area


@pytest.mark.parametrize("eleven", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_average_precision_equals_the_slow_reference(seed: int, eleven: bool) -> None:
    rng = np.random.default_rng(seed)
    images = [random_image(rng, 3) for _ in range(12)]
    # Different in every image, so that the order between equal scores does not matter.
    images = [
        (truth, Found(found.boxes, found.scores + number * 1e-5, found.labels))
        for number, (truth, found) in enumerate(images)
    ]
    for label in range(3):
        verdicts = np.concatenate([judge(*one)[one[1].labels == label] for one in images])
        scores = np.concatenate([found.scores[found.labels == label] for _, found in images])
        wanted = sum(int(((t.labels == label) & ~t.difficult).sum()) for t, _ in images)
        precision, recall, _ = precision_recall(scores, verdicts, wanted)
        value = average_precision(precision, recall, eleven=eleven)
        # The same sums in double precision.
        assert value == pytest.approx(slow_ap(images, label, eleven), abs=1e-12)
        assert 0.02 < value < 0.98  # neither trivial end


def test_average_precision_in_closed_form() -> None:
    """Right, wrong, right of two objects: 1/2 * 1 + 1/2 * 2/3; at eleven recalls six times 1 and five times 2/3."""
    precision, recall, scores = precision_recall(
        np.array([0.7, 0.9, 0.8]), np.array([Verdict.RIGHT, Verdict.RIGHT, Verdict.WRONG]), 2
    )
    np.testing.assert_allclose(scores, [0.9, 0.8, 0.7])
    assert average_precision(precision, recall) == pytest.approx(5 / 6)
    assert average_precision(precision, recall, eleven=True) == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_nothing_found_is_no_precision() -> None:
    nothing = precision_recall(np.zeros(0), np.zeros(0, int), 3)
    assert average_precision(nothing[0], nothing[1]) == 0
    assert average_precision(nothing[0], nothing[1], eleven=True) == 0


def test_overlap_equals_pixels_counted() -> None:
    """Boxes of whole pixels: the union and the intersection are numbers of pixels."""
    rng = np.random.default_rng(3)
    boxes = rng.integers(0, 20, (6, 4)).astype(float)
    boxes[:, 2:] = boxes[:, :2] + rng.integers(0, 20, (6, 2))
    filled = np.zeros((6, 40, 40), bool)
    for mask, (x1, y1, x2, y2) in zip(filled, boxes.astype(int).tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    parts = np.array([False, True, False, True, False, True])
    both = (filled[:, None] & filled).sum((-1, -2))
    either = np.where(parts, filled.sum((-1, -2))[:, None], (filled[:, None] | filled).sum((-1, -2)))
    np.testing.assert_allclose(overlaps(boxes, boxes, parts), both / np.maximum(either, 1))


def test_part_of_a_group_is_neither_right_nor_wrong() -> None:
    truth = Truth(np.array([[0, 0, 100, 100.0]]), np.array([0]), np.array([True]), np.array([False]))
    found = Found(np.array([[0, 0, 10, 10], [95, 95, 120, 120], [0, 0, 10, 10.0]]), np.ones(3), np.array([0, 0, 1]))
    assert judge(truth, found).tolist() == [Verdict.IGNORED, Verdict.WRONG, Verdict.WRONG]


def test_confusion_in_closed_form() -> None:
    """One right, one taken for another, one missed, one that is not there, one on what need not be found."""
    box = np.array([0, 0, 10, 10.0])
    truth = Truth(
        np.stack([box, box + 20, box + 40, box + 60]),
        np.array([0, 0, 1, 1]),
        np.zeros(4, bool),
        np.array([False, False, False, True]),
    )
    found = Found(np.stack([box, box + 20, box + 60, box + 80]), np.ones(4), np.array([0, 1, 1, 1]))
    counts = count_pairs(truth, found, 2)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]
    matrix = confusion_matrix(counts, ("cat", "dog"))
    assert (matrix.rows, matrix.columns) == (("cat", "dog", "nothing"), ("cat", "dog", "missed"))
    assert matrix.values == ((50, 50, 0), (0, 0, 100), (0, 100, 0))
    words = in_words(counts, ("cat", "dog"))
    assert words.startswith("1 of 3 objects are found; ")
    assert {"1 x cat taken for dog", "1 x dog missed", "1 x dog where none is labeled"} == set(
        words.split("; ")[1].split(", ")
    )


@pytest.mark.parametrize(("truths", "founds"), [(0, 0), (0, 3), (3, 0)])
def test_confusion_of_empty_images(truths: int, founds: int) -> None:
    rng = np.random.default_rng(0)
    truth = Truth(random_boxes(rng, truths), np.zeros(truths, int), np.zeros(truths, bool), np.zeros(truths, bool))
    found = Found(random_boxes(rng, founds), np.ones(founds), np.zeros(founds, int))
    assert count_pairs(truth, found, 1).tolist() == [[0, truths], [founds, 0]]
