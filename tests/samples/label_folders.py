"""Folders of label maps, and changes that break them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

LABELS = np.tile(np.array([0, 1, 2, 255], np.uint8).repeat(10), (30, 1))


def write(path: Path, values: np.ndarray = LABELS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def make(folder: Path, paint: Callable[..., Path]) -> Path:
    """Train and val of two images each, of sky, road and car."""
    for part, names in {"train": "ab", "val": "cd"}.items():
        for name in names:
            paint(folder / f"images/{part}/{name}.png", ord(name))
            write(folder / f"labels/{part}/{name}.png")
    (folder / "classes.txt").write_text("sky\nroad\ncar\n")
    return folder


def relabeled(values: np.ndarray) -> Callable[[Path], object]:
    return lambda folder: write(folder / "labels/train/a.png", values)


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-30])


def lossy(folder: Path) -> None:
    (folder / "labels/train/a.png").unlink()
    write(folder / "labels/train/a.jpg")


def copied(folder: Path) -> None:
    (folder / "images/train/a.png").write_bytes((folder / "images/val/c.png").read_bytes())


def renamed(folder: Path) -> None:
    Image.open(folder / "images/train/b.png").save(folder / "images/train/a.bmp")


WRONG = np.where(LABELS == 1, 9, LABELS).astype(np.uint8)
SEEDS: list[tuple[str, Callable[[Path], object], str, str]] = [
    ("a truncated image", cut("images/train/a.png"), "image-unreadable", "a.png"),
    ("truncated labels", cut("labels/train/a.png"), "label-unreadable", "a.png"),
    ("missing labels", lambda folder: (folder / "labels/train/a.png").unlink(), "label-missing", "a.png"),
    ("labels of no image", lambda folder: (folder / "images/train/a.png").unlink(), "label-orphan", "a.png"),
    ("labels of another size", relabeled(LABELS[:20]), "label-size", "a.png"),
    ("labels of colors", relabeled(np.stack([LABELS] * 3, 2)), "label-colors", "a.png"),
    ("labels with transparency", relabeled(np.stack([LABELS] * 4, 2)), "label-colors", "a.png"),
    ("a value of no class", relabeled(WRONG), "class-unknown", "value 9"),
    ("a value of 16 bits", relabeled(LABELS.astype(np.uint16) + 300), "class-unknown", "value 300"),
    ("everything ignored", relabeled(np.full_like(LABELS, 255)), "image-empty", "a.png"),
    ("labels in a lossy format", lossy, "label-lossy", "a.jpg"),
    ("no labels at all", lambda folder: (folder / "labels/train/a.png").write_bytes(b""), "label-unreadable", "a.png"),
    (
        "a class never labeled",
        lambda f: (f / "classes.txt").write_text("sky\nroad\ncar\ntree"),
        "class-unused",
        "tree",
    ),
    ("an image of validation", copied, "image-leak", "c.png"),
    ("two images of one name", renamed, "id-twice", "a.png"),
]
