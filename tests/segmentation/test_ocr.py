from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hrnet.io.geometry import Frame
from hrnet.nn.backbone import count_multiply_accumulates
from hrnet.nn.representation import concatenate
from hrnet.nn.spec import HRNetSpec, StageSpec, hrnet, hrnet_small_v1, hrnet_small_v2
from hrnet.nn.task import Batch
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.ocr import OCRHead, region_features
from hrnet.segmentation.processor import SegmentationOutput
from hrnet.segmentation.spec import LossSpec, OCRSpec, SegmentationSpec

TINY = HRNetSpec(
    stages=(StageSpec((4, 8), 1, 1), StageSpec((4, 8, 16), 1, 1), StageSpec((4, 8, 16, 32), 1, 1)),
    bottlenecks=1,
    bottleneck_width=4,
    fusion_upsample="bilinear",
    align_corners=True,
    stem_width=8,
)
NAMES = ("sky", "left", "right")
SPEC = SegmentationSpec(NAMES, ((1, 2),), TINY, (64, 64), ocr=OCRSpec(12, 6))


def maps() -> list[Tensor]:
    return [torch.randn(2, 4 << level, 8 >> level, 16 >> level) for level in range(4)]


def test_regions_are_means_weighted_over_the_pixels() -> None:
    # Oracle: numpy, class after class. Tolerance: single precision sums of 12 pixels.
    logits, features = torch.randn(2, 3, 3, 4), torch.randn(2, 5, 3, 4)
    found = region_features(logits, features).numpy()
    for n in range(2):
        for k in range(3):
            weights = np.exp(logits[n, k].numpy()) / np.exp(logits[n, k].numpy()).sum()
            np.testing.assert_allclose(found[n, :, k, 0], (features[n].numpy() * weights).sum((1, 2)), atol=1e-6)


def test_head_is_the_published_order_of_layers() -> None:
    # Oracle: the head of arXiv 1909.11065, pixel by pixel in numpy. Tolerance: single precision.
    head = OCRHead((4, 8, 16, 32), 3, OCRSpec(12, 6), align_corners=True).eval()
    x = maps()
    with torch.inference_mode():
        found = head(x)
        whole = concatenate(x, align_corners=True)
        conv, norm, relu = head.features
        features = nn.functional.conv2d(whole, cast(Tensor, conv.weight), cast(Tensor, conv.bias), padding=1)
        features = relu(norm(features))
        torch.testing.assert_close(features, head.features(x), rtol=1e-5, atol=1e-5)
        regions = region_features(found.auxiliary, features)
        query = head.query(features).numpy()
        key, value = head.key(regions)[..., 0].numpy(), head.value(regions)[..., 0].numpy()
        context = np.zeros_like(query)
        for n, h, w in np.ndindex(2, 8, 16):
            similarity = np.exp(query[n, :, h, w] @ key[n] * 6**-0.5)
            context[n, :, h, w] = value[n] @ (similarity / similarity.sum())
        expanded = head.expand(torch.from_numpy(context))
        expected = head.classify(head.merge(torch.cat([expanded, features], dim=1)))
    torch.testing.assert_close(found.logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "count"),
    [(hrnet(48), 70_372_678), (hrnet(18), 12_080_036 + 270 + 512), (hrnet_small_v1(), None), (hrnet_small_v2(), None)],
)
def test_size_and_cost(backbone: HRNetSpec, count: int | None) -> None:
    # Oracle: the released W48 (70.3 million and 1206.3 GFLOPs at 1024 x 2048 in its README); mmseg's W18, two biases more.
    aligned = replace(backbone, fusion_upsample="bilinear", align_corners=True)
    with torch.device("meta"):
        model = SegmentationModel(SegmentationSpec(backbone=aligned, ocr=OCRSpec())).eval()
        output = model(torch.empty(1, 3, 64, 96))
        if backbone.widths[0] == 48:
            cost = count_multiply_accumulates(model, torch.empty(1, 3, 1024, 2048)) / 2**30
            # The two products of the attention, which are no layers, are 19 x (512 + 256 + 256) for each position.
            cost += 256 * 512 * 19 * (512 + 256 + 256) / 2**30
            assert cost == pytest.approx(1206.3, abs=3)
    assert output.logits.shape == output.auxiliary.shape == (1, 19, 16, 24)
    if count:
        assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_both_outputs_are_learned() -> None:
    # Property: every parameter gets a gradient that is finite and not all zero; the terms are the two of the spec.
    model = SegmentationModel(replace(SPEC, loss=LossSpec(auxiliary=0.5))).train()
    batch = Batch(torch.rand(2, 3, 64, 64), (), {"labels": torch.randint(0, 3, (2, 64, 64))}, (0, 1))
    losses = model.loss(batch)
    assert losses.keys() == {"classes", "auxiliary"}
    sum(losses.values(), torch.zeros(())).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_new_weights_are_as_released() -> None:
    # Oracle: closed form: the backbone normal with deviation 0.001 (of 288 draws known to 4 %; five times that), the head
    # as PyTorch draws it: uniform up to 1 / sqrt(inputs), of 3600 draws at least 0.98 of that.
    model = SegmentationModel(SPEC)
    assert cast(Tensor, model.backbone.conv1.weight).std().item() == pytest.approx(0.001, rel=0.25)
    head = cast(OCRHead, model.head)
    for layer, inputs in ((head.auxiliary.project, 60), (head.features[0], 540)):
        largest = cast(Tensor, layer.weight).abs().max().item()
        assert 0.98 * inputs**-0.5 < largest <= inputs**-0.5


def test_prediction_reads_the_second_output() -> None:
    # Oracle: argmax of the main logits where nothing is enlarged.
    model = SegmentationModel(SPEC).eval()
    logits = np.random.default_rng(0).standard_normal((1, 3, 8, 8))
    (result,) = model.processor.decode(SegmentationOutput(logits, -logits), [Frame.resize((8, 8), (8, 8))])
    np.testing.assert_array_equal(result.labels, logits[0].argmax(0))


def test_layers_with_class_names_have_one_output_a_class() -> None:
    for spec in (SPEC, replace(SPEC, ocr=None)):
        model = SegmentationModel(spec)
        for layer, names in model.named_outputs().items():
            assert model.get_parameter(f"{layer}.bias").shape == (len(names),)


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, ocr=None)], ids=["OCR", "plain"])
def test_openvino_in_fp32_equals_torch(spec: SegmentationSpec, openvino_outputs) -> None:
    # Oracle: torch. Tolerance: single precision through some thirty layers, in another order of sums.
    model, images = (
        SegmentationModel(spec).eval(),
        torch.randint(
            256,
            (
                2,
                3,
                64,
                96,
            ),
        )
        / 255,
    )
    for parameter in model.parameters():
        if parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter)
    with torch.no_grad():
        expected = model(images)
    found = openvino_outputs(model, images)
    for value, ground_truth in zip(found, expected, strict=True):
        assert (value is None) == (ground_truth is None)
        if ground_truth is not None:
            assert (value - ground_truth).abs().max() <= 1e-4 * ground_truth.abs().max()
