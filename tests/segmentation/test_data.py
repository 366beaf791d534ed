"""Reading label maps, and what augmentation does to them. Oracles: the numbers that were written, closed forms."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet.errors import InputError
from hrnet.formats.label_maps import LabeledImage, read_labels
from hrnet.io.geometry import Frame, flip_order, warp_labels
from hrnet.nn.task import SampleKey
from hrnet.segmentation.data import (
    Augment,
    SegmentationDataset,
    match_classes,
    open_set,
    random_frame,
)
from hrnet.segmentation.spec import SegmentationSpec

LABELS = np.tile(np.array([0, 1, 2, 255], np.uint8).repeat(10), (30, 1))


def write(path: Path, values: np.ndarray = LABELS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def make(folder: Path) -> Path:
    """Train and val of two images each, of sky, left wing and right wing."""
    rng = np.random.default_rng(0)
    for part, names in {"train": "ab", "val": "cd"}.items():
        for name in names:
            write(folder / f"images/{part}/{name}.jpg", rng.integers(0, 256, (*LABELS.shape, 3), np.uint8))
            write(folder / f"labels/{part}/{name}.png")
    (folder / "classes.txt").write_text("sky\nleft wing\nright wing\n")
    return folder


@pytest.mark.parametrize("how", ["whole", "both folders", "one part"])
def test_a_folder_of_images_and_labels_is_read(tmp_path: Path, how: str) -> None:
    folder = make(tmp_path)
    images, labels = folder / "images", folder / "labels"
    arguments = {
        "whole": (folder, None),
        "both folders": (images, labels),
        "one part": (images / "val", labels / "val"),
    }[how]
    data = open_set(*arguments)
    assert data.class_names == ("sky", "left wing", "right wing")
    assert data.pairs == ((1, 2),)
    assert [one.path.name for one in data.images] == ["c.jpg", "d.jpg"]
    assert data.images[0].size == LABELS.shape
    assert not data.problems
    np.testing.assert_array_equal(read_labels(data.images[0]), LABELS)


def test_numbers_are_names_where_there_are_none(tmp_path: Path) -> None:
    (make(tmp_path) / "classes.txt").unlink()
    data = open_set(tmp_path, split="train")
    assert data.class_names == ("0", "1", "2")
    assert not data.named
    assert "no classes.txt" in data.notes[1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.where(LABELS == 1, 9, LABELS).astype(np.uint8), "the value 9 in 300 pixels, expected 0 to 2 or 255"),
        (LABELS.astype(np.uint16) + 300, "the value 300"),
        (LABELS[:20], "has 40 x 20 pixels"),
        (np.stack([LABELS] * 3, 2), "stores colors"),
        (None, "no labels a.png"),
    ],
)
def test_wrong_labels_are_named_and_left_out(tmp_path: Path, values: np.ndarray | None, words: str) -> None:
    path = make(tmp_path) / "labels/train/a.png"
    path.unlink() if values is None else write(path, values)
    data = open_set(tmp_path, split="train")
    assert [one.path.name for one in data.images] == ["b.jpg"]
    assert len(data.problems) == 1
    assert words in data.problems[0]
    assert "a." in data.problems[0]


def test_masks_of_black_and_white_are_explained(tmp_path: Path) -> None:
    make(tmp_path)
    for name in ("train/a", "train/b", "val/c", "val/d"):
        write(tmp_path / f"labels/{name}.png", np.where(LABELS == 1, 255, 0).astype(np.uint8))
    with pytest.raises(InputError, match="holds only 0 and 255"):
        open_set(tmp_path, split="train")


def test_nothing_usable_is_one_sentence(tmp_path: Path) -> None:
    make(tmp_path)
    for name in "ab":
        write(tmp_path / f"labels/train/{name}.png", LABELS[:9])
    with pytest.raises(InputError, match=r"no image that can be used; the first problem: .*a\.png"):
        open_set(tmp_path, split="train")


def test_numbers_get_their_meaning(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2], [3, 255, 0]], np.uint8)
    one = LabeledImage(tmp_path / "a.jpg", write(tmp_path / "a.png", values), (2, 3), (255, 1, 0, 255))
    np.testing.assert_array_equal(read_labels(one), [[255, 1, 0], [255, 255, 255]])
    wide = LabeledImage(
        tmp_path / "a.jpg", write(tmp_path / "b.png", values.astype(np.uint16) + 200), (2, 3), (7,) * 456
    )
    # 455 is the last of 456 numbers.
    np.testing.assert_array_equal(read_labels(wide), np.full((2, 3), 7))
    write(tmp_path / "b.png", values.astype(np.uint16) + 202)
    with pytest.raises(InputError, match="the value 457 in 1 pixels, expected 0 to 455"):
        read_labels(wide)


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    data = match_classes(open_set(make(tmp_path), split="train"), ("Right_Wing", "tail", "LeftWing"))
    # Sky is unknown to the model.
    expected = np.array([255, 2, 0, 255], np.uint8)[np.minimum(LABELS, 3)]
    np.testing.assert_array_equal(read_labels(data.images[0]), expected)
    assert data.pairs == ((2, 0),)
    assert "does not know sky" in data.notes[-1]
    with pytest.raises(InputError, match="no name in common"):
        match_classes(data, ("a", "b", "c"))


def test_classes_without_names_are_matched_by_place(tmp_path: Path) -> None:
    (make(tmp_path) / "classes.txt").unlink()
    data = open_set(tmp_path, split="train")
    np.testing.assert_array_equal(read_labels(match_classes(data, tuple("abcd")).images[0]), LABELS)
    with pytest.raises(InputError, match="3 classes have no names, and the model has only 2"):
        match_classes(data, ("a", "b"))


def test_real_sets_are_read(shared: Path) -> None:
    data = open_set(shared / "data/camvid/images/test", shared / "data/camvid/labels/test")
    assert (len(data.images), len(data.class_names), data.problems) == (233, 11, ())
    assert open_set(shared / "data/ccp").class_names[0] == "background"


PALETTE = np.array([[250, 30, 60], [20, 200, 90], [70, 40, 240]], np.uint8)
SPEC = SegmentationSpec(("sky", "left wing", "right wing"), ((1, 2),), input_size=(96, 96))


def painted(folder: Path, size: tuple[int, int] = (96, 72)) -> LabeledImage:
    """An image in which each label has a color of its own, in blocks of 12 pixels."""
    blocks = np.random.default_rng(1).integers(0, 3, (size[0] // 12, size[1] // 12), np.uint8)
    labels = np.kron(blocks, np.ones((12, 12), np.uint8))
    return LabeledImage(write(folder / "a.png", PALETTE[labels]), write(folder / "labels.png", labels), size, (0, 1, 2))


@pytest.mark.parametrize("rotation", [0.0, 20.0])
def test_labels_are_those_of_the_nearest_pixel(rotation: float) -> None:
    """Oracle: every pixel of the input alone, by the definition. OpenCV counts in 1/1024 of a pixel and adds two such
    roundings, so that what lies closer to the border of two pixels may go to either."""
    labels = np.random.default_rng(0).integers(0, 200, (40, 31), np.uint8)
    rng = np.random.default_rng(2)
    for _ in range(20):
        augment = Augment(crop=(48, 64), rotation=rotation)
        frame = random_frame((40, 31), SPEC, augment, rng)
        found = warp_labels(labels, frame, 255)
        xs, ys = np.meshgrid(np.arange(64), np.arange(48))
        points = frame.to_source(np.stack([xs, ys], -1).astype(float))
        sure = (np.abs(points - np.floor(points) - 0.5) > 3 / 1024).all(-1)
        x, y = np.moveaxis(np.floor(points + 0.5).astype(int), -1, 0)
        inside = (x >= 0) & (x < 31) & (y >= 0) & (y < 40)
        expected = np.where(inside, labels[np.clip(y, 0, 39), np.clip(x, 0, 30)], 255)
        assert sure.mean() > 0.4
        np.testing.assert_array_equal(found[sure], expected[sure])


def test_scales_crops_and_mirroring_are_the_published_ones() -> None:
    """Oracle: 17 factors from 0.5 to 2.1, every corner that leaves the crop inside, half of it mirrored. Of 3400 draws
    each factor gets 200 on average, with a deviation of 14."""
    rng, augment = np.random.default_rng(0), Augment(crop=(48, 80))
    frames = [random_frame((72, 96), SPEC, augment, rng) for _ in range(3400)]
    scales, counts = np.unique([round(frame.scale, 6) for frame in frames], return_counts=True)
    # The canvas of 96 shows the 96 wide image as it is; sides are rounded to whole pixels, the width of 96 by a tenth.
    assert len(scales) == 17
    np.testing.assert_allclose(scales, np.arange(5, 22) / 10, atol=0.006)
    assert counts.min() > 200 - 5 * 14
    assert counts.max() < 200 + 5 * 14
    mirrored = np.array([np.linalg.det(frame.matrix[:, :2]) < 0 for frame in frames])
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(3400)
    for frame in frames:
        assert frame.size == (48, 80)
        left, top, right, bottom = edges(frame)
        height, width = np.round(np.array([right - left, bottom - top]))[::-1]
        # Larger than the crop: it covers it. Smaller: it lies at the top, and at the left before it is mirrored.
        if height >= 48:
            assert top < 0.01
            assert bottom > 48 - 0.01
        else:
            assert abs(top) < 0.01
        side = 80 - right if np.linalg.det(frame.matrix[:, :2]) < 0 else left
        assert side < 0.01 if width >= 80 else abs(side) < 0.01
    corners = {round(-edges(frame)[1]) for frame in frames if frame.scale > 2.05}
    assert (min(corners), max(corners)) == (0, round(72 * 2.1) - 48)


def edges(frame: Frame) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the image, counted from the outer edges of the input."""
    height, width = frame.source_size
    corners = frame.to_input(np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]])) + 0.5
    return (*corners.min(0), *corners.max(0))


@pytest.mark.parametrize("rotation", [0.0, 15.0])
def test_image_and_labels_stay_together(tmp_path: Path, rotation: float) -> None:
    """Oracle: inside a block of one label the image has its color; beyond the image it is black."""
    one = painted(tmp_path)
    samples = SegmentationDataset([one], SPEC, Augment(crop=(64, 80), rotation=rotation))
    colors = np.concatenate([PALETTE, np.zeros((253, 3), np.uint8)])
    outside = flipped = 0
    for epoch in range(30):
        sample = samples[SampleKey(epoch, 0)]
        labels = sample.targets["labels"]
        assert (labels.shape, labels.dtype, sample.image.shape) == ((64, 80), np.uint8, (64, 80, 3))
        mirrored = np.linalg.det(sample.frame.matrix[:, :2]) < 0
        flipped += mirrored
        # In the flipped image left wings are right ones.
        names = np.array(flip_order(256, SPEC.pairs))[labels] if mirrored else labels
        same = np.ones(labels.shape, bool)
        for shift in np.ndindex(5, 5):
            same &= np.roll(labels, np.array(shift) - 2, (0, 1)) == labels
        same[:2] = same[-2:] = same[:, :2] = same[:, -2:] = False
        # Interpolated between equal values; a unit is OpenCV's rounding.
        assert np.abs(sample.image[same].astype(int) - colors[names][same]).max() <= 1
        outside += int((labels == 255).sum())
    assert 5 < flipped < 25
    assert outside


def test_a_factor_of_one_changes_nothing(tmp_path: Path) -> None:
    one = painted(tmp_path)
    augment = Augment(scale=(1.0, 1.0), flip=0)
    sample = SegmentationDataset([one], SPEC, augment)[SampleKey(3, 0)]
    np.testing.assert_array_equal(sample.targets["labels"][:, :72], read_labels(one))
    assert (sample.targets["labels"][:, 72:] == 255).all()
    np.testing.assert_array_equal(sample.image[:, :72], PALETTE[read_labels(one)])


def test_what_is_drawn_follows_from_the_draw_alone(tmp_path: Path) -> None:
    augment = Augment(color=0.2, rotation=5, scale=(0.7, 1.4), scale_step=0)
    samples = [SegmentationDataset([painted(tmp_path)], SPEC, augment, seed) for seed in (0, 0, 1)]
    first = samples[0][SampleKey(4, 0)]
    samples[1][SampleKey(0, 0)]
    again, other = samples[1][SampleKey(4, 0)], samples[2][SampleKey(4, 0)]
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.targets["labels"], again.targets["labels"])
    assert not np.array_equal(first.image, other.image)


def test_scored_images_are_whole_and_have_no_target(tmp_path: Path) -> None:
    sample = SegmentationDataset([painted(tmp_path)], SPEC, Augment(crop=(32, 32), color=0.5))[0]
    assert (sample.image.shape, sample.targets, sample.index) == ((96, 96, 3), {}, 0)
    np.testing.assert_array_equal(sample.image[:, :72], PALETTE[read_labels(painted(tmp_path))])


def test_a_image_labeled_as_it_is_stored_is_read_so(tmp_path: Path) -> None:
    one = painted(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    Image.open(one.path).save(tmp_path / "images/a.png", exif=exif)
    write(tmp_path / "labels/a.png", read_labels(one))
    (image,) = open_set(tmp_path / "images", tmp_path / "labels").images
    assert image.size == (96, 72)
    np.testing.assert_array_equal(
        SegmentationDataset([image], SPEC, Augment())[0].image[:, :72], PALETTE[read_labels(one)]
    )
