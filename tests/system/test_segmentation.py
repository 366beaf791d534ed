"""Segmentation as a person uses it. Oracles: files on the disk and their sizes, the predictor's own maps counted pixel by
pixel here, exit status, what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hrnet
from hrnet.cli import main
from hrnet.io.checkpoint import save_model
from hrnet.io.images import read_indices
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.spec import SegmentationSpec
from hrnet.vis.colors import class_colors

NAMES = ("background", "left_hand", "right_hand", "a hat")
SIZES = ((50, 70), (90, 60), (64, 96), (30, 31))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with a small model that finds every class somewhere."""
    torch.manual_seed(0)
    stages = (StageSpec((4, 8), 1), StageSpec((4, 8, 8), 1), StageSpec((4, 8, 8, 8), 1))
    backbone = HRNetSpec(stages, bottlenecks=1, bottleneck_width=4, stem_width=4, fusion_upsample="bilinear")
    made = SegmentationModel(SegmentationSpec(NAMES, ((1, 2),), backbone, (64, 96))).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.5)
        made.get_parameter("head.classify.bias").sub_(made(torch.rand(1, 3, 64, 96)).logits.mean((0, 2, 3)))
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_model(path, made)
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four images with labels, of four sizes, and the names of the classes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number, (height, width) in enumerate(SIZES):
        image = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8).repeat(11, 0).repeat(11, 1)[:height, :width]
        labels = rng.integers(0, 4, (9, 9), dtype=np.uint8).repeat(11, 0).repeat(11, 1)[:height, :width].copy()
        labels[:5] = 255
        Image.fromarray(image).save(folder / f"images/{number}.png")
        Image.fromarray(labels).save(folder / f"labels/{number}.png")
    (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return folder


def predict(*arguments: object) -> int:
    return main(["predict", *map(str, arguments), "--runtime", "torch", "--device", "cpu"])


def evaluate(model: str, data: Path, *more: object) -> int:
    folders = ["--images", str(data / "images"), "--annotations", str(data / "labels")]
    return main(["evaluate", model, *folders, *map(str, more), "--runtime", "torch", "--device", "cpu"])


def test_predict_writes_overlay_labels_and_shares(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(model, data / "images", "--out", tmp_path / "out") == 0
    expected = list(
        hrnet.Predictor(hrnet.load(model), runtime="torch", device="cpu")(sorted((data / "images").iterdir()))
    )
    for number, (size, result) in enumerate(zip(SIZES, expected, strict=True)):
        labels = read_indices(tmp_path / f"out/{number}.labels.png")
        np.testing.assert_array_equal(labels, result.labels)
        with Image.open(tmp_path / f"out/{number}.labels.png") as stored:
            assert stored.mode == "P"
            colors = np.array(stored.convert("RGB"))
        np.testing.assert_array_equal(colors, class_colors(NAMES)[labels])
        with Image.open(tmp_path / f"out/{number}.png") as overlay:
            assert overlay.width == size[1]
            assert overlay.height > size[0]  # the legend
            drawn, plain = np.array(overlay)[: size[0]], np.array(Image.open(data / f"images/{number}.png"))
        bare = labels == 0
        np.testing.assert_array_equal(drawn[bare], plain[bare])
        assert (drawn[~bare] != plain[~bare]).any(-1).mean() > 0.9
        content = json.loads((tmp_path / f"out/{number}.json").read_text())
        assert content["labels"] == f"{number}.labels.png"
        assert "runs" not in content
        shares = {one["name"]: one["fraction"] for one in content["classes"]}
        assert shares == {
            name: pytest.approx((labels == label).mean(), abs=1e-6)
            for label, name in enumerate(NAMES)
            if (labels == label).any()
        }
    assert "4 images in" in capsys.readouterr().out


def test_nothing_is_overwritten_and_no_two_inputs_share_a_name(model: str, tmp_path: Path) -> None:
    """Also not where the name of one input is that under which the labels of another would be stored."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.labels.png").write_bytes(b"mine")
    for name in ("a.png", "a.labels.png", "b.png"):
        Image.new("RGB", (40, 40), (90, 90, 90)).save(tmp_path / name)
    Image.new("RGB", (40, 40), (90, 90, 90)).save(tmp_path / "a.jpg")
    sources = [tmp_path / name for name in ("a.labels.png", "a.png", "a.jpg", "b.png")]
    before = {path: path.read_bytes() for path in sources}
    assert predict(model, *sources, "--out", out) == 0
    assert (out / "b.labels.png").read_bytes() == b"mine"
    files = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    assert len({one["file"] for one in files}) == len({one["labels"] for one in files}) == 4
    assert len(list(out.iterdir())) == 4 * 3 + 1
    # In the folder of the inputs too.
    assert predict(model, *sources, "--out", tmp_path) == 0
    assert {path: path.read_bytes() for path in sources} == before


def test_json_lines_hold_the_map(model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (data / "images/0.png", "--json", "--windows", "--scales", 0.5, 1, "--flip", "--out", tmp_path / "no")
    assert predict(model, *arguments) == 0
    (line,) = capsys.readouterr().out.splitlines()
    content = json.loads(line)
    runs = np.array(content["runs"]).reshape(-1, 2)
    assert np.repeat(runs[:, 0], runs[:, 1]).reshape(content["size"]).shape == SIZES[0]
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    "more", [(), ("--flip",), ("--windows", "--scales", 1, 1.5), ("--protocol", "published", "--scales", 0.75, 1)]
)
def test_evaluate_measures_what_predict_finds(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[object, ...]
) -> None:
    out = tmp_path / "figures.json"
    assert evaluate(model, data, "--out", out, *more) == 0
    figures = json.loads(out.read_text())
    assert list(figures) == ["task", "model", "metrics", "images", "seconds"]
    assert (figures["task"], figures["images"]) == ("segmentation", 4)
    printed = capsys.readouterr().out
    assert f"{figures['metrics']['mIoU']:.2f}" in printed
    if "published" in more:
        return
    assert predict(model, data / "images", "--out", tmp_path / "out", *more) == 0
    hits, either, right, labeled = np.zeros(4), np.zeros(4), 0, 0
    for number in range(4):
        ground_truth = read_indices(data / f"labels/{number}.png")
        found = read_indices(tmp_path / f"out/{number}.labels.png")
        counts = ground_truth != 255
        right, labeled = right + (ground_truth == found)[counts].sum(), labeled + counts.sum()
        for label in range(4):
            one, other = (ground_truth == label) & counts, (found == label) & counts
            hits[label] += (one & other).sum()
            either[label] += (one | other).sum()
    assert figures["metrics"]["mIoU"] == pytest.approx(float((100 * hits / either).mean()), rel=1e-12)
    assert figures["metrics"]["pixel-accuracy"] == pytest.approx(100 * right / labeled, rel=1e-12)


def test_a_broken_image_is_named_and_the_others_are_scored(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (data / "images/1.png").read_bytes()
    (data / "images/1.png").write_bytes(content[: len(content) // 2])  # its header is whole
    assert evaluate(model, data, "--out", tmp_path / "figures.json", "--report", tmp_path / "page") == 1
    said = capsys.readouterr()
    assert "1.png" in said.err
    assert "Traceback" not in said.err
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["images"] == 3
    page = (tmp_path / "page/report.html").read_text()
    assert "Confusion matrix" in page
    assert "The worst 3 of 3" in page
    assert f"{figures['metrics']['mIoU']:.1f}" in page


def test_classes_are_matched_by_name(model: str, data: Path, tmp_path: Path) -> None:
    """The same labels under other numbers give the same figures."""
    assert evaluate(model, data, "--out", tmp_path / "before.json") == 0
    order = [2, 0, 3, 1]
    (data / "classes.txt").write_text("".join(f"{NAMES[label]}\n" for label in order))
    for path in (data / "labels").iterdir():
        labels = read_indices(path).astype(np.uint8)
        table = np.full(256, 255, np.uint8)
        table[order] = range(4)
        Image.fromarray(table[labels]).save(path)
    assert evaluate(model, data, "--out", tmp_path / "after.json") == 0
    before, after = (json.loads((tmp_path / f"{name}.json").read_text())["metrics"] for name in ("before", "after"))
    assert before == after


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--windows", "--protocol", "published"), "leave out --windows"),
        (("--scales", "-1"), "Fix --scales"),
    ],
)
def test_mistakes_are_one_sentence(
    model: str, data: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], words: str
) -> None:
    assert evaluate(model, data, *more) == 1
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1


def test_options_of_another_task_are_refused(model: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, run in (
        ("--windows", lambda: predict("pose", data / "images/0.png", "--windows")),
        ("--protocol", lambda: evaluate("pose", data, "--protocol", "published")),
        ("--boxes", lambda: evaluate(model, data, "--boxes", "x.json")),
    ):
        with pytest.raises(SystemExit) as ended:
            run()
        assert ended.value.code == 2
        assert f"Unrecognized options: {option}" in capsys.readouterr().err


def test_the_shipped_model_finds_a_face_under_hair(tmp_path: Path) -> None:
    """Oracle: where a person sees the face and the hair of the shipped portrait, and the empty wall."""
    portrait = Path(hrnet.__file__).parent / "assets/astronaut.jpg"
    assert predict("segmentation", portrait, "--out", tmp_path) == 0
    labels, names = read_indices(tmp_path / "astronaut.labels.png"), hrnet.load("segmentation").spec.class_names
    for name, (top, bottom, left, right) in {"skin": (110, 170, 195, 255), "background": (20, 120, 330, 370)}.items():
        assert (labels[top:bottom, left:right] == names.index(name)).mean() > 0.9
    assert (labels[40:80, 180:280] == names.index("hair")).mean() > 0.3
