"""Class folders. Oracle: where the images were put."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hrnet.formats.check import check
from hrnet.formats.class_folders import ClassFolderReader


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


def test_a_clean_set_has_none(tmp_path: Path, paint: Callable[..., Path]) -> None:
    report = check(make(tmp_path / "set", paint))
    assert [str(defect) for defect in report.defects] == []
    assert [(one.split, len(one.images), one.classes) for one in report.sets] == [
        ("train", 4, ("cat", "dog")),
        ("val", 2, ("cat", "dog")),
    ]


def test_classes_without_parts_and_in_depth(tmp_path: Path, paint: Callable[..., Path]) -> None:
    paint(tmp_path / "cat/2021/a.png", 1)
    paint(tmp_path / "dog/b.png", 2)
    (one,) = ClassFolderReader().read(tmp_path)
    assert [(image.path.name, image.label) for image in one.images] == [("a.png", 0), ("b.png", 1)]


def test_the_same_pixels_in_another_file_are_found_by_decoding(tmp_path: Path, paint: Callable[..., Path]) -> None:
    from PIL import Image

    folder = make(tmp_path / "set", paint)
    Image.open(folder / "train/cat/a.png").save(folder / "val/cat/z.bmp")
    assert not [one for one in check(folder).defects if one.kind == "image-leak"]
    (leak,) = (one for one in check(folder, decode=True).defects if one.kind == "image-leak")
    assert leak.file.name == "z.bmp"
