"""A DeepLabCut project, and changes that break it."""

from collections.abc import Callable
from pathlib import Path

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
