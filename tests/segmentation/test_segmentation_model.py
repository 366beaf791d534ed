from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hrnet.io.geometry import Frame, warp
from hrnet.nn.backbone import count_multiply_accumulates
from hrnet.nn.spec import HRNetSpec, StageSpec, hrnet, hrnet_small_v1, hrnet_small_v2
from hrnet.nn.task import Batch
from hrnet.segmentation import model as segmentation
from hrnet.segmentation.model import SegmentationModel, SegmentationOutput, image_frame, image_labels
from hrnet.segmentation.spec import CITYSCAPES, ContextSpec, LossSpec, SegmentationSpec

TINY = HRNetSpec(
    stages=(StageSpec((4, 8), 1, 1), StageSpec((4, 8, 16), 1, 1), StageSpec((4, 8, 16, 32), 1, 1)),
    bottlenecks=1,
    bottleneck_width=4,
    fusion_upsample="bilinear",
    stem_width=8,
)
NAMES = ("sky", "left", "right")


def tiny(align_corners: bool = False) -> SegmentationModel:
    backbone = replace(TINY, align_corners=align_corners)
    return SegmentationModel(SegmentationSpec(NAMES, ((1, 2),), backbone, (64, 64))).eval()


@pytest.mark.parametrize(
    ("backbone", "count", "published", "entries"),
    [
        (hrnet(18), 9_641_119, None, 1839),
        (hrnet(32), 29_546_515, None, 1839),
        (hrnet(40), 45_894_435, "498.7", 1839),
        (hrnet(48), 65_859_379, "696.2", 1839),
        (hrnet_small_v1(), 1_540_819, "31.1", 435),
        (hrnet_small_v2(), 3_939_579, "71.6", 873),
    ],
)
def test_size_and_cost_are_the_published_ones(
    backbone: HRNetSpec, count: int, published: str | None, entries: int
) -> None:
    # Oracle: the released networks and their READMEs. Counts are exact, costs (at 1024 x 2048) to the digits of the table.
    with torch.device("meta"):
        model = SegmentationModel(SegmentationSpec(backbone=replace(backbone, fusion_upsample="bilinear"))).eval()
        if published:
            assert f"{count_multiply_accumulates(model, torch.empty(1, 3, 1024, 2048)) / 2**30:.1f}" == published
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert len(model.state_dict()) == entries


@pytest.mark.parametrize(
    ("classes", "count"), [(20, 65_860_100), (60, 65_888_940), (150, 65_953_830), (171, 65_968_971)]
)
def test_size_with_other_classes(classes: int, count: int) -> None:
    # Oracle: as above.
    names = tuple(str(number) for number in range(classes))
    with torch.device("meta"):
        model = SegmentationModel(SegmentationSpec(names))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_loss_is_the_mean_over_marked_pixels() -> None:
    # Oracle: the definition in numpy on OpenCV's enlargement. Tolerance: float32.
    model = tiny()
    images = torch.rand(2, 3, 32, 64)
    labels = torch.randint(0, 3, (2, 32, 64))
    labels[0, :10] = 255
    with torch.inference_mode():
        logits = model(images).logits.numpy()
        batch = Batch(images, (), {"labels": labels}, (0, 1))
        (loss,) = model.loss(batch).values()
    large = np.stack([cv2.resize(x.transpose(1, 2, 0), (64, 32)) for x in logits]).astype(float)
    log_probability = large - np.log(np.exp(large).sum(-1, keepdims=True))
    marked = labels.numpy() != 255
    chosen = np.take_along_axis(log_probability, np.where(marked, labels.numpy(), 0)[..., None], -1)[..., 0]
    assert loss.item() == pytest.approx(-chosen[marked].mean(), rel=1e-5)


def test_batch_without_a_marked_pixel_teaches_nothing() -> None:
    model = tiny().train()
    batch = Batch(torch.rand(2, 3, 64, 64), (), {"labels": torch.full((2, 64, 64), 255)}, (0, 1))
    (loss,) = model.loss(batch).values()
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(32, 48), (64, 96), (50, 99), (20, 31)])
def test_labels_are_those_of_enlarged_logits(align_corners: bool, size: tuple[int, int]) -> None:
    # Oracle: PyTorch's interpolation straight to the size of the image. Tolerance: two logits that are equal to the last
    # bits may change places: at most one pixel in a thousand.
    logits = torch.randn(5, 8, 12)
    labels = image_labels(logits, Frame.resize(size, (32, 48)), align_corners)
    scale = functional.interpolate(logits[None], size, mode="bilinear", align_corners=align_corners)[0]
    if align_corners and size != (32, 48):
        # There the corners of the input, not of the image, are the corners of the logits.
        scale = functional.interpolate(logits[None], (32, 48), mode="bilinear", align_corners=True)
        scale = functional.interpolate(scale, size, mode="bilinear")[0]
    share = (labels != scale.argmax(0).numpy()).mean()
    assert share < (0.02 if align_corners and size != (32, 48) else 0.001)


def test_labels_of_a_crop_lie_where_the_crop_lies() -> None:
    # Oracle: closed form: stripes of logits 8 pixels wide at known places; outside the crop there is no label.
    logits = torch.full((3, 4, 12), -1.0)
    for stripe in range(6):
        logits[stripe % 3, :, 2 * stripe : 2 * stripe + 2] = 1.0
    matrix = np.array([[1.0, 0, -10], [0, 1.0, -5]])
    labels = image_labels(logits, Frame(matrix, (16, 48), (30, 70)), align_corners=False)
    expected = np.full((30, 70), 255)
    expected[5:21, 10:58] = np.repeat(np.arange(6) % 3, 8)
    np.testing.assert_array_equal(labels, expected)
    mirrored = np.array([[-1.0, 0, 57], [0, 1.0, -5]])
    flipped = image_labels(logits.flip(-1), Frame(mirrored, (16, 48), (30, 70)), align_corners=False)
    np.testing.assert_array_equal(flipped, expected)


def test_labels_made_in_strips_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, frame = torch.randn(5, 8, 12), Frame.resize((57, 91), (32, 48))
    whole = image_labels(logits, frame, False)
    monkeypatch.setattr(segmentation, "STRIP_ELEMENTS", 5 * 91 * 4)
    np.testing.assert_array_equal(image_labels(logits, frame, False), whole)


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


def test_prediction_has_the_size_of_its_image() -> None:
    # Property: a batch of one is a row of a batch; the network's own logits, so no ties.
    model = tiny()
    images = torch.rand(2, 3, 45, 64)
    frames = [Frame.resize((90, 128), (45, 64)), Frame.resize((30, 40), (45, 64))]
    with torch.inference_mode():
        results = model.predict(images, frames)
        (alone,) = model.predict(images[1:], frames[1:])
    assert [result.labels.shape for result in results] == [(90, 128), (30, 40)]
    assert (alone.labels != results[1].labels).mean() < 0.01
    assert alone.names == NAMES


def test_mirrored_logits_are_mirrored_back_and_sides_exchanged() -> None:
    # Property, exact: merging an output with its own mirror image, sides exchanged, changes nothing.
    logits = torch.randn(2, 3, 4, 6)
    mirrored = logits[:, [0, 2, 1]].flip(-1)
    merged = tiny().merge_flip(SegmentationOutput(logits), SegmentationOutput(mirrored), (16, 24))
    torch.testing.assert_close(merged.logits, logits, rtol=0, atol=0)


def test_new_weights_are_as_published() -> None:
    # Oracle: closed form: normal with deviation 0.001, biases as PyTorch draws them. Tolerance: the deviation of 3600 draws
    # is known to 1.2 %; five times that.
    first = tiny().get_submodule("head.project")
    assert isinstance(first, nn.Conv2d)
    assert first.bias is not None
    assert first.weight.std().item() == pytest.approx(0.001, rel=0.06)
    assert first.bias.abs().max().item() > 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_names": ()},
        {"class_names": ("a", "a")},
        {"class_names": tuple(map(str, range(256)))},
        {"class_names": ("a", "b"), "pairs": ((0, 2),)},
        {"class_names": ("a", "b"), "pairs": ((0, 1), (1, 0))},
        {"input_size": (16, 16)},
        {"head_kernel": 2},
        {"backbone": hrnet(18, high_resolution_only=True)},
        {"context": ContextSpec(), "head_kernel": 3},
        {"loss": LossSpec(class_weights=(1.0, 2.0))},
    ],
)
def test_impossible_specs_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        SegmentationSpec(**wrong)  # type: ignore[arg-type]  # wrong values on purpose


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ContextSpec(channels=0),
        lambda: ContextSpec(dropout=1.0),
        lambda: LossSpec(class_weights=(-1.0, 2.0)),
        lambda: LossSpec(class_weights=(0.0, 0.0)),
        lambda: LossSpec(hard_pixels=-1),
        lambda: LossSpec(hard_below=0.0),
        lambda: LossSpec(auxiliary=-0.1),
    ],
)
def test_impossible_parts_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        wrong()


def test_the_default_is_cityscapes() -> None:
    assert SegmentationSpec().class_names == CITYSCAPES
    assert len(CITYSCAPES) == 19
