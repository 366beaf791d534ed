"""Oracles: pycocotools for average precision, closed forms for PCK."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO as ReferenceCoco
from pycocotools.cocoeval import COCOeval as ReferenceEval

from hrnet.io.geometry import flip_order
from hrnet.pose.boxes import Instance
from hrnet.pose.metrics import PoseEvaluator, pck, pck_auc, reference_length
from hrnet.pose.oks import FIGURES, oks_ap, oks_evaluation, precision_by_recall
from hrnet.pose.skeletons import COCO, LSP, Skeleton
from hrnet.pose.spec import PoseSpec
from hrnet.results import Poses


def reference(
    ground_truth: Path, results: list[dict[str, Any]], sigmas: tuple[float, ...], ids: list[int]
) -> dict[str, float]:
    ground = ReferenceCoco(str(ground_truth))
    found = ground.loadRes(results)  # type: ignore[arg-type]  # a list is read as well as a file
    evaluation = ReferenceEval(ground, found, "keypoints")
    evaluation.params.kpt_oks_sigmas = np.array(sigmas)
    evaluation.params.imgIds = ids
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {name: float(value) for name, value in zip(FIGURES, evaluation.stats, strict=True) if value >= 0}


def jittered(content: dict[str, Any], sigmas: tuple[float, ...], seed: int) -> list[dict[str, Any]]:
    """The ground truth with noise of a size that costs about half of the precision; some people missed, some found twice."""
    rng = np.random.default_rng(seed)
    results = []
    for entry in content["annotations"]:
        if not entry["num_keypoints"] or rng.random() < 0.1:
            continue
        points = np.array(entry["keypoints"], dtype=float).reshape(-1, 3)
        for _ in range(1 + (rng.random() < 0.2)):
            noise = rng.standard_normal((len(points), 2)) * np.sqrt(entry["area"]) * np.array(sigmas)[:, None] * 1.3
            found = np.column_stack([points[:, :2] + noise, rng.random(len(points))])
            category = entry["category_id"]
            results.append(
                {
                    "image_id": entry["image_id"],
                    "category_id": category,
                    "keypoints": found.ravel().tolist(),
                    "score": float(rng.random()),
                }
            )
    return results


def check_against_pycocotools(path: Path, sigmas: tuple[float, ...]) -> dict[str, float]:
    content = json.loads(path.read_text())
    results = jittered(content, sigmas, seed=1)
    ids = [image["id"] for image in content["images"]]
    found = oks_ap(oks_evaluation(content, results, sigmas, ids))
    expected = reference(path, results, sigmas, ids)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # The same sums in double precision.
        assert found[name] == pytest.approx(value, abs=1e-9), name
    return found


def test_average_precision_equals_pycocotools_on_coco(shared: Path) -> None:
    found = check_against_pycocotools(
        shared / "data/tiny_coco/annotations/person_keypoints_val2017.json", COCO.oks_sigmas
    )
    assert 0.3 < found["AP"] < 0.9  # neither trivial end


@pytest.mark.parametrize("joints", [3, 14])
def test_average_precision_equals_pycocotools_for_any_number_of_keypoints(tmp_path: Path, joints: int) -> None:
    rng = np.random.default_rng(0)
    annotations = []
    for number in range(60):
        points = np.column_stack([rng.uniform(0, 300, (joints, 2)), rng.integers(0, 3, joints)])
        annotations.append(
            {
                "id": number + 1,
                "image_id": number // 3,
                "category_id": 7,
                "iscrowd": int(number % 20 == 0),
                "bbox": [10.0, 10.0, 200.0, 250.0],
                "area": float(rng.uniform(500, 40000)),
                "num_keypoints": int((points[:, 2] > 0).sum()),
                "keypoints": points.ravel().tolist(),
            }
        )
    content = {
        "images": [{"id": number, "file_name": f"{number}.jpg", "width": 300, "height": 300} for number in range(22)],
        "annotations": annotations,
        "categories": [{"id": 7, "name": "thing", "keypoints": [f"k{i}" for i in range(joints)]}],
    }
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    found = check_against_pycocotools(path, tuple(rng.uniform(0.03, 0.1, joints)))
    assert 0.1 < found["AP"] < 0.95


def test_pck_counts_errors_within_the_threshold() -> None:
    errors = np.array([[0.05, 0.3], [0.2, 0.19]])
    labeled = np.array([[True, True], [True, False]])
    assert pck(errors, labeled, 0.2) == pytest.approx(200 / 3)
    # Thresholds 0 to 0.2 by 0.01: 0.05 counts from the 6th on, 0.2 at the last, 0.3 never.
    assert pck_auc(errors, labeled) == pytest.approx(100 * (16 + 1) / (21 * 3))
    assert np.isnan(pck(errors, np.zeros((2, 2), bool), 0.2))


def instance(image_id: int, points: np.ndarray, visibility: np.ndarray) -> Instance:
    box = np.array([*points.min(0), *points.max(0)])
    return Instance(Path("x.jpg"), image_id, (200, 200), box, points, visibility, float(np.prod(box[2:] - box[:2])))


def pose(points: np.ndarray, score: float = 0.9) -> Poses:
    joints = len(points)
    return Poses(points[None], np.full((1, joints), score), np.zeros((1, 4)), np.array([score]), LSP.names)


def test_the_truth_scores_full_marks_and_a_shift_of_half_a_torso_none() -> None:
    rng = np.random.default_rng(0)
    points = [rng.uniform(0, 200, (14, 2)) for _ in range(4)]
    visibility = np.ones(14)
    visibility[3] = 0
    instances = [instance(number, value, visibility) for number, value in enumerate(points)]
    torso = [np.linalg.norm(value[9] - value[2]) for value in points]
    for shift, expected in ((0.0, 100.0), (0.19, 100.0), (0.21, 0.0)):
        evaluator = PoseEvaluator(instances, PoseSpec(LSP))
        moved = [pose(value + np.array([shift * length, 0])) for value, length in zip(points, torso, strict=True)]
        evaluator.update(range(4), moved)
        evaluator.update([0], moved[:1])  # a position seen twice counts once
        metrics = evaluator.compute()
        assert metrics["PCK@0.2"] == pytest.approx(expected)
        assert metrics["PCK@0.2/limbs"] == pytest.approx(expected)
        assert "PCK@0.2/left_hip" not in metrics  # nowhere labeled


def crowd_of(joints: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Two images with a person each, and exact results for both."""
    points = np.column_stack([np.random.default_rng(0).uniform(0, 100, (joints, 2)), np.full(joints, 2)])
    annotations = [
        {
            "id": number,
            "image_id": number,
            "category_id": 1,
            "bbox": [0, 0, 100, 100],
            "area": 10000.0,
            "keypoints": points.ravel().tolist(),
        }
        for number in (0, 1)
    ]
    ground_truth = {
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in (0, 1, 2)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": [f"k{i}" for i in range(joints)]}],
    }
    found = [
        {"image_id": number, "category_id": 1, "keypoints": points.ravel().tolist(), "score": 0.5} for number in (0, 1)
    ]
    return ground_truth, found


def test_annotation_zero_and_missing_fields_count_like_all_others() -> None:
    """pycocotools takes an annotation numbered 0 for none; ours is renumbered. Oracle: exact results score 1."""
    ground_truth, found = crowd_of(4)
    del ground_truth["annotations"][1]["area"]
    assert oks_ap(oks_evaluation(ground_truth, found, [0.05] * 4, [0, 1, 2]))["AP"] == pytest.approx(1)


def test_images_without_results_and_results_without_people_cost() -> None:
    """Oracle: precision over 101 recalls, by hand: one of two people found is 51 of 101 recalls at precision 1."""
    ground_truth, found = crowd_of(4)
    assert oks_ap(oks_evaluation(ground_truth, found[:1], [0.05] * 4, [0, 1, 2]))["AP"] == pytest.approx(51 / 101)
    # A sure find in the empty image comes first: precision 1/2 when one is found, 2/3 when both are, and the larger
    # one holds for all recalls.
    ghost = {**found[0], "image_id": 2, "score": 0.9}
    assert oks_ap(oks_evaluation(ground_truth, [*found, ghost], [0.05] * 4, [0, 1, 2]))["AP"] == pytest.approx(2 / 3)


def test_other_categories_and_malformed_entries_do_not_count() -> None:
    ground_truth, found = crowd_of(4)
    dog = {**ground_truth["annotations"][0], "id": 9, "category_id": 2}
    ground_truth["annotations"] += [
        dog,
        {**dog, "category_id": 1, "keypoints": [1, 2]},
        {**dog, "image_id": 77},
        "text",
    ]
    ground_truth["categories"].append({"id": 2, "name": "dog", "keypoints": list("abcd")})
    assert oks_ap(oks_evaluation(ground_truth, found, [0.05] * 4, [0, 1, 2]))["AP"] == pytest.approx(1)


def test_names_may_be_text() -> None:
    ground_truth, found = crowd_of(4)
    for entry in (*ground_truth["images"], *ground_truth["annotations"], *found):
        key = "id" if "file_name" in entry else "image_id"
        entry[key] = f"scene-{entry[key]}"
    assert oks_ap(oks_evaluation(ground_truth, found, [0.05] * 4, ["scene-0", "scene-1"]))["AP"] == pytest.approx(1)


def detections(evaluator_images: list[int] | None) -> dict[str, float]:
    """A detector that looked into image 0 of two with people, and found the person exactly."""
    ground_truth, found = crowd_of(14)
    ground_truth["categories"][0]["keypoints"] = list(LSP.names)
    points = np.reshape(found[0]["keypoints"], (-1, 3))[:, :2]
    boxes = [instance(0, points, np.zeros(14))]
    evaluator = PoseEvaluator(boxes, PoseSpec(LSP), ground_truth=ground_truth, labeled=False, images=evaluator_images)
    assert evaluator.headline == "AP"
    evaluator.update([0], [pose(points)])
    return evaluator.compute()


def test_a_image_in_which_the_detector_found_nobody_is_missed() -> None:
    found = detections(None)
    assert set(found) <= set(FIGURES)  # no PCK: boxes are not people
    assert found["AP"] == pytest.approx(51 / 101)
    assert detections([0, 1])["AP"] == pytest.approx(51 / 101)
    # Images that are not there were not looked at.
    assert detections([0])["AP"] == pytest.approx(1)


def test_the_same_person_found_twice_counts_once() -> None:
    """Oracle: OKS-NMS at 0.9 drops the exact copy, as prediction does; the score is box score times keypoint score."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 200, (14, 2))
    boxes = [replace(instance(3, points, np.zeros(14)), score=score) for score in (0.5, 0.8)]
    evaluator = PoseEvaluator(boxes, PoseSpec(LSP), labeled=False)
    evaluator.update([0, 1], [pose(points, 0.5), pose(points + 0.1, 0.5)])
    results = evaluator.coco_results()
    assert len(results) == 1
    assert results[0]["image_id"] == 3
    assert results[0]["score"] == pytest.approx(0.8 * 0.5)
    np.testing.assert_allclose(np.reshape(results[0]["keypoints"], (-1, 3))[:, :2], points + 0.1)  # not rounded


def test_results_are_written_in_the_order_of_the_truth() -> None:
    points = np.random.default_rng(0).uniform(0, 200, (14, 2))
    names = tuple(reversed(LSP.names))
    evaluator = PoseEvaluator([instance(1, points, np.ones(14))], PoseSpec(LSP), names=names)
    evaluator.update([0], [pose(points)])
    found = np.reshape(evaluator.coco_results()[0]["keypoints"], (-1, 3))
    np.testing.assert_array_equal(found[:, :2], points[::-1])


@pytest.mark.parametrize(
    ("asked", "given"), [(None, "PCK@0.2"), ("AP", "AP"), ("PCKh@0.5", "PCK@0.2"), ("PCK@0.2", "PCK@0.2")]
)
def test_the_headline_is_what_can_be_measured(asked: str | None, given: str) -> None:
    ground_truth, _ = crowd_of(14)
    ground_truth["categories"][0]["keypoints"] = list(LSP.names)
    points = np.random.default_rng(0).uniform(0, 200, (14, 2))
    evaluator = PoseEvaluator(
        [instance(0, points, np.ones(14))], PoseSpec(LSP), ground_truth=ground_truth, headline=asked
    )
    assert evaluator.headline == given
    evaluator.update([0], [pose(points)])
    assert given in evaluator.compute()


def test_torsos_are_found_under_any_spelling_and_boxes_stand_in() -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0], [50.0, 20.0], [7.0, 7.0]])
    person = instance(0, points, np.ones(4))
    named = Skeleton(("l_shoulder", "RHip", "r_shoulder", "LHip"))
    assert reference_length(person, named) == pytest.approx(5)  # left shoulder to right hip
    hidden = replace(person, visibility=np.array([1.0, 0, 1, 1]))
    assert np.isnan(reference_length(hidden, named))
    assert reference_length(person, Skeleton(("a", "b", "c", "d"))) == pytest.approx(50)  # the box is 50 by 20


def test_pixels_are_the_distances_of_what_is_labeled() -> None:
    """Closed form: a shift by (3, 4) is 5 pixels, whatever the size of the object; unlabeled keypoints do not count."""
    rng = np.random.default_rng(0)
    visibility = np.ones(14)
    visibility[0] = 0
    points = [rng.uniform(0, 200, (14, 2)) for _ in range(3)]
    evaluator = PoseEvaluator([instance(i, value, visibility) for i, value in enumerate(points)], PoseSpec(LSP))
    moved = [value + np.array([3.0, 4.0]) for value in points]
    moved[1][:, :] = points[1]  # one exact pose
    moved[2][5] = points[2][5] + 60  # one keypoint far off: 60 * sqrt(2)
    for value in moved:
        value[0] = 1e4
    evaluator.update(range(3), [pose(value) for value in moved])
    metrics = evaluator.compute()
    assert metrics["error/px"] == pytest.approx((13 * 5 + 12 * 5 + 60 * np.sqrt(2)) / 39)
    assert metrics[f"error/px/{LSP.names[5]}"] == pytest.approx((5 + 0 + 60 * np.sqrt(2)) / 3)
    assert f"error/px/{LSP.names[0]}" not in metrics  # nowhere labeled


def test_the_mean_pose_is_exact_where_all_poses_are_alike() -> None:
    """Closed form: poses that are one shape in boxes of any place and size are all at their mean, so guessing is perfect."""
    shape = np.random.default_rng(0).uniform(0, 1, (14, 2))
    shape[[0, 1]] = [[0, 0], [1, 1]]  # the box reaches from the first to the second
    visibility = np.full(14, 2.0)
    scaled = [np.array([10, 20]) + 100 * shape, np.array([60, 5]) + np.array([50, 150]) * shape]
    evaluator = PoseEvaluator([instance(i, points, visibility) for i, points in enumerate(scaled)], PoseSpec(LSP))
    evaluator.update(range(2), [pose(points + 30) for points in scaled])
    found = evaluator.findings()
    assert found.baseline["error/px"] == pytest.approx(0, abs=1e-9)
    assert found.baseline["PCK@0.05"] == 100
    assert evaluator.compute()["error/px"] == pytest.approx(30 * np.sqrt(2))


def test_findings_order_by_error_and_name_what_is_exchanged() -> None:
    """Oracles: the PCK curve is PCK at its thresholds; errors are distances over the box's longer side, in words too."""
    rng = np.random.default_rng(1)
    points = [rng.uniform(20, 180, (14, 2)) for _ in range(3)]
    visibility = np.full(14, 2.0)
    visibility[13] = 0
    evaluator = PoseEvaluator([instance(i, value, visibility) for i, value in enumerate(points)], PoseSpec(LSP))
    exchanged = points[2][flip_order(14, LSP.pairs)]
    evaluator.update(range(3), [pose(points[0]), pose(points[1] + np.array([0, 12])), pose(exchanged)])
    found = evaluator.findings()
    curve = found.charts[0].series[0]
    for x, y in zip(curve.x, curve.y, strict=True):
        assert y == pytest.approx(pck(*evaluator.errors(), x))
    side = max(np.ptp(points[1], axis=0))
    assert found.cases[0].error == 0
    assert found.cases[1].error == pytest.approx(12 / side)
    assert f"12.0 px off on average, {100 * 12 / side:.0f} %" in found.cases[1].words
    assert "exchanged" not in found.cases[0].words + found.cases[1].words
    assert "Left and right look exchanged: with their names changed it is 0.0 px." in found.cases[2].words
    assert found.cases[0].expected.keypoint_scores[0, 13] == 0  # nothing is drawn where nothing is labeled
    for case in found.cases:
        assert (case.region[:2] >= -0.5).all()
        assert (case.region[2:] <= 199.5).all()


def test_precision_over_recall_has_average_precision_under_it() -> None:
    """Oracle: AP is the mean over similarities and 101 recalls."""
    ground_truth, found = crowd_of(4)
    precision = precision_by_recall(oks_evaluation(ground_truth, found[:1], [0.05] * 4, [0, 1, 2]))
    assert list(precision) == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert np.mean(list(precision.values())) == pytest.approx(51 / 101)
    assert precision_by_recall(oks_evaluation(ground_truth, [], [0.05] * 4, [0, 1, 2])) == {}


def test_findings_without_labels_or_results_are_empty() -> None:
    points = np.random.default_rng(0).uniform(0, 200, (14, 2))
    boxes = PoseEvaluator([instance(0, points, np.zeros(14))], PoseSpec(LSP), labeled=False)
    boxes.update([0], [pose(points)])
    unseen = PoseEvaluator([instance(0, points, np.ones(14))], PoseSpec(LSP))
    for evaluator in (boxes, unseen):
        found = evaluator.findings()
        assert (found.charts, found.cases, dict(found.baseline)) == ((), (), {})
