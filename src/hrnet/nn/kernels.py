"""Convolution, batch norm and ReLU, run with less memory and less work than layer by layer; the results are the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import _has_any_global_hook

# Channels of a pixel head's wide map that are held at once when no gradient is wanted.
_CHUNK_CHANNELS = 96


def is_exporting() -> bool:
    """Return True while tracing or compiling; the runtimes that follow have their own ways of being fast."""
    # Documented, but not in the list of what its module exports.
    return torch.jit.is_tracing() or torch.compiler.is_compiling()  # pyright: ignore[reportPrivateImportUsage]


def is_plain(conv: nn.Module, norm: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Return True where running a convolution and a batch norm as one computes and shows what the two layers would.

    They are called one by one where they are observed or replaced (`is_observed`, subclasses), where the fused forms
    compute something else (padding that is not of zeros, norms without weights or running statistics), and while
    exporting.
    """
    return (
        type(conv) is nn.Conv2d
        and type(norm) is nn.BatchNorm2d
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and None not in (norm.weight, norm.running_mean, norm.momentum)
        and not is_observed(conv, norm)
        and not is_exporting()
    )


def is_observed(*layers: nn.Module) -> bool:
    """Return True if calls of one of the layers run more than its class's `forward`: hooks, or a `forward` of its own."""
    return any(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
        or "forward" in vars(layer)
        for layer in layers
    ) or bool(_has_any_global_hook())


def conv_norm(conv: nn.Module, norm: nn.Module, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d _ _"]:
    """Return ``norm(conv(x))``.

    Without gradients the norm is folded into the convolution, so that only one output is kept.
    """
    if torch.is_grad_enabled() or norm.training or not is_plain(conv, norm):
        return norm(conv(x))
    assert isinstance(norm, nn.BatchNorm2d)
    mean, variance = _statistics(norm)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    shift = norm.bias - (mean if conv.bias is None else mean - conv.bias) * scale
    weight = conv.weight * scale[:, None, None, None]
    return functional.conv2d(x, weight, shift, *_geometry(conv))


def norm_relu_conv(norm: nn.Module, conv: nn.Module, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d _ _"]:
    """Return ``conv(relu(norm(x)))``.

    With gradients only x is kept and the two cheapest of the three steps are recomputed: half of the memory.
    """
    # PyTorch ends the process in the norm's gradient of an empty batch.
    if not torch.is_grad_enabled() or not is_plain(conv, norm) or x.numel() == 0:
        y = norm(x)
        return conv(functional.relu(y, inplace=y is not x))
    assert isinstance(norm, nn.BatchNorm2d)
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
        ctx.batch_statistics, ctx.eps, ctx.conv = norm.training, norm.eps, conv
        y, mean, rate = torch.native_batch_norm(
            x, scale, shift, *_statistics(norm), norm.training, norm.momentum or 0.0, norm.eps
        )
        if not norm.training:
            running_mean, running_var = _statistics(norm)
            mean, rate = running_mean.clone(), (running_var + norm.eps).rsqrt()
        ctx.save_for_backward(x, scale, shift, weight, mean, rate)
        ctx.bias_size = None if bias is None else list(bias.shape)
        return functional.conv2d(functional.relu(y, inplace=True), weight, bias, *_geometry(conv))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]  # one output
        x, scale, shift, weight, mean, rate = ctx.saved_tensors
        variance = rate.pow(-2) - ctx.eps
        if torch.is_grad_enabled():
            return _differentiable_gradients(ctx, gradient, mean, variance)
        y = functional.batch_norm(x, mean, variance, scale, shift, False, 0.0, ctx.eps)
        functional.relu(y, inplace=True)
        conv, ops = ctx.conv, torch.ops.aten
        fixed = ctx.bias_size, conv.stride, conv.padding, conv.dilation, False, [0], conv.groups
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


def _differentiable_gradients(ctx: Any, gradient: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of `_NormReluConv` by autograd, so that they can be differentiated again (create_graph)."""
    x, scale, shift, weight, *_ = ctx.saved_tensors
    statistics = (None, None) if ctx.batch_statistics else (mean, variance)
    y = functional.batch_norm(x, *statistics, scale, shift, ctx.batch_statistics, 0.0, ctx.eps)
    y = functional.conv2d(functional.relu(y), weight.to(y.dtype), None, *_geometry(ctx.conv))
    *needed, bias_needed = ctx.needs_input_grad[:5]
    wanted = [tensor for tensor, needs in zip((x, scale, shift, weight), needed, strict=True) if needs]
    found = iter(torch.autograd.grad(y, wanted, gradient, create_graph=True))
    by_bias = gradient.sum((0, 2, 3)) if bias_needed else None
    return (*(next(found) if needs else None for needs in needed), by_bias, None, None)


def _geometry(conv: nn.Conv2d) -> tuple[Any, ...]:
    return conv.stride, conv.padding, conv.dilation, conv.groups


def chunked_norm_relu_conv(
    project: nn.Module, norm: nn.BatchNorm2d, conv: nn.Conv2d, maps: Sequence[Float[Tensor, "n _ _ _"]]
) -> Float[Tensor, "n k h w"]:
    """Return ``conv(relu(norm(project(maps))))`` without gradients, some channels of the wide map after the other.

    `project` is a `ConcatConv2d`, the norm in evaluation mode, and `conv`, of one group, sums over the chunks.
    """
    mean, variance = _statistics(norm)
    total: Tensor | None = None
    for start in range(0, conv.in_channels, _CHUNK_CHANNELS):
        chunk = slice(start, start + _CHUNK_CHANNELS)
        statistics = mean[chunk], variance[chunk], norm.weight[chunk], norm.bias[chunk]
        y = functional.batch_norm(project(*maps, channels=chunk), *statistics, False, 0.0, norm.eps)
        bias = None if start else conv.bias
        part = functional.conv2d(functional.relu(y, inplace=True), conv.weight[:, chunk], bias, *_geometry(conv))
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var
