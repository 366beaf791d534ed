"""Pose data of other formats than COCO, and images held out. Oracle: what was written into them."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet.errors import InputError
from hrnet.formats.registry import read
from hrnet.pose.data import keypoint_set, open_set, read_ground_truth
from hrnet.pose.metrics import PoseEvaluator
from hrnet.pose.recipes import RECIPES, PoseData, PoseRecipe, prepare
from hrnet.results import Poses

YAML = "train: images/train\nval: images/val\nnames: [mouse]\nkpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\n"


def yolo(folder: Path) -> Path:
    """Two images of 40 x 30 a part, a mouse in each; the third keypoint is not labeled."""
    for part in ("train", "val"):
        (folder / f"labels/{part}").mkdir(parents=True)
        (folder / f"images/{part}").mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (40, 30), (number, len(part), 0)).save(folder / f"images/{part}/{number}.png")
            (folder / f"labels/{part}/{number}.txt").write_text("0 0.5 0.5 0.5 0.4 0.5 0.5 2 0.4 0.6 1 0 0 0\n")
    (folder / "data.yaml").write_text(YAML)
    return folder / "data.yaml"


def deeplabcut(folder: Path, count: int = 11) -> Path:
    rows = ["scorer,me,me,me,me", "bodyparts,snout,snout,tail,tail", "coords,x,y,x,y"]
    (folder / "labeled-data/video").mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(folder / f"labeled-data/video/img{number:02}.png")
        rows.append(f"labeled-data/video/img{number:02}.png,{number + 1},5,21,15")
    file = folder / "labeled-data/video/CollectedData_me.csv"
    file.write_text("\n".join(rows))
    return file


def recipe(images: Path, annotations: Path, **data: object) -> PoseRecipe:
    known = RECIPES["pose-lsp"]
    values = PoseData(images=(images,), annotations=(annotations,))
    return PoseRecipe("tiny", replace(known.model, input_size=(64, 64)), replace(values, **data), known.train)


def test_yolo_keypoints_are_trained_on_and_its_val_scored(tmp_path: Path) -> None:
    file = yolo(tmp_path)
    job = prepare(recipe(tmp_path, file))
    assert len(job.train) == 2
    assert job.validation is not None
    assert len(job.validation) == 2
    assert job.model.spec.skeleton.pairs == ((1, 2),)  # flip_idx, as the names say nothing
    found = open_set(tmp_path, file)
    instance = found.instances[0]
    assert instance.path == tmp_path / "images/val/0.png"
    np.testing.assert_allclose(instance.keypoints, [[20, 15], [16, 18], [0, 0]])
    # 20 x 12 pixels around the middle, of which the published protocol takes the last.
    np.testing.assert_allclose(instance.box, [10, 9, 29, 20])
    assert instance.area == pytest.approx(240)
    assert [one for one in open_set(tmp_path, file, "train").instances if one.path.parent.name == "train"]


def test_ground_truth_as_prediction_has_precision_one(tmp_path: Path) -> None:
    """Also for a format without COCO json, whose ground truth is written in COCO's form."""
    file = yolo(tmp_path)
    job = prepare(recipe(tmp_path, file, headline="AP"))
    found = open_set(tmp_path, file)
    evaluator = job.evaluator()
    assert evaluator.headline == "AP"
    ground_truths = [
        Poses(one.keypoints[None], np.ones((1, 3)), one.box[None], np.ones(1), found.skeleton.names)
        for one in found.instances
    ]
    evaluator.update(range(2), ground_truths)
    assert evaluator.compute()["AP"] == pytest.approx(1)


def test_without_boxes_the_image_is_the_box_or_the_bounds_of_the_keypoints(tmp_path: Path) -> None:
    file = deeplabcut(tmp_path)
    whole, bounds = (
        open_set(tmp_path, file, convert=partial(keypoint_set, unboxed=how)) for how in ("whole", "keypoints")
    )
    np.testing.assert_array_equal(whole.instances[0].box, [0, 0, 39, 29])
    # Keypoints at 1 5 and 21 15: a fifth of 20 more on each side.
    np.testing.assert_array_equal(bounds.instances[0].box, [-3, 1, 25, 19])
    assert not whole.boxed
    assert read_ground_truth(whole) is None


def test_every_nth_image_is_held_out_and_not_trained_on(tmp_path: Path) -> None:
    job = prepare(recipe(tmp_path, deeplabcut(tmp_path), hold_out=5))
    assert job.validation is not None
    assert len(job.train) == 8
    # Positions 0, 5 and 10: snouts at 1, 6 and 11.
    evaluator = job.evaluator()
    assert isinstance(evaluator, PoseEvaluator)
    assert [one.keypoints[0, 0] for one in evaluator.instances] == [1, 6, 11]
    assert any("held out" in message for message in job.messages)


@pytest.mark.parametrize("hold_out", [-1, 1, 12])
def test_a_number_that_leaves_nothing_is_refused(tmp_path: Path, hold_out: int) -> None:
    file = deeplabcut(tmp_path, 1 if hold_out == 12 else 11)
    with pytest.raises(InputError, match=r"hold_out|held out|hold out"):
        prepare(recipe(tmp_path, file, hold_out=hold_out))


def test_a_named_validation_set_leaves_the_training_set_whole(tmp_path: Path) -> None:
    file = deeplabcut(tmp_path)
    job = prepare(recipe(tmp_path, file, hold_out=5, val_images=tmp_path, val_annotations=file))
    assert job.validation is not None
    assert (len(job.train), len(job.validation)) == (11, 11)
    assert any("nothing is held out" in message for message in job.messages)


def test_the_recipe_for_own_data_takes_its_keypoints(tmp_path: Path) -> None:
    """Also where one of them is called as one of COCO's."""
    file = deeplabcut(tmp_path)
    file.write_text(file.read_text().replace("snout", "nose"))
    data = replace(RECIPES["pose-own"].data, images=(tmp_path,), annotations=(file,))
    job = prepare(replace(RECIPES["pose-own"], data=data))
    assert job.model.spec.skeleton.names == ("nose", "tail")
    assert len(job.train) == 8


def test_labels_without_keypoints_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "images/a.png")
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 0.5 0.4\n")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [a]\n")
    with pytest.raises(InputError, match="has no keypoints"):
        open_set(tmp_path, tmp_path / "data.yaml")
    with pytest.raises(InputError, match="looked for"):
        open_set(tmp_path, tmp_path / "labels")


def test_the_order_of_a_coco_json_is_kept(tmp_path: Path) -> None:
    """Random choices go by position: a set whose objects are not sorted by image must not be sorted here."""
    names = ["a", "b"]
    for name in names:
        Image.new("RGB", (40, 30)).save(tmp_path / f"{name}.png")
    content = {
        "images": [{"id": number, "file_name": f"{name}.png"} for number, name in enumerate(names)],
        "annotations": [
            {"id": number, "image_id": number % 2, "category_id": 1, "bbox": [1, 1, 9, 9], "keypoints": [number, 2, 2]}
            for number in range(5)
        ],
        "categories": [{"id": 1, "name": "dot", "keypoints": ["dot"]}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    found = open_set(tmp_path, tmp_path / "labels.json")
    assert [int(one.keypoints[0, 0]) for one in found.instances] == [0, 1, 2, 3, 4]


def test_openfield_reads_as_its_description_says(shared: Path) -> None:
    folder = shared / "data/openfield"
    (data,) = read(folder)
    found = keypoint_set(data)
    assert len(found.instances) == len(found.images) == 116
    assert found.skeleton.names == ("snout", "leftear", "rightear", "tailbase")
    assert found.skeleton.pairs == ((1, 2),)
    np.testing.assert_allclose(found.instances[0].keypoints[0], [21.521, 265.428])  # the csv's first row
    assert not found.problems
