"""Data sets as people's tools and habits make them, from `shared/cases`. Oracle: what each case's README expects."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hrnet
from hrnet.cli import main
from hrnet.formats.registry import read
from hrnet.io.images import read_image


@pytest.fixture
def case(shared: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A function that returns a copy of a case's folder, by the first two digits."""

    def copy(number: str) -> Path:
        (source,) = (shared / "cases").glob(f"{number}-*")
        return Path(shutil.copytree(source, tmp_path / source.name))

    return copy


def kinds(path: Path) -> dict[str, int]:
    """Return the number of defects of each kind."""
    found = [defect.kind for defect in hrnet.check_data(path).defects]
    return {kind: found.count(kind) for kind in found}


def test_a_project_of_deeplabcut_with_its_config(case: Callable[[str], Path]) -> None:
    (data,) = read(case("01") / "81")
    assert (data.format, len(data.images), data.keypoints) == ("deeplabcut", 2, ("hand", "Finger1"))


@pytest.mark.parametrize(
    ("name", "expected"), [("51", "label-maps"), ("51c", "class-folders"), ("51d", "class-folders"), ("62", "coco")]
)
def test_a_stray_file_does_not_decide_the_format(case: Callable[[str], Path], name: str, expected: str) -> None:
    assert read(case("02") / name)[0].format == expected


def test_yolo_labels_without_a_yaml_are_named(case: Callable[[str], Path]) -> None:
    with pytest.raises(hrnet.InputError, match=r"data\.yaml"):
        hrnet.check_data(case("02") / "4l")


@pytest.mark.parametrize(("name", "images", "stale"), [("80a", 3, 3), ("80b", 1, 1), ("80c", 3, 2)])
def test_xml_and_image_of_one_name_belong_together(
    case: Callable[[str], Path], name: str, images: int, stale: int
) -> None:
    path = case("03") / name
    (data,) = read(path)
    assert len(data.images) == images
    assert all(image.file is not None and image.file.stem == image.path.stem for image in data.images)
    assert kinds(path) == {"filename-stale": stale}


def test_a_name_that_is_no_utf8_is_trained_on(case: Callable[[str], Path], tmp_path: Path) -> None:
    folder = case("08")
    for name, letter in (("a", "x"), ("b", "y")):
        (folder / "set" / name).mkdir(parents=True, exist_ok=True)
        for number in (1, 2, 3):
            shutil.copy(folder / f"{letter}{number}.jpg", folder / "set" / name / f"{number}.jpg")
    (folder / "set/b/1.jpg").rename(folder / "set/b" / os.fsdecode(b"caf\xe9.jpg"))
    options = ["--model.input-size", "64", "64", "--train.epochs", "1", "--train.batch", "2", "--train.workers", "0"]
    data = ["--data.images", str(folder / "set"), "--out", str(tmp_path / "run")]
    assert main(["train", "classification-own", *data, *options]) == 0
    assert (tmp_path / "run/report.html").stat().st_size


@pytest.mark.parametrize(("name", "objects"), [("98", 6), ("99", 4), ("50", 6)])
def test_labels_of_yolo_in_other_places(case: Callable[[str], Path], name: str, objects: int) -> None:
    path = case("10") / name
    (data,) = read(path)
    assert sum(len(image.objects) for image in data.images) == objects
    assert not kinds(path)


def test_a_fourth_band_of_a_tiff_is_not_opacity(case: Callable[[str], Path]) -> None:
    path = case("12") / "rgbn.tif"
    np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(path))[..., :3])


@pytest.mark.parametrize(("name", "objects"), [("01a", 1), ("01b", 1), ("01c", 1), ("01d", 1), ("01e", 1), ("54", 10)])
def test_an_outline_that_encloses_nothing_costs_the_outline(
    case: Callable[[str], Path], name: str, objects: int
) -> None:
    path = case("13") / name
    things = [thing for image in read(path)[0].images for thing in image.objects]
    assert len(things) == objects
    assert all(thing.box is not None for thing in things)
    assert set(kinds(path)) == {"outline-dropped"}


@pytest.mark.parametrize("name", ["02a", "02b", "02c", "02d", "02e"])
def test_keypoints_without_a_box_are_trained_on(
    case: Callable[[str], Path], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = case("14") / name
    assert kinds(folder)["box-missing"] == 6
    data = ["--data.images", str(folder), "--data.annotations", str(folder / "c.json"), "--out", str(tmp_path / "run")]
    assert main(["train", "pose-own", *data, "--data.unboxed", "keypoints", "--train.batch", "2", "--dry-run"]) == 0
    assert "training samples     4" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["05", "05b"])
def test_numbers_as_fractions_and_as_text(case: Callable[[str], Path], name: str) -> None:
    path = case("15") / name
    assert sum(len(image.objects) for image in read(path)[0].images) == 1
    assert not kinds(path)


def test_boxes_by_path(
    case: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = case("17")
    monkeypatch.chdir(folder)
    for name in ("a", "b"):
        Path(name).mkdir()
        shutil.copy("p.jpg", f"{name}/1.jpg")
    assert main(["predict", "pose", "a/1.jpg", "b/1.jpg", "--boxes", "path.json", "--json", "--runtime", "torch"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = json.loads(Path("path.json").read_text())
    for line in lines:
        x, y, width, height = expected[line["file"]][0][:4]
        assert line["people"][0]["box"] == [x, y, x + width, y + height]
    assert main(["predict", "pose", "a/1.jpg", "b/1.jpg", "--boxes", "name.json", "--json", "--runtime", "torch"]) == 1
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 1
    assert "fits a/1.jpg and b/1.jpg" in shown.err


def test_ids_of_coco_results_are_unique(case: Callable[[str], Path], tmp_path: Path) -> None:
    folder = case("18")
    (folder / "p").mkdir()
    for name in ("cam_a_1", "cam_b_1", "photo", "x3"):
        shutil.copy(folder / "p.jpg", folder / "p" / f"{name}.jpg")
    results = tmp_path / "r.json"
    arguments = ["--coco-results", str(results), "--out", str(tmp_path / "out"), "--runtime", "torch"]
    assert main(["predict", "detection", str(folder / "p"), *arguments]) == 0
    pairs = {(entry["file_name"], entry["image_id"]) for entry in json.loads(results.read_text())}
    assert len(pairs) == len({name for name, _ in pairs}) == len({number for _, number in pairs}) == 4
