"""The commands as a person uses them. Oracles: exit status, files on the disk, what was there before."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet.cli import main

ASSETS = Path(__file__).parents[2] / "src/hrnet/assets"
PORTRAIT = ASSETS / "astronaut.jpg"


def test_help_needs_no_torch() -> None:
    code = "import sys, hrnet.cli; hrnet.cli.main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for verb in ("predict", "train", "evaluate", "convert", "models", "recipes", "doctor"):
        assert verb in done.stdout


def test_predict_draws_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "pose", str(PORTRAIT), "--out", str(tmp_path), "--runtime", "torch"]) == 0
    with Image.open(tmp_path / "astronaut.jpg") as image:
        assert image.size == (512, 512)
    content = json.loads((tmp_path / "astronaut.json").read_text())
    (person,) = content["people"]
    named = dict(zip(content["keypoint_names"], np.array(person["keypoints"]), strict=True))
    # Where a person sees them in this image: the chin's end of the neck and the shoulders, within a fifth of its width.
    for name, place in {"neck": (222, 180), "right_shoulder": (120, 220), "left_shoulder": (320, 220)}.items():
        assert np.linalg.norm(named[name] - place) < 100, name
    assert "astronaut.jpg" in capsys.readouterr().out


def test_broken_inputs_are_named_the_rest_goes_on_and_nothing_is_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "sub"):
        Image.new("RGB", (40, 60), (90, 90, 90)).save(folder / "same.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / "same.json").write_text("mine")
    sources = [
        str(tmp_path / "broken.jpg"),
        str(tmp_path / "same.png"),
        str(tmp_path / "sub"),
        str(tmp_path / "no.jpg"),
    ]
    assert main(["predict", "pose", *sources, "--out", str(out), "--runtime", "torch"]) == 1
    said = capsys.readouterr()
    assert "broken.jpg is not an image" in said.err
    assert "no.jpg does not exist" in said.err
    assert "Traceback" not in said.err
    assert (out / "same.json").read_text() == "mine"
    assert sorted(path.name for path in out.iterdir()) == [
        "same-2.json",
        "same-2.png",
        "same-3.json",
        "same-3.png",
        "same.json",
    ]


def test_json_lines_are_all_that_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"astronaut.jpg": [[60, 20, 300, 480, 0.5], [60, 20, 300, 481, 0.4]]}))
    arguments = ["predict", "pose", str(PORTRAIT), "--json", "--runtime", "torch", "--boxes", str(boxes)]
    assert main([*arguments, "--out", str(tmp_path / "unused")]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    (person,) = json.loads(line)["people"]  # the second box finds the same person and is dropped
    assert person["box"] == [60, 20, 360, 500]
    mean = np.mean([score for score in person["keypoint_scores"] if score > 0.2])
    assert person["score"] == pytest.approx(0.5 * mean, abs=1e-3)  # rounded to four digits
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "posse", "x.jpg"], "no model 'posse'"),
        (["predict", "notes.txt", "x.jpg"], "is not a model file"),
        (["predict", "empty.safetensors", "x.jpg"], "not an intact .safetensors"),
        (["evaluate", "pose", "--images", ".", "--annotations", "gone.json"], "gone.json does not exist"),
        (["train", "pose-none"], "no recipe 'pose-none'"),
        (["train", "pose-lsp"], "does not exist"),
        (["convert", "pose", "model.bin"], "must end in .safetensors"),
        (["models", "nothing"], "no model 'nothing'"),
        (["predict", "n" * 300, "x.jpg"], "cannot be used"),
        (["train", "n" * 300], "cannot be used"),
        (["evaluate", "pose", "--images", ".", "--annotations", "notes.txt", "--out", "notes.txt"], "notes.txt exists"),
        (["evaluate", "pose", "--images", ".", "--annotations", "notes.txt", "--results", "."], "is a folder"),
        (["evaluate", "pose", "--images", ".", "--annotations", "notes.txt", "--report", "seen"], "report.html exists"),
        (["predict", "detection", "x.jpg", "--coco-results", "notes.txt"], "notes.txt exists"),
        (["train", "pose-own", "--resume", "--init", "pose"], "leave out init"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("x")
    Path("empty.safetensors").write_bytes(b"")
    Path("seen").mkdir()
    Path("seen/report.html").write_text("x")
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1
    assert Path("notes.txt").read_text() == Path("seen/report.html").read_text() == "x"
    assert main(["--debug", "--nothing"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "pose", "--images", ".", "--batch", "-1"], "--batch is at least 1"),
        (["evaluate", "pose", "--images", ".", "--hold-out", "-1"], "not negative"),
        (["predict", "pose"], "no image is named"),
        (["predict", "pose", "x.jpg", "--batch", "0"], "--batch is at least 1"),
        (["train", "pose-own", "--device", "cuda"], "auto"),
        *(
            (["train", "pose-own", f"--train.{name}", value], f"train.{name.replace('-', '_')}")
            for name, value in {
                "batch": "0",
                "accumulate": "0",
                "evaluate-every": "0",
                "epochs": "-1",
                "seed": "-1",
                "workers": "-1",
                "learning-rate": "nan",
                "ema": "1",
            }.items()
        ),
        (["train", "pose-own", "--model.codec.heatmap-sigma", "0"], "sigma"),
    ],
)
def test_numbers_out_of_range_are_refused_before_any_work(
    capfd: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capfd.readouterr().err


def test_a_folder_does_not_hide_a_shipped_model_and_a_dash_reads_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("pose")
    folder.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (40, 60), (90, 90, 90)).save(folder / f"{name}.png")
    monkeypatch.setattr(sys, "stdin", io.StringIO("pose/b.png\n"))
    assert main(["predict", "pose", "pose/a.png", "-", "n" * 300, "--json", "--runtime", "torch"]) == 1
    said = capsys.readouterr()
    assert [json.loads(line)["file"] for line in said.out.splitlines()] == ["pose/a.png", "pose/b.png"]
    assert "cannot be read" in said.err


def test_two_runs_at_once_do_not_take_one_name(tmp_path: Path) -> None:
    # Oracle: what another run has begun and not yet written is its own.
    out = tmp_path / "out"
    out.mkdir()
    (out / ".astronaut.partial").touch()
    assert main(["predict", "pose", str(PORTRAIT), "--out", str(out), "--runtime", "torch"]) == 0
    assert {path.name for path in out.iterdir()} == {".astronaut.partial", "astronaut-2.jpg", "astronaut-2.json"}


def test_names_that_are_no_text_do_not_end_a_call(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    names = [os.fsencode(folder) + b"/" + name for name in (b"a\xff.png", b"b.png")]
    for name in names:
        Image.new("RGB", (40, 60), (90, 90, 90)).save(os.fsdecode(name))
    command = [
        sys.executable,
        "-m",
        "hrnet.cli",
        "predict",
        "pose",
        "-",
        "--runtime",
        "torch",
        "--out",
        str(tmp_path / "out"),
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, input=b"\n".join(names), capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert len(list((tmp_path / "out").glob("*.json"))) == 2


def small_run(tmp_path: Path, out: str, *more: str) -> int:
    """Two epochs on eight synthetic images; two optimizer steps each."""
    return main([
        "train", "pose-lsp", "--out", str(tmp_path / out), "--data.images", str(tmp_path),
        "--data.annotations", str(tmp_path / "labels.json"), "--data.val-images", str(tmp_path),
        "--data.val-annotations", str(tmp_path / "labels.json"), "--model.input-size", "64", "64",
        "--train.batch", "4", "--train.workers", "0", "--train.evaluate-every", "1", "--train.warmup-steps", "0",
        "--device", "cpu", *more,
    ])  # fmt: skip


def synthetic(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ["left_end", "right_end", "middle"]
    images, annotations = [], []
    for number in range(8):
        ends = rng.uniform(10, 54, (2, 2))
        points = np.array([*ends, ends.mean(0)])
        Image.fromarray(rng.integers(0, 80, (64, 64, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
        annotations.append({
            "id": number + 1, "image_id": number, "category_id": 1, "bbox": [1, 1, 62, 62], "area": 3844,
            "num_keypoints": 3, "iscrowd": 0, "keypoints": np.column_stack([points, [2, 2, 2]]).ravel().tolist(),
        })  # fmt: skip
    categories = [{"id": 1, "name": "stick", "keypoints": names, "skeleton": [[1, 2]]}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "labels.json").write_text(json.dumps(content))


def test_training_on_own_keypoints_then_evaluating_and_predicting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic(tmp_path)
    assert small_run(tmp_path, "run", "--train.epochs", "2") == 0
    assert "3 keypoints: left_end, right_end, middle" in capsys.readouterr().err
    run = str(tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert sum("metrics" in line for line in lines) == 2
    assert list((tmp_path / "run/tensorboard").glob("events.*"))
    assert small_run(tmp_path, "run") == 1  # never over an earlier run
    evaluate = ["evaluate", run, "--images", str(tmp_path), "--annotations", str(tmp_path / "labels.json"), "--flip"]
    assert main([*evaluate, "--out", str(tmp_path / "figures.json"), "--runtime", "torch"]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["task"] == "pose"
    assert figures["images"] == 8
    assert {"PCK@0.2", "AP"} <= figures["metrics"].keys()
    assert main(["predict", run, str(tmp_path / "0.png"), "--out", str(tmp_path / "out"), "--runtime", "torch"]) == 0


def test_a_resumed_run_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    """Bitwise, from a state saved at the end of the first of two epochs of the same schedule."""
    from safetensors.torch import load_file

    synthetic(tmp_path)
    assert small_run(tmp_path, "whole", "--train.epochs", "2") == 0
    from hrnet.engine.train import Trainer

    stop = Trainer.save_state

    class Stopped(Exception):  # noqa: N818  # not an error
        pass

    def stop_after_one(self: Trainer) -> None:
        stop(self)
        raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "save_state", stop_after_one)
        with pytest.raises(Stopped):
            small_run(tmp_path, "parts", "--train.epochs", "2")
    assert small_run(tmp_path, "parts", "--train.epochs", "2", "--resume") == 0
    whole, parts = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert np.array_equal(value.numpy(), parts[name].numpy()), name


def test_a_wild_learning_rate_stops_before_the_weights_are_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic(tmp_path)
    wild = ["--train.learning-rate", "1e30", "--train.optimizer", "sgd", "--train.epochs", "5", "--train.ema", "0"]
    assert small_run(tmp_path, "run", *wild) == 1
    assert "not finite" in capsys.readouterr().err
