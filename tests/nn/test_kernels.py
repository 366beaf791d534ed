"""Convolutions and norms run as one. Oracle: the layers called one by one, with PyTorch's own gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
import torch
from tiny import tiny_hrnet
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from hrnet.classification.model import ClassificationModel
from hrnet.classification.spec import ClassificationSpec
from hrnet.detection.model import DetectionModel
from hrnet.detection.spec import DetectionSpec, FCOSSpec
from hrnet.nn.kernels import conv_norm, norm_relu_conv
from hrnet.nn.task import TaskModel
from hrnet.pose.model import PoseModel
from hrnet.pose.skeletons import LSP
from hrnet.pose.spec import PoseSpec
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.spec import OCRSpec, SegmentationSpec

# Attributes of a convolution and of a norm that no HRNet has, but that a user's replaced layer may have.
LAYERS: dict[str, Callable[[int], tuple[nn.Module, nn.Module]]] = {
    "published": lambda n: (nn.BatchNorm2d(n), nn.Conv2d(n, 6, 3, padding=1, bias=False)),
    "bias, stride": lambda n: (nn.BatchNorm2d(n), nn.Conv2d(n, 6, 3, 2, padding=1)),
    "1x1": lambda n: (nn.BatchNorm2d(n), nn.Conv2d(n, 6, 1)),
    "groups": lambda n: (nn.BatchNorm2d(n), nn.Conv2d(n, 6, 3, padding=1, groups=2)),
    "1x1, groups": lambda n: (nn.BatchNorm2d(n), nn.Conv2d(n, 6, 1, groups=2)),
    "dilation": lambda n: (nn.BatchNorm2d(n), nn.Conv2d(n, 6, 3, padding=2, dilation=2)),
    "reflection": lambda n: (nn.BatchNorm2d(n), nn.Conv2d(n, 6, 3, padding=1, padding_mode="reflect")),
    "padding by name": lambda n: (nn.BatchNorm2d(n), nn.Conv2d(n, 6, 3, padding="same")),
    "cumulative momentum": lambda n: (nn.BatchNorm2d(n, momentum=None), nn.Conv2d(n, 6, 3)),
    "norm without weights": lambda n: (nn.BatchNorm2d(n, affine=False), nn.Conv2d(n, 6, 3)),
    "norm without statistics": lambda n: (nn.BatchNorm2d(n, track_running_stats=False), nn.Conv2d(n, 6, 3)),
    "group norm": lambda n: (nn.GroupNorm(2, n), nn.Conv2d(n, 6, 3)),
    "no norm": lambda n: (nn.Identity(), nn.Conv2d(n, 6, 3)),
    "parametrized": lambda n: (nn.BatchNorm2d(n), nn.utils.parametrizations.weight_norm(nn.Conv2d(n, 6, 3))),
    "pruned": lambda n: (nn.BatchNorm2d(n), _pruned(nn.Conv2d(n, 6, 3))),
}


def _pruned(conv: nn.Conv2d) -> nn.Module:
    from torch.nn.utils import prune

    return prune.random_unstructured(conv, "weight", 0.5)


def _layers(name: str, training: bool) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    norm, conv = LAYERS[name](4)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    with torch.no_grad():
        norm.double()(torch.randn(8, 4, 5, 5, dtype=torch.float64) * 2 + 1)  # statistics that do something
    return norm.train(training), conv.double()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", LAYERS)
def test_norm_relu_conv_equals_the_layers(name: str, training: bool) -> None:
    """Outputs, first and second derivatives, and the statistics that training changes; double precision."""
    norm, conv = _layers(name, training)
    other_norm, other_conv = _layers(name, training)
    x = torch.randn(2, 4, 7, 9, dtype=torch.float64, requires_grad=True)
    found, expected = norm_relu_conv(norm, conv, x), other_conv(functional.relu(other_norm(x)))
    assert_close(found, expected)
    weights = torch.randn_like(expected)
    gradients = []
    for y, layers in ((found, (norm, conv)), (expected, (other_norm, other_conv))):
        inputs = [x, *(parameter for layer in layers for parameter in layer.parameters())]
        plain = torch.autograd.grad((y * weights).sum(), inputs, retain_graph=True)
        first = torch.autograd.grad((y * weights).sum(), inputs, create_graph=True)
        for one, other in zip(plain, first, strict=True):
            assert_close(one, other, rtol=1e-9, atol=1e-11)
        penalty = torch.stack([gradient.square().sum() for gradient in first]).sum()
        gradients.append([*first, *torch.autograd.grad(penalty, inputs, allow_unused=True, materialize_grads=True)])
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other, rtol=1e-8, atol=1e-9)
    for one, other in zip(norm.buffers(), other_norm.buffers(), strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("name", LAYERS)
def test_conv_norm_without_gradients_equals_the_layers(name: str) -> None:
    norm, conv = LAYERS[name](6)[0].double(), LAYERS[name](4)[1].double()
    norm(torch.randn(8, 6, 5, 5, dtype=torch.float64) * 2 + 1)
    norm.eval()
    x = torch.randn(2, 4, 7, 9, dtype=torch.float64)
    with torch.no_grad():
        assert_close(conv_norm(conv, norm, x), norm(conv(x)))


@pytest.mark.parametrize("create_graph", [True, False])
def test_gradcheck_of_norm_relu_conv(create_graph: bool) -> None:
    """Finite differences of every input, in both modes of the norm."""
    for training in (True, False):
        norm, conv = _layers("1x1, groups", training)
        cast(nn.BatchNorm2d, norm).momentum = 0.0  # a function, which running statistics would make a process
        x = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, n=norm, c=conv: norm_relu_conv(n, c, x), (x,))
        if create_graph:
            assert torch.autograd.gradgradcheck(lambda x, n=norm, c=conv: norm_relu_conv(n, c, x), (x,))


def test_an_empty_batch_has_gradients_of_zero() -> None:
    norm, conv = _layers("bias, stride", training=False)
    x = torch.zeros(0, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    norm_relu_conv(norm, conv, x).sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape
    assert not any(cast(Tensor, parameter.grad).any() for parameter in conv.parameters())


BACKBONE = tiny_hrnet()
MODELS: dict[str, Callable[[], TaskModel]] = {
    "pose": lambda: PoseModel(PoseSpec(LSP, tiny_hrnet(high_resolution_only=True), input_size=(64, 64))),
    "segmentation": lambda: SegmentationModel(SegmentationSpec(("a", "b"), backbone=BACKBONE, input_size=(64, 64))),
    "ocr": lambda: SegmentationModel(
        SegmentationSpec(("a", "b"), backbone=BACKBONE, input_size=(64, 64), ocr=OCRSpec(8, 4))
    ),
    "fcos": lambda: DetectionModel(DetectionSpec(("a",), backbone=BACKBONE, detector=FCOSSpec())),
    "classification": lambda: ClassificationModel(ClassificationSpec(("a", "b"), backbone=BACKBONE)),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> TaskModel:
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


@pytest.mark.parametrize("gradients", [True, False])
def test_all_hooks_fire_once(model: TaskModel, gradients: bool) -> None:
    called: list[str] = []
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda *_, name=name: called.append(name))
    with torch.set_grad_enabled(gradients):
        model(torch.rand(1, 3, 64, 64))
    shared = {name for name in called if called.count(name) > 1}
    assert set(called) == set(layers)
    # FCOS runs one head on every level of its pyramid.
    assert all(".head." in name or "tower" in name or "detector" in name for name in shared)


class Doubled(nn.Conv2d):
    """A replaced layer: an adapter, LoRA, another padding."""

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch calls it input
        return super().forward(x) * 2


def test_a_replaced_layer_is_used(model: TaskModel) -> None:
    """Doubling a convolution and halving the norm's input statistics cancel; without the replacement they would not."""
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model(images)[0]
    block = model.backbone.get_submodule("stage2.0.branches.0.0")
    old = cast(nn.Conv2d, block.conv2)
    new = Doubled(old.in_channels, old.out_channels, 3, padding=1, bias=False)
    new.weight = nn.Parameter(old.weight.detach() / 2)
    block.conv2 = new
    loud = model(images)[0].detach()
    with torch.no_grad():
        quiet = model(images)[0]
    assert_close(quiet, before, rtol=1e-4, atol=1e-5)
    assert_close(loud, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # sizes become constants
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning", "ignore:.*torch.jit.*:DeprecationWarning")
def test_torch_jit_trace(model: TaskModel, gradients: bool) -> None:
    images = torch.rand(1, 3, 64, 64)
    with torch.set_grad_enabled(gradients):
        traced = cast(Callable[[Tensor], tuple[Tensor, ...]], torch.jit.trace(model, images))
    expected = [value for value in model(images) if value is not None]
    for one, other in zip(traced(images), expected, strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-5)
