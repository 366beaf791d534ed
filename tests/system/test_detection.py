"""Detection as a person uses it: any data set becomes a model, which is scored and looks at images.

Oracles: files on the disk, exit status, what is printed; the same data in three formats gives the same samples, and so the
same weights; the predictor's own results.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import hrnet
from hrnet.cli import main
from hrnet.detection.augment import Augment
from hrnet.detection.recipes import RECIPES
from hrnet.detection.spec import FCOSSpec, RCNNSpec
from hrnet.engine.recipe import BEST
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.tasks import recipe_to_json

STAGES = (StageSpec((8, 8), 1), StageSpec((8, 8, 8), 1), StageSpec((8, 8, 8, 8), 1))
TINY = HRNetSpec(STAGES, 1, 4, stem_width=8, fusion_upsample="bilinear")
KINDS = ("disc", "square")
HEIGHT, WIDTH = 48, 64


def shapes(number: int) -> tuple[np.ndarray, list[tuple[int, list[int], list[float]]]]:
    """An image, and of each object in it the label, the box x1 y1 x2 y2, and an outline."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    found: list[tuple[int, list[int], list[float]]] = []
    for label in range(number % 3):
        x, y = int(rng.integers(2, 10)) + 30 * label, int(rng.integers(2, 20))
        side = int(rng.integers(14, 22))
        rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
        inside = (rows > y) & (rows < y + side) & (columns > x) & (columns < x + side)
        if label == 0:
            inside &= (rows - y - side / 2) ** 2 + (columns - x - side / 2) ** 2 < side**2 / 4
        image[inside] = [[240, 30, 30], [30, 60, 240]][label]
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        round_ = (
            np.stack([x + side / 2 * (1 + np.cos(angles)), y + side / 2 * (1 + np.sin(angles))], 1).ravel().tolist()
        )
        corners = [float(value) for value in (x, y, x + side, y, x + side, y + side, x, y + side)]
        found.append((label, [x, y, x + side, y + side], corners if label else round_))
    return image, found


PARTS = {"train": range(8), "val": range(8, 12)}


def coco(folder: Path) -> None:
    (folder / "annotations").mkdir(parents=True)
    for part, numbers in PARTS.items():
        (folder / part).mkdir()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in numbers:
            image, found = shapes(number)
            Image.fromarray(image).save(folder / part / f"{number:02d}.png")
            images.append({"id": number, "file_name": f"{number:02d}.png", "height": HEIGHT, "width": WIDTH})
            for label, (x1, y1, x2, y2), outline in found:
                annotations.append({
                    "id": len(annotations) + 1, "image_id": number, "category_id": label + 5, "iscrowd": 0,
                    "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "segmentation": [outline],
                })  # fmt: skip
        categories = [{"id": label + 5, "name": name} for label, name in enumerate(KINDS)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"annotations/{part}.json").write_text(json.dumps(content))


def voc(folder: Path) -> None:
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for part, numbers in PARTS.items():
        for number in numbers:
            image, found = shapes(number)
            Image.fromarray(image).save(folder / f"JPEGImages/{number:02d}.png")
            rows = "".join(
                f"<object><name>{KINDS[label]}</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax>"
                f"<ymax>{y2}</ymax></bndbox></object>"
                for label, (x1, y1, x2, y2), _ in found
            )
            text = f"<annotation><filename>{number:02d}.png</filename>{rows}</annotation>"
            (folder / f"Annotations/{number:02d}.xml").write_text(text)
        (folder / f"ImageSets/Main/{part}.txt").write_text("".join(f"{number:02d}\n" for number in numbers))


def yolo(folder: Path) -> None:
    for part, numbers in PARTS.items():
        (folder / "images" / part).mkdir(parents=True)
        (folder / "labels" / part).mkdir(parents=True)
        for number in numbers:
            image, found = shapes(number)
            Image.fromarray(image).save(folder / f"images/{part}/{number:02d}.png")
            lines = [
                f"{label} {(x1 + x2) / 2 / WIDTH} {(y1 + y2) / 2 / HEIGHT} {(x2 - x1) / WIDTH} {(y2 - y1) / HEIGHT}\n"
                for label, (x1, y1, x2, y2), _ in found
            ]
            (folder / f"labels/{part}/{number:02d}.txt").write_text("".join(lines))
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: [{', '.join(KINDS)}]\n")


WRITERS: dict[str, Callable[[Path], None]] = {"coco": coco, "voc": voc, "yolo": yolo}


def recipe(folder: Path, name: str, epochs: int = 3) -> Path:
    """A recipe of ours on a tiny network, as a file; in 20 epochs it learns to find some of the objects."""
    base = RECIPES[f"detection-{name}"]
    detector = base.model.detector
    if isinstance(detector, RCNNSpec):
        detector = replace(
            detector, pyramid_width=16, head_width=16, anchor_samples=32, region_samples=16,
            train_proposals=(60, 40), test_proposals=(40, 20),
        )  # fmt: skip
    elif isinstance(detector, FCOSSpec):
        detector = replace(detector, pyramid_width=32, tower_convs=1)
    small = replace(
        base,
        model=replace(base.model, backbone=TINY, input_size=(64, 64), detector=replace(detector, num_detections=20)),
        data=replace(base.data, augment=Augment(color=0.1)),
        train=replace(
            base.train, epochs=epochs, batch=4, evaluate_every=epochs, workers=0, precision="fp32", trackers=(), examples=0,
            warmup_steps=5, learning_rate=3e-3 if name == "own" else 1e-2,
        ),
    )  # fmt: skip
    path = folder / f"{name}.json"
    path.write_text(recipe_to_json(small))
    return path


def train(path: Path, data: Path, out: Path, *more: str) -> int:
    return main(["train", str(path), "--device", "cpu", "--data.images", str(data), "--out", str(out), *more])


COMMON = ["--runtime", "torch", "--device", "cpu"]


def test_three_formats_train_the_same_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe(tmp_path, "own")
    weights: dict[str, dict[str, np.ndarray]] = {}
    for name, write in WRITERS.items():
        write(tmp_path / name)
        assert train(path, tmp_path / name, tmp_path / f"run-{name}") == 0
        said = capsys.readouterr()
        assert "learns the data set's 2 classes: disc, square" in said.err
        assert "7 objects in 8 images." in said.err
        assert "has a validation set: nothing is held out" in said.err
        assert "AP " in said.out
        weights[name] = load_file(tmp_path / f"run-{name}" / BEST)
    for name in ("voc", "yolo"):
        for key, value in weights["coco"].items():
            # YOLO's shares bring boxes back but for rounding, which training may multiply.
            np.testing.assert_allclose(weights[name][key], value, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("name", ["own", "own-mask"])
def test_train_evaluate_predict(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    coco(tmp_path / "data")
    run = tmp_path / "run"
    # Masks come late: after 20 epochs some runs find nothing yet.
    assert train(recipe(tmp_path, name, 40 if name == "own-mask" else 20), tmp_path / "data", run) == 0
    printed = {
        line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines() if len(line.split()) == 2
    }
    figures = tmp_path / "figures.json"
    arguments = ["--images", str(tmp_path / "data/val"), "--annotations", str(tmp_path / "data/annotations/val.json")]
    assert main(["evaluate", str(run), *arguments, "--out", str(figures), *COMMON]) == 0
    scored = json.loads(figures.read_text())
    assert (scored["task"], scored["images"]) == ("detection", 4)
    # Another way to the same figures: the saved weights, through the predictor. Rounding may turn the order of two boxes.
    measures = ("AP", "AP50", "VOC-AP50") + (("mask-AP",) if name == "own-mask" else ())
    for measure in measures:
        assert scored["metrics"][measure] == pytest.approx(float(printed[measure]), rel=1e-2, abs=1e-3)
    assert scored["metrics"]["AP50"] > 0.02
    out = tmp_path / "out"
    assert main(["predict", str(run), str(tmp_path / "data/val"), "--out", str(out), *COMMON]) == 0
    assert len(list(out.glob("*.json"))) == 4
    for file in out.glob("*.json"):
        content = json.loads(file.read_text())
        assert content["task"] == "detection"
        for one in content["objects"]:
            x1, y1, x2, y2 = one["box"]
            assert 0 <= x1 <= x2 <= WIDTH
            assert 0 <= y1 <= y2 <= HEIGHT
            assert one["name"] in KINDS


def test_a_dry_run_and_another_tasks_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--init` takes what fits: the backbone of the shipped segmentation model."""
    coco(tmp_path / "data")
    arguments = ["train", "detection-own", "--data.images", str(tmp_path / "data"), "--device", "cpu", "--dry-run"]
    arguments += ["--model.input-size", "64", "64", "--train.batch", "2", "--train.workers", "0"]
    arguments += ["--init", "segmentation"]
    assert main([*arguments, "--out", str(tmp_path / "none")]) == 0
    said = capsys.readouterr()
    assert "training samples     8" in said.out
    assert not (tmp_path / "none").exists()
    # All of the backbone fits, and nothing else.
    count = len(hrnet.load("segmentation").get_submodule("backbone").state_dict())
    assert f"hrnet train: {count} of " in said.err
    assert "tensors taken from segmentation: backbone" in said.err
    # What the first evaluation could not do is said before the training.
    assert main([*arguments, "--flip"]) == 1
    assert "leave out --flip" in capsys.readouterr().err


def test_recipes_lists_detection(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if "detection-coco-htc-w48-28e" in line)
    assert ("800 x 1333" in row, "48" in row, "28" in row, "AP 0.47" in row) == (True,) * 4
    assert main(["recipes", "detection-own"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["detector"]["family"] == "fcos"
