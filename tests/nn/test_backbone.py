from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest
import timm
import torch
from tiny import tiny_hrnet
from torch import Tensor, nn
from torch.nn import functional

from hrnet.nn.backbone import HRNet, count_multiply_accumulates, init_kaiming, init_normal
from hrnet.nn.kernels import norm_relu_conv
from hrnet.nn.spec import HRNetSpec, StageSpec, hrnet, hrnet_small_v1, hrnet_small_v2

TINY = tiny_hrnet(modules=2)
# Widths that change at every stage, which no published network has.
EXOTIC = HRNetSpec(
    stages=(StageSpec((4, 10), 1, 1), StageSpec((6, 8, 12), 1, 1), StageSpec((6, 10, 14, 18), 1, 1)),
    bottlenecks=2,
    bottleneck_width=5,
    stem_width=7,
)


def randomize_norms(model: nn.Module) -> None:
    """Fresh norms do nothing, and so hide mistakes."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.normal_(std=0.2)
            cast(Tensor, layer.running_mean).normal_(std=0.2)
            cast(Tensor, layer.running_var).uniform_(0.5, 1.5)


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    error = (found - expected).abs().max() / expected.abs().max()
    assert error < tolerance, f"relative error {error}"


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        (hrnet(18), 9_562_260),
        (hrnet(30), 25_812_276),
        (hrnet(64), 115_697_600),
        (hrnet_small_v1(), 1_477_920),
        (hrnet_small_v2(), 3_860_720),
    ],
)
def test_parameter_count_is_the_published_one(spec: HRNetSpec, count: int) -> None:
    # Oracle: counts of the released networks; exact.
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in HRNet(spec).parameters()) == count


@pytest.mark.parametrize(
    ("name", "spec"),
    [("hrnet_w18_small", hrnet_small_v1()), ("hrnet_w18_small_v2", hrnet_small_v2())],
)
def test_equals_timm_with_weights_exchanged_both_ways(name: str, spec: HRNetSpec) -> None:
    # Oracle: timm's implementation. Tolerance: float32 sums in the order that the convolution library chooses.
    theirs, ours = timm.create_model(name, pretrained=False).eval(), HRNet(spec).eval()
    images = torch.randn(1, 3, 64, 96)
    randomize_norms(theirs)
    ours.load_state_dict({key: value for key, value in theirs.state_dict().items() if key in ours.state_dict()})
    for found, expected in zip(_maps(ours, images), _timm_maps(theirs, images), strict=True):
        assert_close(found, expected)
    init_kaiming(ours)
    randomize_norms(ours)
    left = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert not left.unexpected_keys
    assert {key.split(".")[0] for key in left.missing_keys} == {
        "incre_modules",
        "downsamp_modules",
        "final_layer",
        "classifier",
    }
    for found, expected in zip(_maps(ours, images), _timm_maps(theirs, images), strict=True):
        assert_close(found, expected)


@torch.inference_mode()
def _maps(model: HRNet, images: Tensor) -> list[Tensor]:
    return model(images)


@torch.inference_mode()
def _timm_maps(model: nn.Module, images: Tensor) -> list[Tensor]:
    stem = functional.relu(model.bn2(model.conv2(functional.relu(model.bn1(model.conv1(images))))))  # type: ignore[operator]
    return cast(Callable[[Tensor], list[Tensor]], model.stages)(stem)


def test_padding_by_hand_changes_nothing() -> None:
    # Property, exact: the network pads to a multiple of 32 and crops, which anyone can do outside.
    model = HRNet(TINY).eval()
    randomize_norms(model)
    images = torch.randn(2, 3, 45, 70)
    padded = functional.pad(images, (0, 96 - 70, 0, 64 - 45))
    for level, (found, whole) in enumerate(zip(_maps(model, images), _maps(model, padded), strict=True)):
        height, width = -(-45 // (4 << level)), -(-70 // (4 << level))
        torch.testing.assert_close(found, whole[..., :height, :width], rtol=0, atol=0)


@pytest.mark.parametrize("align_corners", [False, True])
def test_bilinear_fusion_needs_no_padding(align_corners: bool) -> None:
    # Oracle: the definition, one output at a time; odd sizes, where no factor of two fits. Tolerance: order of the sum.
    spec = replace(TINY, fusion_upsample="bilinear", align_corners=align_corners)
    model = HRNet(spec).eval()
    randomize_norms(model)
    fusion = model.get_submodule("stage4.1.fuse_layers")
    maps = [torch.randn(1, 4 << level, -(-11 // (1 << level)), -(-18 // (1 << level))) for level in range(4)]
    with torch.inference_mode():
        found = fusion(maps)
        for target, output in enumerate(found):
            terms = []
            for source, x in enumerate(maps):
                path = model.get_submodule(f"stage4.1.fuse_layers.{target}.{source}") if source != target else None
                y = x if path is None else path(x)
                if y.shape != maps[target].shape:
                    y = functional.interpolate(y, maps[target].shape[-2:], mode="bilinear", align_corners=align_corners)
                terms.append(y)
            assert_close(output, torch.stack(terms).sum(0).clamp(min=0))
        assert [tuple(x.shape[-2:]) for x in model(torch.randn(1, 3, 45, 70))] == [(12, 18), (6, 9), (3, 5), (2, 3)]


def test_high_resolution_only_is_the_first_map_of_all() -> None:
    # Property, exact: V1 leaves away what does not reach the first map.
    whole = HRNet(TINY).eval()
    randomize_norms(whole)
    alone = HRNet(replace(TINY, high_resolution_only=True)).eval()
    alone.load_state_dict({key: value for key, value in whole.state_dict().items() if key in alone.state_dict()})
    images = torch.randn(1, 3, 64, 32)
    (found,) = _maps(alone, images)
    torch.testing.assert_close(found, _maps(whole, images)[0], rtol=0, atol=0)
    alone.train()(images)[0].sum().backward()
    unused = [name for name, parameter in alone.named_parameters() if parameter.grad is None]
    assert not unused


def test_batch_of_one_is_a_row_of_a_batch() -> None:
    model = HRNet(TINY).eval()
    randomize_norms(model)
    images = torch.randn(3, 3, 32, 64)
    for whole, row in zip(_maps(model, images), _maps(model, images[1:2]), strict=True):
        # Tolerance: the convolution library may sum in another order for another batch size.
        assert_close(row, whole[1:2])


def test_changing_widths_follow_the_general_rule() -> None:
    # Oracle: the transitions' rule in the released code, walked by hand: a branch that stays is made of itself, a new one
    # of the last. Tolerance: layer by layer, norms are not folded into the convolutions before them.
    model = HRNet(EXOTIC).eval()
    randomize_norms(model)
    images = torch.randn(1, 3, 64, 64)
    run = model.get_submodule
    with torch.inference_mode():
        x = run("layer1")(run("bn2")(run("conv2")(run("bn1")(run("conv1")(images)).relu())).relu())
        two = run("stage2")([run("transition1.0")(x), run("transition1.1")(x)])
        three = run("stage3")(
            [run("transition2.0")(two[0]), run("transition2.1")(two[1]), run("transition2.2")(two[1])]
        )
        # The first width stays, so there is no layer.
        assert cast(nn.ModuleList, run("transition3"))[0] is None
        four = run("stage4")(
            [
                three[0],
                run("transition3.1")(three[1]),
                run("transition3.2")(three[2]),
                run("transition3.3")(three[2]),
            ]
        )
        for found, expected in zip(model(images), four, strict=True):
            assert_close(found, expected)


def test_computing_again_changes_nothing() -> None:
    # Property: maps, gradients and running statistics, over two steps, are those of the network that keeps all.
    # Exact but for the gradients: in double precision, what is computed again from the
    # reciprocal deviation differs in the last digits, which the depth of the network amplifies.
    models = [HRNet(TINY).double(), HRNet(TINY, recompute=True).double()]
    models[1].load_state_dict(models[0].state_dict())
    for _ in range(2):
        images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
        outputs = [model.train()(images) for model in models]
        for maps in outputs:
            sum((x.square().mean() for x in maps), torch.zeros(())).backward()
        for found, expected in zip(outputs[1], outputs[0], strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
    for (name, expected), found in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-9, atol=1e-12, msg=name)
    for (name, expected), found in zip(models[0].named_buffers(), models[1].buffers(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, msg=name)
    assert models[1].bn1.num_batches_tracked is not None
    assert models[1].bn1.num_batches_tracked.item() == 2


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 1)])
def test_gradients_of_norm_relu_conv(training: bool, bias: bool, kernel: int, stride: int) -> None:
    # Oracle: autograd of the three steps, double precision, which differs in rounding alone.
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4).double().train(training)
    conv = nn.Conv2d(4, 6, kernel, stride, padding=kernel // 2, bias=bias).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 4, 7, 9, dtype=torch.float64, requires_grad=True)
    inputs = [x, *norm.parameters(), *conv.parameters()]
    expected = conv(functional.relu(norm(x)))
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), inputs)
    found = norm_relu_conv(norm, conv, x)
    assert_close(found, expected)
    for one, other in zip(torch.autograd.grad((found * weights).sum(), inputs), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_layers_with_hooks_are_called() -> None:
    norm, conv = nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1)
    called: list[str] = []
    conv.register_forward_hook(lambda *_: called.append("conv"))
    norm_relu_conv(norm, conv, torch.randn(2, 4, 5, 5))
    assert called == ["conv"]


def test_momentum_reaches_every_norm() -> None:
    model = HRNet(replace(TINY, norm_momentum=0.01))
    assert {layer.momentum for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)} == {0.01}


def test_another_number_of_channels() -> None:
    spec = replace(TINY, in_channels=5)
    assert [tuple(x.shape) for x in HRNet(spec)(torch.randn(2, 5, 32, 32))] == [
        (2, 4, 8, 8),
        (2, 8, 4, 4),
        (2, 16, 2, 2),
        (2, 32, 1, 1),
    ]


def test_initial_weights() -> None:
    # Oracle: closed form. Tolerance: the deviation of 64 * 64 * 9 draws is known to 1 / sqrt(2 n) = 0.4 %; five times that.
    model = HRNet(hrnet_small_v2())
    weight = model.conv2.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    head = nn.Sequential(nn.Conv2d(64, 64, 3), model)
    init_normal(head)
    assert weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert not cast(Tensor, head[0].bias).any()
    kept = nn.Conv2d(8, 8, 1)
    bias = cast(Tensor, kept.bias).clone()
    init_normal(kept, zero_bias=False)
    torch.testing.assert_close(cast(Tensor, kept.bias), bias, rtol=0, atol=0)


def test_counting_by_hand() -> None:
    # Oracle: outputs x inputs x kernel area x positions / groups; exact.
    model = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.Flatten(), nn.Linear(6 * 16, 5))
    images = torch.zeros(1, 4, 8, 8)
    assert count_multiply_accumulates(model, images) == 6 * 2 * 9 * 16 + 96 * 5
    assert not any(layer._forward_hooks for layer in model)
