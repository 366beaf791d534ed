from __future__ import annotations

import json

import numpy as np
import pytest

from hrnet.results import Classification, Poses, SemanticMap

# Where jaxtyping checks the shapes of signatures, it comes first and raises a TypeError.
REFUSED = (ValueError, TypeError)


def test_classification_puts_the_best_first() -> None:
    result = Classification(np.array([0.1, 0.6, 0.3]), ("a", "b", "c"))
    assert (result.label, result.name, result.top(2)) == (1, "b", [1, 2])
    assert json.loads(result.to_json()) == {
        "task": "classification",
        "classes": [
            {"label": 1, "name": "b", "score": 0.6},
            {"label": 2, "name": "c", "score": 0.3},
            {"label": 0, "name": "a", "score": 0.1},
        ],
    }
    assert len(Classification(np.ones(9) / 9, tuple("abcdefghi")).to_dict()["classes"]) == 5


@pytest.mark.parametrize(("scores", "names"), [(np.ones(2), ("a",)), (np.ones((1, 1)), ("a",)), (np.ones(0), ())])
def test_classification_that_does_not_fit_is_refused(scores: np.ndarray, names: tuple[str, ...]) -> None:
    with pytest.raises(REFUSED, match="scores"):
        Classification(scores, names)


def test_label_map_survives_json() -> None:
    # Oracle: the map itself, rebuilt from the runs that the documentation promises.
    labels = np.random.default_rng(0).integers(0, 3, (7, 5)).astype(np.uint8)
    labels[2:4] = 255
    content = json.loads(SemanticMap(labels, ("a", "b", "c", "d")).to_json())
    pairs = np.array(content["runs"]).reshape(-1, 2)
    np.testing.assert_array_equal(np.repeat(pairs[:, 0], pairs[:, 1]).reshape(content["size"]), labels)
    assert "runs" not in SemanticMap(labels, ("a", "b", "c", "d")).to_dict(runs=False)
    shares = {found["name"]: found["share"] for found in content["classes"]}
    assert shares == {name: pytest.approx((labels == label).mean(), abs=1e-6) for label, name in enumerate("abc")}


def test_one_pixel_and_one_class_are_enough() -> None:
    content = SemanticMap(np.zeros((1, 1), np.uint8), ("all",)).to_dict()
    assert content["runs"] == [0, 1]
    assert SemanticMap(np.full((2, 2), 255, np.uint8), ("all",)).to_dict()["classes"] == []


@pytest.mark.parametrize(
    "labels", [np.zeros((2, 2), np.int64), np.zeros((2, 2, 1), np.uint8), np.full((2, 2), 2, np.uint8)]
)
def test_label_map_that_does_not_fit_is_refused(labels: np.ndarray) -> None:
    with pytest.raises(REFUSED, match=r"(?i)label"):
        SemanticMap(labels, ("a", "b"))


def test_poses_are_chosen_together() -> None:
    poses = Poses(
        np.arange(12.0).reshape(3, 2, 2), np.ones((3, 2)), np.zeros((3, 4)), np.array([0.1, 0.2, 0.3]), ("a", "b")
    )
    chosen = poses[poses.scores > 0.15]
    assert len(chosen) == 2
    assert chosen.keypoints[0, 0].tolist() == [4, 5]
    assert json.loads(chosen.to_json())["people"][1]["score"] == 0.3


def test_poses_that_do_not_fit_are_refused() -> None:
    with pytest.raises(REFUSED, match=r"do not fit together|keypoint_scores"):
        Poses(np.zeros((1, 2, 2)), np.ones((1, 3)), np.zeros((1, 4)), np.ones(1), ("a", "b"))
