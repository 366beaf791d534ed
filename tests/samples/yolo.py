"""YOLO data sets of boxes and of keypoints, and changes that break them."""

from collections.abc import Callable
from pathlib import Path

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


def make_poses(folder: Path, paint: Callable[..., Path]) -> Path:
    return make(folder, paint, POSES, GOOD_POSES)


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
