"""MPII's own files. Oracle: the published conventions, worked out by hand, and the released evaluation's formulas."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from hrnet.errors import InputError
from hrnet.formats.mpii import MpiiReader
from hrnet.pose.data import open_set
from hrnet.pose.metrics import PoseEvaluator, pckh
from hrnet.pose.processor import crop_frame
from hrnet.pose.recipes import RECIPES, PoseRecipe, prepare
from hrnet.pose.skeletons import MPII
from hrnet.pose.spec import PoseSpec
from hrnet.results import Poses

SPEC = PoseSpec(MPII, input_size=(256, 256))


def people(number: int = 3) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "image": "a.png",
            "center": [100.0 + index, 90.0],
            "scale": 0.6,
            "joints": rng.uniform(20, 150, (16, 2)).round(1).tolist(),
            "joints_vis": [0 if joint == 4 else 1 for joint in range(16)],
        }
        for index in range(number)
    ]


def written(folder: Path, content: object, heads: bool = True) -> Path:
    Image.new("RGB", (200, 180)).save(folder / "a.png")
    path = folder / "valid.json"
    path.write_text(json.dumps(content))
    count = len(content) if isinstance(content, list) else 0
    if heads:
        boxes = np.zeros((2, 2, count))
        boxes[0] = 10
        boxes[1, 0], boxes[1, 1] = 40, 50  # 30 wide, 40 high: a diagonal of 50
        missing = np.zeros((16, count))
        missing[4] = 1
        savemat(folder / "gt_valid.mat", {"headboxes_src": boxes, "jnt_missing": missing})
    return path


def test_a_person_is_read_by_the_published_conventions(tmp_path: Path) -> None:
    content = people()
    data = open_set(tmp_path, written(tmp_path, content))
    assert data.skeleton == MPII
    assert not data.problems
    first = data.instances[0]
    np.testing.assert_allclose(first.keypoints[0], np.array(content[0]["joints"][0]) - 1)  # counted from 0
    assert first.visibility.tolist() == [0.0 if joint == 4 else 2.0 for joint in range(16)]
    assert first.head == pytest.approx(0.6 * 50)
    # The published center: 15 pixels a unit of scale further down, counted from 0; the span: 200 * 0.6 * 1.25.
    frame = crop_frame(first.box, SPEC, first.size)
    assert frame.scale == pytest.approx(256 / 150)
    np.testing.assert_allclose(frame.to_input(np.array([[99.0, 90 + 9 - 1]])), [[128, 128]], atol=1e-9)


def moved(points: np.ndarray, length: float) -> Poses:
    return Poses(points[None] + [length, 0], np.ones((1, 16)), np.zeros((1, 4)), np.ones(1), MPII.names)


def test_pckh_measures_in_heads(tmp_path: Path) -> None:
    data = open_set(tmp_path, written(tmp_path, people()))
    for length, half, tenth in ((0.0, 100, 100), (0.105 * 30, 100, 100), (0.12 * 30, 100, 0), (0.51 * 30, 0, 0)):
        evaluator = PoseEvaluator(data.instances, SPEC)
        evaluator.update(range(3), [moved(instance.keypoints, length) for instance in data.instances])
        metrics = evaluator.compute()
        assert evaluator.headline == "PCKh@0.5"
        assert metrics["PCKh@0.5"] == pytest.approx(half)
        # The published quirk: "0.1" is measured at 0.11.
        assert metrics["PCKh@0.1"] == pytest.approx(tenth)
        assert metrics["PCKh@0.5/knee"] == pytest.approx(half) if "PCKh@0.5/knee" in metrics else True


def test_the_mean_follows_the_released_formula() -> None:
    """Oracle: MPII's weighted mean of joint percentages, pelvis and thorax masked, written out."""
    rng = np.random.default_rng(1)
    errors, labeled = rng.uniform(0, 1, (50, 16)), rng.random((50, 16)) < 0.8
    figures = pckh(errors, labeled, MPII.names)
    within = [100 * ((errors[:, j] <= 0.5) & labeled[:, j]).sum() / labeled[:, j].sum() for j in range(16)]
    kept = [j for j in range(16) if j not in (6, 7)]
    counts = labeled[:, kept].sum(0)
    mean = sum(within[j] * count for j, count in zip(kept, counts, strict=True)) / counts.sum()
    assert figures["PCKh@0.5"] == pytest.approx(mean)  # the same sums in another order
    assert figures["PCKh@0.5/head"] == pytest.approx(within[9])
    assert figures["PCKh@0.5/wrist"] == pytest.approx((within[10] + within[15]) / 2)
    assert figures["PCKh@0.5/ankle"] == pytest.approx((within[0] + within[5]) / 2)


def test_without_heads_a_note_says_what_is_missing(tmp_path: Path) -> None:
    data = open_set(tmp_path, written(tmp_path, people(), heads=False))
    assert "gt_valid.mat" in data.notes[1]
    evaluator = PoseEvaluator(data.instances, SPEC, headline="PCKh@0.5")
    assert evaluator.headline == "PCK@0.2"  # what can be measured
    evaluator.update(range(3), [moved(instance.keypoints, 0) for instance in data.instances])
    assert not [name for name in evaluator.compute() if name.startswith("PCKh")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": 3}, "does not name an image"),
        ({"center": [-1, -1]}, "no center and scale"),
        ({"scale": "large"}, "no number"),
        ({"scale": None}, "finite"),
        ({"joints": [[1, 2]]}, "shape"),
        ({"joints_vis": [1, 2, 3]}, "shape"),
        ({"image": "gone.png"}, "gone.png"),
    ],
)
def test_a_wrong_person_is_named_and_the_rest_used(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    content = people()
    content[1] = {**content[1], **change}
    data = open_set(tmp_path, written(tmp_path, content))
    assert len(data.instances) == 2
    assert len(data.problems) == 1
    assert words in data.problems[0]


def test_unusable_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image that can be used"):
        open_set(tmp_path, written(tmp_path, []))
    path = written(tmp_path, people(2))
    path.write_text(json.dumps(people(3)))
    with pytest.raises(InputError, match="take both from one release"):
        open_set(tmp_path, path)
    (tmp_path / "gt_valid.mat").write_bytes(b"no matlab")
    with pytest.raises(InputError, match="not MPII's file of heads"):
        open_set(tmp_path, path)
    path.write_text("[1, 2")
    with pytest.raises(InputError, match="not valid json"):
        open_set(tmp_path, path)


def test_the_recipe_tells_mpii_from_coco(tmp_path: Path) -> None:
    path = written(tmp_path, people())
    assert MpiiReader().recognize(path)
    assert not MpiiReader().recognize(tmp_path / "missing.json")
    assert open_set(tmp_path, path).skeleton == MPII
    recipe = RECIPES["pose-mpii-w32-256x256"]
    data = replace(recipe.data, images=(tmp_path,), annotations=(path,), val_images=tmp_path, val_annotations=path)
    job = prepare(PoseRecipe("tiny", recipe.model, data, recipe.train))
    assert len(job.train) == 3
    assert job.evaluator().headline == "PCKh@0.5"
