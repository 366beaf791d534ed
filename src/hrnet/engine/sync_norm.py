"""Synchronized batch norm for the CPU, where `torch.nn.SyncBatchNorm` does not run."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` over the batches of all processes, of any sizes; one of them may be empty."""

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch calls it input
        if not self.training:
            return super().forward(x)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        y: Tensor = _Normalize.apply(x, self.weight, self.bias, self)
        return y


class _Normalize(torch.autograd.Function):
    """Batch norm with means and variances reduced over all processes in double precision, one collective each way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.momentum is not None
        # Counts and sums, not means: every value weighs the same, whatever the sizes of the processes' batches.
        moments = torch.zeros(3, x.shape[1], dtype=torch.float64, device=x.device)
        moments[2] = x.numel() // x.shape[1]
        if x.numel():
            variance, mean = torch.var_mean(_wide(x), (0, 2, 3), correction=0)
            moments[0] = moments[2] * mean.double()
            moments[1] = moments[2] * (variance.double() + mean.double().square())
        distributed.all_reduce(moments)
        count = int(moments[2, 0])
        moments = moments[:2] / max(count, 1)
        mean = moments[0].to(norm.running_mean.dtype)
        variance = (moments[1] - moments[0].square()).clamp_(min=0).to(norm.running_var.dtype)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / max(count - 1, 1)), norm.momentum)
        ctx.save_for_backward(x, weight, mean, (variance + norm.eps).rsqrt())
        ctx.count = count
        y: Tensor = torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, norm.eps)[0]
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        x, weight, mean, scale = ctx.saved_tensors
        wide = _wide(gradient)
        normalized = (_wide(x) - mean[:, None, None]) * scale[:, None, None]
        sums = torch.stack([wide.sum((0, 2, 3)), (wide * normalized).sum((0, 2, 3))])
        reduced = sums.to(torch.float64, copy=True)
        distributed.all_reduce(reduced)
        shift, slope = (reduced / ctx.count).to(mean.dtype)[..., None, None]
        inner = (weight * scale)[:, None, None] * (wide - shift - normalized * slope)
        return inner.to(x.dtype), sums[1], sums[0], None


def _wide(x: Tensor) -> Tensor:
    """Return a tensor in at least single precision."""
    return x if x.dtype == torch.float64 else x.float()


def synchronize_norms(model: nn.Module, device: torch.device) -> None:
    """Replace every batch norm inside a model; parameters, buffers and names stay."""
    for name, child in model.named_children():
        if not isinstance(child, nn.BatchNorm2d):
            synchronize_norms(child, device)
        elif device.type == "cuda":
            setattr(model, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
        else:
            setattr(model, name, _replaced(child))


def _replaced(norm: nn.BatchNorm2d) -> SyncBatchNorm2d:
    with torch.device("meta"):
        new = SyncBatchNorm2d(norm.num_features, norm.eps, norm.momentum)
    new._parameters, new._buffers, new.training = norm._parameters, norm._buffers, norm.training
    return new
