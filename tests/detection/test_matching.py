"""Oracles: a slow reference of VOC's rules written here, closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from hrnet.detection.matching import (
    Annotations,
    Match,
    average_precision,
    confusion_matrix,
    count_pairs,
    in_words,
    iou_matrix,
    match_predictions,
    precision_recall,
)
from hrnet.results import Detections


def detections(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> Detections:
    return Detections(boxes, scores, labels, tuple("abcdefgh"))


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.uniform(0, 60, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(5, 30, (count, 2))], axis=1)


def random_image(rng: np.random.Generator, classes: int) -> tuple[Annotations, Detections]:
    """Return objects and predictions: most near an object, some of another class, some duplicates, some random."""
    count = int(rng.integers(0, 8))
    ground_truth = Annotations(
        random_boxes(rng, count), rng.integers(0, classes, count), np.zeros(count, bool), rng.random(count) < 0.3
    )
    near = np.repeat(ground_truth.boxes, 2, axis=0) + rng.normal(0, 3, (2 * count, 4))
    boxes = np.concatenate([near, random_boxes(rng, 4)])
    labels = np.concatenate([np.repeat(ground_truth.labels, 2), rng.integers(0, classes, 4)])
    keep = rng.random(len(boxes)) < 0.8
    return ground_truth, detections(boxes[keep], rng.permutation(len(boxes))[keep] / len(boxes), labels[keep])


def iou(one: np.ndarray, other: np.ndarray) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return width * height / (areas - width * height)


def slow_ap(images: list[tuple[Annotations, Detections]], label: int, eleven: bool) -> float:
    """Return the AP by VOC's rules, box by box, best first over all images."""
    predictions = [
        (float(predictions.scores[i]), number, predictions.boxes[i])
        for number, (_, predictions) in enumerate(images)
        for i in range(len(predictions.scores))
        if predictions.labels[i] == label
    ]
    predictions.sort(key=lambda one: -one[0])
    num_objects = sum(int(((t.labels == label) & ~t.difficult).sum()) for t, _ in images)
    used: set[tuple[int, int]] = set()
    hits: list[bool] = []
    for _, number, box in predictions:
        ground_truth = images[number][0]
        objects = [i for i in range(len(ground_truth.labels)) if ground_truth.labels[i] == label]
        best = max(objects, key=lambda i: iou(box, ground_truth.boxes[i]), default=None)
        if best is None or iou(box, ground_truth.boxes[best]) < 0.5:
            hits.append(False)
        elif not ground_truth.difficult[best]:
            hits.append((number, best) not in used)
            used.add((number, best))
    points = [(sum(hits[: n + 1]) / num_objects, sum(hits[: n + 1]) / (n + 1)) for n in range(len(hits))]
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
    # Scores differ between images, so that ties do not matter.
    images = [
        (ground_truth, detections(predictions.boxes, predictions.scores + number * 1e-5, predictions.labels))
        for number, (ground_truth, predictions) in enumerate(images)
    ]
    for label in range(3):
        matches = np.concatenate([match_predictions(*one)[one[1].labels == label] for one in images])
        scores = np.concatenate([predictions.scores[predictions.labels == label] for _, predictions in images])
        num_objects = sum(int(((t.labels == label) & ~t.difficult).sum()) for t, _ in images)
        precision, recall, _ = precision_recall(scores, matches, num_objects)
        value = average_precision(precision, recall, eleven=eleven)
        # The same sums in double precision.
        assert value == pytest.approx(slow_ap(images, label, eleven), abs=1e-12)
        assert 0.02 < value < 0.98  # not trivial


def test_average_precision_in_closed_form() -> None:
    """True, false, true positive of two objects: 1/2 * 1 + 1/2 * 2/3; at eleven recalls six times 1 and five times 2/3."""
    precision, recall, scores = precision_recall(
        np.array([0.7, 0.9, 0.8]), np.array([Match.TRUE_POSITIVE, Match.TRUE_POSITIVE, Match.FALSE_POSITIVE]), 2
    )
    np.testing.assert_allclose(scores, [0.9, 0.8, 0.7])
    assert average_precision(precision, recall) == pytest.approx(5 / 6)
    assert average_precision(precision, recall, eleven=True) == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_average_precision_without_predictions_is_0() -> None:
    nothing = precision_recall(np.zeros(0), np.zeros(0, int), 3)
    assert average_precision(nothing[0], nothing[1]) == 0
    assert average_precision(nothing[0], nothing[1], eleven=True) == 0


def test_iou_equals_pixel_counts() -> None:
    """Oracle: union and intersection of boxes of whole pixels are pixel counts."""
    rng = np.random.default_rng(3)
    boxes = rng.integers(0, 20, (6, 4)).astype(float)
    boxes[:, 2:] = boxes[:, :2] + rng.integers(0, 20, (6, 2))
    filled = np.zeros((6, 40, 40), bool)
    for mask, (x1, y1, x2, y2) in zip(filled, boxes.astype(int).tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    crowd = np.array([False, True, False, True, False, True])
    intersection = (filled[:, None] & filled).sum((-1, -2))
    union = np.where(crowd, filled.sum((-1, -2))[:, None], (filled[:, None] | filled).sum((-1, -2)))
    np.testing.assert_allclose(iou_matrix(boxes, boxes, crowd), intersection / np.maximum(union, 1))


def test_predictions_inside_a_crowd_are_ignored() -> None:
    ground_truth = Annotations(np.array([[0, 0, 100, 100.0]]), np.array([0]), np.array([True]), np.array([False]))
    predictions = detections(
        np.array([[0, 0, 10, 10], [95, 95, 120, 120], [0, 0, 10, 10.0]]), np.ones(3), np.array([0, 0, 1])
    )
    assert match_predictions(ground_truth, predictions).tolist() == [
        Match.IGNORED,
        Match.FALSE_POSITIVE,
        Match.FALSE_POSITIVE,
    ]


def test_confusion_in_closed_form() -> None:
    """One correct, one of a wrong class, one missed, one without an object, one on a difficult object."""
    box = np.array([0, 0, 10, 10.0])
    ground_truth = Annotations(
        np.stack([box, box + 20, box + 40, box + 60]),
        np.array([0, 0, 1, 1]),
        np.zeros(4, bool),
        np.array([False, False, False, True]),
    )
    predictions = detections(np.stack([box, box + 20, box + 60, box + 80]), np.ones(4), np.array([0, 1, 1, 1]))
    counts = count_pairs(ground_truth, predictions, 2)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]
    matrix = confusion_matrix(counts, ("cat", "dog"))
    assert (matrix.rows, matrix.columns) == (("cat", "dog", "background"), ("cat", "dog", "missed"))
    assert matrix.values == ((50, 50, 0), (0, 0, 100), (0, 100, 0))
    words = in_words(counts, ("cat", "dog"))
    assert words.startswith("1 of 3 objects correct; ")
    assert {"1 x cat predicted as dog", "1 x dog missed", "1 x dog without a labeled object"} == set(
        words.split("; ")[1].split(", ")
    )


@pytest.mark.parametrize(("num_labels", "num_predictions"), [(0, 0), (0, 3), (3, 0)])
def test_confusion_of_empty_images(num_labels: int, num_predictions: int) -> None:
    rng = np.random.default_rng(0)
    ground_truth = Annotations(
        random_boxes(rng, num_labels), np.zeros(num_labels, int), np.zeros(num_labels, bool), np.zeros(num_labels, bool)
    )
    predictions = detections(
        random_boxes(rng, num_predictions), np.ones(num_predictions), np.zeros(num_predictions, int)
    )
    assert count_pairs(ground_truth, predictions, 1).tolist() == [[0, num_labels], [num_predictions, 0]]
