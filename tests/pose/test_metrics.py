"""Oracles: pycocotools for average precision, closed forms for PCK."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO as ReferenceCoco
from pycocotools.cocoeval import COCOeval as ReferenceEval

from hrnet.pose.data import Instance
from hrnet.pose.metrics import PoseEvaluator, pck, pck_auc
from hrnet.pose.oks import FIGURES, oks_ap
from hrnet.pose.skeletons import COCO, LSP
from hrnet.pose.spec import PoseSpec
from hrnet.results import Poses


def reference(
    truth: Path, results: list[dict[str, Any]], sigmas: tuple[float, ...], ids: list[int]
) -> dict[str, float]:
    ground = ReferenceCoco(str(truth))
    evaluation = ReferenceEval(ground, ground.loadRes(results), "keypoints")
    evaluation.params.kpt_oks_sigmas = np.array(sigmas)
    evaluation.params.imgIds = ids
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {name: float(value) for name, value in zip(FIGURES, evaluation.stats, strict=True) if value >= 0}


def jittered(content: dict[str, Any], sigmas: tuple[float, ...], seed: int) -> list[dict[str, Any]]:
    """The truth with noise of a size that costs about half of the precision; some people missed, some found twice."""
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
    ids = [picture["id"] for picture in content["images"]]
    found = oks_ap(content, results, sigmas, ids)
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
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    found = check_against_pycocotools(path, tuple(rng.uniform(0.03, 0.1, joints)))
    assert 0.1 < found["AP"] < 0.95


def test_pck_counts_what_lies_within_a_share() -> None:
    errors = np.array([[0.05, 0.3], [0.2, 0.19]])
    labelled = np.array([[True, True], [True, False]])
    assert pck(errors, labelled, 0.2) == pytest.approx(200 / 3)
    # Thresholds 0 to 0.2 by 0.01: 0.05 counts from the 6th on, 0.2 at the last, 0.3 never.
    assert pck_auc(errors, labelled) == pytest.approx(100 * (16 + 1) / (21 * 3))
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
        assert "PCK@0.2/left_hip" not in metrics  # nowhere labelled
