"""Optimizer, learning-rate schedule and the moving average of the weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from hrnet.engine.recipe import TrainSpec

_POLY_POWER = 0.9


# Source: Muon (Keller Jordan and others, 2024): momentum, and the iteration that brings singular values near 1.
_MOMENTUM, _NEWTON_SCHULZ, _NEWTON_STEPS = 0.95, (3.4445, -4.7750, 2.0315), 5
# Source: arXiv 2502.16982: gives its updates the size of AdamW's, so that one learning rate serves both.
_UPDATE_SIZE = 0.2


def build_optimizer(model: nn.Module, spec: TrainSpec) -> Optimizer:
    """Return the recipe's optimizer at the full learning rate; `set_rate` changes it."""
    groups: dict[tuple[bool, float, float], list[nn.Parameter]] = defaultdict(list)
    named = dict(model.named_parameters())
    for name, parameter in named.items():
        if parameter.requires_grad:
            bias = _is_bias(name, named)
            decays = parameter.ndim > 1 or (spec.decay_norms and (spec.decay_biases or not bias))
            decay = spec.weight_decay if decays else 0.0
            factor = (1.0 if name.startswith("backbone.") else spec.head_rate) * (spec.bias_rate if bias else 1.0)
            groups[spec.optimizer == "muon" and _is_hidden(name, parameter), decay, factor].append(parameter)
    listed: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay, "factor": factor, "lr": spec.learning_rate * factor}
        | ({"orthogonal": hidden} if spec.optimizer == "muon" else {})
        for (hidden, decay, factor), parameters in groups.items()
    ]
    if spec.optimizer == "sgd":
        return SGD(listed, lr=spec.learning_rate, momentum=0.9, nesterov=spec.nesterov)
    return {"adam": Adam, "adamw": AdamW, "muon": Muon}[spec.optimizer](listed, lr=spec.learning_rate)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters, times the factor of their group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def _is_bias(name: str, named: Mapping[str, Tensor]) -> bool:
    """Return True for the bias of a layer that is no norm."""
    weight = named.get(f"{name.removesuffix('bias')}weight")
    return name.endswith("bias") and weight is not None and weight.ndim > 1


def _is_hidden(name: str, parameter: Tensor) -> bool:
    """Return True for a convolution between hidden maps: not the first one, and none of a head."""
    return parameter.ndim == 4 and name.startswith("backbone.") and name != "backbone.conv1.weight"


class Muon(AdamW):
    """Orthogonalized momentum for the groups marked ``orthogonal``; AdamW for all others.

    A kernel is a matrix of output channels by everything else. All singular directions of an update get the same length, so
    that rare directions are learned as fast as common ones. `torch.optim.Muon` takes matrices only, and no other groups.
    """

    def step(self, closure: None = None) -> None:
        with torch.no_grad():
            for group in self.param_groups:
                if group["orthogonal"]:
                    self._orthogonal_step(group)
        # Parameters with an update have no gradient left for AdamW.
        super().step(closure)

    def _orthogonal_step(self, group: dict[str, Any]) -> None:
        same: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                same[parameter.shape].append(parameter)
        for shape, parameters in same.items():
            rows, columns = shape[0], math.prod(shape[1:])
            stacked = torch.stack([self._momentum(parameter).reshape(rows, columns) for parameter in parameters])
            length = group["lr"] * _UPDATE_SIZE * math.sqrt(max(rows, columns))
            for parameter, update in zip(parameters, orthogonalize(stacked), strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update.reshape(shape), alpha=-length)
                parameter.grad = None

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        """Return the Nesterov momentum of a parameter, and update its average."""
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            # AdamW expects a step in every state that is loaded.
            state |= {"momentum": torch.zeros_like(parameter), "step": torch.zeros(())}
        mean: Tensor = state["momentum"]
        mean.lerp_(gradient, 1 - _MOMENTUM)
        return gradient.lerp(mean, _MOMENTUM)


def orthogonalize(matrices: Float[Tensor, "n r c"]) -> Float[Tensor, "n r c"]:
    """Return matrices with the same singular vectors and singular values of 0.7 to 1.2 (tiny ones stay smaller)."""
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = _NEWTON_SCHULZ
    for _ in range(_NEWTON_STEPS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x if matrices.shape[1] <= matrices.shape[2] else x.mT


def learning_rate(spec: TrainSpec, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, which counts from 0, with warm-up."""
    total = max(spec.epochs * steps_per_epoch, 1)
    progress = min(step / total, 1.0)
    if spec.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * progress))
    elif spec.schedule == "poly":
        factor = (1 - progress) ** _POLY_POWER
    else:
        factor = 0.1 ** sum(step >= milestone * steps_per_epoch for milestone in spec.milestones)
    if step < spec.warmup_steps:
        risen = step / spec.warmup_steps if spec.warmup == "linear" else 0.0
        factor *= spec.warmup_start + (1 - spec.warmup_start) * risen
    return spec.learning_rate * factor


class MovingAverage:
    """Exponential moving average of a module's weights and buffers.

    The decay grows from 0 so that the random weights of the start are forgotten. `torch.optim.swa_utils.AveragedModel` would
    copy the module, wrapped as FSDP has it; here the average is a state dict of its own.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        current = module.state_dict()
        self.state: dict[str, Tensor] = {name: value.detach().clone() for name, value in current.items()}
        # Training changes the module's tensors in place, so they are collected once.
        self._counts = [(self.state[name], value) for name, value in current.items() if not value.is_floating_point()]
        # One foreach call cannot mix FSDP's tensors with plain ones.
        self._real: dict[type[Tensor], tuple[list[Tensor], list[Tensor]]] = {}
        for name, value in current.items():
            if value.is_floating_point():
                averages, values = self._real.setdefault(type(value), ([], []))
                averages.append(self.state[name])
                values.append(value)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average toward the module's weights; `step` counts from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for averages, values in self._real.values():
            # One call instead of hundreds, as in torch.optim.
            torch._foreach_lerp_(averages, values, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]  # no public name
        for average, value in self._counts:
            average.copy_(value)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Return the L2 norm of all gradients as one vector."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return nn.utils.get_total_norm(gradients)
