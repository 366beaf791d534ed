"""The README's tasks from Python alone. Oracles: what the command line writes for the same task, and files on the disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hrnet

# A network and a training that take seconds.
TINY: dict[str, object] = {
    "model.backbone.stages": [{"widths": [4] * branches, "blocks": 1, "modules": 1} for branches in (2, 3, 4)],
    "model.backbone.bottleneck_width": 2,
    "model.backbone.stem_width": 4,
    "model.input_size": (32, 32),
    "train.epochs": 2,
    "train.batch": 4,
    "train.workers": 0,
    "train.precision": "fp32",
    "train.trackers": (),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with ten images of 32 x 32 and labels.json, with three keypoints in each."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    images, annotations = [], []
    for number in range(10):
        points = np.column_stack([rng.uniform(4, 28, (3, 2)), [2, 2, 2]])
        Image.fromarray(rng.integers(0, 80, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 32, "height": 32})
        annotations.append({
            "id": number + 1, "image_id": number, "category_id": 1, "bbox": [1, 1, 30, 30], "area": 900, "iscrowd": 0,
            "num_keypoints": 3, "keypoints": points.ravel().tolist(),
        })  # fmt: skip
    categories = [{"id": 1, "name": "stick", "keypoints": ["beak", "tail", "horn"], "skeleton": []}]
    (folder / "labels.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return folder


def test_check_train_load_save_and_predict(data: Path, tmp_path: Path) -> None:
    assert not hrnet.check_data(data / "labels.json", images=data).fatal
    messages: list[str] = []
    run = hrnet.train(
        "pose-own",
        data=data,
        annotations=data / "labels.json",
        out=tmp_path / "run",
        device="cpu",
        overrides=TINY,
        on_message=messages.append,
    )
    assert not run.interrupted
    assert set(run.metrics) >= {"PCK@0.2", "PCK-AUC"}
    assert any("beak, tail, horn" in message for message in messages)
    model = hrnet.load(run.folder)
    hrnet.save(model, tmp_path / "model.safetensors", note="test")
    again = hrnet.load(tmp_path / "model.safetensors")
    # The same weights: bitwise identical keypoints.
    first, second = (next(iter(hrnet.Predictor(one, runtime="torch")(data / "0.png"))) for one in (model, again))
    assert np.array_equal(first.keypoints, second.keypoints)
    assert first.keypoints.shape == (1, 3, 2)
    resumed = hrnet.train(run.folder, resume=True, device="cpu")
    assert resumed.metrics == run.metrics


def test_mistakes_are_named(data: Path, tmp_path: Path) -> None:
    def train(**overrides: object) -> None:
        hrnet.train("pose-own", data=data, out=tmp_path / "run", overrides={**TINY, **overrides})

    with pytest.raises(hrnet.InputError, match=r"pose-own has no field 'train\.epoch'"):
        train(**{"train.epoch": 1})
    with pytest.raises(hrnet.InputError, match=r"train\.epochs: input should be a valid integer"):
        train(**{"train.epochs": "many"})
    with pytest.raises(hrnet.InputError, match=r"must end in \.safetensors"):
        hrnet.save(hrnet.create_model(hrnet.PoseSpec()), tmp_path / "model.pth")


def test_models_are_listed_as_load_takes_them() -> None:
    names = hrnet.list_models()
    assert names[:3] == ["pose", "segmentation", "detection"]
    assert hrnet.list_models("*w32*") == [name for name in names if "w32" in name]
    assert all("w32" in name for name in hrnet.list_models("*w32*"))


def test_a_backbone_gives_maps() -> None:
    import torch

    backbone = hrnet.HRNet(hrnet.spec.hrnet(18)).eval()
    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, 64, 64))
    assert [tuple(one.shape[2:]) for one in maps] == [(16, 16), (8, 8), (4, 4), (2, 2)]
