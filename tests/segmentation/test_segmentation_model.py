from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from hrnet.io.geometry import Frame
from hrnet.nn.backbone import count_multiply_accumulates
from hrnet.nn.spec import HRNetSpec, StageSpec, hrnet, hrnet_small_v1, hrnet_small_v2
from hrnet.nn.task import Batch
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.spec import CITYSCAPES, LossSpec, OCRSpec, SegmentationSpec

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
        {"ocr": OCRSpec(), "head_kernel": 3},
        {"loss": LossSpec(class_weights=(1.0, 2.0))},
    ],
)
def test_impossible_specs_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        SegmentationSpec(**wrong)  # type: ignore[arg-type]  # wrong values on purpose


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: OCRSpec(channels=0),
        lambda: OCRSpec(dropout=1.0),
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
