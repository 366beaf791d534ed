"""Convolution, batch norm and ReLU, run with less memory and less work than layer by layer; the results are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Channels of a pixel head's wide map that are held at once when no gradient is wanted.
_CHUNK_CHANNELS = 96


def is_exporting() -> bool:
    """Return True while tracing or compiling; the runtimes that follow have their own ways of being fast."""
    # Documented, but not in the list of what its module exports.
    return torch.jit.is_tracing() or torch.compiler.is_compiling()  # pyright: ignore[reportPrivateImportUsage]


def conv_norm(conv: nn.Conv2d, norm: nn.Module, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d _ _"]:
    """Return ``norm(conv(x))``.

    Without gradients the norm is folded into the convolution, so that only one output is kept.
    """
    if torch.is_grad_enabled() or norm.training or type(norm) is not nn.BatchNorm2d or is_exporting():
        return norm(conv(x))
    mean, variance = _statistics(norm)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    shift = norm.bias - (mean if conv.bias is None else mean - conv.bias) * scale
    return functional.conv2d(x, conv.weight * scale[:, None, None, None], shift, conv.stride, conv.padding)


def norm_relu_conv(norm: nn.Module, conv: nn.Conv2d, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d _ _"]:
    """Return ``conv(relu(norm(x)))``.

    With gradients only x is kept and the two cheapest of the three steps are recomputed: half of the memory.
    """
    if not torch.is_grad_enabled() or type(norm) is not nn.BatchNorm2d or norm._forward_hooks or conv._forward_hooks:
        return conv(functional.relu(norm(x), inplace=True))
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    y: Tensor = _NormReluConv.apply(x, norm.weight, norm.bias, conv.weight, conv.bias, norm, conv)
    return y


class _NormReluConv(torch.autograd.Function):
    """The gradients of the three steps, with as few maps in memory as possible: the ReLU's is computed in place."""

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
        ctx.batch_statistics, ctx.eps, ctx.conv = norm.training or norm.running_mean is None, norm.eps, conv
        running = norm.running_mean, norm.running_var
        y, mean, rate = torch.native_batch_norm(
            x, scale, shift, *running, ctx.batch_statistics, norm.momentum or 0.0, norm.eps
        )
        if not ctx.batch_statistics:
            running_mean, running_var = _statistics(norm)
            mean, rate = running_mean.clone(), (running_var + norm.eps).rsqrt()
        ctx.save_for_backward(x, scale, shift, weight, mean, rate)
        ctx.bias_size = None if bias is None else list(bias.shape)
        return functional.conv2d(
            functional.relu(y, inplace=True), weight, bias, conv.stride, conv.padding, conv.dilation
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]  # one output
        x, scale, shift, weight, mean, rate = ctx.saved_tensors
        variance = rate.pow(-2) - ctx.eps
        y = functional.batch_norm(x, mean, variance, scale, shift, False, 0.0, ctx.eps)
        functional.relu(y, inplace=True)
        conv, ops = ctx.conv, torch.ops.aten
        fixed = ctx.bias_size, conv.stride, conv.padding, conv.dilation, False, [0], 1
        weight, mask = weight.to(y.dtype), [True, True, ctx.bias_size is not None]
        if conv.kernel_size == (1, 1):
            # The widest maps, of the heads: y is freed before its gradient is made, at the price of a second call.
            _, by_weight, by_bias = ops.convolution_backward(gradient, y, weight, *fixed, [False, *mask[1:]])
            off = y <= 0
            del y
            inner = ops.convolution_backward(gradient, x, weight, *fixed, [True, False, False])[0].masked_fill_(off, 0)
        else:
            inner, by_weight, by_bias = ops.convolution_backward(gradient, y, weight, *fixed, mask)
            ops.threshold_backward.grad_input(inner, y, 0, grad_input=inner)
            del y
        by_x, by_scale, by_shift = ops.native_batch_norm_backward(
            inner, x, scale, mean, variance, mean, rate, ctx.batch_statistics, ctx.eps, [True, True, True]
        )
        return by_x, by_scale, by_shift, by_weight, by_bias, None, None


def chunked_norm_relu_conv(
    project: Callable[[Sequence[Tensor], slice], Tensor],
    norm: nn.BatchNorm2d,
    conv: nn.Conv2d,
    maps: Sequence[Float[Tensor, "n _ _ _"]],
) -> Float[Tensor, "n k h w"]:
    """Return ``conv(relu(norm(project(maps))))`` without gradients, some channels of the wide map after the other.

    Args:
        project: function of the maps and a slice that returns these channels of the wide map.
        norm: batch norm of the wide map, in evaluation mode.
        conv: convolution of the wide map; it sums over the chunks.
        maps: maps of the backbone.
    """
    mean, variance = _statistics(norm)
    total: Tensor | None = None
    for start in range(0, conv.in_channels, _CHUNK_CHANNELS):
        chunk = slice(start, start + _CHUNK_CHANNELS)
        y = functional.batch_norm(
            project(maps, chunk),
            mean[chunk],
            variance[chunk],
            norm.weight[chunk],
            norm.bias[chunk],
            False,
            0.0,
            norm.eps,
        )
        bias = None if start else conv.bias
        part = functional.conv2d(functional.relu(y, inplace=True), conv.weight[:, chunk], bias, padding=conv.padding)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var
