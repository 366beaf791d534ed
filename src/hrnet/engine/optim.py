"""Optimizer, learning-rate schedule and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from hrnet.recipe import TrainSpec

# The rate of the first warm-up step, as a share of the full rate.
_WARMUP_START = 1e-3
_POLY_POWER = 0.9


def build_optimizer(model: nn.Module, spec: TrainSpec) -> Optimizer:
    """The recipe's optimizer, at the full learning rate."""
    decayed = [p for p in model.parameters() if p.requires_grad and (spec.decay_norms or p.ndim > 1)]
    plain = [p for p in model.parameters() if p.requires_grad and not (spec.decay_norms or p.ndim > 1)]
    groups = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((decayed, spec.weight_decay), (plain, 0.0))
        if parameters
    ]
    if spec.optimizer == "sgd":
        return SGD(groups, lr=spec.learning_rate, momentum=0.9, nesterov=False)
    return {"adam": Adam, "adamw": AdamW}[spec.optimizer](groups, lr=spec.learning_rate)


def learning_rate(spec: TrainSpec, step: int, steps_per_epoch: int) -> float:
    """The rate of a step (from 0); warm-up is multiplied in."""
    total = max(spec.epochs * steps_per_epoch, 1)
    progress = min(step / total, 1.0)
    if spec.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * progress))
    elif spec.schedule == "poly":
        factor = (1 - progress) ** _POLY_POWER
    else:
        factor = 0.1 ** sum(step >= milestone * steps_per_epoch for milestone in spec.milestones)
    if step < spec.warmup_steps:
        factor *= _WARMUP_START + (1 - _WARMUP_START) * step / spec.warmup_steps
    return spec.learning_rate * factor


class MovingAverage:
    """Exponential moving average of a module's weights and buffers.

    The decay grows from 0 so that the first steps, taken from random weights, are forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        current = module.state_dict()
        self.state = {name: value.detach().clone() for name, value in current.items()}
        # Training changes the module's tensors in place, so that they need not be collected again at every step.
        self._counts = [(self.state[name], value) for name, value in current.items() if not value.is_floating_point()]
        # FSDP's tensors and plain ones do not go together.
        self._real: dict[type[Tensor], tuple[list[Tensor], list[Tensor]]] = {}
        for name, value in current.items():
            if value.is_floating_point():
                averages, values = self._real.setdefault(type(value), ([], []))
                averages.append(self.state[name])
                values.append(value)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the module's weights; step counts from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for averages, values in self._real.values():
            torch._foreach_lerp_(averages, values, 1 - decay)
        for mine, value in self._counts:
            mine.copy_(value)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """L2 norm of all gradients together."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return nn.utils.get_total_norm(gradients)
