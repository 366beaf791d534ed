"""Class folders, and changes that break them."""

from collections.abc import Callable
from pathlib import Path


def make(folder: Path, paint: Callable[..., Path]) -> Path:
    """Cats and dogs, two in train and one in val of each."""
    for number, name in enumerate(
        ("train/cat/a", "train/cat/b", "train/dog/c", "train/dog/d", "val/cat/e", "val/dog/f")
    ):
        paint(folder / f"{name}.png", number)
    return folder


def copy(source: str, target: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_bytes((folder / source).read_bytes())

    return change


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def cut(folder: Path) -> None:
    path = folder / "train/cat/a.png"
    path.write_bytes(path.read_bytes()[:-30])


def one_of_many(folder: Path) -> None:
    for number in range(42):
        data = (folder / "train/dog/c.png").read_bytes()
        (folder / f"train/cat/{number}.png").write_bytes(data[:-12] + data[-12:] + bytes(number + 1))


SEEDS: list[tuple[str, Callable[[Path], object], str, str]] = [
    ("a truncated image", cut, "image-unreadable", "a.png"),
    ("an empty file", write("train/cat/a.png", b""), "image-unreadable", "a.png"),
    ("a text called image", write("train/cat/a.png", b"cat"), "image-unreadable", "a.png"),
    ("a text among images", write("train/cat/notes.doc", b"x"), "file-stray", "notes.doc"),
    ("a text among classes", write("train/notes.doc", b"x"), "file-stray", "notes.doc"),
    ("an image outside", copy("train/cat/a.png", "train/z.png"), "label-missing", "z.png"),
    ("a class of val only", copy("train/cat/a.png", "val/cow/z.png"), "class-unknown", "cow"),
    ("an empty class", lambda folder: (folder / "train/cow").mkdir(), "class-unused", "cow"),
    ("an image of both sets", copy("train/cat/a.png", "val/cat/z.png"), "image-leak", "z.png"),
    ("an image twice", copy("train/cat/a.png", "train/cat/z.png"), "image-twice", "z.png"),
    ("an image of both classes", copy("train/cat/a.png", "train/dog/z.png"), "image-contradiction", "z.png"),
    ("many cats and few dogs", one_of_many, "class-imbalance", "44 images of cat and 2 of dog"),
]
