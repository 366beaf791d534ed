"""The published data sets in their own folders. Oracle: the published lists of numbers, repeated here."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet.errors import InputError
from hrnet.formats.cityscapes import cityscapes_ids
from hrnet.formats.label_maps import read_labels
from hrnet.formats.pascal_context import CONTEXT_59
from hrnet.formats.splits import Split
from hrnet.segmentation.data import match_classes, open_set

CITYSCAPES = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14,
              28: 15, 31: 16, 32: 17, 33: 18}  # fmt: skip
CONTEXT = [0, 2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158,
           159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368,
           397, 415, 416, 420, 424, 427, 440, 445, 454, 458]  # fmt: skip
NEVER_IN_STUFF = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}


def stuff_label(number: int) -> int:
    if number == 0 or number in NEVER_IN_STUFF:
        return 255
    return number - 1 - sum(never < number for never in NEVER_IN_STUFF)


def same(number: int) -> int:
    return number


def context_label(number: int) -> int:
    return CONTEXT.index(number) if number in CONTEXT else 0


Published = Callable[[str, Path], np.ndarray]
SETS: list[tuple[str, Callable[[int], int], int]] = [
    ("cityscapes", lambda number: CITYSCAPES.get(number, 255), 19),
    ("cityscapes train ids", same, 19),
    ("lip", same, 20),
    ("context mat", context_label, 60),
    ("context png", context_label, 60),
    ("context ready", same, 60),
    ("stuff mat", stuff_label, 171),
    ("stuff png", stuff_label, 171),
    ("stuff train ids", same, 171),
    ("ade20k", lambda number: 255 if number == 0 else number - 1, 150),
]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("name", "label", "classes"), SETS, ids=[one[0] for one in SETS])
def test_a_published_set_is_read_as_it_comes(
    tmp_path: Path, published: Published, name: str, label: Callable[[int], int], classes: int, split: Split
) -> None:
    values = published(name, tmp_path)
    data = open_set(tmp_path, split=split)
    assert len(data.class_names) == classes
    assert len(data.images) == 2
    assert not data.problems
    expected = np.array([label(number) for number in values.ravel().tolist()]).reshape(values.shape)
    for one in data.images:
        found = read_labels(one)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)
    other = open_set(tmp_path, split="val" if split == "train" else "train")
    assert not {one.path for one in data.images} & {one.path for one in other.images}


def test_without_background_context_ignores_it_and_counts_from_nothing(tmp_path: Path, published: Published) -> None:
    """Oracle: the 60 labels less one, computed with room for the -1, which is ignored."""
    values = published("context mat", tmp_path)
    data = match_classes(open_set(tmp_path, split="train"), CONTEXT_59)
    assert data.class_names == CONTEXT_59
    sixty = np.array([CONTEXT.index(n) if n in CONTEXT else 0 for n in values.ravel().tolist()]).reshape(values.shape)
    expected = np.where(sixty == 0, 255, sixty - 1)
    np.testing.assert_array_equal(read_labels(data.images[0]), expected)


def test_lip_knows_left_from_right(tmp_path: Path, published: Published) -> None:
    published("lip", tmp_path)
    data = open_set(tmp_path, split="train")
    assert [(data.class_names[a], data.class_names[b]) for a, b in data.pairs] == [
        ("left arm", "right arm"),
        ("left leg", "right leg"),
        ("left shoe", "right shoe"),
    ]


def test_a_submission_has_the_numbers_of_the_server() -> None:
    labels = np.array([[*range(19), 255]], np.uint8)
    back = {label: number for number, label in CITYSCAPES.items()} | {255: 0}
    np.testing.assert_array_equal(cityscapes_ids(labels), [[back[label] for label in labels[0].tolist()]])


@pytest.mark.parametrize(
    ("name", "images", "annotations", "first"),
    [
        ("ade20k", "images/validation", "annotations/validation", "ADE_val"),
        ("cityscapes", "leftImg8bit/val", "gtFine/val", "lindau"),
        ("cityscapes", "leftImg8bit/train/aachen", "gtFine/train/aachen", "aachen"),
    ],
)
def test_two_of_its_folders_mean_the_same(
    tmp_path: Path, published: Published, name: str, images: str, annotations: str, first: str
) -> None:
    """As plain label maps their numbers would be other classes, which no error would tell."""
    published(name, tmp_path)
    data = open_set(tmp_path / images, tmp_path / annotations, "val")
    assert len(data.images) == 2
    assert all(one.path.name.startswith(first) for one in data.images)
    assert data.images == open_set(tmp_path, split="train" if "train" in images else "val").images
    around = tmp_path / images / ".." / Path(images).name
    assert open_set(around, tmp_path / annotations, "val").images == data.images


def test_what_is_missing_is_named(tmp_path: Path, published: Published) -> None:
    published("cityscapes", tmp_path)
    (tmp_path / "gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png").unlink()
    data = open_set(tmp_path, split="train")
    assert len(data.images) == 1
    assert "aachen_000001_000019_leftImg8bit.png has no labels" in data.problems[0]
    with pytest.raises(InputError, match="has no split called test"):
        open_set(tmp_path, split="test")


def test_a_number_that_is_no_label_is_named(tmp_path: Path, published: Published) -> None:
    values = published("ade20k", tmp_path)
    Image.fromarray(values + np.uint8(4)).save(tmp_path / "annotations/training/ADE_train_00000001.png")
    data = open_set(tmp_path, split="train")
    assert len(data.images) == 1
    assert "ADE_train_00000001.png has the value 15" in data.problems[0]


def test_a_list_is_asked_for(tmp_path: Path, published: Published) -> None:
    published("context mat", tmp_path)
    (tmp_path / "VOC2010/ImageSets/SegmentationContext/val.txt").unlink()
    with pytest.raises(InputError, match=r"there is no list of val; write .*val\.txt"):
        open_set(tmp_path)


def test_a_damaged_matlab_file_is_named(tmp_path: Path, published: Published) -> None:
    published("stuff mat", tmp_path)
    next((tmp_path / "annotations").glob("*0_train.mat")).write_bytes(b"MATLAB 5.0" * 30)
    data = open_set(tmp_path, split="train")
    assert len(data.images) == 1
    assert "is no MATLAB file that can be read" in data.problems[0]
