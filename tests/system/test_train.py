"""`hrnet train` as a person uses it. Oracles: exit status, what is printed, what is on the disk."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from hrnet.cli import main
from hrnet.engine.recipe import STATE
from hrnet.engine.train import Trainer
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.pose.recipes import RECIPES
from hrnet.tasks import recipe_to_json

STAGES = (StageSpec((4, 4), 1), StageSpec((4, 4, 4), 1), StageSpec((4, 4, 4, 4), 1))
TINY = HRNetSpec(STAGES, 1, 2, high_resolution_only=True, stem_width=4)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Two epochs of two steps on eight images of 32 x 32."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(8):
        points = np.column_stack([rng.uniform(4, 28, (3, 2)), [2, 2, 2]])
        Image.fromarray(rng.integers(0, 80, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 32, "height": 32})
        annotations.append({
            "id": number + 1, "image_id": number, "category_id": 1, "bbox": [1, 1, 30, 30], "area": 900, "iscrowd": 0,
            "num_keypoints": 3, "keypoints": points.ravel().tolist(),
        })  # fmt: skip
    categories = [{"id": 1, "name": "stick", "keypoints": ["beak", "tail", "horn"], "skeleton": []}]
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    base = RECIPES["pose-lsp"]
    small = replace(
        base,
        model=replace(base.model, backbone=TINY, input_size=(32, 32)),
        data=replace(base.data, images=(tmp_path,), annotations=(labels,), val_images=tmp_path, val_annotations=labels),
        train=replace(
            base.train, epochs=2, batch=4, evaluate_every=1, warmup_steps=0, workers=0, precision="fp32", trackers=()
        ),
    )
    path = tmp_path / "recipe.json"
    path.write_text(recipe_to_json(small))
    return path


def train(recipe: Path, *more: str) -> int:
    return main(["train", str(recipe), "--device", "cpu", *more])


def send_signal_at(monkeypatch: Any, step: int, number: int) -> None:
    take = Trainer.step

    def counted(self: Trainer, *arguments: Any) -> Any:
        if self.position.step == step:
            os.kill(os.getpid(), number)
        return take(self, *arguments)

    monkeypatch.setattr(Trainer, "step", counted)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_an_interrupted_run_names_the_command_that_resumes_it(
    recipe: Path, tmp_path: Path, monkeypatch: Any, capsys: Any, number: int, status: int
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert train(recipe, "--out", str(whole)) == 0
    with monkeypatch.context() as patch:
        send_signal_at(patch, 0, number)
        assert train(recipe, "--out", str(run)) == status
    errors = capsys.readouterr().err
    assert f"interrupted after step 1 of 4; the state is saved. `hrnet train {run} --resume` continues it." in errors
    # The command that was printed.
    assert main(["train", str(run), "--resume", "--device", "cpu"]) == 0
    a, b = load_file(whole / STATE), load_file(run / STATE)
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert np.array_equal(value, b[name]), name


def test_a_run_is_never_overwritten_and_changed_fields_are_named(recipe: Path, tmp_path: Path, capsys: Any) -> None:
    run = tmp_path / "run"
    assert train(recipe, "--out", str(run), "--resume") == 1
    assert "holds no run to resume" in capsys.readouterr().err
    assert train(recipe, "--out", str(run)) == 0
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert train(recipe, "--out", str(run)) == 1
    assert "holds a run already; add --resume" in capsys.readouterr().err
    assert train(recipe, "--out", str(run), "--resume", "--train.batch", "2", "--train.ema", "0.5") == 1
    errors = capsys.readouterr().err
    assert "train.batch was 4, is 2" in errors
    assert "train.ema was 0.998, is 0.5" in errors
    # Fields that the weights do not depend on may change.
    assert train(recipe, "--out", str(run), "--resume", "--train.save-every", "1") == 0
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_plan_leaves_nothing_behind(recipe: Path, tmp_path: Path, capsys: Any) -> None:
    assert train(recipe, "--out", str(tmp_path / "run"), "--dry-run") == 0
    plan = capsys.readouterr().out
    for word in ("training samples     8", "steps                4: 2 epochs of 2", "memory", "time"):
        assert word in plan
    assert not (tmp_path / "run").exists()


def test_init_names_the_weights_that_were_taken(recipe: Path, tmp_path: Path, capsys: Any) -> None:
    content = json.loads(recipe.read_text())
    content["model"]["backbone"] = json.loads(recipe_to_json(RECIPES["pose-lsp"]))["model"]["backbone"]
    recipe.write_text(json.dumps(content))
    assert train(recipe, "--out", str(tmp_path / "run"), "--init", "pose", "--dry-run") == 0
    errors = capsys.readouterr().err
    assert "tensors taken from pose: backbone (" in errors
    assert "new: head (2)" in errors
    assert len([line for line in errors.splitlines() if "pose" in line]) <= 4


def test_a_loss_that_is_not_finite_names_the_images(recipe: Path, tmp_path: Path, capsys: Any) -> None:
    wild = ["--train.learning-rate", "1e30", "--train.optimizer", "sgd", "--train.ema", "0", "--train.epochs", "5"]
    assert train(recipe, "--out", str(tmp_path / "run"), *wild) == 1
    errors = capsys.readouterr().err.splitlines()[-1]
    assert "is not finite at step" in errors
    page = (tmp_path / "run" / "report.html").read_text()
    assert "The run was stopped" in page
    assert "is not finite at step" in page
    assert errors.count(".png") == 4
    assert str(tmp_path) in errors
