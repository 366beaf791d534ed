"""The representations that heads read: V1 one map of the backbone, V2 the concatenation of all four, V2p a pyramid.

V1 is the first map alone (the backbone with `high_resolution_only`) and needs no code here.

Source: arXiv 1908.07919, section 3.3 and figure 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from hrnet.io.geometry import Size
from hrnet.nn.backbone import Maps
from hrnet.nn.kernels import chunked_norm_relu_conv, is_exporting, is_observed, is_plain, norm_relu_conv

Levels = Sequence[Float[Tensor, "n c _ _"]]


def concatenate(maps: Maps, align_corners: bool = False) -> Float[Tensor, "n c h w"]:
    """Return V2: all maps, from high to low resolution, at the size of the first."""
    size = maps[0].shape[-2:]
    coarse = [functional.interpolate(x, size=size, mode="bilinear", align_corners=align_corners) for x in maps[1:]]
    return torch.cat([maps[0], *coarse], dim=1)


class ConcatConv2d(nn.Conv2d):
    """A convolution of `concatenate(maps)` that never holds the concatenation; weights as of the plain convolution.

    A convolution of a concatenation is a sum over its parts. With one pixel wide kernels it is also the same before and
    after upsampling, since the weights of bilinear neighbors add up to one: each map is convolved at its own
    resolution, an eighth of the work for 1 + 2 + 4 + 8 parts. With wider kernels the upsampled maps are recomputed for
    the gradient instead of being kept.
    """

    def __init__(self, widths: Sequence[int], outputs: int, kernel: int = 1, align_corners: bool = False) -> None:
        super().__init__(sum(widths), outputs, kernel, padding=kernel // 2)
        self.widths: tuple[int, ...] = tuple(widths)
        self.align_corners = align_corners

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # takes the parts
        self, first: Float[Tensor, "n _ h w"], *others: Float[Tensor, "n _ _ _"], channels: slice = slice(None)
    ) -> Float[Tensor, "n c h w"]:
        """Return all, or some, of the output channels."""
        assert self.bias is not None
        of_first, *weights = self.weight[channels].split(self.widths, dim=1)
        size = (first.shape[-2], first.shape[-1])
        total = functional.conv2d(first, of_first, self.bias[channels], padding=self.padding)
        for x, weight in zip(others, weights, strict=True):
            if self.kernel_size == (1, 1):
                # In place: nothing needs the values before.
                total += self._upsample(functional.conv2d(x, weight), size)
            elif torch.is_grad_enabled() and not is_exporting():
                total += checkpoint(self._convolve, x, weight, size, use_reentrant=False, preserve_rng_state=False)
            else:
                total += self._convolve(x, weight, size)
        return total

    def _convolve(self, x: Tensor, weight: Tensor, size: Size) -> Tensor:
        return functional.conv2d(self._upsample(x, size), weight, padding=self.padding)

    def _upsample(self, x: Tensor, size: Size) -> Tensor:
        return functional.interpolate(x, size=size, mode="bilinear", align_corners=self.align_corners)


class PixelHead(nn.Module):
    """A value for each pixel of the V2 representation: 1x1 convolution, batch norm, ReLU, convolution.

    The paper says "a linear classifier"; the released networks have the first three layers before it, with a bias that
    the batch norm makes redundant. Takes the maps of the backbone, whose channels are `widths`; `kernel` is that of the last
    convolution.
    """

    def __init__(self, widths: Sequence[int], outputs: int, kernel: int = 1, align_corners: bool = False) -> None:
        super().__init__()
        self.project: ConcatConv2d = ConcatConv2d(widths, sum(widths), 1, align_corners)
        self.norm: nn.BatchNorm2d = nn.BatchNorm2d(sum(widths))
        self.classify: nn.Conv2d = nn.Conv2d(sum(widths), outputs, kernel, padding=kernel // 2)

    def forward(self, maps: Maps) -> Float[Tensor, "n k h w"]:
        chunked = is_plain(self.classify, self.norm) and self.classify.groups == 1
        chunked = chunked and type(self.project) is ConcatConv2d and not is_observed(self.project)
        if torch.is_grad_enabled() or self.training or not chunked:
            return norm_relu_conv(self.norm, self.classify, self.project(*maps))
        return chunked_norm_relu_conv(self.project, self.norm, self.classify, maps)


class MapsSequential(nn.Sequential):
    """Layers in a row, of which the first takes all maps."""

    def forward(self, maps: Maps) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # takes maps
        first, *others = self
        x = first(*maps)
        for layer in others:
            x = layer(x)
        return x


def concat_conv_bn(widths: Sequence[int], outputs: int, kernel: int, align_corners: bool) -> MapsSequential:
    """Build a convolution of the V2 representation, with bias, batch norm and ReLU."""
    return MapsSequential(
        ConcatConv2d(widths, outputs, kernel, align_corners), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Pyramid(nn.Module):
    """V2p: the concatenation reduced to one width and pooled to every level, each with its own 3x3 convolution.

    Every level is pooled directly from the stride-4 map, not from the level above it. No batch norm, no activation.

    Args:
        widths: channels of the maps of the backbone.
        outputs: channels of every level.
        num_levels: number of levels, the first at stride 4 times `stride`.
        pooling: average as published, or maximum.
        stride: stride of the last convolutions; 2 in the FCOS networks, which start at stride 8.
    """

    def __init__(
        self,
        widths: Sequence[int],
        outputs: int = 256,
        num_levels: int = 5,
        pooling: Literal["average", "max"] = "average",
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.reduce: ConcatConv2d = ConcatConv2d(widths, outputs)
        self.levels: nn.ModuleList = nn.ModuleList(
            nn.Conv2d(outputs, outputs, 3, stride, padding=1) for _ in range(num_levels)
        )
        for layer in [self.reduce, *self.levels]:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            # Source: HRNet-Object-Detection, the neck's initialization (Kaiming with slope 1).
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)

    def forward(self, maps: Maps) -> list[Float[Tensor, "n c _ _"]]:
        finest = self.reduce(*maps)
        pool = functional.avg_pool2d if self.pooling == "average" else functional.max_pool2d
        return [
            self._level(conv, finest if level == 0 else pool(finest, 2**level, 2**level))
            for level, conv in enumerate(self.levels)
        ]

    @staticmethod
    def _level(conv: nn.Module, x: Float[Tensor, "n c _ _"]) -> Float[Tensor, "n c _ _"]:
        # PyTorch 2.14 does not write the bf16 gradient of a kernel with stride 2 over a single pixel on a CPU.
        if x.shape[-2:] == (1, 1) and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return conv(x.float())
        return conv(x)
