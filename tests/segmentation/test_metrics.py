"""Metrics of label maps. Oracles: loops over pixels and repeated erosions written here, closed forms, the evaluator itself
on the predictions of a baseline. Counts are whole numbers, so that metrics agree to the rounding of one division."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet.engine.evaluator import Evaluator, confusion_matrix
from hrnet.formats.label_maps import LabeledImage
from hrnet.results import SemanticMap
from hrnet.segmentation.metrics import (
    SegmentationEvaluator,
    confusion_counts,
    outline,
    outline_counts,
    reduce_labels,
)
from hrnet.segmentation.spec import SegmentationSpec
from hrnet.vis.report.images import choose

NAMES = ("sky", "road", "car", "never", "only predicted")
SPEC = SegmentationSpec(NAMES)
CLASSES = len(NAMES)


def labeled(folder: Path, labels: np.ndarray, number: int = 0) -> LabeledImage:
    path = folder / f"{number}.png"
    Image.fromarray(labels).save(path)
    return LabeledImage(folder / f"{number}.jpg", path, (labels.shape[0], labels.shape[1]))


def maps(seed: int, size: tuple[int, int] = (60, 80)) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of the first three classes and ignored pixels; and a similar prediction, with a fifth class and pixels outside
    the input."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice([0, 1, 2, 255], (size[0] // 10, size[1] // 10), p=[0.4, 0.3, 0.2, 0.1])
    ground_truth = np.kron(blocks, np.ones((10, 10))).astype(np.uint8)
    found = np.roll(ground_truth, (2, -3), (0, 1))
    found[ground_truth == 255] = 1
    found[found == 255] = 4
    found[rng.random(size) < 0.05] = 2
    found[:3, :7] = 255
    return ground_truth, found


def slow_counts(ground_truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    counts = np.zeros((CLASSES, CLASSES + 1), int)
    for a, b in zip(ground_truth.ravel().tolist(), found.ravel().tolist(), strict=True):
        if a != 255:
            counts[a, CLASSES if b == 255 else b] += 1
    return counts


def slow_outline(mask: np.ndarray, distance: int) -> np.ndarray:
    """The published way: a border of zeros, `distance` erosions by 3 x 3 pixels, and the pixels they remove."""
    eroded = np.pad(mask, 1)
    for _ in range(distance):
        smaller = eroded.copy()
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                smaller &= np.roll(eroded, (dy, dx), (0, 1))
        smaller[[0, -1]], smaller[:, [0, -1]] = False, False
        eroded = smaller
    return mask & ~eroded[1:-1, 1:-1]


def test_counts_are_those_of_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    ground_truth, found = maps(0)
    expected = slow_counts(ground_truth, found)
    assert expected[:, CLASSES].sum() > 0
    np.testing.assert_array_equal(confusion_counts(ground_truth, found, CLASSES), expected)
    monkeypatch.setattr("hrnet.segmentation.metrics._CHUNK_PIXELS", 77)
    np.testing.assert_array_equal(confusion_counts(ground_truth, found, CLASSES), expected)


@pytest.mark.parametrize(
    ("size", "distance"), [((60, 80), 3), ((60, 80), 1), ((20, 90), 12), ((1, 1), 1), ((30, 20), 40)]
)
def test_the_outline_is_the_pixels_that_erosions_remove(size: tuple[int, int], distance: int) -> None:
    labels = np.random.default_rng(1).integers(0, 3, ((size[0] + 9) // 10, (size[1] + 9) // 10))
    labels = np.kron(labels, np.ones((10, 10))).astype(np.uint8)[: size[0], : size[1]]
    expected = np.zeros(size, bool)
    for label in range(3):
        expected |= slow_outline(labels == label, distance)
    np.testing.assert_array_equal(outline(labels, distance), expected)


def test_outlines_are_counted_class_by_class() -> None:
    ground_truth, found = maps(2)
    distance = round(0.02 * math.hypot(60, 80))  # 2 pixels
    assert distance == 2
    seen = np.where(ground_truth == 255, 255, found)
    for label, counted in enumerate(outline_counts(ground_truth, found, CLASSES).T):
        one, other = slow_outline(ground_truth == label, distance), slow_outline(seen == label, distance)
        assert counted.tolist() == [(one & other).sum(), one.sum(), other.sum()]


def test_metrics_are_those_of_loops_over_the_whole_set(tmp_path: Path) -> None:
    pairs = [maps(seed) for seed in range(3)]
    images = [labeled(tmp_path, ground_truth, number) for number, (ground_truth, _) in enumerate(pairs)]
    evaluator = SegmentationEvaluator(images, SPEC)
    assert isinstance(evaluator, Evaluator)
    evaluator.update([2, 0], [SemanticMap(pairs[2][1], NAMES), SemanticMap(pairs[0][1], NAMES)])
    evaluator.update([1, 0], [SemanticMap(pairs[1][1], NAMES), SemanticMap(pairs[1][1], NAMES)])  # 0 was there
    metrics = evaluator.compute()
    counts = np.sum([slow_counts(*pair) for pair in pairs], axis=0)
    ious, accuracies = {}, {}
    for label, name in enumerate(NAMES):
        hit, of, predicted = counts[label, label], counts[label].sum(), counts[:, label].sum()
        if of + predicted:
            ious[name] = 100 * hit / (of + predicted - hit)
        if of:
            accuracies[name] = 100 * hit / of
    assert list(ious) == ["sky", "road", "car", "only predicted"]
    for name, value in ious.items():
        assert metrics[f"IoU/{name}"] == pytest.approx(value, rel=1e-12)
    assert "IoU/never" not in metrics
    expected = {
        "mIoU": sum(ious.values()) / 4,
        "mIoU-published": sum(ious.values()) / 5,
        "pixel-accuracy": 100 * np.trace(counts) / counts.sum(),
        "mean-accuracy": sum(accuracies.values()) / 3,
        "mean-accuracy-published": sum(accuracies.values()) / 5,
    }
    strips = np.sum([outline_counts(*pair, CLASSES) for pair in pairs], axis=0)
    both, one, other = strips
    present = one + other > 0
    expected["boundary-mIoU"] = float((100 * both / np.maximum(one + other - both, 1))[present].mean())
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, rel=1e-12), name
    assert metrics["boundary-mIoU"] < metrics["mIoU"]


def test_the_ground_truth_scores_a_hundred(tmp_path: Path) -> None:
    ground_truth, _ = maps(0)
    evaluator = SegmentationEvaluator([labeled(tmp_path, ground_truth)], SPEC)
    prediction = np.where(ground_truth == 255, 0, ground_truth).astype(np.uint8)
    evaluator.update([0], [SemanticMap(prediction, NAMES)])
    metrics = evaluator.compute()
    assert metrics.pop("mIoU-published") == metrics.pop("mean-accuracy-published") == 60
    assert set(metrics.values()) == {100.0}
    (case,) = evaluator.findings().cases
    assert case.words == "all labeled pixels are correct"


def test_the_baseline_is_the_score_of_the_most_frequent_class(tmp_path: Path) -> None:
    pairs = [maps(seed) for seed in range(3)]
    images = [labeled(tmp_path, ground_truth, number) for number, (ground_truth, _) in enumerate(pairs)]
    evaluator, blind = SegmentationEvaluator(images, SPEC), SegmentationEvaluator(images, SPEC)
    evaluator.update(range(3), [SemanticMap(found, NAMES) for _, found in pairs])
    frequent = np.bincount(np.concatenate([ground_truth[ground_truth != 255] for ground_truth, _ in pairs])).argmax()
    blind.update(range(3), [SemanticMap(np.full_like(ground_truth, frequent), NAMES) for ground_truth, _ in pairs])
    scores = blind.compute()
    for name, value in evaluator.findings().baseline.items():
        assert scores[name] == pytest.approx(value, rel=1e-12), name


def test_few_images_are_kept_and_the_worst_are_among_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ground_truth = np.zeros((10, 100), np.uint8)
    errors = rng.permutation(60)
    one = labeled(tmp_path, ground_truth)
    evaluator = SegmentationEvaluator([one] * 60, SPEC)
    for index, wrong in enumerate(errors):
        found = ground_truth.copy()
        found[:, :wrong] = 1
        evaluator.update([index], [SemanticMap(found, NAMES)])
        assert len(evaluator.findings().cases) <= 30
    findings = evaluator.findings()
    assert findings.judged == 60
    worst, others = choose(findings.cases, 12, 6)
    np.testing.assert_allclose([case.error for case in worst], np.arange(59, 47, -1), atol=1e-9)
    assert len(others) == 6
    assert worst[0].words == "41.0 % of the labeled pixels are correct; 59.0 % are sky predicted as road"


def test_without_labeled_pixels_there_are_no_metrics(tmp_path: Path) -> None:
    evaluator = SegmentationEvaluator([labeled(tmp_path, np.full((4, 4), 255, np.uint8))], SPEC)
    evaluator.update([0], [SemanticMap(np.zeros((4, 4), np.uint8), NAMES)])
    assert evaluator.compute() == {}
    assert evaluator.findings().cases == ()


def test_a_result_of_another_size_is_refused(tmp_path: Path) -> None:
    evaluator = SegmentationEvaluator([labeled(tmp_path, np.zeros((4, 4), np.uint8))], SPEC)
    with pytest.raises(ValueError, match=r"labels of \(4, 4\) and a result of \(4, 5\)"):
        evaluator.update([0], [SemanticMap(np.zeros((4, 5), np.uint8), NAMES)])


def test_the_matrix_is_in_percent_of_its_rows() -> None:
    counts = slow_counts(*maps(0))
    matrix = confusion_matrix(counts, NAMES, "")
    assert matrix.rows == ("sky", "road", "car")
    assert matrix.columns == ("sky", "road", "car", "only predicted", "others")
    expected = 100 * counts[:3][:, [0, 1, 2, 4, 5]] / counts[:3].sum(1, keepdims=True)
    np.testing.assert_allclose(matrix.values, expected, rtol=1e-12)
    many = np.zeros((40, 41), int)
    np.fill_diagonal(many, 10)
    many[7, 30] = 5
    shown = confusion_matrix(many, tuple(f"class {label}" for label in range(40)), "")
    assert len(shown.rows) == 20
    assert {"class 7", "class 30"} <= set(shown.rows)


def test_reduced_labels_are_those_at_the_middles() -> None:
    """Closed form: of six rows for two, the middles are between rows 1 and 2, and 4 and 5: the later one of each is taken,
    as everywhere where a pixel reaches from its number to the next."""
    labels = np.arange(6, dtype=np.uint8)[:, None].repeat(3, 1)
    assert reduce_labels(labels, 2)[:, 0].tolist() == [1, 4]
    np.testing.assert_array_equal(reduce_labels(labels, 6), labels)
    assert reduce_labels(np.zeros((1, 900), np.uint8), 30).shape == (1, 30)
