"""Reading label pictures, and what augmentation does to them. Oracles: the numbers that were written, closed forms."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet.errors import InputError
from hrnet.segmentation.data import LabelledPicture, match_classes, read_labels, read_segmentation

LABELS = np.tile(np.array([0, 1, 2, 255], np.uint8).repeat(10), (30, 1))


def write(path: Path, values: np.ndarray = LABELS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def make(folder: Path) -> Path:
    """Train and val of two pictures each, of sky, left wing and right wing."""
    rng = np.random.default_rng(0)
    for part, names in {"train": "ab", "val": "cd"}.items():
        for name in names:
            write(folder / f"images/{part}/{name}.jpg", rng.integers(0, 256, (*LABELS.shape, 3), np.uint8))
            write(folder / f"labels/{part}/{name}.png")
    (folder / "classes.txt").write_text("sky\nleft wing\nright wing\n")
    return folder


@pytest.mark.parametrize("how", ["whole", "both folders", "one part"])
def test_a_folder_of_pictures_and_labels_is_read(tmp_path: Path, how: str) -> None:
    folder = make(tmp_path)
    images, labels = folder / "images", folder / "labels"
    arguments = {
        "whole": (folder, None),
        "both folders": (images, labels),
        "one part": (images / "val", labels / "val"),
    }[how]
    data = read_segmentation(*arguments, part="val")
    assert data.class_names == ("sky", "left wing", "right wing")
    assert data.pairs == ((1, 2),)
    assert [one.path.name for one in data.pictures] == ["c.jpg", "d.jpg"]
    assert data.pictures[0].size == LABELS.shape
    assert not data.problems
    np.testing.assert_array_equal(read_labels(data.pictures[0]), LABELS)


def test_numbers_are_names_where_there_are_none(tmp_path: Path) -> None:
    (make(tmp_path) / "classes.txt").unlink()
    data = read_segmentation(tmp_path)
    assert data.class_names == ("0", "1", "2")
    assert not data.named
    assert "no classes.txt" in data.notes[0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.where(LABELS == 1, 9, LABELS).astype(np.uint8), "the value 9 in 300 pixels, expected 0 to 2 or 255"),
        (LABELS.astype(np.uint16) + 300, "the value 300"),
        (LABELS[:20], "has 40 x 20 pixels"),
        (np.stack([LABELS] * 3, 2), "stores colours"),
        (None, "no labels a.png"),
    ],
)
def test_wrong_labels_are_named_and_left_out(tmp_path: Path, values: np.ndarray | None, words: str) -> None:
    path = make(tmp_path) / "labels/train/a.png"
    path.unlink() if values is None else write(path, values)
    data = read_segmentation(tmp_path)
    assert [one.path.name for one in data.pictures] == ["b.jpg"]
    assert len(data.problems) == 1
    assert words in data.problems[0]
    assert "a." in data.problems[0]


def test_masks_of_black_and_white_are_explained(tmp_path: Path) -> None:
    make(tmp_path)
    for name in "ab":
        write(tmp_path / f"labels/train/{name}.png", np.where(LABELS == 1, 255, 0).astype(np.uint8))
    with pytest.raises(InputError, match="no values but 0 and 255"):
        read_segmentation(tmp_path)


def test_nothing_usable_is_one_sentence(tmp_path: Path) -> None:
    make(tmp_path)
    for name in "ab":
        write(tmp_path / f"labels/train/{name}.png", LABELS[:9])
    with pytest.raises(InputError, match=r"no labelled picture that can be used; the first problem: .*a\.png"):
        read_segmentation(tmp_path)


def test_numbers_get_their_meaning(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2], [3, 255, 0]], np.uint8)
    one = LabelledPicture(tmp_path / "a.jpg", write(tmp_path / "a.png", values), (2, 3), (255, 1, 0, 255))
    np.testing.assert_array_equal(read_labels(one), [[255, 1, 0], [255, 255, 255]])
    wide = LabelledPicture(
        tmp_path / "a.jpg", write(tmp_path / "b.png", values.astype(np.uint16) + 200), (2, 3), (7,) * 456
    )
    # 455 is the last of 456 numbers.
    np.testing.assert_array_equal(read_labels(wide), np.full((2, 3), 7))
    write(tmp_path / "b.png", values.astype(np.uint16) + 202)
    with pytest.raises(InputError, match="the value 457 in 1 pixels, expected 0 to 455"):
        read_labels(wide)


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    data = match_classes(read_segmentation(make(tmp_path)), ("Right_Wing", "tail", "LeftWing"))
    # Sky is unknown to the model.
    expected = np.array([255, 2, 0, 255], np.uint8)[np.minimum(LABELS, 3)]
    np.testing.assert_array_equal(read_labels(data.pictures[0]), expected)
    assert data.pairs == ((2, 0),)
    assert "does not know sky" in data.notes[-1]
    with pytest.raises(InputError, match="no name in common"):
        match_classes(data, ("a", "b", "c"))


def test_classes_without_names_are_matched_by_place(tmp_path: Path) -> None:
    (make(tmp_path) / "classes.txt").unlink()
    data = read_segmentation(tmp_path)
    np.testing.assert_array_equal(read_labels(match_classes(data, tuple("abcd")).pictures[0]), LABELS)
    with pytest.raises(InputError, match="3 classes have no names, and the model knows 2"):
        match_classes(data, ("a", "b"))


def test_real_sets_are_read(shared: Path) -> None:
    data = read_segmentation(shared / "data/camvid/images/test", shared / "data/camvid/labels/test")
    assert (len(data.pictures), len(data.class_names), data.problems) == (233, 11, ())
    assert read_segmentation(shared / "data/ccp", part="val").class_names[0] == "background"
