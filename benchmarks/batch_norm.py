"""Batch norm of bf16 maps in channels-last layout: torch's, and a candidate that takes several pixels together.

python benchmarks/batch_norm.py [--rounds 15]

The candidate gives the same function. It is not in the package: its worth shows only on a CPU with bf16 units.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from jaxtyping import Float
from torch import Tensor, nn

# PyTorch reads and writes up to 16 bf16 channels at a time (512 bits as fp32); what is left of a pixel goes one by one.
_LANES = 16


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d`, the same function with the same parameters.

    When training on a CPU in bf16 and channels-last layout with a number of channels that is no multiple of 16, it takes
    several pixels together, so that the channels of all of them fill whole vectors.
    """

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:  # type: ignore[override]
        pixels = self._together(x)
        if pixels == 1:
            return super().forward(x)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        y: Tensor = _GroupedBatchNorm.apply(
            x, self.weight, self.bias, self.running_mean, self.running_var, self.momentum, self.eps, pixels
        )
        return y

    def _together(self, x: Tensor) -> int:
        """How many pixels to take together; 1 where the plain function is as fast or has to be taken."""
        if not (self.training and x.dtype == torch.bfloat16 and x.device.type == "cpu"):
            return 1
        if (
            not (self.affine and self.track_running_stats and self.momentum is not None)
            or torch.compiler.is_compiling()
        ):
            return 1
        pixels = _LANES // math.gcd(_LANES, x.shape[1])
        whole = x.numel() // x.shape[1] % pixels == 0 and x.is_contiguous(memory_format=torch.channels_last)
        return pixels if whole else 1


class _GroupedBatchNorm(torch.autograd.Function):
    """Statistics for each channel of each of the pixels taken together, and then of these; the rest is per channel."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
        pixels: int,
    ) -> Tensor:
        wide = _grouped(x, pixels)
        # Without running statistics it would return its own in bf16.
        unused = torch.zeros(wide.shape[1]), torch.ones(wide.shape[1])
        means, variances = torch.batch_norm_update_stats(wide, *unused, momentum)
        means, variances = means.view(pixels, -1), variances.view(pixels, -1)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        count = x.numel() // x.shape[1]
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (count / max(count - 1, 1)), momentum)
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.pixels, ctx.eps = pixels, eps
        return _ungrouped(_affine(wide, scale * weight, bias - mean * scale * weight, pixels), x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, mean, scale = ctx.saved_tensors
        pixels = ctx.pixels
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        wide, wide_gradient = _grouped(x, pixels), _grouped(gradient, pixels)
        _, weights, biases = torch.ops.aten.native_batch_norm_backward(
            wide_gradient,
            wide,
            weight.repeat(pixels),
            None,
            None,
            mean.repeat(pixels),
            scale.repeat(pixels),
            True,
            ctx.eps,
            [False, True, True],
        )
        weight_gradient, bias_gradient = weights.view(pixels, -1).sum(0), biases.view(pixels, -1).sum(0)
        # The derivative of normalising: a * gradient + b * x + c, per channel.
        count = x.numel() // x.shape[1]
        a = weight * scale
        b = -a * scale * weight_gradient / count
        c = -a * bias_gradient / count - b * mean
        inner = _affine(wide_gradient, a, c, pixels).add_(_affine(wide, b, torch.zeros_like(b), pixels))
        return _ungrouped(inner, x), weight_gradient, bias_gradient, None, None, None, None, None


def _grouped(x: Tensor, pixels: int) -> Tensor:
    """One column of pixels with the channels of several after each other; channels-last, no copy."""
    return x.permute(0, 2, 3, 1).reshape(1, -1, 1, pixels * x.shape[1]).permute(0, 3, 1, 2)


def _ungrouped(wide: Tensor, like: Tensor) -> Tensor:
    n, channels, height, width = like.shape
    return wide.permute(0, 2, 3, 1).reshape(n, height, width, channels).permute(0, 3, 1, 2)


def _affine(wide: Tensor, scale: Tensor, shift: Tensor, pixels: int) -> Tensor:
    """Scale * x + shift per channel, in fp32 inside."""
    scale, shift = scale.repeat(pixels), shift.repeat(pixels)
    zeros, ones = torch.zeros_like(scale), torch.ones_like(scale)
    y: Tensor = torch.native_batch_norm(wide, scale, shift, zeros, ones, False, 0.0, 0.0)[0]
    return y


@dataclass
class Options:
    rounds: int = 15
    batch: int = 16


def measure(module: nn.Module, x: Tensor, gradient: Tensor) -> float:
    x.grad = None
    start = time.perf_counter()
    module(x).backward(gradient)
    return time.perf_counter() - start


def main(options: Options) -> None:
    for channels, height, width in ((18, 64, 48), (24, 48, 40), (32, 64, 48), (36, 32, 24), (48, 24, 20), (96, 12, 10)):
        x = torch.randn(options.batch, channels, height, width).to(torch.bfloat16)
        x = x.to(memory_format=torch.channels_last).requires_grad_()
        gradient = torch.randn_like(x)
        sides = {"torch": nn.BatchNorm2d(channels), "together": BatchNorm2d(channels)}
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name, module in sides.items():
                times[name].append(measure(module, x, gradient))
        plain, together = (statistics.median(values) * 1e3 for values in times.values())
        print(
            f"{channels:3} channels at {height} x {width}: {plain:.2f} and {together:.2f} ms, ratio {plain / together:.2f}"
        )


if __name__ == "__main__":
    main(tyro.cli(Options))
