"""HRNet: parallel branches of four resolutions, fused again and again. ``HRNet(images) -> maps``.

The file reads from the whole to its parts: network, transition, module, fusion, blocks, initialization. Parameter names
are those of the published networks (``conv1``, ``layer1``, ``transition1``, ``stage2`` ...), so that backbone weights of
every origin load without a map.

Source: arXiv 1908.07919, section 3; where text and released code differ, the code is followed and a comment says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from hrnet.nn.kernels import conv_norm, is_exporting, norm_relu_conv
from hrnet.nn.spec import HRNetSpec, StageSpec, Upsample

Maps = Sequence[Float[Tensor, "n _ _ _"]]


class HRNet(nn.Module):
    """The backbone: a stem, then four stages, each with one branch more than the one before.

    Any input size works: where the fusion is ``nearest``, which needs sizes divisible by 32 to keep the resolutions in
    step, the image is padded with zeros at the right and bottom and the maps are cropped back.

    New weights are drawn as for the published classification networks; `init_normal` gives those of pose and
    segmentation.

    Args:
        spec: the network as data.
        recompute: True to recompute in training, for the gradient, what lies between a norm and the next convolution of
            a block, instead of keeping it.
    """

    stride = 32

    def __init__(self, spec: HRNetSpec, *, recompute: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.recompute = recompute
        stem = spec.stem_width
        self.conv1: nn.Conv2d = nn.Conv2d(spec.in_channels, stem, 3, 2, padding=1, bias=False)
        self.bn1: nn.BatchNorm2d = nn.BatchNorm2d(stem)
        self.conv2: nn.Conv2d = nn.Conv2d(stem, stem, 3, 2, padding=1, bias=False)
        self.bn2: nn.BatchNorm2d = nn.BatchNorm2d(stem)
        first = spec.bottleneck_width * Bottleneck.expansion
        # Stage 1 has one branch, of bottlenecks.
        self.layer1: nn.Sequential = nn.Sequential(
            *[Bottleneck(first if block else stem, spec.bottleneck_width) for block in range(spec.bottlenecks)]
        )
        before: tuple[int, ...] = (first,)
        for number, stage in enumerate(spec.stages, start=2):
            self.add_module(f"transition{number - 1}", _transition(before, stage.widths))
            self.add_module(f"stage{number}", _stage(spec, stage, last=number == 4))
            before = stage.widths
        for module in self.modules():
            if isinstance(module, BasicBlock | Bottleneck):
                module.recompute = recompute
        init_kaiming(self)
        set_norm_momentum(self, spec.norm_momentum)

    def forward(self, images: Float[Tensor, "n c h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """Return the maps at strides 4, 8, 16, 32 (V1: stride 4 only) of normalized images."""
        height, width = images.shape[-2:]
        if images.device.type == "cpu" and (is_exporting() or not torch.is_grad_enabled()):
            # A forward on a CPU is faster with the channels innermost, and all that follows stays so. Training chooses for
            # the weights too (`TrainSpec.channels_last`); with one and not the other it is slower.
            images = images.contiguous(memory_format=torch.channels_last)
        if self.spec.fusion_upsample == "nearest":
            images = functional.pad(images, (0, -width % self.stride, 0, -height % self.stride))
        maps = [self.layer1(self._stem(images))]
        for number in (2, 3, 4):
            transition, stage = self.get_submodule(f"transition{number - 1}"), self.get_submodule(f"stage{number}")
            maps = stage(_branch_out(cast(nn.ModuleList, transition), maps))
        return [x[..., : -(-height // (4 << level)), : -(-width // (4 << level))] for level, x in enumerate(maps)]

    def _stem(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d (h+3)//4 (w+3)//4"]:
        if self.recompute and torch.is_grad_enabled():
            x = self.bn2(norm_relu_conv(self.bn1, self.conv2, self.conv1(images)))
        else:
            x = functional.relu(conv_norm(self.conv1, self.bn1, images), inplace=True)
            x = conv_norm(self.conv2, self.bn2, x)
        return functional.relu(x, inplace=True)


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """Build the transition from the branches of one stage to those of the next.

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
    return _numbered(layers)


def _branch_out(transition: nn.ModuleList, maps: Maps) -> list[Tensor]:
    """Return the inputs of the next stage's branches; a new branch is made of the last map of the stage before."""
    sources = [maps[min(branch, len(maps) - 1)] for branch in range(len(transition))]
    return [x if layer is None else layer(x) for layer, x in zip(transition, sources, strict=True)]


def _stage(spec: HRNetSpec, stage: StageSpec, last: bool) -> nn.Sequential:
    outputs = [len(stage.widths)] * stage.modules
    if spec.high_resolution_only and last:
        outputs[-1] = 1
    modules = [HighResolutionModule(stage, spec.fusion_upsample, spec.align_corners, count) for count in outputs]
    return nn.Sequential(*modules)


class HighResolutionModule(nn.Module):
    """Basic blocks on each branch, then the fusion."""

    def __init__(self, stage: StageSpec, upsample: Upsample, align_corners: bool, num_outputs: int) -> None:
        super().__init__()
        self.branches: nn.ModuleList = nn.ModuleList(
            nn.Sequential(*[BasicBlock(width, width) for _ in range(stage.blocks)]) for width in stage.widths
        )
        self.fuse_layers: Fusion = Fusion(stage.widths, num_outputs, upsample, align_corners)

    def forward(self, maps: Maps) -> list[Float[Tensor, "n _ _ _"]]:
        return self.fuse_layers([branch(x) for branch, x in zip(self.branches, maps, strict=True)])


class Fusion(nn.ModuleList):
    """The sum, at every output resolution, of all input resolutions, brought to its size and width.

    ``self[i][j]`` turns branch j into output i: None for j = i; for j > i a 1x1 convolution and batch norm, then
    upsampling (the paper says upsampling first; the weights know only this order); for j < i a chain of stride-2 3x3
    convolutions, the last without ReLU. The sum is followed by ReLU.
    """

    def __init__(self, widths: Sequence[int], num_outputs: int, upsample: Upsample, align_corners: bool) -> None:
        super().__init__(
            _numbered([self._path(widths, source, target) for source in range(len(widths))])
            for target in range(num_outputs)
        )
        self.upsample: Upsample = upsample
        self.align_corners: bool | None = align_corners if upsample == "bilinear" else None

    @staticmethod
    def _path(widths: Sequence[int], source: int, target: int) -> nn.Module | None:
        if source == target:
            return None
        if source > target:
            return conv_bn(widths[source], widths[target], 1, relu=False)
        chain = [conv_bn(widths[source], widths[source], 3, 2, relu=True) for _ in range(target - source - 1)]
        return nn.Sequential(*chain, conv_bn(widths[source], widths[target], 3, 2, relu=False))

    def forward(self, maps: Maps) -> list[Float[Tensor, "n _ _ _"]]:
        return [self._fuse(cast(nn.ModuleList, paths), maps, target) for target, paths in enumerate(self)]

    def _fuse(self, paths: nn.ModuleList, maps: Maps, target: int) -> Tensor:
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


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution only where the width changes."""

    recompute = False

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv1: nn.Conv2d = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        self.bn1: nn.BatchNorm2d = nn.BatchNorm2d(width)
        self.conv2: nn.Conv2d = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2: nn.BatchNorm2d = nn.BatchNorm2d(width)
        self.downsample: ConvBN | None = None if inputs == width else conv_bn(inputs, width, 1, relu=False)

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
        self.conv1: nn.Conv2d = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1: nn.BatchNorm2d = nn.BatchNorm2d(width)
        self.conv2: nn.Conv2d = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2: nn.BatchNorm2d = nn.BatchNorm2d(width)
        self.conv3: nn.Conv2d = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3: nn.BatchNorm2d = nn.BatchNorm2d(outputs)
        self.downsample: ConvBN | None = None if inputs == outputs else conv_bn(inputs, outputs, 1, relu=False)

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


class ConvBN(nn.Sequential):
    """Convolution, batch norm and, if wanted, ReLU, numbered 0, 1, 2 as in the published networks; see `conv_bn`."""

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d _ _"]:  # pyright: ignore[reportIncompatibleMethodOverride]  # a clearer name
        y = conv_norm(self[0], self[1], x)
        return y if len(self) == 2 else self[2](y)


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, *, relu: bool, bias: bool = False) -> ConvBN:
    """Build a convolution with batch norm and, if wanted, ReLU; padded so that stride 1 keeps the size."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias)
    return ConvBN(conv, nn.BatchNorm2d(outputs), *([nn.ReLU(inplace=True)] if relu else []))


def _numbered(layers: Sequence[nn.Module | None]) -> nn.ModuleList:
    """Return the layers as a list; None, for which torch has no type there, keeps the published numbering."""
    return nn.ModuleList(cast(list[nn.Module], layers))


def set_norm_momentum(module: nn.Module, momentum: float) -> None:
    """Set the fraction of a batch in the running statistics of all batch norms inside."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = momentum


def init_kaiming(module: nn.Module) -> None:
    """Draw Kaiming normal weights, fan out, as the published classification networks start; biases keep PyTorch's."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def init_normal(module: nn.Module, *, zero_bias: bool = True) -> None:
    """Draw weights of standard deviation 0.001, as the published pose (zero biases) and segmentation networks start."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=0.001)
            if zero_bias and layer.bias is not None:
                nn.init.zeros_(layer.bias)


def count_multiply_accumulates(model: nn.Module, images: Float[Tensor, "n c h w"]) -> int:
    """Return the multiply-accumulates of all convolutions and linear layers in one forward.

    Published "GFLOPs" are these / 2**30. Works on the device ``meta`` too, where nothing is computed.
    """
    total = 0

    def count(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = cast(Tensor, layer.weight)
        positions = output.numel() // weight.shape[0]
        total += positions * weight.numel()

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return total
