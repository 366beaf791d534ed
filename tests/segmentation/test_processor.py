"""The NumPy side. Oracles: PyTorch's interpolation, OpenCV's resize, closed forms."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from hrnet.io.geometry import Frame, warp
from hrnet.segmentation import processor as module
from hrnet.segmentation.processor import SegmentationOutput, SegmentationProcessor, image_frame, image_labels
from hrnet.segmentation.spec import SegmentationSpec
from hrnet.segmentation.upsampling import best_classes


def random_logits(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(32, 48), (64, 96), (50, 99), (20, 31)])
def test_labels_are_those_of_upsampled_logits(align_corners: bool, size: tuple[int, int]) -> None:
    # Oracle: PyTorch's interpolation straight to the size of the image. Tolerance: two logits that are equal to the last
    # bits may change places: at most one pixel in a thousand.
    logits = random_logits(5, 8, 12)
    labels = image_labels(logits, Frame.resize(size, (32, 48)), align_corners)
    tensor = torch.from_numpy(logits)[None]
    large = functional.interpolate(tensor, size, mode="bilinear", align_corners=align_corners)[0]
    if align_corners and size != (32, 48):
        # There the corners of the input, not of the image, are the corners of the logits.
        large = functional.interpolate(tensor, (32, 48), mode="bilinear", align_corners=True)
        large = functional.interpolate(large, size, mode="bilinear")[0]
    fraction = (labels != large.argmax(0).numpy()).mean()
    assert fraction < (0.02 if align_corners and size != (32, 48) else 0.001)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_labels_of_a_rotated_frame_are_those_of_grid_sample(align_corners: bool, flip: bool) -> None:
    # Oracle: PyTorch's grid_sample, whose coordinates run from -1 to 1 between the centers of the corner pixels or between
    # the outer edges. Tolerance: as above.
    logits, (height, width) = random_logits(5, 8, 12), (90, 70)
    frame = Frame.around((33, 41), 52.0, (32, 48), (height, width), rotation=31.0, flip=flip)
    labels = image_labels(logits, frame, align_corners)
    points = frame.to_input(np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(float))
    size = np.array([48, 32])
    grid = points / (size - 1) * 2 - 1 if align_corners else (points + 0.5) / size * 2 - 1
    expected = functional.grid_sample(
        torch.from_numpy(logits)[None],
        torch.from_numpy(grid[None]).float(),
        padding_mode="border",
        align_corners=align_corners,
    )[0]
    inside = ((points >= -0.5) & (points <= size - 0.5)).all(-1)
    np.testing.assert_array_equal(labels == 255, ~inside)
    assert inside.mean() > 0.2
    assert (labels != expected.argmax(0).numpy())[inside].mean() < 0.001


def test_labels_of_a_crop_lie_where_the_crop_lies() -> None:
    # Oracle: closed form: stripes of logits 8 pixels wide at known places; outside the crop there is no label.
    logits = np.full((3, 4, 12), -1.0)
    for stripe in range(6):
        logits[stripe % 3, :, 2 * stripe : 2 * stripe + 2] = 1.0
    matrix = np.array([[1.0, 0, -10], [0, 1.0, -5]])
    labels = image_labels(logits, Frame(matrix, (16, 48), (30, 70)), align_corners=False)
    expected = np.full((30, 70), 255)
    expected[5:21, 10:58] = np.repeat(np.arange(6) % 3, 8)
    np.testing.assert_array_equal(labels, expected)
    mirrored = np.array([[-1.0, 0, 57], [0, 1.0, -5]])
    flipped = image_labels(logits[..., ::-1], Frame(mirrored, (16, 48), (30, 70)), align_corners=False)
    np.testing.assert_array_equal(flipped, expected)


def test_labels_made_in_strips_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, frame = random_logits(5, 8, 12), Frame.resize((57, 91), (32, 48))
    whole = image_labels(logits, frame, False)
    monkeypatch.setattr(module, "STRIP_ELEMENTS", 5 * 91 * 4)
    monkeypatch.setattr(module, "BLOCK_PIXELS", 91 * 3)
    np.testing.assert_array_equal(image_labels(logits, frame, False), whole)


def test_the_best_class_is_the_first_of_equals() -> None:
    # Oracle: argmax. Few different values, so that most pixels have several largest ones.
    scores = np.random.default_rng(0).integers(-2, 2, (255, 40, 1000)).astype(np.float32)
    np.testing.assert_array_equal(best_classes(scores), scores.argmax(0))
    np.testing.assert_array_equal(best_classes(-abs(scores[:3])), (-abs(scores[:3])).argmax(0))


@pytest.mark.parametrize("source", [(1024, 2048), (375, 500), (500, 375), (33, 700), (3000, 17)])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.75])
def test_a_whole_image_lies_in_its_canvas(source: tuple[int, int], scale: float) -> None:
    # Oracle: OpenCV's resize to the rounded size of the published protocol, whose edges lie on those of the image.
    spec = SegmentationSpec(input_size=(520, 640))
    frame = image_frame(source, spec, scale)
    assert frame.size == (round(520 * scale), round(640 * scale))
    ratio = min(520 * scale / source[0], 640 * scale / source[1])
    corners = frame.to_input(np.array([[-0.5, -0.5], [source[1] - 0.5, source[0] - 0.5]]))
    np.testing.assert_allclose(corners[0], [-0.5, -0.5], atol=1e-9)
    # Each side is within half a pixel of the aspect, and at least one fills the canvas.
    sides = corners[1][::-1] + 0.5
    np.testing.assert_allclose(sides, np.array(source) * ratio, atol=0.5 + 1e-9)
    np.testing.assert_allclose(sides, np.round(sides), atol=1e-9)
    assert (np.round(sides) == frame.size).any()
    points = np.random.default_rng(0).uniform(0, source[0], (5, 2))
    np.testing.assert_allclose(frame.to_source(frame.to_input(points)), points, atol=1e-9)


def test_squashed_images_fill_the_canvas() -> None:
    # Oracle: closed form.
    frame = image_frame((300, 100), SegmentationSpec(input_size=(473, 473), squash=True), 2.0)
    assert frame.size == (946, 946)
    np.testing.assert_allclose(frame.to_input(np.array([[99.5, 299.5]])), [[945.5, 945.5]], atol=1e-9)


def test_image_in_its_canvas_is_opencvs_resize_on_black() -> None:
    # Oracle: OpenCV's resize and a black border. Tolerance: its warp knows places to 1/32 pixel, so each axis may be 1/64
    # off, at most 255 / 64 gray values. Not compared: the outermost row and column, where it mixes in the black beyond.
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    found = warp(image, image_frame((60, 90), SegmentationSpec(input_size=(128, 128))), antialias=False)
    expected = cv2.resize(image, (128, 85), interpolation=cv2.INTER_LINEAR)
    inner = np.abs(found[1:84, 1:127].astype(int) - expected[1:84, 1:127])
    assert inner.max() <= 8
    assert inner.mean() < 1
    assert not found[86:].any()


def test_flipped_logits_are_flipped_back_and_sides_exchanged() -> None:
    # Property, exact: merging an output with its own flip, sides exchanged, changes nothing.
    processor = SegmentationProcessor(SegmentationSpec(("sky", "left", "right"), ((1, 2),)))
    logits, auxiliary = random_logits(2, 3, 4, 6), -random_logits(2, 3, 4, 6)
    outputs = SegmentationOutput(logits, auxiliary)
    flipped = SegmentationOutput(logits[:, [0, 2, 1], :, ::-1], auxiliary[:, [0, 2, 1], :, ::-1])
    for merged, expected in zip(processor.merge_flip(outputs, flipped, (16, 24)), outputs, strict=True):
        np.testing.assert_array_equal(merged, expected)
    assert processor.merge_flip(SegmentationOutput(logits), flipped, (16, 24)).auxiliary is None
