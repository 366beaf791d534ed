"""YOLO. Oracle: what was written into the files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hrnet.errors import InputError
from hrnet.formats.check import check
from hrnet.formats.yolo import YoloReader

BOXES = "path: .\ntrain: images/train\nval: images/val\nnames: {0: cell, 1: plate}\n"
POSES = (
    "train: images/train\nval: images/val\nnames: [mouse]\nkpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\n"
    "kpt_names: {0: [snout, left_ear, right_ear]}\n"
)
GOOD_BOXES = "0 0.5 0.5 0.2 0.4\n1 0.1 0.1 0.5 0.1 0.3 0.6\n"
GOOD_POSES = "0 0.5 0.5 0.5 0.5 0.5 0.5 2 0.4 0.6 1 0 0 0\n0 0.4 0.5 0.5 0.5 0.5 0.5 2 0.4 0.6 1 0.2 0.2 2\n"


def make(folder: Path, paint: Callable[..., Path], yaml: str = BOXES, labels: str = GOOD_BOXES) -> Path:
    """Train and val of two images each."""
    folder.mkdir()
    (folder / "data.yaml").write_text(yaml)
    for part, names in {"train": "ab", "val": "cd"}.items():
        (folder / f"labels/{part}").mkdir(parents=True)
        for name in names:
            paint(folder / f"images/{part}/{name}.png", ord(name))
            (folder / f"labels/{part}/{name}.txt").write_text(labels)
    return folder


def lines(*added: str) -> Callable[[Path], object]:
    def add(folder: Path) -> None:
        file = folder / "labels/train/a.txt"
        file.write_text(file.read_text() + "\n".join(added))

    return add


def yaml(old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "data.yaml").write_text((folder / "data.yaml").read_text().replace(old, new))


def truncated(folder: Path) -> None:
    path = folder / "images/train/a.png"
    path.write_bytes(path.read_bytes()[:-30])


def copied(folder: Path) -> None:
    (folder / "images/train/a.png").write_bytes((folder / "images/val/c.png").read_bytes())


def listed(folder: Path) -> None:
    (folder / "train.txt").write_text("images/train/a.png\n./images/train/z.png\n")
    yaml("images/train", "train.txt")(folder)


def unpaired(folder: Path) -> None:
    yaml("right_ear", "tail")(folder)
    yaml("flip_idx", "x")(folder)


Seed = tuple[str, Callable[[Path], object], str, str]
SEEDS: list[Seed] = [
    ("a truncated image", truncated, "image-unreadable", "a.png"),
    ("an unknown class", lines("2 0.5 0.5 0.1 0.1"), "class-unknown", "line 3"),
    ("half a class", lines("0.5 0.5 0.5 0.1 0.1"), "class-unknown", "line 3"),
    ("a word", lines("0 0.5 0.5 wide 0.1"), "entry-malformed", "line 3"),
    ("too few numbers", lines("0 0.5 0.5 0.1"), "entry-malformed", "line 3"),
    ("pixels", lines("0 20 15 8 8"), "entry-malformed", "line 3"),
    ("not a number", lines("0 nan 0.5 0.1 0.1"), "entry-malformed", "line 3"),
    ("a box without width", lines("0 0.5 0.5 0 0.1"), "box-degenerate", "line 3"),
    ("a box beyond", lines("0 0.9 0.5 0.8 0.1"), "box-outside", "line 3"),
    ("a box elsewhere", lines("0 1.9 0.5 0.1 0.1"), "box-lost", "line 3"),
    ("an outline of odd numbers", lines("0 0.1 0.2 0.3 0.4 0.5 0.6 0.7"), "outline-malformed", "line 3"),
    ("a line twice", lines("0 0.5 0.5 0.2 0.4"), "object-twice", "line 3"),
    ("a label of no image", lambda f: (f / "labels/train/z.txt").write_text(GOOD_BOXES), "label-orphan", "z.txt"),
    ("nothing labeled", lambda folder: (folder / "labels/train/a.txt").unlink(), "image-empty", "a.png"),
    ("bytes for labels", lambda f: (f / "labels/train/a.txt").write_bytes(b"\xff\xfe"), "file-malformed", "a.txt"),
    ("another number of classes", yaml("val:", "nc: 5\nval:"), "class-count", "nc"),
    ("a class named twice", yaml("plate", "cell"), "class-twice", "cell"),
    ("a class never labeled", yaml("1: plate", "1: plate, 2: dish"), "class-unused", "dish"),
    ("a folder that is not there", yaml("images/val", "images/gone"), "image-missing", "images/gone"),
    ("broken yaml", yaml("names:", "names: [["), "file-malformed", "set"),
    ("names out of order", yaml("1: plate", "7: plate"), "file-malformed", "set"),
    ("a list with a missing image", listed, "image-missing", "z.png"),
    ("an image of validation", copied, "image-leak", "c.png"),
]
POSE_SEEDS: list[Seed] = [
    ("too few keypoints", lines("0 0.5 0.5 0.5 0.5 0.5 0.5 2"), "keypoint-count", "line 3"),
    ("a keypoint outside", lines("0 0.5 0.5 0.5 0.5 1.5 0.5 2 0.4 0.6 1 0 0 0"), "keypoint-outside", "line 3"),
    ("a strange visibility", lines("0 0.5 0.5 0.5 0.5 0.5 0.5 7 0.4 0.6 1 0 0 0"), "visibility-value", "line 3"),
    ("a wrong flip_idx", yaml("[0, 2, 1]", "[1, 2, 0]"), "links-malformed", "flip_idx"),
    ("too few names", yaml("snout, ", ""), "keypoint-count", "kpt_names"),
    (
        "a left without right",
        lambda f: (yaml("right_ear", "tail")(f), yaml("flip_idx", "x")(f)),
        "sides-unpaired",
        "left_ear",
    ),
    ("a shape of words", yaml("[3, 3]", "many"), "file-malformed", "set"),
]


@pytest.mark.parametrize(("change", "kind", "words"), [seed[1:] for seed in SEEDS], ids=[seed[0] for seed in SEEDS])
def test_a_seeded_defect_is_named(
    tmp_path: Path,
    paint: Callable[..., Path],
    named: Callable[..., None],
    change: Callable[[Path], object],
    kind: str,
    words: str,
) -> None:
    folder = make(tmp_path / "set", paint)
    change(folder)
    named(folder, kind, words)


@pytest.mark.parametrize(
    ("change", "kind", "words"), [seed[1:] for seed in POSE_SEEDS], ids=[seed[0] for seed in POSE_SEEDS]
)
def test_a_seeded_defect_of_keypoints_is_named(
    tmp_path: Path,
    paint: Callable[..., Path],
    named: Callable[..., None],
    change: Callable[[Path], object],
    kind: str,
    words: str,
) -> None:
    folder = make(tmp_path / "set", paint, POSES, GOOD_POSES)
    change(folder)
    named(folder, kind, words)


@pytest.mark.parametrize(("text", "labels"), [(BOXES, GOOD_BOXES), (POSES, GOOD_POSES)])
def test_a_clean_set_has_none(tmp_path: Path, paint: Callable[..., Path], text: str, labels: str) -> None:
    report = check(make(tmp_path / "set", paint, text, labels))
    assert [str(defect) for defect in report.defects] == []
    assert [(one.split, len(one.images)) for one in report.sets] == [("train", 2), ("val", 2)]


def test_shares_become_pixels(tmp_path: Path, paint: Callable[..., Path]) -> None:
    """Of images of 40 x 30."""
    train, _ = YoloReader().read(make(tmp_path / "boxes", paint))
    box, outline = train.images[0].objects
    assert box.box is not None
    np.testing.assert_allclose(box.box, [16, 9, 24, 21])  # float shares of whole pixels
    np.testing.assert_allclose(outline.polygons[0], [[4, 3], [20, 3], [12, 18]])
    train, _ = YoloReader().read(make(tmp_path / "poses", paint, POSES, GOOD_POSES))
    assert train.keypoints == ("snout", "left_ear", "right_ear")
    assert train.pairs == ((1, 2),)
    mouse = train.images[0].objects[0]
    assert mouse.keypoints is not None
    assert mouse.visibility is not None
    np.testing.assert_allclose(mouse.keypoints, [[20, 15], [16, 18], [0, 0]])
    np.testing.assert_array_equal(mouse.visibility, [2, 1, 0])


def test_paths_of_another_machine_and_lists_are_found(tmp_path: Path, paint: Callable[..., Path]) -> None:
    folder = make(tmp_path / "set", paint, BOXES.replace("path: .", "path: /home/me/set"))
    yaml("images/val", "../images/val")(folder)
    (folder / "list.txt").write_text("/home/me/set/images/train/a.png\n")
    yaml("images/train", "list.txt")(folder)
    train, val = YoloReader().read(folder)
    assert [image.path.name for image in train.images] == ["a.png"]
    assert len(train.images[0].objects) == 2
    assert len(val.images) == 2


def test_a_yaml_of_aliases_is_refused(tmp_path: Path) -> None:
    text = "a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\ntrain: .\n"
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(InputError, match="aliases"):
        YoloReader().read(tmp_path)
