"""Reading data sets with boxes and masks. Oracles: what was written, and for the real sets their own files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hrnet.detection.data import (
    DetectionSet,
    detection_set,
    match_classes,
    open_set,
)
from hrnet.errors import InputError
from hrnet.formats.records import DataSet, ImageRecord, Object, Runs
from hrnet.formats.splits import choose_split, has_split, open_splits

SIZE = (30, 40)
BOXES = {"a": [("cat", (2, 3, 12, 13)), ("dog", (20, 5, 40, 30))], "b": [("dog", (0, 0, 40, 30))], "c": []}
PARTS = {"train": ("a", "c"), "val": ("b",)}


def paint(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)).save(path)


def coco(folder: Path, **changes: Any) -> Path:
    """Two jsons. Classes have numbers of their own; the order is theirs."""
    for part, names in PARTS.items():
        images = [{"id": ord(name), "file_name": f"{name}.png", "height": 30, "width": 40} for name in names]
        annotations = [
            {
                "id": 10 * number + index + 1,
                "image_id": ord(name),
                "category_id": {"cat": 17, "dog": 18}[kind],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                **changes,
            }
            for number, name in enumerate(names)
            for index, (kind, (x1, y1, x2, y2)) in enumerate(BOXES[name])
        ]
        categories = [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}]
        file = folder / f"annotations/instances_{part}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
        for name in names:
            paint(folder / part / f"{name}.png", ord(name))
    return folder


def voc(folder: Path) -> Path:
    for name, objects in BOXES.items():
        paint(folder / f"JPEGImages/{name}.png", ord(name))
        rows = "".join(
            f"<object><name>{kind}</name><difficult>{int(kind == 'cat')}</difficult><bndbox><xmin>{x1 + 1}</xmin>"
            f"<ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for kind, (x1, y1, x2, y2) in objects
        )
        size = "<size><width>40</width><height>30</height><depth>3</depth></size>"
        file = folder / f"Annotations/{name}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"<annotation><filename>{name}.png</filename>{size}{rows}</annotation>")
    for part, names in {**PARTS, "trainval": ("a", "b", "c")}.items():
        file = folder / f"ImageSets/Main/{part}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{name}\n" for name in names))
    return folder


def yolo(folder: Path) -> Path:
    for part, names in PARTS.items():
        for name in names:
            paint(folder / f"images/{part}/{name}.png", ord(name))
            lines = [
                f"{['cat', 'dog'].index(kind)} {(x1 + x2) / 80} {(y1 + y2) / 60} {(x2 - x1) / 40} {(y2 - y1) / 30}\n"
                for kind, (x1, y1, x2, y2) in BOXES[name]
            ]
            file = folder / f"labels/{part}/{name}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(lines))
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    return folder


WRITERS = {"coco": coco, "voc": voc, "yolo": yolo}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_says_the_same(tmp_path: Path, name: str) -> None:
    folder = WRITERS[name](tmp_path)
    for part, names in PARTS.items():
        data = open_set(folder, split="train" if part == "train" else "val")
        assert data.class_names == ("cat", "dog")
        assert data.category_ids == ((17, 18) if name == "coco" else ())
        assert not data.problems
        assert [one.path.stem for one in data.images] == list(names)  # that without objects too
        for one in data.images:
            assert one.size == SIZE
            found = [(data.class_names[thing.label], thing.box) for thing in one.objects]
            assert [kind for kind, _ in found] == [kind for kind, _ in BOXES[one.path.stem]]
            for (_, box), (_, expected) in zip(found, BOXES[one.path.stem], strict=True):
                assert box is not None
                np.testing.assert_allclose(box, expected, atol=1e-9)  # YOLO's shares are rounded by the division
            assert [thing.difficult for thing in one.objects] == [
                name == "voc" and kind == "cat" for kind, _ in BOXES[one.path.stem]
            ]


def test_images_and_labels_can_be_named_apart(tmp_path: Path) -> None:
    folder = coco(tmp_path)
    data = open_set(folder / "val", folder / "annotations/instances_val.json")
    assert [one.path.name for one in data.images] == ["b.png"]
    parts = open_splits(folder, None, "boxes")
    assert (has_split(parts, "val"), has_split(parts, "test"), has_split(parts[:1], "train")) == (True, False, False)


def test_masks_and_crowds_are_kept(tmp_path: Path) -> None:
    """Outlines, run lengths as numbers; a crowd stays a crowd: it is kept, and ignored."""
    counts = [5 * 30 + 4, 6, 24, 6, 30 * 40 - (5 * 30 + 4) - 36]
    data = open_set(coco(tmp_path, segmentation={"size": [30, 40], "counts": counts}, iscrowd=1), split="train")
    thing = data.images[0].objects[0]
    assert thing.crowd
    assert thing.runs is not None
    assert thing.runs.mask().sum() == 12
    polygon = [[2, 3, 12, 3, 12, 13]]
    thing = open_set(coco(tmp_path / "other", segmentation=polygon), split="train").images[0].objects[0]
    np.testing.assert_array_equal(thing.polygons[0], [[2, 3], [12, 3], [12, 13]])


def test_boxes_come_from_outlines_and_are_cut_at_the_border() -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[4:10, 6:9] = 1
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel()])))
    runs = Runs(SIZE, np.diff([0, *edges.tolist(), mask.size]))
    things = (
        Object(0, "one", polygons=(np.array([[-3.0, 2], [10, 2], [4, 9.5]]), np.array([[20.0, 4], [25, 4], [25, 8]]))),
        Object(0, "two", runs=runs),
        Object(0, "three", box=np.array([30.0, 10, 44, 35])),
        Object(0, "four", keypoints=np.array([[3.0, 4]]), visibility=np.array([2.0])),
        Object(0, "five", polygons=(np.array([[3.0, 4], [9, 4], [5, 4]]),)),
    )
    made = DataSet(
        "coco", Path("x.json"), images=(ImageRecord(Path("a.png"), SIZE, 1, Path("x.json"), things),), classes=("a",)
    )
    found = detection_set(made)
    np.testing.assert_array_equal(
        [thing.box for thing in found.images[0].objects], [[0, 2, 25, 9.5], [6, 4, 9, 10], [30, 10, 40, 30]]
    )
    assert [("four" in one, "five" in one) for one in found.problems] == [(True, False), (False, True)]


def test_degenerate_boxes_are_left_out_and_named(tmp_path: Path) -> None:
    folder = coco(tmp_path)
    file = folder / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"] = [5, 5, 0, 3]
    file.write_text(json.dumps(content))
    data = open_set(folder, split="train")
    assert len(data.images[0].objects) == 1
    (problem,) = data.problems
    assert "annotation 1" in problem
    assert "degenerate" in problem


def made(*names: str, ids: tuple[int, ...] = ()) -> DetectionSet:
    things = tuple(Object(label, "x", box=np.array([0, 0, 5, 5.0])) for label in range(len(names)))
    return DetectionSet(names, (ImageRecord(Path("a.png"), SIZE, 1, objects=things),), category_ids=ids)


def test_classes_are_matched_by_name() -> None:
    found = match_classes(made("Dog", "traffic_light", "cat", ids=(3, 5, 9)), ("cat", "dog"))
    assert [thing.label for thing in found.images[0].objects] == [1, 0]
    assert found.category_ids == (9, 3)
    assert found.notes == ("The model does not know traffic_light: such objects are left out.",)
    same = made("cat", "dog", ids=(1, 2))
    assert match_classes(same, ("cat", "dog")) is same


def test_aliases_make_several_classes_one() -> None:
    data = made("pedestrian", "rider", "car", ids=(1, 2, 3))
    found = match_classes(data, ("person", "car"), (("pedestrian", "person"), ("rider", "person")))
    assert [thing.label for thing in found.images[0].objects] == [0, 0, 1]
    assert not found.category_ids  # two numbers for a person are none
    with pytest.raises(InputError, match="names no class of the model"):
        match_classes(data, ("person",), (("rider", "people"),))
    with pytest.raises(InputError, match=r"no name in common.*aliases"):
        match_classes(data, ("person",))


def test_sets_without_objects_in_places_are_refused(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        paint(tmp_path / kind / "a.png")
    with pytest.raises(InputError, match="is class folders, which has no boxes"):
        open_set(tmp_path)
    twice = DataSet("yolo", Path("data.yaml"), classes=("a", "a"))
    with pytest.raises(InputError, match="names one twice"):
        detection_set(twice)
    with pytest.raises(InputError, match="no image that can be used"):
        detection_set(replace(twice, classes=("a",)))


@pytest.mark.parametrize(
    ("name", "train", "val", "classes"),
    [
        # Counted in the files: entries of the jsons; object elements of the listed xml, of which two boxes are degenerate.
        ("pennfudan", (120, 292), (50, 131), ("person",)),
        ("bccd", (205, 2804), (87, 1137), ("Platelets", "RBC", "WBC")),
        ("tiny_coco", (50, 470), (50, 382), None),
    ],
)
def test_real_sets(shared: Path, name: str, train: tuple[int, int], val: tuple[int, int], classes: Any) -> None:
    parts = open_splits(shared / "data" / name, None, "boxes")
    for part, (images, objects) in {"train": train, "val": val}.items():
        data = detection_set(choose_split(parts, "train" if part == "train" else "val"))
        assert len(data.images) == images
        assert sum(len(one.objects) for one in data.images) == objects
        assert data.class_names == classes or (classes is None and len(data.class_names) == 80)
    assert has_split(parts, "val")
