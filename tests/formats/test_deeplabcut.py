"""DeepLabCut csv. Oracle: what was written into the file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hrnet.errors import InputError
from hrnet.formats.check import check
from hrnet.formats.deeplabcut import DeepLabCutReader

HEADER = [
    "scorer,me,me,me,me,me,me",
    "bodyparts,snout,snout,left_ear,left_ear,right_ear,right_ear",
    "coords,x,y,x,y,x,y",
]
FOLDER = "labeled-data/video"
ROW = f"{FOLDER}/img0.png,1,2,3,4,5.5,6"


def make(folder: Path, paint: Callable[..., Path]) -> Path:
    """One video with three labeled images."""
    rows = [ROW, f"{FOLDER}/img1.png,1,2,,,5,6", f"{FOLDER}/img2.png,,,3,4,5,6"]
    for number in range(3):
        paint(folder / f"{FOLDER}/img{number}.png", number)
    (folder / f"{FOLDER}/CollectedData_me.csv").write_text("\n".join([*HEADER, *rows]) + "\n")
    return folder


def change(old: str, new: str) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        file = folder / f"{FOLDER}/CollectedData_me.csv"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    return edit


def cut(folder: Path) -> None:
    path = folder / f"{FOLDER}/img0.png"
    path.write_bytes(path.read_bytes()[:-30])


def copied(folder: Path) -> None:
    (folder / f"{FOLDER}/img1.png").write_bytes((folder / f"{FOLDER}/img0.png").read_bytes())


def second(folder: Path) -> None:
    other = folder / "labeled-data/zoo"
    other.mkdir()
    (other / "CollectedData_me.csv").write_text("\n".join([*HEADER, ROW]).replace("snout", "nose"))


SEEDS: list[tuple[str, Callable[[Path], object], str, str]] = [
    ("a truncated image", cut, "image-unreadable", "img0.png"),
    ("a missing image", lambda folder: (folder / f"{FOLDER}/img0.png").unlink(), "image-missing", "img0.png"),
    ("a row twice", change("img1.png", "img0.png"), "id-twice", "line 5"),
    ("a short row", change(ROW, ",".join(ROW.split(",")[:4])), "entry-malformed", "line 4"),
    ("a word for a number", change("5.5", "here"), "keypoint-value", "line 4"),
    ("half a keypoint", change("5.5", ""), "keypoint-value", "line 4"),
    ("a keypoint at infinity", change("5.5", "inf"), "keypoint-value", "line 4"),
    ("a keypoint outside", change("5.5", "500"), "keypoint-outside", "line 4"),
    ("a left without right", change("right_ear", "tail"), "sides-unpaired", "left_ear"),
    ("a keypoint never labeled", change(",1,2", ",,"), "keypoint-unseen", "snout"),
    ("nothing labeled", change("1,2,3,4,5.5,6", ",,,,,"), "image-empty", "img0.png"),
    ("no header", change("coords", "x"), "file-malformed", "CollectedData_me.csv"),
    ("a file of other keypoints", second, "keypoint-count", "nose"),
    ("an image twice", copied, "image-twice", "img1.png"),
]


@pytest.mark.parametrize(("edit", "kind", "words"), [seed[1:] for seed in SEEDS], ids=[seed[0] for seed in SEEDS])
def test_a_seeded_defect_is_named(
    tmp_path: Path,
    paint: Callable[..., Path],
    named: Callable[..., None],
    edit: Callable[[Path], object],
    kind: str,
    words: str,
) -> None:
    folder = make(tmp_path / "set", paint)
    edit(folder)
    named(folder, kind, words)


def test_a_image_of_the_other_set_is_named(
    tmp_path: Path, paint: Callable[..., Path], named: Callable[..., None]
) -> None:
    make(tmp_path / "one", paint)
    named(make(tmp_path / "other", paint), "image-leak", "img0.png", val=tmp_path / "one")


def test_a_clean_set_has_none(tmp_path: Path, paint: Callable[..., Path]) -> None:
    report = check(make(tmp_path / "set", paint))
    assert [str(defect) for defect in report.defects] == []
    (one,) = report.sets
    assert one.keypoints == ("snout", "left_ear", "right_ear")
    assert one.classes == ("animal",)
    first, other, _ = (image.objects[0] for image in one.images)
    assert first.box is None
    assert first.keypoints is not None
    assert other.visibility is not None
    np.testing.assert_array_equal(first.keypoints, [[1, 2], [3, 4], [5.5, 6]])
    np.testing.assert_array_equal(other.visibility, [2, 0, 2])


def test_several_animals_and_paths_in_three_cells(tmp_path: Path, paint: Callable[..., Path]) -> None:
    paint(tmp_path / "video/img0.png", 0)
    file = tmp_path / "labels.csv"
    file.write_text(
        "scorer,,,me,me,me,me,me,me\nindividuals,,,ann,ann,ann,ann,bob,bob\nbodyparts,,,snout,snout,tail,tail,snout,snout\n"
        "coords,,,x,y,x,y,x,y\nlabeled-data,video,img0.png,1,2,3,4,5,6\n"
    )
    (one,) = DeepLabCutReader().read(file)
    assert not one.defects
    ann, bob = one.images[0].objects
    assert ann.keypoints is not None
    assert bob.visibility is not None
    np.testing.assert_array_equal(ann.keypoints, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(bob.visibility, [2, 0])


@pytest.mark.parametrize("text", ["", "a,b\n", "scorer\nbodyparts\ncoords\n", "coords,x\nbodyparts,a,b\n", "\0"])
def test_another_csv_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=r"x\.csv"):
        DeepLabCutReader().read(tmp_path / "x.csv")
