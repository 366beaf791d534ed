"""Oracles: pycocotools on the same labels and results, closed forms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from pycocotools import mask as reference_masks
from pycocotools.coco import COCO as ReferenceCoco
from pycocotools.cocoeval import COCOeval as ReferenceEval

from hrnet.detection.coco_entries import compressed, default_ids, labeled_detections
from hrnet.detection.metrics import FIGURES, DetectionEvaluator
from hrnet.detection.spec import COCO, DetectionSpec, mask_rcnn
from hrnet.formats.coco import read_coco
from hrnet.formats.records import ImageRecord, Object, Runs
from hrnet.results import Detections, Masks

SIZE = (120, 160)


def spec_of(names: tuple[str, ...]) -> DetectionSpec:
    return DetectionSpec(names, mask_rcnn())


def reference(
    ground_truth: dict[str, Any], results: Sequence[dict[str, Any]], kind: Literal["bbox", "segm"]
) -> dict[str, float]:
    ground = ReferenceCoco()
    ground.dataset = ground_truth  # type: ignore[assignment]  # what it reads from a file
    ground.createIndex()
    # With a box beside it, pycocotools takes the box's area for that of a mask.
    other = {"segm": "bbox", "bbox": "segmentation"}[kind]
    found = ground.loadRes([{k: v for k, v in one.items() if k != other} for one in results])  # type: ignore[arg-type]
    evaluation = ReferenceEval(ground, found, kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    values = {name: float(value) for name, value in zip(FIGURES, evaluation.stats, strict=True)}
    names = {entry["id"]: entry["name"] for entry in ground_truth["categories"]}
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    values |= {f"AP/{names[one]}": float(precision[:, :, k].mean()) for k, one in enumerate(evaluation.params.catIds)}
    return {name: value for name, value in values.items() if value >= 0}


def check(
    images: Sequence[ImageRecord], ground_truth: dict[str, Any], results: Sequence[Detections]
) -> dict[str, float]:
    """The figures, compared with pycocotools' of the results file; it reads numbers of images and classes as they are."""
    ordered = sorted(ground_truth["categories"], key=lambda entry: entry["id"])
    evaluator = DetectionEvaluator(
        images, spec_of(tuple(one["name"] for one in ordered)), [one["id"] for one in ordered]
    )
    for start in range(0, len(images), 5):
        evaluator.update(range(start, min(start + 5, len(images))), results[start : start + 5])
    # Results seen twice count once.
    evaluator.update([0], [Detections.none(tuple(one["name"] for one in ordered))])
    listed = json.loads(json.dumps(evaluator.coco_results()))
    metrics = evaluator.compute()
    kinds: list[tuple[Literal["bbox", "segm"], str]] = [("bbox", ""), ("segm", "mask-")]
    for kind, prefix in kinds[: 2 if results[0].masks else 1]:
        expected = reference(ground_truth, listed, kind)
        found = {n.removeprefix(prefix): v for n, v in metrics.items() if n.startswith("mask-") == bool(prefix)}
        found = {name: value for name, value in found.items() if "VOC" not in name}
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            # The same sums in double precision.
            assert found[name] == pytest.approx(value, abs=1e-9), prefix + name
    return metrics


def disc(rng: np.random.Generator, center: np.ndarray, radius: float) -> np.ndarray:
    """A mask that is never empty, of an ellipse about a point of the image."""
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    x, y = np.clip(center, 3, [SIZE[1] - 4, SIZE[0] - 4])
    wide, high = np.maximum(radius * rng.uniform(0.7, 1.4, 2), 1)
    return ((columns - x) / wide) ** 2 + ((rows - y) / high) ** 2 <= 1


def bounds(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def made(
    seed: int, images: int, classes: int, objects: int, *, masks: bool = True
) -> tuple[list[ImageRecord], dict[str, Any], list[Detections]]:
    """Make images with up to a number of discs, some of them crowds, some images empty; and noisy predictions."""
    rng = np.random.default_rng(seed)
    names = tuple(f"class {label}" for label in range(classes))
    ground_truth: dict[str, Any] = {
        "images": [],
        "annotations": [],
        # Not in the order of the labels of anything, and with gaps, as COCO's are.
        "categories": [{"id": 3 * label + 2, "name": name} for label, name in enumerate(names)],
    }
    listed, results = [], []
    for number in range(images):
        count = 0 if number == 2 else int(rng.integers(0, objects + 1))
        things, shapes, labels = [], [], []
        for _ in range(count):
            center, radius = rng.uniform(0, 1, 2) * SIZE[::-1], rng.choice([3, 12, 30]) * rng.uniform(0.6, 1.4)
            mask, label, crowd = disc(rng, center, radius), int(rng.integers(classes)), bool(rng.random() < 0.1)
            runs = Masks.from_dense(mask[None], SIZE).runs(0)
            area = float(mask.sum()) if rng.random() < 0.7 else None
            things.append(Object(label, "", box=bounds(mask), runs=Runs(SIZE, runs), area=area, crowd=crowd))
            ground_truth["annotations"].append({
                "id": len(ground_truth["annotations"]) + 1,
                "image_id": 10 * number + 5,
                "category_id": 3 * label + 2,
                "bbox": [*things[-1].box[:2], *(things[-1].box[2:] - things[-1].box[:2])],
                "segmentation": {"size": list(SIZE), "counts": runs.tolist()},
                "area": float(mask.sum()),
                "iscrowd": int(crowd),
            })  # fmt: skip
            for _ in range(int(rng.choice([0, 1, 1, 1, 2]))):
                shapes.append(disc(rng, center + rng.normal(0, 0.15 * radius, 2), radius * rng.uniform(0.85, 1.2)))
                labels.append(label if rng.random() < 0.8 else int(rng.integers(classes)))
        ground_truth["images"].append({"id": 10 * number + 5, "height": SIZE[0], "width": SIZE[1]})
        listed.append(ImageRecord(Path(f"{number}.png"), SIZE, 10 * number + 5, objects=tuple(things)))
        results.append(
            Detections(
                # Not whole pixels, as a network's are not.
                np.array([bounds(mask) + rng.normal(0, 0.7, 4) for mask in shapes]).reshape(-1, 4),
                rng.random(len(shapes)).round(1 if number % 2 else 6),  # with equal scores
                np.array(labels, int),
                names,
                Masks.from_dense(shapes, SIZE) if masks else None,
            )
        )
    return listed, ground_truth, results


@pytest.mark.parametrize(("classes", "objects", "masks"), [(3, 9, True), (3, 9, False), (1, 4, True), (40, 30, False)])
def test_metrics_equal_pycocotools(classes: int, objects: int, masks: bool) -> None:
    metrics = check(*made(classes, 14, classes, objects, masks=masks))
    assert 0.1 < metrics["AP"] < 0.9  # neither trivial end
    assert ("mask-AP" in metrics) == masks


def test_metrics_of_500_objects_and_as_many_boxes() -> None:
    """COCO counts the best 100 of each class in an image; VOC all of them."""
    metrics = check(*made(7, 1, 2, 900, masks=False))
    assert metrics["AR100"] < metrics["VOC-AP50"]


def test_metrics_of_1200_classes_most_of_which_are_not_there() -> None:
    metrics = check(*made(1, 4, 1200, 12, masks=False))
    assert len(metrics) < 60


def test_metrics_on_coco_equal_pycocotools(shared: Path) -> None:
    """Polygons, crowds as run lengths, stated areas: read by the reader of data sets here, by pycocotools there."""
    path = shared / "data/tiny_coco/annotations/instances_val2017.json"
    ground_truth = json.loads(path.read_text())
    data = read_coco(path)
    # Labels as in the file; pycocotools knows the classes by number.
    rng = np.random.default_rng(0)
    results = []
    for image in data.images:
        exact = labeled_detections(image, data.classes, masks=True)
        noise = rng.normal(0, 0.03, (len(exact), 4)) * (exact.boxes[:, [2, 3, 2, 3]] - exact.boxes[:, [0, 1, 0, 1]])
        assert exact.masks is not None
        masks = Masks.from_dense([np.roll(exact.masks.dense(i), i % 4, 1) for i in range(len(exact))], image.size)
        found = replace(exact, boxes=exact.boxes + noise, scores=rng.random(len(exact)), masks=masks, source=None)
        results.append(found[rng.random(len(exact)) < 0.9])
    metrics = check(data.images, ground_truth, results)
    assert 0.3 < metrics["AP"] < 0.95
    assert 0.3 < metrics["mask-AP"] < 0.99


def test_labels_as_predictions_are_perfect() -> None:
    images, ground_truth, _ = made(0, 12, 3, 8)
    names = tuple(entry["name"] for entry in ground_truth["categories"])
    evaluator = DetectionEvaluator(images, spec_of(names))
    evaluator.update(range(12), [labeled_detections(image, names, masks=True) for image in images])
    metrics = evaluator.compute()
    recalls = {"AR1", "AR10", "mask-AR1", "mask-AR10"}  # some images have more objects than 10 per class
    assert {name for name, value in metrics.items() if value != pytest.approx(1)} <= recalls
    assert evaluator.headline in metrics
    (matrix,) = evaluator.findings().matrices
    np.testing.assert_allclose(matrix.values, np.eye(3, 4) * 100)
    assert all(case.error == 0 for case in evaluator.findings().cases)


def test_metrics_without_predictions_and_without_labels() -> None:
    images, ground_truth, _ = made(0, 6, 2, 5)
    names = tuple(entry["name"] for entry in ground_truth["categories"])
    evaluator = DetectionEvaluator(images, spec_of(names))
    assert evaluator.compute() == {}
    evaluator.update(range(6), [Detections.none(names)] * 6)
    assert set(evaluator.compute().values()) == {0.0}
    assert evaluator.coco_results() == []
    assert all(case.error == (1 if case.expected else 0) for case in evaluator.findings().cases)
    empty = DetectionEvaluator([replace(images[0], objects=())], spec_of(names))
    empty.update([0], [Detections.none(names)])
    assert empty.compute() == {}
    assert not empty.findings().cases


def test_difficult_objects_are_ignored() -> None:
    """Closed form: one of two objects is found, first; the prediction of the difficult one is ignored."""
    boxes = np.array([[0, 0, 50, 50], [60, 60, 100, 100], [110, 10, 150, 50.0]])
    objects = tuple(Object(0, "", box=box, difficult=i == 2) for i, box in enumerate(boxes))
    evaluator = DetectionEvaluator([ImageRecord(Path("a.png"), SIZE, 1, objects=objects)], spec_of(("thing",)))
    found = Detections(boxes[[2, 0]], np.array([0.9, 0.8]), np.zeros(2, int), ("thing",))
    evaluator.update([0], [found])
    metrics = evaluator.compute()
    assert metrics["VOC-AP50"] == pytest.approx(1 / 2)
    assert metrics["VOC07-AP50"] == pytest.approx(6 / 11)
    assert metrics["AP50"] == pytest.approx(51 / 101)


def test_compressed_masks_are_what_pycocotools_writes() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((9, 11, 13)) < np.linspace(0, 1, 9)[:, None, None]
    found = compressed(Masks.from_dense(masks, (11, 13)))
    for mask, one in zip(masks, found, strict=True):
        expected = reference_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert one["size"] == expected["size"]
        assert one["counts"].encode() == expected["counts"]


def test_default_category_ids_are_those_of_coco(shared: Path) -> None:
    content = json.loads((shared / "data/tiny_coco/annotations/instances_val2017.json").read_text())
    numbers = {entry["name"]: entry["id"] for entry in content["categories"]}
    assert dict(zip(COCO, default_ids(COCO), strict=True)) == numbers
    assert default_ids(("a", "b")) == (1, 2)


def test_findings_show_curves_and_the_worst_images() -> None:
    images, ground_truth, results = made(5, 40, 8, 6)
    names = tuple(entry["name"] for entry in ground_truth["categories"])
    evaluator = DetectionEvaluator(images, spec_of(names))
    evaluator.update(range(40), results)
    findings, metrics = evaluator.findings(), evaluator.compute()
    assert [len(chart.series) for chart in findings.charts] == [3, 6, 3, 6]
    # Closed form: AP is the mean height of the mean line, AP50 that of the first.
    assert np.mean(findings.charts[0].series[2].y) == pytest.approx(metrics["AP"], abs=1e-9)
    assert np.mean(findings.charts[2].series[0].y) == pytest.approx(metrics["mask-AP50"], abs=1e-9)
    assert len(findings.cases) == 30
    assert findings.judged == 40
    worst = max(findings.cases, key=lambda case: case.error)
    assert worst.error > 0.5
    assert worst.found.masks is not None
    assert set(metrics) >= set(findings.measures) - {"APL", "ARL", "mask-APL", "mask-ARL"}
