"""Scoring detections and drawing them, as a person does it. Oracles: pycocotools on the files that are written, the
predictor's own results, exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO as ReferenceCoco
from pycocotools.cocoeval import COCOeval as ReferenceEval

import hrnet
from hrnet.cli import main
from hrnet.detection.model import DetectionModel
from hrnet.detection.spec import DetectionSpec, FCOSSpec
from hrnet.io.checkpoint import save_model
from hrnet.nn.spec import HRNetSpec, StageSpec

NAMES = ("person", "a hat")
PLAIN = ("--runtime", "torch", "--device", "cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with a small model that finds much, all of it by chance."""
    torch.manual_seed(1)
    stages = (StageSpec((4, 8), 1), StageSpec((4, 8, 8), 1), StageSpec((4, 8, 8, 8), 1))
    backbone = HRNetSpec(stages, bottlenecks=1, bottleneck_width=4, stem_width=4, fusion_upsample="nearest")
    detector = FCOSSpec(pyramid_width=32, tower_convs=1, score_threshold=0, num_detections=30)
    made = DetectionModel(DetectionSpec(NAMES, detector, backbone, (64, 96))).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "detector" in name:
                parameter.normal_(std=0.3)
            elif parameter.ndim > 1:
                parameter.normal_(std=0.5)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_model(path, made)
    return str(path)


@pytest.fixture(scope="module")
def data(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images whose labels are half of what the model finds in them, and an image that cannot be read."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    ground_truth: dict[str, Any] = {"images": [], "annotations": []}
    ground_truth["categories"] = [{"id": 7, "name": "a hat"}, {"id": 3, "name": "person"}]
    predictor = hrnet.Predictor(hrnet.load(model), runtime="torch", device="cpu")
    for number, size in ((8, (60, 90)), (12, (90, 64)), (15, (64, 64)), (16, (30, 70))):
        path = folder / f"images/photo_{number}.png"
        image = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8).repeat(11, 0).repeat(11, 1)[: size[0], : size[1]]
        Image.fromarray(image).save(path)
        ground_truth["images"].append({"id": number, "file_name": path.name, "height": size[0], "width": size[1]})
        (found,) = predictor(path)
        for index in range(0, len(found), 2):
            x1, y1, x2, y2 = found.boxes[index].tolist()
            ground_truth["annotations"].append({
                "id": len(ground_truth["annotations"]) + 1,
                "image_id": number,
                "category_id": (3, 7)[found.labels[index]],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
            })  # fmt: skip
    (folder / "labels.json").write_text(json.dumps(ground_truth))
    return folder


def test_evaluate_measures_what_it_writes(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, out = tmp_path / "results.json", tmp_path / "figures.json"
    labels = str(data / "labels.json")
    files = ("--images", str(data / "images"), "--annotations", labels, "--results", str(results), "--out", str(out))
    assert main(["evaluate", model, *files, "--report", str(tmp_path / "page"), *PLAIN]) == 0
    content = json.loads(out.read_text())
    assert (content["task"], content["images"]) == ("detection", 4)
    ground = ReferenceCoco(labels)
    evaluation = ReferenceEval(ground, ground.loadRes(str(results)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    named = dict(zip(("AP", "AP50", "AP75", "APS"), evaluation.stats, strict=False))
    for name, value in named.items():
        # The same sums in double precision.
        assert content["metrics"][name] == pytest.approx(value, abs=1e-9)
    assert 0.1 < content["metrics"]["AP"] < 1
    printed = capsys.readouterr().out
    # Of the twelve figures those of which something is labeled; all objects are small.
    assert {"AR1", "AR10", "AR100", "ARS", "VOC-AP50", "AP/a hat"} < content["metrics"].keys()
    lines = dict(line.rsplit(maxsplit=1) for line in printed.splitlines()[: len(content["metrics"])])
    assert lines == {name: f"{value:.4f}" for name, value in content["metrics"].items()}
    page = (tmp_path / "page/report.html").read_text()
    assert "Confusion matrix" in page
    assert "Precision over recall" in page


def test_predict_draws_writes_and_lists(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    results = tmp_path / "results.json"
    sources = [str(data / "images"), str(tmp_path / "broken.jpg")]
    found = list(hrnet.Predictor(hrnet.load(model), runtime="torch", device="cpu")(sorted((data / "images").iterdir())))
    score = float(np.median(np.concatenate([one.scores for one in found])))
    options = ("--score", str(score), "--coco-results", str(results), "--out", str(tmp_path / "out"))
    assert main(["predict", model, *sources, *options, *PLAIN]) == 1
    for one in found:
        assert isinstance(one.source, Path)
        written = json.loads((tmp_path / "out" / f"{one.source.stem}.json").read_text())
        assert [entry["score"] for entry in written["objects"]] == pytest.approx(
            [value for value in one.scores if value >= score], abs=1e-4
        )
        drawn = np.array(Image.open(tmp_path / "out" / one.source.name))
        assert (drawn != np.array(Image.open(one.source))).any()
    entries = json.loads(results.read_text())
    assert len(entries) == sum(len(one) for one in found)
    assert {entry["image_id"] for entry in entries} == {8, 12, 15, 16}
    captured = capsys.readouterr()
    assert "broken.jpg" in captured.err
    assert "4 images in" in captured.out
    assert "network" in captured.out


def test_only_classes_that_are_asked_for(model: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(data / "images/photo_8.png")
    assert main(["predict", model, image, "--score", "0", "--classes", "a hat", "--json", *PLAIN]) == 0
    objects = json.loads(capsys.readouterr().out)["objects"]
    assert {one["name"] for one in objects} == {"a hat"}
    assert main(["predict", model, image, "--classes", "horse", *PLAIN]) == 1
    assert "no class 'horse'; choose from person, a hat" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["predict", "pose", image, "--classes", "person", *PLAIN])
    assert "Unrecognized options: --classes" in capsys.readouterr().err


def test_people_are_found_and_posed(model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A detector looked at first gives what its COCO results file gives, of which only persons are read."""
    image, results = str(data / "images/photo_12.png"), str(tmp_path / "found.json")
    assert main(["predict", model, image, "--coco-results", results, "--classes", "person", "--json", *PLAIN]) == 0
    capsys.readouterr()
    assert main(["predict", "pose", image, "--boxes", model, "--score", "0", "--json", *PLAIN]) == 0
    direct = json.loads(capsys.readouterr().out)
    assert main(["predict", "pose", image, "--boxes", results, "--json", *PLAIN]) == 0
    assert json.loads(capsys.readouterr().out) == direct
    assert direct["people"]
    with pytest.raises(SystemExit):
        main(["predict", model, image, "--boxes", results, *PLAIN])
    assert "Unrecognized options: --boxes" in capsys.readouterr().err
