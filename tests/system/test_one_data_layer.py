"""`data check`, `train --dry-run` and `evaluate` report the same of every data set. Oracle: what was written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_hrnet

import hrnet
from hrnet.classification.spec import ClassificationSpec
from hrnet.cli import main
from hrnet.detection.spec import DetectionSpec, FCOSSpec
from hrnet.formats.registry import read
from hrnet.pose.skeletons import Skeleton
from hrnet.pose.spec import PoseSpec
from hrnet.segmentation.spec import SegmentationSpec

SIZE, COUNT = (64, 64), 6
JOINTS = ("nose", "left_ear", "right_ear")


def paint(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)).save(path)


def coco(folder: Path, keypoints: bool = False) -> Path:
    for number in range(COUNT):
        paint(folder / f"images/{number}.png", number)
    points = {"keypoints": [20, 20, 2, 30, 30, 2, 40, 20, 1]} if keypoints else {}
    content = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in range(COUNT)],
        "annotations": [
            {"id": number, "image_id": number % COUNT, "category_id": 1, "bbox": [10 + number, 10, 30, 40], **points}
            for number in range(COUNT + 2)
        ],
        "categories": [{"id": 1, "name": "cat", **({"keypoints": list(JOINTS)} if keypoints else {})}],
    }
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"


def voc(folder: Path) -> Path:
    for number in range(COUNT):
        paint(folder / f"JPEGImages/{number}.png", number)
        box = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>40</xmax><ymax>50</ymax></bndbox>"
        (folder / "Annotations").mkdir(exist_ok=True)
        text = f"<annotation><filename>{number}.png</filename><object><name>cat</name>{box}</object></annotation>"
        (folder / f"Annotations/{number}.xml").write_text(text)
    (folder / "ImageSets/Main").mkdir(parents=True)
    for split, names in (("train", "0123"), ("val", "45")):
        (folder / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))
    return folder


def yolo(folder: Path) -> Path:
    for split, count in (("train", 4), ("val", 2)):
        (folder / f"labels/{split}").mkdir(parents=True)
        for number in range(count):
            paint(folder / f"images/{split}/{number}.png", number + len(split))
            (folder / f"labels/{split}/{number}.txt").write_text("0 0.5 0.5 0.4 0.6\n")
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat]\n")
    return folder / "data.yaml"


def deeplabcut(folder: Path) -> Path:
    rows = ["scorer" + ",me" * 6, "bodyparts" + "".join(f",{name},{name}" for name in JOINTS), "coords" + ",x,y" * 3]
    for number in range(COUNT):
        paint(folder / f"labeled-data/video/{number}.png", number)
        rows.append(f"labeled-data/video/{number}.png,20,20,30,30,40,20")
    file = folder / "labeled-data/video/CollectedData_me.csv"
    file.write_text("\n".join(rows))
    return file


def mpii(folder: Path) -> Path:
    people = [
        {"image": f"{number}.png", "center": [32, 30], "scale": 0.2, "joints": [[30, 30]] * 16, "joints_vis": [1] * 16}
        for number in range(COUNT)
    ]
    for number in range(COUNT):
        paint(folder / f"images/{number}.png", number)
    (folder / "train.json").write_text(json.dumps(people))
    return folder / "train.json"


def class_folders(folder: Path) -> Path:
    for split, count in (("train", 3), ("val", 2)):
        for seed, name in enumerate(("cat", "dog")):
            for number in range(count):
                paint(folder / f"{split}/{name}/{number}.png", 10 * seed + number + len(split))
    return folder


def label_maps(folder: Path) -> Path:
    labels = np.kron(np.array([[0, 1], [2, 255]], np.uint8), np.ones((32, 32), np.uint8))
    for split, count in (("train", 3), ("val", 2)):
        (folder / f"labels/{split}").mkdir(parents=True)
        for number in range(count):
            paint(folder / f"images/{split}/{number}.png", number + len(split))
            Image.fromarray(labels).save(folder / f"labels/{split}/{number}.png")
    (folder / "classes.txt").write_text("sky\nroad\ncar\n")
    return folder


# Maker, task, and the lines of counts without the path.
LAYOUTS: dict[str, tuple[Callable[[Path], Path], str, tuple[str, ...]]] = {
    "coco": (coco, "detection", ("COCO json: 6 images, 8 objects, 1 class",)),
    "coco keypoints": (
        lambda folder: coco(folder, keypoints=True),
        "pose",
        ("COCO json: 6 images, 8 objects, 1 class, 3 keypoints",),
    ),
    "voc": (
        voc,
        "detection",
        (
            "Pascal VOC xml train: 4 images, 4 objects, 1 class",
            "Pascal VOC xml val: 2 images, 2 objects, 1 class",
        ),
    ),
    "yolo": (
        yolo,
        "detection",
        ("YOLO train: 4 images, 4 objects, 1 class", "YOLO val: 2 images, 2 objects, 1 class"),
    ),
    "deeplabcut": (deeplabcut, "pose", ("DeepLabCut csv: 6 images, 6 objects, 1 class, 3 keypoints",)),
    "mpii": (mpii, "pose", ("MPII json: 6 images, 6 objects, 1 class, 16 keypoints",)),
    "class folders": (
        class_folders,
        "classification",
        ("class folders train: 6 images, 2 classes", "class folders val: 4 images, 2 classes"),
    ),
    "label maps": (
        label_maps,
        "segmentation",
        ("label maps train: 3 images, 3 classes", "label maps val: 2 images, 3 classes"),
    ),
}
TITLES = {
    "cityscapes": ("Cityscapes", "val", 19),
    "lip": ("LIP", "val", 20),
    "context png": ("PASCAL-Context", "val", 60),
    "stuff png": ("COCO-Stuff 10k", "test", 171),
    "ade20k": ("ADE20K", "val", 150),
}


def counts_in(text: str) -> set[str]:
    """Return the lines of counts, without what stands before them and their paths."""
    return set(re.findall(r"^(?:hrnet \w+: )?(\S.*: \d+ images?, .*) \(", text, re.MULTILINE))


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> set[str]:
    main(arguments)
    said = capsys.readouterr()
    found = counts_in(said.out + said.err)
    assert found, said
    return found


def compare(task: str, path: Path, folder: Path, expected: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Check, train and evaluate a data set, and compare the counts that the three print."""
    assert run(["data", "check", str(path)], capsys) == set(expected)
    # The recipe for keypoints names a file of labels.
    where = {"images": str(path)}
    if task == "pose":
        images = path.parent / "images"
        where = {"images": str(images if images.is_dir() else path.parent), "annotations": str(path)}
    data = [word for name, value in where.items() for word in (f"--data.{name}", value)]
    model = ["--model.input-size", "64", "64", "--train.batch", "2", "--train.workers", "0", "--device", "cpu"]
    trained = run(["train", f"{task}-own", "--dry-run", "--out", str(folder / "none"), *data, *model], capsys)
    assert trained == set(expected)
    file = folder / "model.safetensors"
    hrnet.save(small_model(task, path), file)
    named = [word for name, value in where.items() for word in (f"--{name}", value)]
    # Evaluation reads the validation split: the last, or the only one.
    assert run(["evaluate", str(file), *named, "--device", "cpu", "--runtime", "torch"], capsys) == {expected[-1]}


def small_model(task: str, path: Path) -> Any:
    classes = read(path)[0]
    match task:
        case "detection":
            detector = FCOSSpec(pyramid_width=32, tower_convs=1, num_detections=10)
            spec: Any = DetectionSpec(classes.classes, detector, tiny_hrnet(), SIZE, fit="canvas", frozen_norms=False)
        case "pose":
            spec = PoseSpec(Skeleton(classes.keypoints), tiny_hrnet(high_resolution_only=True), input_size=SIZE)
        case "classification":
            spec = ClassificationSpec(classes.classes, backbone=tiny_hrnet(), input_size=SIZE, head_width=4)
        case _:
            spec = SegmentationSpec(classes.classes, backbone=tiny_hrnet(), input_size=SIZE)
    return hrnet.create_model(spec)


@pytest.mark.parametrize("name", LAYOUTS)
def test_check_training_and_evaluation_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    make, task, expected = LAYOUTS[name]
    compare(task, make(tmp_path / "set"), tmp_path, expected, capsys)


@pytest.mark.parametrize("name", TITLES)
def test_they_agree_on_published_data_sets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], published: Callable[[str, Path], Any], name: str
) -> None:
    title, val, classes = TITLES[name]
    published(name, tmp_path / "set")
    expected = tuple(f"{title} {split}: 2 images, {classes} classes" for split in ("train", val))
    compare("segmentation", tmp_path / "set", tmp_path, expected, capsys)
