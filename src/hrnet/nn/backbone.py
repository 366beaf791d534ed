"""HRNet: four resolutions side by side, fused again and again. ``HRNet(images) -> maps``.

Parameter names are those of the published networks (``conv1``, ``layer1``, ``transition1``, ``stage2`` ...), so that
backbone weights of every origin load without a map.

Source: arXiv 1908.07919, section 3; where text and released code differ, the code is followed and the place says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from hrnet.nn.spec import HRNetSpec, StageSpec, Upsample


def conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, *, relu: bool, bias: bool = False
) -> nn.Sequential:
    """Convolution, batch norm and, if wanted, ReLU; padded so that stride 1 keeps the size."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias),
        nn.BatchNorm2d(outputs),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return ConvBN(*layers)


class ConvBN(nn.Sequential):
    """What `conv_bn` makes."""

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d _ _"]:  # type: ignore[override]  # a clearer name
        y = conv_norm(cast(nn.Conv2d, self[0]), self[1], x)
        return y if len(self) == 2 else self[2](y)


def conv_norm(conv: nn.Conv2d, norm: nn.Module, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d _ _"]:
    """``norm(conv(x))``; where nothing is learned as one convolution, whose result is then all that is held."""
    if torch.is_grad_enabled() or norm.training or type(norm) is not nn.BatchNorm2d or drawing_graph():
        return norm(conv(x))
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    shift = norm.bias - (mean if conv.bias is None else mean - conv.bias) * scale
    return functional.conv2d(x, conv.weight * scale[:, None, None, None], shift, conv.stride, conv.padding)


def drawing_graph() -> bool:
    """Whether the network is being written down for something else to run, which has its own ways of being fast."""
    # Documented, but not in the list of what its module exports.
    return torch.jit.is_tracing() or torch.compiler.is_compiling()  # pyright: ignore[reportPrivateImportUsage]


def norm_relu_conv(norm: nn.Module, conv: nn.Conv2d, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d _ _"]:
    """``conv(relu(norm(x)))`` that keeps x for the gradient and computes what lies between again: that is half of the
    memory, for the two cheapest of the three steps."""
    if not torch.is_grad_enabled() or type(norm) is not nn.BatchNorm2d or norm._forward_hooks or conv._forward_hooks:
        return conv(functional.relu(norm(x), inplace=True))
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    y: Tensor = _NormReluConv.apply(x, norm.weight, norm.bias, conv.weight, conv.bias, norm, conv)
    return y


class _NormReluConv(torch.autograd.Function):
    """The gradients of the three steps, with the least that is held at once: the ReLU's is made in place."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        norm: nn.BatchNorm2d,
        conv: nn.Conv2d,
    ) -> Tensor:
        ctx.own, ctx.eps, ctx.conv = norm.training or norm.running_mean is None, norm.eps, conv
        running = norm.running_mean, norm.running_var
        y, mean, rate = torch.native_batch_norm(x, scale, shift, *running, ctx.own, norm.momentum or 0.0, norm.eps)
        if not ctx.own:
            assert running[0] is not None
            assert running[1] is not None
            mean, rate = running[0].clone(), (running[1] + norm.eps).rsqrt()
        ctx.save_for_backward(x, scale, shift, weight, mean, rate)
        ctx.bias = None if bias is None else list(bias.shape)
        return functional.conv2d(
            functional.relu(y, inplace=True), weight, bias, conv.stride, conv.padding, conv.dilation
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, scale, shift, weight, mean, rate = ctx.saved_tensors
        variance = rate.pow(-2) - ctx.eps
        y = functional.batch_norm(x, mean, variance, scale, shift, False, 0.0, ctx.eps)
        functional.relu(y, inplace=True)
        conv, ops = ctx.conv, torch.ops.aten
        fixed = ctx.bias, conv.stride, conv.padding, conv.dilation, False, [0], 1
        weight, mask = weight.to(y.dtype), [True, True, ctx.bias is not None]
        if conv.kernel_size == (1, 1):
            # The widest maps, of the heads: y is not needed beside its gradient, at the price of a second call.
            _, by_weight, by_bias = ops.convolution_backward(gradient, y, weight, *fixed, [False, *mask[1:]])
            off = y <= 0
            del y
            inner = ops.convolution_backward(gradient, x, weight, *fixed, [True, False, False])[0].masked_fill_(off, 0)
        else:
            inner, by_weight, by_bias = ops.convolution_backward(gradient, y, weight, *fixed, mask)
            ops.threshold_backward.grad_input(inner, y, 0, grad_input=inner)
            del y
        by_x, by_scale, by_shift = ops.native_batch_norm_backward(
            inner, x, scale, mean, variance, mean, rate, ctx.own, ctx.eps, [True, True, True]
        )
        return by_x, by_scale, by_shift, by_weight, by_bias, None, None


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution only where the width changes."""

    # Whether what lies between is computed again for the gradient.
    recompute = False

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None if inputs == width else conv_bn(inputs, width, 1, relu=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        if self.recompute and torch.is_grad_enabled():
            y = self.bn2(norm_relu_conv(self.bn1, self.conv2, self.conv1(x)))
        else:
            y = functional.relu(conv_norm(self.conv1, self.bn1, x), inplace=True)
            y = conv_norm(self.conv2, self.bn2, y)
        y += x if self.downsample is None else self.downsample(x)
        return functional.relu(y, inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut; returns four times the middle width."""

    expansion = 4
    recompute = False

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None if inputs == outputs else conv_bn(inputs, outputs, 1, relu=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        if self.recompute and torch.is_grad_enabled():
            y = norm_relu_conv(self.bn1, self.conv2, self.conv1(x))
            y = self.bn3(norm_relu_conv(self.bn2, self.conv3, y))
        else:
            y = functional.relu(conv_norm(self.conv1, self.bn1, x), inplace=True)
            y = functional.relu(conv_norm(self.conv2, self.bn2, y), inplace=True)
            y = conv_norm(self.conv3, self.bn3, y)
        y += x if self.downsample is None else self.downsample(x)
        return functional.relu(y, inplace=True)


class Fusion(nn.ModuleList):
    """Every output resolution is the sum of all input resolutions, brought to its size and width.

    ``self[i][j]`` turns branch j into output i: None for j = i; for j > i a 1x1 convolution and batch norm, then
    upsampling (the paper says upsampling first; the weights know only this order); for j < i a chain of stride-2 3x3
    convolutions, the last without ReLU. The sum is followed by ReLU.
    """

    def __init__(self, widths: Sequence[int], num_outputs: int, upsample: Upsample, align_corners: bool) -> None:
        super().__init__(
            # None entries keep the published numbering.
            nn.ModuleList([self._path(widths, source, target) for source in range(len(widths))])  # type: ignore[arg-type]
            for target in range(num_outputs)
        )
        self.upsample: Upsample = upsample
        self.align_corners = align_corners if upsample == "bilinear" else None

    @staticmethod
    def _path(widths: Sequence[int], source: int, target: int) -> nn.Module | None:
        if source == target:
            return None
        if source > target:
            return conv_bn(widths[source], widths[target], 1, relu=False)
        chain = [conv_bn(widths[source], widths[source], 3, 2, relu=True) for _ in range(target - source - 1)]
        return nn.Sequential(*chain, conv_bn(widths[source], widths[target], 3, 2, relu=False))

    def forward(self, maps: Sequence[Float[Tensor, "n _ _ _"]]) -> list[Float[Tensor, "n _ _ _"]]:
        return [self._fuse(cast(nn.ModuleList, paths), maps, target) for target, paths in enumerate(self)]

    def _fuse(self, paths: nn.ModuleList, maps: Sequence[Tensor], target: int) -> Tensor:
        total: Tensor | None = None
        for source, (path, x) in enumerate(zip(paths, maps, strict=True)):
            if source != target:
                x = path(x)
            if source > target:
                size = maps[target].shape[-2:]
                x = functional.interpolate(x, size=size, mode=self.upsample, align_corners=self.align_corners)
            # Out of place: a map that enters as it is still feeds the other outputs.
            total = x if total is None else total + x
        assert total is not None
        return functional.relu(total)


class HighResolutionModule(nn.Module):
    """Basic blocks on each branch, then the fusion."""

    def __init__(self, stage: StageSpec, upsample: Upsample, align_corners: bool, num_outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*[BasicBlock(width, width) for _ in range(stage.blocks)]) for width in stage.widths
        )
        self.fuse_layers = Fusion(stage.widths, num_outputs, upsample, align_corners)

    def forward(self, maps: Sequence[Float[Tensor, "n _ _ _"]]) -> list[Float[Tensor, "n _ _ _"]]:
        return self.fuse_layers([branch(x) for branch, x in zip(self.branches, maps, strict=True)])


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """From the branches of one stage to those of the next.

    A branch that stays gets a 3x3 convolution only where its width changes; a new branch comes from the
    lowest-resolution branch alone, through stride-2 convolutions. (After stage 1 both branches come from its one map:
    two convolutions where the paper's text names one.)
    """
    layers: list[nn.Module | None] = []
    for branch, width in enumerate(after):
        if branch < len(before):
            layers.append(None if before[branch] == width else conv_bn(before[branch], width, 3, relu=True))
        else:
            steps = branch + 1 - len(before)
            outputs = [before[-1]] * (steps - 1) + [width]
            layers.append(nn.Sequential(*[conv_bn(before[-1], output, 3, 2, relu=True) for output in outputs]))
    return nn.ModuleList(layers)  # type: ignore[arg-type]  # None entries keep the published numbering


class HRNet(nn.Module):
    """The backbone.

    Any input size works: where the fusion is ``nearest``, which needs sizes divisible by 32 to keep the resolutions in
    step, the image is padded with zeros at the right and bottom and the maps are cropped back.

    New weights are drawn as for the published classification networks; `init_normal` gives those of pose and
    segmentation.

    Args:
        spec: the network as data.
        recompute: whether training forgets what lies between a norm and the next convolution of a block, and computes it
            again for the gradient.
    """

    stride = 32

    def __init__(self, spec: HRNetSpec, *, recompute: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.recompute = recompute
        stem = spec.stem_width
        self.conv1 = nn.Conv2d(spec.in_channels, stem, 3, 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, 2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        first = spec.bottleneck_width * Bottleneck.expansion
        self.layer1 = nn.Sequential(
            *[Bottleneck(first if block else stem, spec.bottleneck_width) for block in range(spec.bottlenecks)]
        )
        before: tuple[int, ...] = (first,)
        for number, stage in enumerate(spec.stages, start=2):
            self.add_module(f"transition{number - 1}", _transition(before, stage.widths))
            self.add_module(f"stage{number}", self._stage(stage, last=number == 4))
            before = stage.widths
        for module in self.modules():
            if isinstance(module, BasicBlock | Bottleneck):
                module.recompute = recompute
        init_kaiming(self)
        set_norm_momentum(self, spec.norm_momentum)

    def _stage(self, stage: StageSpec, last: bool) -> nn.Sequential:
        modules: list[nn.Module] = []
        for module in range(stage.modules):
            only_high = self.spec.high_resolution_only and last and module == stage.modules - 1
            outputs = 1 if only_high else len(stage.widths)
            modules.append(HighResolutionModule(stage, self.spec.fusion_upsample, self.spec.align_corners, outputs))
        return nn.Sequential(*modules)

    def _stem(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h/4 w/4"]:
        if self.recompute and torch.is_grad_enabled():
            x = self.bn2(norm_relu_conv(self.bn1, self.conv2, self.conv1(images)))
        else:
            x = functional.relu(conv_norm(self.conv1, self.bn1, images), inplace=True)
            x = conv_norm(self.conv2, self.bn2, x)
        return functional.relu(x, inplace=True)

    def _advance(self, number: int, maps: list[Float[Tensor, "n _ _ _"]]) -> list[Float[Tensor, "n _ _ _"]]:
        """Through the transition and the stage of this number."""
        transition, stage = self.get_submodule(f"transition{number - 1}"), self.get_submodule(f"stage{number}")
        maps = [
            # New branches are made of the last map of the stage before.
            maps[min(branch, len(maps) - 1)] if layer is None else layer(maps[min(branch, len(maps) - 1)])
            for branch, layer in enumerate(cast(nn.ModuleList, transition))
        ]
        return stage(maps)

    def forward(self, images: Float[Tensor, "n c h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """Maps at strides 4, 8, 16, 32 (V1: stride 4 only) of normalized images."""
        height, width = images.shape[-2:]
        if images.device.type == "cpu" and not torch.is_grad_enabled():
            # A forward on a CPU is faster with the channels innermost, and all that follows stays so. Training chooses for
            # the weights too (`TrainSpec.channels_last`); with one and not the other it is slower.
            images = images.contiguous(memory_format=torch.channels_last)
        if self.spec.fusion_upsample == "nearest":
            images = functional.pad(images, (0, -width % self.stride, 0, -height % self.stride))
        maps = [self.layer1(self._stem(images))]
        for number in (2, 3, 4):
            maps = self._advance(number, maps)
        return [x[..., : -(-height // (4 << level)), : -(-width // (4 << level))] for level, x in enumerate(maps)]


def set_norm_momentum(module: nn.Module, momentum: float) -> None:
    """The share of a batch in the running statistics, for all batch norms inside."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = momentum


def init_kaiming(module: nn.Module) -> None:
    """Kaiming normal, fan out, as the published classification networks start; biases keep PyTorch's default."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def init_normal(module: nn.Module, *, zero_bias: bool = True) -> None:
    """Normal with standard deviation 0.001, as the published pose (zero biases) and segmentation networks start."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=0.001)
            if zero_bias and layer.bias is not None:
                nn.init.zeros_(layer.bias)


def count_multiply_accumulates(model: nn.Module, images: Float[Tensor, "n c h w"]) -> int:
    """Multiply-accumulates of all convolutions and linear layers in one forward; published "GFLOPs" are these / 2**30.

    Works on the device ``meta`` too, where nothing is computed.
    """
    total = 0

    def count(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = cast(Tensor, layer.weight)
        positions = output.numel() // weight.shape[0]
        total += positions * weight.numel()

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    try:
        # Without gradients layers are run as one (`conv_norm`) and not called.
        with torch.enable_grad():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return total
