from __future__ import annotations

import json
import sys
from dataclasses import make_dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools import mask as coco_masks

from hrnet.errors import InputError
from hrnet.results import Classification, Detections, Masks, Poses, SemanticMap

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
    assert "runs" not in SemanticMap(labels, ("a", "b", "c", "d")).to_file_dict()
    shares = {found["name"]: found["fraction"] for found in content["classes"]}
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


@pytest.mark.parametrize("share", [0, 0.05, 0.5, 0.95, 1])
def test_masks_keep_every_pixel_and_have_cocos_runs(share: float) -> None:
    """Oracles: the masks that they were made of, pycocotools' encoding."""
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (5, 9), (12, 3)):
        full = rng.random((4, height, width)) < share
        masks = Masks.from_dense(full, (height, width))
        for i in range(4):
            np.testing.assert_array_equal(masks.dense(i), full[i])
            plain = {"size": [height, width], "counts": masks.runs(i).tolist()}
            found = coco_masks.frPyObjects(plain, height, width)  # type: ignore[arg-type]  # one as well as a list
            assert found == coco_masks.encode(np.asfortranarray(full[i].astype(np.uint8)))
        np.testing.assert_array_equal(masks.areas(), full.sum((1, 2)))
        np.testing.assert_array_equal(masks[[2, 0]].dense(0), full[2])


def test_masks_of_a_large_image_are_small() -> None:
    """A hundred objects in twelve megapixels: as many bytes as pixels of the objects' own bounds."""
    mask = np.zeros((3000, 4000), bool)
    mask[100:150, 200:300] = True
    masks = Masks.from_dense([mask] * 100, (3000, 4000))
    assert sum(crop.base.nbytes if crop.base is not None else crop.nbytes for crop in masks.crops) == 100 * 50 * 100


@pytest.mark.parametrize(
    ("crop", "corner"),
    [
        (np.ones((2, 2), bool), (9, 0)),
        (np.ones((2, 2), bool), (-1, 0)),
        (np.ones((2, 2), bool), (0, 5)),
        (np.ones((2, 2), np.uint8), (0, 0)),
    ],
)
def test_masks_outside_their_image_are_refused(crop: np.ndarray, corner: tuple[int, int]) -> None:
    with pytest.raises(REFUSED):
        Masks((crop,), np.array([corner]), (6, 10))


def detections() -> Detections:
    masks = Masks((np.eye(2, dtype=bool), np.zeros((0, 0), bool)), np.array([[3, 1], [0, 0]]), (4, 6))
    boxes = np.array([[3, 1, 5, 3], [0.123456, 0, 2, 2]])
    return Detections(boxes, np.array([0.91234567, 0.4]), np.array([1, 0]), ("cat", "dog"), masks)


def test_detections_say_what_they_hold() -> None:
    content = json.loads(detections().to_json())
    assert content == {
        "task": "detection",
        "objects": [
            {
                "label": 1,
                "name": "dog",
                "score": 0.9123,
                "box": [3.0, 1.0, 5.0, 3.0],
                # Column after column of four rows: 3 columns and 1 row, 1, then a column's 4 to the next on the diagonal.
                "mask": {"size": [4, 6], "counts": [13, 1, 4, 1, 5]},
            },
            {
                "label": 0,
                "name": "cat",
                "score": 0.4,
                "box": [0.12, 0.0, 2.0, 2.0],
                "mask": {"size": [4, 6], "counts": [24]},
            },
        ],
    }
    assert "mask" not in detections().to_dict(masks=False)["objects"][0]
    assert Detections.none(("cat",)).to_dict() == {"task": "detection", "objects": []}


def test_detections_are_chosen_together() -> None:
    found = detections()
    chosen = found[found.scores < 0.5]
    assert chosen.masks is not None
    assert (len(chosen), chosen.labels.tolist(), len(chosen.masks), chosen.masks.areas().tolist()) == (1, [0], 1, [0])
    assert len(found[[]]) == 0


@pytest.mark.parametrize("labels", [np.array([0, 2]), np.array([-1, 0]), np.array([0])])
def test_detections_that_do_not_fit_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(REFUSED):
        Detections(np.zeros((2, 4)), np.zeros(2), labels, ("cat", "dog"))


def test_without_supervision_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match="pip install supervision"):
        detections().to_supervision()


@pytest.mark.parametrize("recent", [False, True])
def test_poses_and_classes_as_supervisions_types(monkeypatch: pytest.MonkeyPatch, recent: bool) -> None:
    # Oracle: the fields of its KeyPoints (0.31, and as they were called before) and of its Classifications.
    fields = ["xy", "class_id", "keypoint_confidence", "detection_confidence"]
    key_points = make_dataclass("KeyPoints", fields if recent else ["xy", "class_id", "confidence"])
    library = SimpleNamespace(
        KeyPoints=key_points, Classifications=make_dataclass("Classifications", ["class_id", "confidence"])
    )
    monkeypatch.setitem(sys.modules, "supervision", library)
    poses = Poses(np.ones((2, 3, 2)), np.full((2, 3), 0.5), np.zeros((2, 4)), np.array([0.25, 0.75]), ("a", "b", "c"))
    found = poses.to_supervision()
    assert (found.xy.shape, found.xy.dtype, found.class_id.tolist()) == ((2, 3, 2), np.float32, [0, 0])
    assert (found.keypoint_confidence if recent else found.confidence).tolist() == [[0.5] * 3] * 2
    if recent:
        assert found.detection_confidence.tolist() == [0.25, 0.75]
    classes = Classification(np.array([0.25, 0.75]), ("a", "b")).to_supervision()
    assert (classes.class_id.tolist(), classes.confidence.tolist()) == ([0, 1], [0.25, 0.75])
