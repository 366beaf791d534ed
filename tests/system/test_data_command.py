"""`hrnet data` as a person uses it. Oracles: exit status, what is printed, files on the disk, the labels' own colors."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet.cli import main
from hrnet.formats.defects import KINDS
from hrnet.vis.colors import class_colors
from hrnet.vis.draw import MIDDLE


def boxes(folder: Path, *lines: str) -> Path:
    """A YOLO set of two gray images, 100 x 80."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (100, 80), (90, 90, 90 + number)).save(folder / f"images/{number}.png")
        (folder / f"labels/{number}.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text("train: images\nnames: [cell]\n")
    return folder


def test_a_clean_set_is_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(boxes(tmp_path / "set", "0 0.5 0.5 0.2 0.4"))]) == 0
    said = capsys.readouterr().out
    assert "YOLO train: 2 images, 2 objects, 1 class" in said
    assert "no defects" in said


def test_defects_are_grouped_and_a_fatal_one_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = boxes(tmp_path / "set", "0 0.5 0.5 0.2 0.4", "4 0 0 0 0", "5 0 0 0 0", "0 0.9 0.5 0.5 0.4")
    assert main(["data", "check", str(folder)]) == 1
    said = capsys.readouterr().out
    assert "fatal: an unknown class or label value (class-unknown, 4)" in said
    assert "0.txt: line 2: class 4, expected 0 to 0." in said
    assert "and 1 more; --all prints them" in said
    assert "cure: add its name" in said
    assert said.splitlines()[-1] == "4 fatal, 2 warnings"
    assert main(["data", "check", str(folder), "--all"]) == 1
    assert "--all" not in capsys.readouterr().out


def test_warnings_alone_do_not_fail(tmp_path: Path) -> None:
    assert main(["data", "check", str(boxes(tmp_path / "set", "0 0.9 0.5 0.5 0.4"))]) == 0


def test_json_lines_are_all_that_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = boxes(tmp_path / "set", "4 0 0 0 0", "0 0.5 0.5 0.2 0.4")
    assert main(["data", "check", str(folder), "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2
    assert lines[0]["file"] == str(folder / "labels/0.txt")
    assert {key: lines[0][key] for key in ("severity", "kind", "place", "cure")} == {
        "severity": "fatal",
        "kind": "class-unknown",
        "place": "line 1",
        "cure": KINDS["class-unknown"].cure,
    }


def test_sheets_show_the_labels_and_overwrite_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the box's own corners have the color of its class, its middle that of the image."""
    folder = boxes(tmp_path / "set", "0 0.5 0.5 0.2 0.4")
    out = tmp_path / "out"
    for name in ("yolo-train.jpg", "yolo-train-2.jpg"):
        assert main(["data", "show", str(folder), "--out", str(out), "--cell", "100", "--columns", "2"]) == 0
        assert name in capsys.readouterr().out
    first, second = (np.asarray(Image.open(out / name)) for name in ("yolo-train.jpg", "yolo-train-2.jpg"))
    np.testing.assert_array_equal(first, second)
    # An image of 100 x 80 in a cell of 100, six pixels from the border, ten from the cell's top.
    corner, middle = first[16 + 24, 6 + 40], first[16 + 40, 6 + 50]
    assert np.abs(corner.astype(int) - class_colors(("cell",))[0]).max() < 60  # JPEG blurs thin lines
    assert np.abs(middle.astype(int) - 90).max() < 10


def test_keypoints_outlines_and_label_images_are_drawn(tmp_path: Path) -> None:
    """Oracle: the middle of each drawn thing has its color, mixed as stated."""
    folder = tmp_path / "poses"
    boxes(folder)
    (folder / "data.yaml").write_text("train: images\nnames: [mouse]\nkpt_shape: [1, 3]\n")
    (folder / "labels/0.txt").write_text("0 0.5 0.5 0.9 0.9 0.3 0.5 2")
    assert main(["data", "show", str(folder), "--out", str(tmp_path / "out"), "--cell", "200"]) == 0
    sheet = np.asarray(Image.open(tmp_path / "out/yolo-train.jpg")).astype(int)
    # A cell of 200 shows 100 x 80 twice as large, 20 below the top.
    assert np.abs(sheet[6 + 20 + 81, 6 + 61] - MIDDLE).max() < 60
    labels = np.zeros((80, 100), np.uint8)
    labels[:, 50:] = 1
    (tmp_path / "maps/labels").mkdir(parents=True)
    (folder / "images").rename(tmp_path / "maps/images")
    for number in range(2):
        Image.fromarray(labels).save(tmp_path / f"maps/labels/{number}.png")
    assert main(["data", "show", str(tmp_path / "maps"), "--out", str(tmp_path / "out"), "--cell", "200"]) == 0
    sheet = np.asarray(Image.open(tmp_path / "out/label-maps.jpg")).astype(int)
    for x, label in ((50, 0), (150, 1)):
        assert np.abs(sheet[6 + 100, 6 + x] - (class_colors(("0", "1"))[label].astype(int) + 90) / 2).max() < 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "check", "nothing"], "does not exist"),
        (["data", "check", "."], "looked for"),
        (["data", "shout", "."], "choose check or show"),
        (["data", "show", ".", "--out", "x", "--count", "0"], "at least 1"),
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
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1


def test_help_and_checking_need_no_torch(tmp_path: Path) -> None:
    folder = boxes(tmp_path / "set", "0 0.5 0.5 0.2 0.4")
    code = f"""
import sys, hrnet.cli
assert hrnet.cli.main(["data", "--help"]) == 0
assert hrnet.cli.main(["data", "check", {str(folder)!r}]) == 0
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_kind_of_defect_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/data.md").read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"`{kind}`" not in text] == []


# True findings, each looked at; see docs/data.md.
FINDINGS = {
    "lsp": {},
    "lspet": {"keypoint-outside": 7},
    "tiny_coco": {"class-imbalance": 2, "class-unused": 2, "class-untrained": 10, "image-empty": 51},
    "camvid": {},
    "ccp": {"class-imbalance": 2},
    "pennfudan": {},
    "bccd": {"box-degenerate": 2},
    "openfield": {},
    "cifar10_small": {},
}


@pytest.mark.parametrize("name", FINDINGS)
def test_real_sets_have_their_true_findings_and_no_others(shared: Path, name: str) -> None:
    from collections import Counter

    from hrnet.formats.check import check

    assert Counter(defect.kind for defect in check(shared / "data" / name).defects) == FINDINGS[name]
