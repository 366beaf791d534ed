"""Accuracies. Oracles: loops written here over random scores; closed forms; the evaluator fed with what a baseline says."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet.classification.metrics import ClassificationEvaluator
from hrnet.classification.spec import ClassificationSpec
from hrnet.engine.evaluator import Evaluator, confusion_matrix
from hrnet.formats.records import ImageRecord
from hrnet.nn.spec import hrnet
from hrnet.results import Classification
from hrnet.vis.report.images import figure


def evaluator(labels: list[int], classes: int) -> ClassificationEvaluator:
    images = [ImageRecord(Path(f"{index}.png"), (30, 40), index, label=label) for index, label in enumerate(labels)]
    return ClassificationEvaluator(images, ClassificationSpec(num_classes=classes, backbone=hrnet(8)))


def results(scores: np.ndarray) -> list[Classification]:
    return [Classification(row, tuple(f"class_{label}" for label in range(len(row)))) for row in scores]


def random_case(count: int = 200, classes: int = 8) -> tuple[list[int], np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes - 1, count).tolist()  # the last class never occurs
    scores = rng.random((count, classes)) + 0.4 * np.eye(classes)[labels]
    return labels, scores / scores.sum(1, keepdims=True)


def test_accuracies_are_counted_as_by_hand() -> None:
    labels, scores = random_case()
    scored = evaluator(labels, 8)
    found = results(scores)
    for begin in range(0, 200, 7):
        scored.update(range(begin, min(begin + 7, 200)), found[begin : begin + 7])
    scored.update([0, 1], [found[5], found[6]])  # seen before: counts once
    metrics = scored.compute()
    order = [sorted(range(8), key=lambda label: -row[label]) for row in scores.tolist()]
    hits = [label == best[0] for label, best in zip(labels, order, strict=True)]
    # Whole numbers divided once.
    assert metrics["top-1"] == pytest.approx(100 * sum(hits) / 200, rel=1e-12)
    inside = sum(label in best[:5] for label, best in zip(labels, order, strict=True))
    assert metrics["top-5"] == pytest.approx(100 * inside / 200, rel=1e-12)
    each = [np.mean([hit for hit, one in zip(hits, labels, strict=True) if one == label]) * 100 for label in range(7)]
    assert [metrics[f"accuracy/class_{label}"] for label in range(7)] == pytest.approx(each, rel=1e-12)
    assert "accuracy/class_7" not in metrics
    assert metrics["mean-accuracy"] == pytest.approx(float(np.mean(each)), rel=1e-12)
    assert isinstance(scored, Evaluator)
    assert scored.headline in metrics
    for label, best in zip(labels, order, strict=True):
        scored.confusion[label, best[0]] -= 1
    assert not scored.confusion.any()


@pytest.mark.parametrize(("classes", "there"), [(5, False), (6, True)])
def test_top_5_is_for_more_than_five_classes(classes: int, there: bool) -> None:
    scored = evaluator([0, 1], classes)
    scored.update([0, 1], results(np.eye(classes)[:2]))
    assert ("top-5" in scored.compute()) == there
    assert ("top-5" in scored.findings().baseline) == there
    assert scored.compute()["top-1"] == 100


def test_nothing_seen_gives_nothing() -> None:
    scored = evaluator([0], 2)
    assert scored.compute() == {}
    assert scored.findings().cases == ()


def test_the_baseline_is_what_a_blind_answer_scores() -> None:
    labels, scores = random_case()
    scored = evaluator(labels, 8)
    scored.update(range(200), results(scores))
    counts = np.bincount(labels, minlength=8)
    blind = evaluator(labels, 8)
    blind.update(range(200), results(np.tile(counts / 200, (200, 1))))
    measured, said = blind.compute(), scored.findings().baseline
    assert said == pytest.approx({name: measured[name] for name in said}, rel=1e-12)


def test_the_report_shows_the_worst_and_accuracy_over_coverage() -> None:
    labels, scores = random_case()
    scored = evaluator(labels, 8)
    scored.update(range(200), results(scores))
    findings = scored.findings()
    errors = -np.log(scores[range(200), labels])
    shown = {case.path.stem for case in findings.cases}
    assert findings.judged == 200
    assert {str(index) for index in np.argsort(-errors)[:12]} <= shown
    assert 12 <= len(shown) <= 30
    (line,) = findings.charts[0].series
    # All images answered: the accuracy over all.
    assert line.x[-1] == 100
    assert line.y[-1] == pytest.approx(scored.compute()["top-1"], rel=1e-12)
    hits = scores.argmax(1) == labels
    confident = np.argsort(-scores.max(1), kind="stable")[:20]
    assert line.y[list(line.x).index(10.0)] == pytest.approx(100 * hits[confident].mean(), rel=1e-12)


def test_a_large_confusion_matrix_shows_the_classes_with_most_mistakes() -> None:
    # Closed form: 30 classes of 10 images; of class c, c images (at most 9) are predicted as the next one.
    counts = np.zeros((30, 30), np.int64)
    for label in range(30):
        wrong = min(label, 9)
        counts[label, label] += 10 - wrong
        counts[label, (label + 1) % 30] += wrong
    shown = confusion_matrix(counts, tuple(map(str, range(30))), "")
    assert len(shown.rows) == 20
    assert shown.columns[-1] == "others"
    assert np.allclose(np.sum(shown.values, axis=1), 100)
    assert "20 of 30" in shown.text


def test_a_case_is_drawn_with_its_class_and_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 30), (90, 120, 90)).save(path)
    images = [ImageRecord(path, (30, 40), 0, label=1)]
    scored = ClassificationEvaluator(images, ClassificationSpec(("cat", "dog"), backbone=hrnet(8)))
    scored.update([0], [Classification(np.array([0.9, 0.1]), ("cat", "dog"))])
    (case,) = scored.findings().cases
    assert "dog predicted as cat (0.90)" in case.words
    assert "rank 2" in case.words
    drawn = figure(case)
    assert drawn.ground_truth.startswith("data:image/jpeg")
    assert drawn.ground_truth != drawn.found
