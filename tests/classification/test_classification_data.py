"""Class folders, crops and mixing. Oracles: files written here, closed forms, torchvision's crops by their distribution."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from hrnet.classification.data import (
    Augment,
    ClassificationDataset,
    classification_set,
    cutmix,
    match_classes,
    mixup,
    open_set,
    random_frame,
)
from hrnet.classification.processor import center_frame
from hrnet.classification.spec import ClassificationSpec
from hrnet.errors import InputError
from hrnet.formats.records import ImageRecord
from hrnet.formats.splits import open_splits
from hrnet.io.geometry import warp
from hrnet.nn.spec import hrnet
from hrnet.nn.task import SampleKey

Folders = Callable[..., Path]
PETS = {"cat": 3, "dog": 2}


def spec(*names: str, size: tuple[int, int] = (64, 64), crop_fraction: float = 0.875) -> ClassificationSpec:
    return ClassificationSpec(names, backbone=hrnet(8), input_size=size, crop_fraction=crop_fraction)


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_folders_are_classes(folders: Folders, held_out: str) -> None:
    path = folders({"train": PETS, held_out: {"dog": 2, "cat": 1}})
    train, val = open_set(path, split="train"), open_set(path)
    assert train.class_names == val.class_names == ("cat", "dog")
    for one, expected in ((train, PETS), (val, {"dog": 2, "cat": 1})):
        assert Counter(image.path.parent.name for image in one.images) == expected
        assert all(one.class_names[image.label or 0] == image.path.parent.name for image in one.images)
        assert not one.problems


def test_broken_images_are_named_and_left_out(folders: Folders) -> None:
    path = folders({"train": PETS})
    whole = (path / "train/cat/0.png").read_bytes()
    (path / "train/cat/0.png").write_bytes(whole[: len(whole) // 2])  # its header is whole
    (path / "train/dog/0.png").write_text("no image")
    data = open_set(path, split="train")
    assert len(data.images) == 3
    assert len(data.problems) == 2
    assert all(any(name in text for text in data.problems) for name in ("cat/0.png", "dog/0.png"))


def test_empty_and_unknown_classes_are_one_sentence_each(folders: Folders) -> None:
    path = folders({"train": {**PETS, "emu": 0}, "val": {"cat": 1, "fox": 2}})
    train, val = open_set(path, split="train"), open_set(path)
    assert train.class_names == ("cat", "dog", "emu")
    assert ["emu" in note for note in train.notes] == [False, True]
    (problem,) = val.problems
    assert "fox" in problem
    assert len(val.images) == 1


def test_another_kind_of_data_set_and_an_empty_one_are_refused(folders: Folders, tmp_path: Path) -> None:
    coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "labels.json").write_text(json.dumps(coco))
    with pytest.raises(InputError, match="folder of images for each class"):
        open_splits(tmp_path / "labels.json", None, "classes")
    path = folders({"train": {"cat": 1}})
    (path / "train/cat/0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="no image that can be used"):
        classification_set(open_splits(path, None, "classes")[0])


def test_classes_are_matched_by_name(folders: Folders) -> None:
    data = open_set(folders({"train": {"Cat": 1, "dog": 2, "emu": 1}}), split="train")
    matched = match_classes(data, ("dog", "fox", "cat"))
    assert {image.path.parent.name: image.label for image in matched.images} == {"Cat": 2, "dog": 0}
    note = matched.notes[-1]
    assert "emu" in note
    with pytest.raises(InputError, match="no name in common"):
        match_classes(data, ("fox", "hen", "ibis"))
    # Of a model without names, as the published ones are when their files are read.
    nameless = match_classes(data, ClassificationSpec(num_classes=3).class_names)
    assert [image.label for image in nameless.images] == [image.label for image in data.images]
    assert "no names" in nameless.notes[-1]
    with pytest.raises(InputError, match="no name in common"):
        match_classes(data, ClassificationSpec(num_classes=4).class_names)


def test_crops_are_distributed_as_torchvisions() -> None:
    # Oracle: torchvision's RandomResizedCrop, whose sides are whole pixels: half a pixel of 200 is 0.25 %. Tolerance: the
    # means of 4000 draws with a deviation of at most 0.3 differ by 0.3 * sqrt(2 / 4000) = 0.0067; four times that.
    height, width = 200, 300
    rng = np.random.default_rng(0)
    ours = []
    for _ in range(4000):
        frame = random_frame((height, width), (64, 64), Augment(flip=0), rng)
        low, high = frame.to_source(np.array([[-0.5, -0.5], [63.5, 63.5]])) + 0.5
        assert (low >= -1e-9).all()
        assert (high <= np.array([width, height]) + 1e-9).all()
        ours.append([low[1], low[0], high[1] - low[1], high[0] - low[0]])
    blank = torch.empty(1, height, width, device="meta")
    theirs = [RandomResizedCrop.get_params(blank, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    scale = np.array([height, width, height, width])
    for statistic in (np.mean, np.std):
        one, other = (statistic(np.array(crops, float) / scale, axis=0) for crops in (ours, theirs))
        np.testing.assert_allclose(one, other, atol=0.027)


def test_a_crop_that_never_fits_is_the_middle() -> None:
    # Closed form: of an image 10 times as wide as high, the widest allowed crop of full height.
    frame = random_frame((50, 500), (64, 64), Augment(area=(1, 1), flip=0), np.random.default_rng(0))
    low, high = frame.to_source(np.array([[-0.5, -0.5], [63.5, 63.5]])) + 0.5
    np.testing.assert_allclose(high - low, [50 * 4 / 3, 50])
    assert low[1] == pytest.approx(0)
    assert 0 <= low[0] <= 500 - 50 * 4 / 3


def test_the_whole_image_shifted_and_mirrored() -> None:
    # Closed form: with the whole area and the image's aspect nothing is drawn but the shift.
    augment = Augment(area=(1, 1), aspect=(1, 1), shift=0.25, flip=1)
    image = np.random.default_rng(0).integers(1, 256, (32, 32, 3), np.uint8)
    frame = random_frame((32, 32), (32, 32), augment, np.random.default_rng(3))
    x, y = frame.to_input(np.array([0.0, 0.0]))
    assert 31 - 8 <= x <= 31 + 8
    assert -8 <= y <= 8
    rounded = frame.matrix.round()
    np.testing.assert_array_equal(rounded[:, :2], [[-1, 0], [0, 1]])
    assert np.linalg.det(frame.matrix[:, :2]) == pytest.approx(-1)
    assert (warp(image, frame) == 0).any()  # what lies beyond the image is black


def test_the_middle_of_a_image_is_what_torchvision_resizes_and_crops() -> None:
    # Oracle: Resize(256) and CenterCrop(224) of the published test, by coordinates: 224 of 256 pixels of the shorter side,
    # as many of the other, around the middle.
    frame = center_frame((300, 500), spec("a", "b", size=(224, 224)))
    low, high = frame.to_source(np.array([[-0.5, -0.5], [223.5, 223.5]])) + 0.5
    side = 300 * 224 / 256
    np.testing.assert_allclose(low, [250 - side / 2, 150 - side / 2])
    np.testing.assert_allclose(high, [250 + side / 2, 150 + side / 2])
    whole = center_frame((300, 500), spec("a", "b", size=(224, 224), crop_fraction=1.0))
    np.testing.assert_allclose(whole.to_source(np.array([[-0.5, -0.5]])) + 0.5, [[100, 0]], atol=1e-9)


def test_mixup_is_the_weighted_mean() -> None:
    # Closed form; half a byte is what rounding changes.
    first, second = (np.random.default_rng(seed).integers(0, 256, (8, 9, 3), np.uint8) for seed in (0, 1))
    mixed = mixup(first, second, 0.3)
    np.testing.assert_allclose(mixed, 0.3 * first + 0.7 * second, atol=0.5 + 1e-3)
    np.testing.assert_array_equal(mixup(first, second, 1.0), first)


@pytest.mark.parametrize("middle", [(0.5, 0.5), (0.0, 0.9), (0.99, 0.2)])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.97, 1.0])
def test_cutmix_says_how_much_is_left(share: float, middle: tuple[float, float]) -> None:
    # Oracle: pixels counted. In the middle nothing is cut off: what is left is what was asked for, to half a pixel a side.
    first, second = np.zeros((40, 60, 3), np.uint8), np.ones((40, 60, 3), np.uint8)
    mixed, left = cutmix(first, second, share, middle)
    assert left == pytest.approx(1 - mixed.mean(), abs=1e-12)
    assert not first.any()
    if middle == (0.5, 0.5):
        assert left == pytest.approx(share, abs=0.5 * 2 * (1 / 40 + 1 / 60))
    else:
        assert left >= share - 0.05


def _images(folders: Folders) -> tuple[tuple[ImageRecord, ...], ClassificationSpec]:
    data = open_set(folders({"train": {"cat": 4, "dog": 4}}), split="train")
    return data.images, spec(*data.class_names)


def test_samples_depend_on_their_draw_alone(folders: Folders) -> None:
    images, small = _images(folders)
    augment = Augment(color=0.2, mixup=0.4, cutmix=1.0)
    one, other = (ClassificationDataset(images, small, augment, seed=3) for _ in range(2))
    for draw in (SampleKey(0, 1), SampleKey(1, 1), SampleKey(0, 5)):
        first = one[draw]
        second = other[draw]
        np.testing.assert_array_equal(first.image, second.image)
        assert {name: value.item() for name, value in first.targets.items()} == {
            name: value.item() for name, value in second.targets.items()
        }
    assert (one[SampleKey(0, 1)].image != one[SampleKey(1, 1)].image).any()
    assert (
        ClassificationDataset(images, small, augment, seed=4)[SampleKey(0, 1)].image != one[SampleKey(0, 1)].image
    ).any()


def test_mixed_targets_say_what_is_in_the_sample(tmp_path: Path) -> None:
    # Closed form: white and black images: the mean of the pixels is the weight of white. Tolerance: half a byte. (Crops
    # are reduced, not enlarged, so that no pixel is read between the outermost ones and the black beyond.)
    for name, value in (("black", 0), ("white", 255)):
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (200, 200), (value,) * 3).save(folder / f"{number}.png")
    data = open_set(tmp_path, split="train")
    samples = ClassificationDataset(
        data.images, spec(*data.class_names), Augment((0.5, 1.0), mixup=1.0, cutmix=1.0, mixed=0.7)
    )
    kinds = Counter()
    for epoch in range(20):
        for index in range(6):
            sample = samples[SampleKey(epoch, index)]
            label, other, share = (sample.targets[name].item() for name in ("labels", "second_labels", "weights"))
            assert label == data.images[index].label
            white = share * label + (1 - share) * other
            assert sample.image.mean() / 255 == pytest.approx(white, abs=0.5 / 255 + 1e-4)
            kinds["alone" if share == 1 else "two" if len(np.unique(sample.image)) == 2 else "blend"] += 1
    assert min(kinds.values()) > 5
    assert len(kinds) == 3


@pytest.mark.parametrize(
    "wrong", [{"area": (0.0, 1.0)}, {"area": (0.5, 1.5)}, {"aspect": (2.0, 1.0)}, {"mixup": -1.0}, {"mixed": 1.5}]
)
def test_impossible_changes_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Augment(**wrong)  # type: ignore[arg-type]  # wrong values on purpose
