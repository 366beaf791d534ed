"""Label images. Oracle: the numbers that were written."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet.errors import InputError
from hrnet.formats.check import check
from hrnet.formats.label_folders import LabelFolderReader
from hrnet.formats.label_maps import LabeledImage, read_labels
from hrnet.io.images import read_indices

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
    assert [(one.split, len(one.images)) for one in report.sets] == [("train", 2), ("val", 2)]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/a.jpg", "masks/a.png"),
        ("JPEGImages/a.jpg", "SegmentationClass/a.png"),
        ("train/images/a.jpg", "train/masks/a.png"),
        ("a.jpg", "a.png"),
        ("a.png", "a_mask.png"),
    ],
)
def test_the_usual_places_are_known(tmp_path: Path, paint: Callable[..., Path], image: str, label: str) -> None:
    paint(tmp_path / "set" / image, 1)
    write(tmp_path / "set" / label)
    (one,) = LabelFolderReader().read(tmp_path / "set")
    assert [pair.label_map for pair in one.images] == [tmp_path / "set" / label]
    assert [defect.kind for defect in one.defects] == ["classes-unnamed"]


def test_folders_of_any_name_are_a_pair(tmp_path: Path, paint: Callable[..., Path]) -> None:
    paint(tmp_path / "photos/a.jpg", 1)
    write(tmp_path / "answers/a.png")
    (one,) = LabelFolderReader().read(tmp_path / "answers", tmp_path / "photos")
    labeled = LabeledImage(one.images[0].path, tmp_path / "answers/a.png", one.images[0].size, (0, 1, 2))
    np.testing.assert_array_equal(read_labels(labeled), LABELS)
    with pytest.raises(InputError, match="the value 2 in 300 pixels, expected 0 to 1"):
        read_labels(replace(labeled, meaning=(0, 1)))


@pytest.mark.parametrize("form", ["gray", "palette", "two bits", "four bits", "one bit"])
def test_the_stored_number_is_read_whatever_its_color(tmp_path: Path, form: str) -> None:
    values = np.arange(4, dtype=np.uint8).repeat(8).reshape(4, 8) % (2 if form == "one bit" else 4)
    image = Image.fromarray(values)
    if form == "palette":
        image = image.convert("P")
        image.putpalette([200, 10, 10, 0, 0, 0, 9, 9, 9, 50, 60, 70])
    if form == "one bit":
        image = Image.fromarray(values.astype(bool))
    path = tmp_path / "a.png"
    if form in ("two bits", "four bits"):
        path.write_bytes(png_of_few_bits(values, 2 if form == "two bits" else 4))
    else:
        image.save(path)
    np.testing.assert_array_equal(read_indices(path), values)


def png_of_few_bits(values: np.ndarray, bits: int) -> bytes:
    """A gray PNG of less than a byte a pixel, which Pillow does not write. Source: the PNG specification."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    planes = np.unpackbits(values[..., None], axis=2)[..., 8 - bits :]
    rows = np.packbits(planes.reshape(len(values), -1), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
