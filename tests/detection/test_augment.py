"""What augmentation does to images, boxes and masks.

Oracle: the image itself. Every object is painted in a color of its own, so that the input shows where it is; a label may
differ from that by the pixels at its border, which bilinear reading mixes. Other oracles are closed forms.
"""

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hrnet.detection.augment import Augment, View, augmented, paste_objects, random_frame, targets_of
from hrnet.detection.data import DetectionDataset
from hrnet.detection.processor import boxes_to_input, image_frame
from hrnet.detection.spec import DetectionSpec, faster_rcnn, hybrid_task_cascade, mask_rcnn
from hrnet.engine.recipe import SMALL_BACKBONE
from hrnet.formats.records import ImageRecord, Object, Runs
from hrnet.inference.processor import MEAN_COLOR
from hrnet.nn.task import SampleKey

COLORS = np.array(
    [[255, 0, 0], [0, 0, 255], [0, 255, 0], [255, 255, 0], [255, 0, 255], [0, 255, 255], [0, 0, 0], MEAN_COLOR]
)
NAMES = ("a", "b", "c", "d", "e", "f")
SIZE = (70, 90)
SPEC = DetectionSpec(NAMES, detector=mask_rcnn(), backbone=SMALL_BACKBONE, input_size=(64, 96), fit="canvas")
# Straight sides and cut corners, so that the bounds are as sharp as the box.
SHAPE = np.array([[0.2, 0], [0.8, 0], [1, 0.3], [1, 0.9], [0.6, 1], [0, 1], [0, 0.4]])


def shape(label: int, box: tuple[int, int, int, int], how: str = "polygons") -> tuple[Object, np.ndarray]:
    """An object with its mask."""
    x1, y1, x2, y2 = box
    polygon = np.array([x1, y1]) + SHAPE * [x2 - x1, y2 - y1]
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    mask = cv2.fillPoly(np.zeros((SIZE[0] * 8, SIZE[1] * 8), np.uint8), [np.round(polygon * 8).astype(np.int32)], 1)
    mask = cv2.resize(mask.astype(np.float32), SIZE[::-1], interpolation=cv2.INTER_AREA) >= 0.5
    mask &= (rows > y1) & (rows < y2) & (columns > x1) & (columns < x2)
    thing = Object(label, f"object {label}", box=np.array(box, float))
    if how == "polygons":
        return replace(thing, polygons=(polygon,)), mask
    if how == "runs":
        values = np.concatenate([[0], mask.T.ravel().astype(int)])
        edges = np.flatnonzero(np.diff(values)).tolist()
        return replace(thing, runs=Runs(SIZE, np.diff([0, *edges, mask.size]))), mask
    return thing, mask


def image(folder: Path, number: int, things: list[tuple[Object, np.ndarray]]) -> ImageRecord:
    image = np.zeros((*SIZE, 3), np.uint8)
    for thing, mask in things:
        image[mask] = COLORS[thing.label]
    path = folder / f"{number}.png"
    Image.fromarray(image).save(path)
    return ImageRecord(path, SIZE, number, objects=tuple(thing for thing, _ in things))


def test_label_maps_follow_their_images(tmp_path: Path) -> None:
    # Oracle: the image, every pixel of which has the color of its class, in a mosaic with pasted objects.
    rng = np.random.default_rng(0)
    spec = replace(SPEC, detector=replace(hybrid_task_cascade(), semantic_classes=8))
    made: list[ImageRecord] = []
    for number in range(4):
        classes = rng.integers(0, 7, (7, 9), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
        thing, mask = shape(number, (20, 20, 60, 50))
        classes[mask] = number
        Image.fromarray(COLORS[classes].astype(np.uint8)).save(tmp_path / f"{number}.png")
        Image.fromarray(classes).save(tmp_path / f"{number}-map.png")
        path = None if number == 3 else tmp_path / f"{number}-map.png"
        made.append(ImageRecord(tmp_path / f"{number}.png", SIZE, number, objects=(thing,), label_map=path))
    augment = Augment(scale=(1.0, 2.0), mosaic=0.5, paste=0.5)
    known = 0.0
    for seed in range(20):
        view = augmented(made, seed % 3, spec, augment, np.random.default_rng(seed))
        assert view.stuff is not None
        seen = view.stuff != 255
        known += seen.mean() / 20
        # Bilinear reading mixes colors where classes meet: of squares of 10 pixels and more at a scale of 0.4 to 2.
        assert (painted(view) == view.stuff)[seen].mean() > 0.75
        target = targets_of(view, spec, stuff=True)["stuff"]
        assert target.shape == (8, 12)
        assert (target.astype(int) == (view.stuff[4::8, 4::8].astype(int) + 1) % 256).all()
    assert 0.5 < known < 1
    plain = augmented([replace(one, label_map=None) for one in made], 0, spec, augment, rng)
    assert targets_of(plain, spec, stuff=True)["stuff"].max() == 0


@pytest.fixture
def images(tmp_path: Path) -> list[ImageRecord]:
    """Six images, two objects each, and one without."""
    boxes = [
        ((8, 6, 36, 30), (45, 30, 85, 66)),
        ((20, 20, 60, 50), (66, 5, 88, 60)),
        ((0, 0, 40, 40), (50, 34, 90, 70)),
    ]
    made = [
        image(tmp_path, 2 * row + half, [shape((row + half) % 6, one), shape((row + 3 + half) % 6, other, "runs")])
        for row, (one, other) in enumerate(boxes)
        for half in (0, 1)
    ]
    return [*made, image(tmp_path, 6, [])]


def painted(view: View) -> np.ndarray:
    """The label of the color that each pixel is nearest to; 6 and 7 for none."""
    return np.square(view.image[:, :, None].astype(int) - COLORS).sum(-1).argmin(-1)


def check(view: View) -> None:
    """Compare the labels with the image."""
    shown = painted(view)
    size = shown.shape
    # A slanted side of pixels is off by up to a pixel of the image, and so wide is what mixes two colors.
    reach = math.ceil(max([view.frame.scale, 1.0, *(one.frame.scale for one in view.objects)]))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    for label in range(len(NAMES)):
        inner, outer = np.zeros(size, bool), np.zeros(size, bool)
        for one in view.objects:
            if one.annotation.label == label and min(one.box[2:] - one.box[:2]) > 0.5:
                mask = one.pixels(size).astype(np.uint8)
                inner |= np.asarray(cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)) > 0
                outer |= np.asarray(cv2.dilate(mask, kernel)) > 0
        found = shown == label
        assert (found >= inner).all()
        assert (found <= outer).all()
    for one in view.objects:
        if one.ignored:
            continue
        rows, columns = np.nonzero(one.pixels(size))
        bounds = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        # A pixel is the object's where its center is: up to half a pixel on each side, and another half where the polygon
        # touches its box in a short side only, or a cut took the long one.
        assert np.abs(bounds - one.box).max() <= 6 if one.mask is None else np.abs(bounds - one.box).max() <= 1
        assert (one.box >= 0).all()
        assert (one.box <= np.tile(size[::-1], 2)).all()


AUGMENTS = {
    "published": Augment(),
    "sizes": Augment(sizes=((48, 64), (64, 64), (96, 128))),
    "scale": Augment(scale=(0.4, 2.5)),
    "mosaic": Augment(scale=(0.8, 1.6), mosaic=1.0),
    "paste": Augment(scale=(0.7, 1.5), paste=1.0),
    "all": Augment(scale=(0.5, 1.5), mosaic=0.5, paste=0.5, antialias=True),
}


@pytest.mark.parametrize("name", AUGMENTS)
def test_labels_match_the_image(images: list[ImageRecord], name: str) -> None:
    objects = 0
    for seed in range(30):
        view = augmented(images, seed % len(images), SPEC, AUGMENTS[name], np.random.default_rng(seed))
        check(view)
        objects += sum(not one.ignored for one in view.objects)
    assert objects > 20


@pytest.mark.parametrize("fit", ["canvas", "sides"])
def test_boxes_are_clipped_and_kept_by_their_visible_fraction(images: list[ImageRecord], fit: str) -> None:
    """Oracle: the corners of the labeled box through the matrix, and the area of what lies in the input."""
    spec = replace(SPEC, fit=fit, detector=faster_rcnn())
    augment = Augment(scale=(0.5, 3.0), keep=0.4)
    lost = ignored = 0
    for seed in range(60):
        view = augmented(images, seed % 6, spec, augment, np.random.default_rng(seed))
        height, width = view.image.shape[:2]
        assert view.frame.size == (height, width)
        seen = {one.annotation.place: one for one in view.objects}
        for thing in images[seed % 6].objects:
            assert thing.box is not None
            corners = thing.box.reshape(2, 2) - 0.5
            (xa, ya), (xb, yb) = corners @ view.frame.matrix[:, :2].T + view.frame.matrix[:, 2] + 0.5
            whole = np.array([min(xa, xb), ya, max(xa, xb), yb])
            cut = np.clip(whole, 0, [width, height, width, height])
            sides = cut[2:] - cut[:2]
            if min(sides) <= 0:
                lost += 1
                assert thing.place not in seen
                continue
            one = seen.pop(thing.place)
            np.testing.assert_allclose(one.box, cut, atol=1e-9)  # the same sums in another order
            share = sides.prod() / (whole[2:] - whole[:2]).prod()
            assert one.ignored == (share < 0.4 or min(sides) < 1)
            ignored += one.ignored
        assert not seen
    assert min(lost, ignored) > 5


def test_without_augmentation_the_sample_is_the_plain_image(images: list[ImageRecord]) -> None:
    data = DetectionDataset(images, SPEC, Augment(flip=0.0))
    plain, sample = data[1], data[SampleKey(3, 1)]
    np.testing.assert_array_equal(sample.image, plain.image)
    np.testing.assert_array_equal(sample.frame.matrix, plain.frame.matrix)
    assert not plain.targets
    assert plain.frame.size == (64, 96)
    assert data.describe(1).endswith("1.png")


def test_a_flipped_sample_is_the_flipped_image(images: list[ImageRecord]) -> None:
    """Oracle: numpy's flip, exact where nothing is scaled; of the mask crops too."""
    spec = replace(SPEC, input_size=(96, 96))
    plain, flipped = (
        augmented(images, 2, replace(spec, input_size=SIZE), Augment(flip=flip), np.random.default_rng(0))
        for flip in (0.0, 1.0)
    )
    np.testing.assert_array_equal(flipped.image, plain.image[:, ::-1])
    width = SIZE[1]
    for one, other in zip(plain.objects, flipped.objects, strict=True):
        x1, y1, x2, y2 = one.box
        np.testing.assert_allclose(other.box, [width - x2, y1, width - x1, y2], atol=1e-12)
        # A cell whose center lies on a slanted side may fall to either side.
        assert (other.mask_crop() != one.mask_crop()[:, ::-1]).mean() < 0.005


def test_padding_has_the_mean_color(images: list[ImageRecord]) -> None:
    """Also where colors are changed."""
    view = augmented(images, 0, SPEC, Augment(scale=(0.5, 0.5), color=0.5), np.random.default_rng(2))
    whole = boxes_to_input(np.array([[0, 0, *SIZE[::-1]]], float), view.frame)[0]
    rows, columns = np.mgrid[:64, :96]
    outside = (columns < whole[0] - 1) | (columns > whole[2]) | (rows < whole[1] - 1) | (rows > whole[3])
    assert outside.mean() > 0.5
    assert (view.image[outside] == MEAN_COLOR).all()


def test_sizes_are_random(images: list[ImageRecord]) -> None:
    """Oracle: the size of the canvas, and for sides the rule of the shorter and the longer one."""
    sizes = ((48, 64), (64, 64), (96, 128))
    found = {
        augmented(images, 0, SPEC, Augment(sizes=sizes), np.random.default_rng(seed)).frame.size for seed in range(40)
    }
    assert found == set(sizes)
    spec = replace(SPEC, fit="sides")
    between = Augment(sizes=((64, 200), (128, 200)), sizes_between=True)
    shorter: list[float] = []
    for seed in range(200):
        frame = augmented(images, 6, spec, between, np.random.default_rng(seed)).frame
        shorter.append(frame.matrix[1, 1] * SIZE[0])
        assert frame.size[0] % 32 == frame.size[1] % 32 == 0
    assert 63 < min(shorter) < 70
    assert 122 < max(shorter) < 129  # 200 for the longer side is never the limit below 155


def test_a_crop_lies_anywhere(images: list[ImageRecord]) -> None:
    """Oracle: what is larger than the canvas covers it, what is smaller lies in it, and both ends are reached."""
    plain = image_frame(SIZE, SPEC)
    for factor in (0.5, 2.0):
        corners: list[np.ndarray] = []
        for seed in range(200):
            frame = random_frame(plain, Augment(scale=(factor, factor), flip=0.0), np.random.default_rng(seed))
            x1, y1, x2, y2 = boxes_to_input(np.array([[0, 0, *SIZE[::-1]]], float), frame)[0]
            if factor < 1:
                assert min(x1, y1) >= -1e-9
                assert (x2 <= 96 + 1e-9, y2 <= 64 + 1e-9) == (True, True)
            else:
                assert (x1 <= 1e-9, y1 <= 1e-9, x2 >= 96 - 1e-9, y2 >= 64 - 1e-9) == (True,) * 4
            corners.append(np.array([x1, y1]))
        room = np.array([96, 64]) - factor * np.diag(plain.matrix[:, :2]) * SIZE[::-1]
        share = np.array(corners) / room
        assert share.min(0) == pytest.approx([0, 0], abs=0.05)
        assert share.max(0) == pytest.approx([1, 1], abs=0.05)


def test_occluded_parts_are_removed_from_masks_and_boxes(images: list[ImageRecord]) -> None:
    """Oracle: sets of pixels, counted here."""
    augment = Augment(flip=0.0)
    hidden = ignored = gone = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        behind, other = (
            augmented(images, int(rng.integers(6)), SPEC, replace(augment, scale=(0.6, 2.0)), rng) for _ in range(2)
        )
        view = paste_objects(behind, other, 0.5, rng)
        before = [one for one in behind.objects if not one.ignored]
        front = [one for one in view.objects if any(one is mine for mine in other.objects)]
        covered = np.zeros((64, 96), bool)
        for one in front:
            assert one.ignored is False
            covered |= one.pixels((64, 96))
        np.testing.assert_array_equal(view.image[covered], other.image[covered])
        np.testing.assert_array_equal(view.image[~covered], behind.image[~covered])
        for one in before:
            left = one.pixels((64, 96)) & ~covered
            found = [mine for mine in view.objects if mine.annotation is one.annotation and mine not in front]
            if not left.any():
                gone += 1
                assert not found
                continue
            (mine,) = found
            whole = one.pixels((64, 96)).sum()
            assert mine.ignored == (left.sum() < 0.5 * whole)
            if left.sum() < whole:
                hidden += 1
                np.testing.assert_array_equal(mine.mask, left)
                rows, columns = np.nonzero(left)
                assert mine.box[0] >= min(columns.min(), one.box[0])
                assert mine.box[2] <= max(columns.max() + 1, one.box[2])
                # The center of a pixel that belongs to it lies in the box.
                assert (mine.box[1] <= rows.min() + 0.5, mine.box[3] >= rows.max() + 0.5) == (True, True)
            ignored += mine.ignored
    assert min(hidden, ignored, gone) > 0


def test_targets_of_ignored_objects(tmp_path: Path) -> None:
    boxed, mask = shape(1, (10, 10, 30, 30), "box")
    crowd, group = shape(2, (40, 10, 80, 30))
    hard, third = shape(3, (10, 40, 30, 60))
    clear, fourth = shape(4, (40, 40, 80, 60))
    things = [
        (boxed, mask),
        (replace(crowd, crowd=True), group),
        (replace(hard, difficult=True), third),
        (clear, fourth),
    ]
    one = image(tmp_path, 0, things)
    view = augmented([one], 0, SPEC, Augment(flip=0.0), np.random.default_rng(0))
    targets = targets_of(view, SPEC)
    assert {name: (value.dtype, value.shape) for name, value in targets.items()} == {
        "count": (np.int64, ()),
        "boxes": (np.float32, (4, 4)),
        "labels": (np.int64, (4,)),
        "crowd": (bool, (4,)),
        "masks": (np.uint8, (4, 112, 112)),
    }
    assert targets["labels"].tolist() == [1, 2, 3, 4]
    # A model that finds masks must not learn that an object without one has none; one that finds boxes learns the box.
    assert targets["crowd"].tolist() == [True, True, True, False]
    assert [bool(chip.any()) for chip in targets["masks"]] == [False, False, False, True]
    boxes = targets_of(view, replace(SPEC, detector=faster_rcnn()))
    assert boxes["crowd"].tolist() == [False, True, True, False]
    assert "masks" not in boxes
    np.testing.assert_allclose(
        boxes["boxes"], boxes_to_input(np.array([t.box for t, _ in things]), view.frame), atol=1e-4
    )


def test_a_sample_depends_on_its_key_alone(images: list[ImageRecord]) -> None:
    data = DetectionDataset(images, SPEC, AUGMENTS["all"], seed=5)
    first = data[SampleKey(2, 3)]
    other = data[SampleKey(3, 3)]
    again = DetectionDataset(images, SPEC, AUGMENTS["all"], seed=5)[SampleKey(2, 3)]
    np.testing.assert_array_equal(first.image, again.image)
    assert {name: value.tobytes() for name, value in first.targets.items()} == {
        name: value.tobytes() for name, value in again.targets.items()
    }
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("wrong", [{"scale": (0.0, 1.0)}, {"scale": (2.0, 1.0)}, {"keep": 1.5}, {"sizes": ((8, 64),)}])
def test_invalid_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augment(**wrong)  # pyright: ignore[reportArgumentType]  # invalid on purpose
