from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hrnet.classification.model import ClassificationModel
from hrnet.classification.processor import ClassificationOutput
from hrnet.classification.spec import ClassificationSpec
from hrnet.io.geometry import Frame
from hrnet.nn.backbone import count_multiply_accumulates
from hrnet.nn.spec import HRNetSpec, StageSpec, hrnet, hrnet_small_v1, hrnet_small_v2
from hrnet.nn.task import Batch

TINY = HRNetSpec(
    stages=(StageSpec((4, 8), 1, 1), StageSpec((4, 8, 16), 1, 1), StageSpec((4, 8, 16, 32), 1, 1)),
    bottlenecks=1,
    bottleneck_width=4,
    stem_width=8,
)
FRAME = Frame.resize((64, 64), (64, 64))


def tiny(classes: int = 3) -> ClassificationModel:
    return ClassificationModel(ClassificationSpec(num_classes=classes, backbone=TINY)).eval()


@pytest.mark.parametrize(
    ("backbone", "count", "published", "entries"),
    [
        (hrnet(18), 21_299_004, "3.99", 1956),
        (hrnet(30), 37_712_220, "7.55", 1956),
        (hrnet(32), 41_232_680, "8.31", 1956),
        (hrnet(40), 57_557_160, "11.82", 1956),
        (hrnet(44), 67_064_984, "13.86", 1956),
        (hrnet(48), 77_469_864, "16.09", 1956),
        (hrnet(64), 128_059_944, "26.91", 1956),
        (hrnet_small_v1(), 13_187_464, "1.492", 552),
        (hrnet_small_v2(), 15_597_464, "2.417", 990),
    ],
)
def test_size_and_cost_are_the_published_ones(backbone: HRNetSpec, count: int, published: str, entries: int) -> None:
    # Oracle: the released networks and their READMEs. Counts are exact, costs to the digits of the table.
    with torch.device("meta"):
        model = ClassificationModel(ClassificationSpec(num_classes=1000, backbone=backbone)).eval()
        cost = count_multiply_accumulates(model, torch.empty(1, 3, 224, 224)) / 2**30
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert len(model.state_dict()) == entries
    digits = len(published.partition(".")[2])
    assert f"{cost:.{digits}f}" == published


def test_head_without_biases_leaves_out_four() -> None:
    with_bias = {name for name, _ in tiny().named_parameters()}
    without = ClassificationModel(ClassificationSpec(num_classes=3, backbone=TINY, head_bias=False))
    missing = with_bias - {name for name, _ in without.named_parameters()}
    assert missing == {"head.halve.0.0.bias", "head.halve.1.0.bias", "head.halve.2.0.bias", "head.expand.0.bias"}


def test_any_size_and_a_batch_of_one_as_a_row() -> None:
    # Property. Tolerance: the convolution library may sum in another order for another batch size.
    model = tiny()
    images = torch.rand(3, 3, 45, 71)
    with torch.inference_mode():
        torch.testing.assert_close(model(images[1:2]).logits, model(images).logits[1:2], rtol=1e-4, atol=1e-5)


def test_loss_of_equal_logits_is_the_logarithm_of_the_number_of_classes() -> None:
    # Oracle: closed form; float32.
    model = tiny(5)
    torch.nn.init.zeros_(model.head.classifier.weight)
    torch.nn.init.zeros_(model.head.classifier.bias)
    batch = Batch(torch.rand(2, 3, 32, 32), (FRAME, FRAME), {"labels": torch.tensor([0, 4])}, (0, 1))
    (loss,) = model.loss(batch).values()
    assert loss.item() == pytest.approx(math.log(5), rel=1e-6)
    loss.backward()
    gradient = model.head.classifier.bias.grad
    assert gradient is not None
    torch.testing.assert_close(gradient, torch.tensor([-0.3, 0.2, 0.2, 0.2, -0.3]), rtol=1e-5, atol=1e-6)


def test_decode_gives_probabilities() -> None:
    # Oracle: closed form: logits are logarithms of probabilities up to a constant; float32.
    model = tiny()
    probabilities = torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25]])
    results = model.processor.decode(ClassificationOutput((probabilities.log() + 3).numpy()), [FRAME, FRAME])
    np.testing.assert_allclose(np.stack([result.scores for result in results]), probabilities, rtol=1e-5)
    assert [result.name for result in results] == ["class_1", "class_0"]


def test_mirrored_logits_are_averaged() -> None:
    one, other = np.array([[1.0, 2.0]], np.float32), np.array([[3.0, -2.0]], np.float32)
    merged = tiny(2).processor.merge_flip(ClassificationOutput(one), ClassificationOutput(other), (64, 64))
    assert merged.logits.tolist() == [[2.0, 0.0]]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"class_names": ("a", "b"), "num_classes": 3},
        {"class_names": ("a", "a")},
        {"num_classes": -1},
        {"num_classes": 2, "input_size": (16, 224)},
        {"num_classes": 2, "backbone": hrnet(18, high_resolution_only=True)},
    ],
)
def test_impossible_specs_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ClassificationSpec(**wrong)  # type: ignore[arg-type]  # wrong values on purpose


def test_names_say_the_number_and_the_number_names() -> None:
    assert ClassificationSpec(("cat", "dog")).num_classes == 2
    assert ClassificationSpec(num_classes=2).class_names == ("class_0", "class_1")
