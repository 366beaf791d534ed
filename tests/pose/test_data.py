"""Reading keypoints, and what augmentation does to them. Oracles: closed forms and the pixels of synthetic pictures."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hrnet.errors import InputError
from hrnet.pose.boxes import box_key, read_boxes
from hrnet.pose.data import Augment, PoseDataset, clip_ground_truth, read_coco_keypoints, rename_keypoints
from hrnet.pose.skeletons import LSP, Skeleton
from hrnet.pose.spec import PoseSpec
from hrnet.task import Draw

SPEC = PoseSpec(LSP, input_size=(128, 96))
NAMES = ["nose", "left_paw", "right_paw"]


def coco(tmp_path: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
    """A data set of one picture with two objects."""
    Image.new("RGB", (100, 80), (50, 60, 70)).save(tmp_path / "a.png")
    content: dict[str, Any] = {
        "images": [{"id": 5, "file_name": "a.png", "width": 100, "height": 80}],
        "annotations": [
            {
                "id": 1,
                "image_id": 5,
                "category_id": 1,
                "bbox": [10, 10, 50, 40],
                "keypoints": [12, 13, 2, 30, 30, 1, 0, 0, 0],
            },
            {
                "id": 2,
                "image_id": 5,
                "category_id": 1,
                "bbox": [20, 5, 30, 60],
                "keypoints": [22, 13, 2, 30, 30, 2, 40, 41, 2],
            },
        ],
        "categories": [{"id": 1, "name": "mouse", "keypoints": list(NAMES), "skeleton": [[1, 2], [1, 3]]}],
    }
    change(content)
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    return path


def test_a_data_set_of_any_keypoints_is_read(tmp_path: Path) -> None:
    data = read_coco_keypoints(tmp_path, coco(tmp_path))
    assert data.skeleton.names == tuple(NAMES)
    assert data.skeleton.links == ((0, 1), (0, 2))
    assert data.skeleton.pairs == ((1, 2),)
    assert len(data.instances) == 2
    first = data.instances[0]
    np.testing.assert_array_equal(first.keypoints[0], [12, 13])
    np.testing.assert_array_equal(first.visibility, [2, 1, 0])
    # The published protocol takes a pixel from width and height.
    np.testing.assert_array_equal(first.box, [10, 10, 59, 49])
    assert not data.problems


def change_entry(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][0].__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_entry("image_id", 99), "names image 99"),
        (change_entry("bbox", [10, 10, 0, 40]), "degenerate"),
        (change_entry("bbox", [500, 10, 20, 40]), "degenerate"),
        (change_entry("bbox", "wide"), "annotation 1"),
        (change_entry("keypoints", [1, 2, 2]), "3 numbers for 3 keypoints"),
        (change_entry("keypoints", [float("nan"), 1, 2] * 3), "not a finite number"),
        (change_entry("keypoints", ["x"] * 9), "annotation 1"),
    ],
)
def test_a_wrong_entry_is_named_and_the_rest_used(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    data = read_coco_keypoints(tmp_path, coco(tmp_path, change))
    assert len(data.instances) == 1
    assert len(data.problems) == 1
    assert words in data.problems[0]
    assert "labels.json" in data.problems[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not valid json"),
        ("[1, 2]", "not a COCO json"),
        ('{"images": [], "annotations": []}', "not a COCO json"),
        ('{"images": [], "annotations": [], "categories": []}', "no categories"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "keypoints": ["a"]}]}', "no object"),
    ],
)
def test_an_unusable_file_is_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        read_coco_keypoints(tmp_path, path)


def test_a_missing_picture_is_named_once(tmp_path: Path) -> None:
    def second_picture(content: dict[str, Any]) -> None:
        content["images"].append({"id": 6, "file_name": "gone.png", "width": 10, "height": 10})
        content["annotations"] += [{**content["annotations"][0], "image_id": 6, "id": number} for number in (3, 4)]

    data = read_coco_keypoints(tmp_path, coco(tmp_path, second_picture))
    assert [problem for problem in data.problems if "gone.png" in problem] == list(data.problems)
    assert len(data.problems) == 1
    assert len(data.instances) == 2


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    path = coco(tmp_path, lambda content: content["images"][0].update(width=101))
    with pytest.raises(InputError, match="100 x 80 pixels, the annotations say 101 x 80"):
        read_coco_keypoints(tmp_path, path)


def test_a_picture_that_changed_since_is_refused(tmp_path: Path) -> None:
    data = read_coco_keypoints(tmp_path, coco(tmp_path))
    Image.new("RGB", (80, 100)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="80 x 100 pixels, the annotations say 100 x 80"):
        PoseDataset(data.instances, replace(SPEC, skeleton=data.skeleton), Augment())[0]


def test_boxes_are_cut_to_the_picture() -> None:
    np.testing.assert_array_equal(clip_ground_truth([-5, -5, 200, 200], (80, 100)), [0, 0, 99, 79])
    assert clip_ground_truth([0, 0, float("nan"), 5], (80, 100)) is None


def test_keypoints_are_matched_by_name(tmp_path: Path) -> None:
    data = read_coco_keypoints(tmp_path, coco(tmp_path))
    renamed = rename_keypoints(data, Skeleton(("tail", "right_paw", "nose")))
    np.testing.assert_array_equal(renamed.instances[1].keypoints, [[0, 0], [40, 41], [22, 13]])
    np.testing.assert_array_equal(renamed.instances[1].visibility, [0, 2, 2])
    with pytest.raises(InputError, match="no name in common"):
        rename_keypoints(data, Skeleton(("x", "y")))


def dotted(tmp_path: Path) -> PoseDataset:
    """A picture that is black but for a bright dot on each labelled keypoint, each of its own brightness."""
    rng = np.random.default_rng(3)
    points = np.column_stack([rng.uniform(40, 160, 14), rng.uniform(30, 210, 14)]).round()
    pixels = np.zeros((240, 200, 3), np.uint8)
    for number, (x, y) in enumerate(points.astype(int)):
        pixels[y - 2 : y + 3, x - 2 : x + 3] = 100 + 10 * number
    Image.fromarray(pixels).save(tmp_path / "dots.png")
    content = {
        "images": [{"id": 1, "file_name": "dots.png", "width": 200, "height": 240}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [30, 20, 140, 200],
                "keypoints": np.column_stack([points, np.full(14, 2)]).ravel().tolist(),
            }
        ],
        "categories": [{"id": 1, "keypoints": list(LSP.names), "skeleton": []}],
    }
    (tmp_path / "dots.json").write_text(json.dumps(content))
    data = rename_keypoints(read_coco_keypoints(tmp_path, tmp_path / "dots.json"), LSP)
    augment = Augment(scale=0.2, rotation=40, shift=0.1, half_body=0, empty_outside=True)
    return PoseDataset(data.instances, SPEC, augment, seed=0)


def test_augmented_keypoints_lie_on_their_dots(tmp_path: Path) -> None:
    """Whatever is drawn, a keypoint stays on the dot that was painted for it; in a mirrored crop on its partner's."""
    dataset = dotted(tmp_path)
    partner = {a: b for pair in LSP.pairs for a, b in (pair, pair[::-1])}
    mirrored = checked = 0
    for epoch in range(40):
        sample = dataset[Draw(epoch, 0)]
        flipped = bool(np.linalg.det(sample.frame.matrix[:, :2]) < 0)
        mirrored += flipped
        for number, (x, y) in enumerate(sample.targets["keypoints"].round().astype(int)):
            inside = 2 <= x < 94 and 2 <= y < 126
            if not inside:
                continue
            painted = partner.get(number, number) if flipped else number
            # Dots may overlap, so the brightest neighbourhood must be at least as bright as this one's own dot.
            seen = int(sample.image[y, x, 0])
            checked += 1
            assert seen >= 0.5 * (100 + 10 * painted), (epoch, number)
        width, height = 96, 128
        outside = (
            (sample.targets["keypoints"] < -0.5) | (sample.targets["keypoints"] > [width - 0.5, height - 0.5])
        ).any(1)
        np.testing.assert_array_equal(sample.targets["absent"], outside)
    assert checked > 300
    assert 10 < mirrored < 30  # half of 40


def test_random_choices_depend_on_epoch_and_position_alone(tmp_path: Path) -> None:
    first, second = dotted(tmp_path), dotted(tmp_path)
    second[Draw(9, 0)]
    np.testing.assert_array_equal(first[Draw(3, 0)].image, second[Draw(3, 0)].image)
    assert (first[Draw(3, 0)].image != first[Draw(4, 0)].image).any()


def test_boxes_are_read_in_both_forms(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"a.jpg": [[1, 2, 10, 20], [3, 4, 5, 6, 0.5], [0, 0, 0, 5], "x"]}))
    table, problems = read_boxes(path)
    np.testing.assert_array_equal(table["a.jpg"].boxes, [[1, 2, 11, 22], [3, 4, 8, 10]])
    np.testing.assert_array_equal(table["a.jpg"].scores, [1, 0.5])
    assert len(problems) == 2
    path.write_text(
        json.dumps(
            [
                {"image_id": 139, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.25},
                {"image_id": 139, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.9},
            ]
        )
    )
    table, problems = read_boxes(path)
    assert box_key(Path("x/000000000139.jpg"), table) == "139"
    assert box_key(Path("other.jpg"), table) is None
    np.testing.assert_array_equal(table["139"].scores, [0.25])
    path.write_text("3")
    with pytest.raises(InputError, match="holds no boxes"):
        read_boxes(path)
