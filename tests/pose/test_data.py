"""Reading keypoints, and what augmentation does to them. Oracles: closed forms and the pixels of synthetic images."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hrnet.errors import InputError
from hrnet.formats.boxes import BoxTable, read_boxes
from hrnet.nn.task import SampleKey
from hrnet.pose.augment import Augment
from hrnet.pose.data import (
    PoseDataset,
    clip_ground_truth,
    detected_instances,
    open_set,
    rename_keypoints,
)
from hrnet.pose.skeletons import LSP, Skeleton
from hrnet.pose.spec import PoseSpec

SPEC = PoseSpec(LSP, input_size=(128, 96))
NAMES = ["nose", "left_paw", "right_paw"]


def coco(tmp_path: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
    """A data set of one image with two objects."""
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
    data = open_set(tmp_path, coco(tmp_path))
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
        (change_entry("bbox", [500, 10, 20, 40]), "lies outside"),
        (change_entry("keypoints", [1, 2, 2]), "3 numbers for 3 keypoints"),
        (change_entry("keypoints", [float("nan"), 1, 2] * 3), "not a finite number"),
        (change_entry("keypoints", ["x"] * 9), "annotation 1"),
    ],
)
def test_a_wrong_entry_is_named_and_the_rest_used(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    data = open_set(tmp_path, coco(tmp_path, change))
    assert len(data.instances) == 1
    assert len(data.problems) == 1
    assert words in data.problems[0]
    assert "labels.json" in data.problems[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not valid json"),
        ("[1, 2]", "does not name an image"),
        ('{"images": [], "annotations": []}', "not a COCO json"),
        ('{"images": [], "annotations": [], "categories": []}', "no categories"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "keypoints": ["a"]}]}', "no image"),
    ],
)
def test_an_unusable_file_is_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        open_set(tmp_path, path)


def test_a_missing_image_is_named_once(tmp_path: Path) -> None:
    def second_image(content: dict[str, Any]) -> None:
        content["images"].append({"id": 6, "file_name": "gone.png", "width": 10, "height": 10})
        content["annotations"] += [{**content["annotations"][0], "image_id": 6, "id": number} for number in (3, 4)]

    data = open_set(tmp_path, coco(tmp_path, second_image))
    assert [problem for problem in data.problems if "gone.png" in problem] == list(data.problems)
    assert len(data.problems) == 1
    assert len(data.instances) == 2


def test_a_image_of_another_size_is_refused(tmp_path: Path) -> None:
    path = coco(tmp_path, lambda content: content["images"][0].update(width=101))
    with pytest.raises(InputError, match="100 x 80 pixels, the annotations say 101 x 80"):
        open_set(tmp_path, path)


def test_a_image_that_changed_since_is_refused(tmp_path: Path) -> None:
    data = open_set(tmp_path, coco(tmp_path))
    Image.new("RGB", (80, 100)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="80 x 100 pixels, the annotations say 100 x 80"):
        PoseDataset(data.instances, replace(SPEC, skeleton=data.skeleton), Augment())[0]


def test_boxes_are_cut_to_the_image() -> None:
    np.testing.assert_array_equal(clip_ground_truth([-5.0, -5.0, 200.0, 200.0], (80, 100)), [0, 0, 99, 79])
    assert clip_ground_truth([0.0, 0.0, float("nan"), 5.0], (80, 100)) is None


def test_keypoints_are_matched_by_name(tmp_path: Path) -> None:
    data = open_set(tmp_path, coco(tmp_path))
    renamed = rename_keypoints(data, Skeleton(("tail", "right_paw", "nose")))
    np.testing.assert_array_equal(renamed.instances[1].keypoints, [[0, 0], [40, 41], [22, 13]])
    np.testing.assert_array_equal(renamed.instances[1].visibility, [0, 2, 2])
    with pytest.raises(InputError, match="no name in common"):
        rename_keypoints(data, Skeleton(("x", "y")))


def dotted(tmp_path: Path) -> PoseDataset:
    """An image that is black but for a bright dot on each labeled keypoint, each of its own brightness."""
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
    data = rename_keypoints(open_set(tmp_path, tmp_path / "dots.json"), LSP)
    augment = Augment(scale=0.2, rotation=40.0, shift=0.1, half_body=0.0, empty_outside=True)
    return PoseDataset(data.instances, SPEC, augment, seed=0)


def test_augmented_keypoints_lie_on_their_dots(tmp_path: Path) -> None:
    """Whatever is drawn, a keypoint stays on the dot that was painted for it; in a flipped crop on its partner's."""
    dataset = dotted(tmp_path)
    partner = {a: b for pair in LSP.pairs for a, b in (pair, pair[::-1])}
    mirrored = checked = 0
    for epoch in range(40):
        image, frame, labels = dataset.augmented(SampleKey(epoch, 0))
        flipped = bool(np.linalg.det(frame.matrix[:, :2]) < 0)
        mirrored += flipped
        for number, (x, y) in enumerate(labels.keypoints.round().astype(int)):
            inside = 2 <= x < 94 and 2 <= y < 126
            if not inside:
                continue
            painted = partner.get(number, number) if flipped else number
            # Dots may overlap, so the brightest neighborhood must be at least as bright as this one's own dot.
            seen = int(image[y, x, 0])
            checked += 1
            assert seen >= 0.5 * (100 + 10 * painted), (epoch, number)
        width, height = 96, 128
        outside = ((labels.keypoints < -0.5) | (labels.keypoints > [width - 0.5, height - 0.5])).any(1)
        np.testing.assert_array_equal(labels.absent, outside)
    assert checked > 300
    assert 10 < mirrored < 30  # half of 40


def test_random_choices_depend_on_epoch_and_position_alone(tmp_path: Path) -> None:
    first, second = dotted(tmp_path), dotted(tmp_path)
    second[SampleKey(9, 0)]
    np.testing.assert_array_equal(first[SampleKey(3, 0)].image, second[SampleKey(3, 0)].image)
    assert (first[SampleKey(3, 0)].image != first[SampleKey(4, 0)].image).any()


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
    boxes = BoxTable(table, path)
    assert boxes.find(Path("x/000000000139.jpg")) is table["139"]
    assert boxes.find(Path("other.jpg")) is None
    np.testing.assert_array_equal(table["139"].scores, [0.25])
    path.write_text("3")
    with pytest.raises(InputError, match="holds no boxes"):
        read_boxes(path)


def test_numbers_as_text_and_unlabeled_nan_are_read(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["images"][0]["id"] = "5"
        content["annotations"][0] |= {"bbox": ["10", "10", "50", "40"], "area": "wide", "image_id": "0005"}
        content["annotations"][1]["keypoints"][6:] = [float("nan"), float("nan"), 0]

    data = open_set(tmp_path, coco(tmp_path, change))
    assert not data.problems
    np.testing.assert_array_equal(data.instances[0].box, [10, 10, 59, 49])
    assert data.instances[0].area == 50 * 40
    np.testing.assert_array_equal(data.instances[1].keypoints[2], [0, 0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_entry("bbox", [10, 10, 1e300, 40]), "degenerate"),
        (change_entry("keypoints", "many"), "keypoints is many"),
        (change_entry("keypoints", [1e9, 1, 2] * 3), "not a finite number"),
        (change_entry("keypoints", [[1, 2, 2]] * 9), "no number"),
        (change_entry("image_id", [1]), "names image"),
        (lambda content: content["annotations"].__setitem__(0, "text"), "is no object"),
    ],
)
def test_stranger_entries_are_named_and_the_rest_used(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    data = open_set(tmp_path, coco(tmp_path, change))
    assert len(data.instances) == 1
    assert len(data.problems) == 1
    assert words in data.problems[0]


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([10, 10, 0, 40], "missing or without area"),
        ([], "missing or without area"),
        (None, "missing or without area"),
        ("wide", "bbox is wide"),
        ([10, 10, 10**400, 40], "no number"),
        ([1, 2, 3], "3 numbers for bbox, expected 4"),
    ],
)
def test_a_bad_box_costs_the_box_and_not_the_keypoints(tmp_path: Path, box: object, words: str) -> None:
    data = open_set(tmp_path, coco(tmp_path, change_entry("bbox", box)))
    assert len(data.instances) == 2
    assert not data.problems
    assert [note for note in data.notes if words in note and "annotation 1" in note]
    height, width = data.instances[0].size
    np.testing.assert_array_equal(data.instances[0].box, [0, 0, width - 1, height - 1])  # the whole image


def test_keypoints_outside_their_image_are_kept_and_noted(tmp_path: Path) -> None:
    data = open_set(tmp_path, coco(tmp_path, change_entry("keypoints", [-12, 13, 2, 300, 30, 1, 0, 0, 0])))
    np.testing.assert_array_equal(data.instances[0].keypoints[:2], [[-12, 13], [300, 30]])
    assert not data.problems
    assert [note for note in data.notes if "outside its image" in note and "annotation 1" in note]


def test_images_listed_twice_or_without_a_name_are_named(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["images"] += [dict(content["images"][0]), {"id": 8}, "text"]

    data = open_set(tmp_path, coco(tmp_path, change))
    assert len(data.instances) == 2
    assert [
        word in problem for word, problem in zip(("more than once", "file_name", "text"), data.problems, strict=True)
    ]


def test_a_json_without_sizes_takes_them_from_the_images(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        del content["images"][0]["width"], content["images"][0]["height"]

    assert open_set(tmp_path, coco(tmp_path, change)).instances[0].size == (80, 100)


def test_a_damaged_image_is_left_out(tmp_path: Path) -> None:
    path = coco(tmp_path)
    Image.new("RGB", (10, 10)).save(tmp_path / "b.png")
    content = json.loads(path.read_text())
    content["images"].append({"id": 6, "file_name": "b.png", "width": 10, "height": 10})
    content["annotations"].append({**content["annotations"][0], "image_id": 6})
    path.write_text(json.dumps(content))
    (tmp_path / "b.png").write_bytes(b"")
    data = open_set(tmp_path, path)
    assert len(data.instances) == 2
    assert "b.png is empty" in data.problems[0]


@pytest.mark.parametrize("labeled_as", ["stored", "turned"])
def test_a_turned_image_is_read_as_it_was_labeled(tmp_path: Path, labeled_as: str) -> None:
    """The published code does not look at the orientation tag; other programs do. The labels' size says which."""
    path = coco(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    shown = pixels if labeled_as == "stored" else np.rot90(pixels, -1)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    content = json.loads(path.read_text())
    content["images"][0] |= {"height": shown.shape[0], "width": shown.shape[1]}
    path.write_text(json.dumps(content))
    data = open_set(tmp_path, path)
    assert not data.problems
    dataset = PoseDataset(data.instances, replace(SPEC, skeleton=data.skeleton), Augment())
    np.testing.assert_array_equal(dataset._read(data.instances[0]), shown)


def test_deep_and_long_json_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    for text in ("[" * 100_000, "9" * 10_000, '{"images": ' + "1" * 9999 + "}"):
        path.write_text(text)
        with pytest.raises(InputError, match="not valid json"):
            open_set(tmp_path, path)


def test_boxes_of_a_detector_lie_in_all_images_that_are_there(tmp_path: Path) -> None:
    """Also in those without labeled people, where each is wrong; boxes are used as they are."""
    Image.new("RGB", (50, 40)).save(tmp_path / "b.png")

    def change(content: dict[str, Any]) -> None:
        content["images"].append({"id": 6, "file_name": "b.png", "width": 50, "height": 40})

    data = open_set(tmp_path, coco(tmp_path, change))
    assert [(image.image_id, image.size) for image in data.images] == [(5, (80, 100)), (6, (40, 50))]
    file = tmp_path / "found.json"
    boxes = [{"image_id": number, "category_id": 1, "bbox": [-3, 4, 20, 10], "score": 0.5} for number in (5, 6, 7)]
    file.write_text(json.dumps(boxes))
    found, problems = detected_instances(data, file)
    assert not problems
    assert [instance.image_id for instance in found] == [5, 6]
    np.testing.assert_array_equal(found[1].box, [-3, 4, 17, 14])  # neither cut nor a pixel smaller
    assert found[1].score == 0.5
    assert not found[1].visibility.any()
    file.write_text(json.dumps(boxes[2:]))
    with pytest.raises(InputError, match="no box for any image"):
        detected_instances(data, file)


def person(tmp_path: Path, **changes: float | bool) -> PoseDataset:
    """A standing person in a gray image, one row of joints a body part."""
    height = {"head": 20, "neck": 40, "shoulder": 50, "elbow": 80, "wrist": 110, "hip": 120, "knee": 160, "ankle": 200}
    points = []
    for name in LSP.names:
        side, _, part = name.rpartition("_")
        x = {"left": 80, "right": 40}.get(side, 60)
        points += [x, height["head" if name == "head_top" else part], 2]
    Image.new("RGB", (120, 240), (90, 90, 90)).save(tmp_path / "p.png")
    content = {
        "images": [{"id": 1, "file_name": "p.png", "width": 120, "height": 240}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [30, 10, 60, 200], "keypoints": points},
        ],
        "categories": [{"id": 1, "keypoints": list(LSP.names)}],
    }
    (tmp_path / "p.json").write_text(json.dumps(content))
    data = rename_keypoints(open_set(tmp_path, tmp_path / "p.json"), LSP)
    still = Augment(scale=0.0, rotation=0.0, rotation_probability=0.0, flip=0.0, half_body=0.0)
    return PoseDataset(data.instances, SPEC, replace(still, **changes), seed=0)


def test_half_bodies_are_upper_ones_in_69_of_100(tmp_path: Path) -> None:
    """Oracle: the fraction of normal draws below 0.5; box of the joints' bounds times 1.5 around their mean, as published."""
    dataset = person(tmp_path, half_body=1.0)
    instance = dataset.instances[0]
    upper = [index in LSP.upper for index in range(14)]
    spans, seen = {}, 0
    for which in (True, False):
        points = instance.keypoints[[index for index in range(14) if upper[index] == which]]
        side = max(np.ptp(points[:, 0]), np.ptp(points[:, 1]) * 96 / 128) * 1.5
        spans[which] = (96 / side, points.mean(0))
    for epoch in range(200):
        frame = dataset[SampleKey(epoch, 0)].frame
        which = bool(np.isclose(frame.scale, spans[True][0]))
        assert frame.scale == pytest.approx(spans[which][0])
        np.testing.assert_allclose(frame.to_input(spans[which][1][None])[0], [48, 64], atol=1e-9)
        seen += which
    assert 115 < seen < 162  # 138 and 3.5 standard deviations of 6.5


def test_portraits_hide_the_legs_and_say_so(tmp_path: Path) -> None:
    """Joints in the black part are absent; where absence is not taught they are not labeled."""
    taught, ignored = (person(tmp_path, portrait=1.0, empty_outside=taught) for taught in (True, False))
    hidden = 0
    for epoch in range(30):
        image, _, labels = taught.augmented(SampleKey(epoch, 0))
        same, _, others = ignored.augmented(SampleKey(epoch, 0))
        np.testing.assert_array_equal(image, same)
        for joint, (x, y) in enumerate(labels.keypoints.round().astype(int)):
            if not (1 <= x < 95 and 1 <= y < 127):
                continue
            black = not image[y - 1 : y + 2, x - 1 : x + 2].any()
            lit = image[y - 1 : y + 2, x - 1 : x + 2].all()
            hidden += black
            if black or lit:
                assert bool(labels.absent[joint]) == black
                assert bool(others.visibility[joint]) == lit
    assert hidden > 5


def test_who_leans_is_turned_upright_and_stays_inside(tmp_path: Path) -> None:
    """Oracle: after the turn the middle of the shoulders is right above that of the hips, and the box holds the person."""
    Image.new("RGB", (200, 150)).save(tmp_path / "a.png")
    # Lies along x, head to the right.
    across, along = np.array([-6, 6, -5, 5, 0]), np.array([20, 20, 80, 80, 95])
    names = ("left_hip", "right_hip", "left_shoulder", "right_shoulder", "head_top")
    points = np.column_stack([40 + along, 70 + across, np.full(5, 2)]).astype(float)
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [50, 55, 95, 30], "keypoints": points.ravel().tolist()}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 200, "height": 150}],
        "annotations": [entry],
        "categories": [{"id": 1, "name": "person", "keypoints": names}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    data = open_set(tmp_path, tmp_path / "labels.json")
    still = Augment(scale=0.0, rotation_probability=0.0, flip=0.0, half_body=0.0)
    spec = replace(SPEC, skeleton=data.skeleton)
    for upright, lean in ((1.0, 0.0), (0.0, 90.0)):
        dataset = PoseDataset(data.instances, spec, replace(still, upright=upright))
        found = dataset.augmented(SampleKey(0, 0))[2].keypoints
        x, y = found[[2, 3]].mean(0) - found[[0, 1]].mean(0)
        assert np.degrees(np.arctan2(x, -y)) == pytest.approx(lean, abs=1e-3)
        assert (found > 0).all()
        assert (found < np.array(spec.input_size[::-1]) - 1).all()
    # Upright the person takes most of the height: 75 of 75 + 2 * 7.5 pixels, in a crop 1.25 times as large.
    dataset = PoseDataset(data.instances, spec, replace(still, upright=1.0))
    assert np.ptp(dataset.augmented(SampleKey(0, 0))[2].keypoints[:, 1]) == pytest.approx(128 * 75 / 90 / 1.25, abs=0.1)


def test_the_scale_is_cut_at_its_deviation_and_color_changes(tmp_path: Path) -> None:
    dataset, plain = person(tmp_path, scale=0.3, color=0.3), person(tmp_path)
    base = plain[SampleKey(0, 0)].frame.scale
    factors = np.array([base / dataset[SampleKey(epoch, 0)].frame.scale for epoch in range(150)])
    assert factors.min() == pytest.approx(0.7)
    assert factors.max() == pytest.approx(1.3)
    # Cut at one deviation: 32 in 100 lie on the limits.
    assert 30 < (np.isclose(factors, 0.7) | np.isclose(factors, 1.3)).sum() < 70
    gray = {int(dataset[SampleKey(epoch, 0)].image[64, 48, 0]) for epoch in range(10)}
    assert len(gray) > 5
    assert plain[SampleKey(0, 0)].image[64, 48, 0] == 90


def test_an_empty_list_of_boxes_is_nobody_and_another_only_category_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"a.jpg": [], "b.jpg": [[1, 2, 3, 4]]}))
    table, problems = read_boxes(path)
    assert not problems
    assert table["a.jpg"].boxes.shape == (0, 4)
    path.write_text(json.dumps([{"image_id": "mouse", "category_id": 7, "bbox": [1, 2, 30, 40], "score": 1}]))
    np.testing.assert_array_equal(read_boxes(path)[0]["mouse"].boxes, [[1, 2, 31, 42]])


@pytest.mark.parametrize("value", [float("nan"), 10**400, "wide", None, [1], 0, -3])
def test_a_wrong_box_is_named_and_the_rest_used(tmp_path: Path, value: object) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"a.jpg": [[1, 2, value, 4], ["1", "2", "3", "4"]]}))
    table, problems = read_boxes(path)
    np.testing.assert_array_equal(table["a.jpg"].boxes, [[1, 2, 4, 6]])
    assert len(problems) == 1
    assert "a.jpg" in problems[0]


@pytest.mark.parametrize("text", ["", "[" * 100_000, "9" * 10_000, '{"a.jpg": 3}', "null"])
def test_a_file_without_boxes_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"boxes\.json"):
        read_boxes(path)
