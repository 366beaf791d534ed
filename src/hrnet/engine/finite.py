"""Checks that name a value that is not finite before it reaches the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hrnet.engine.processes import Processes
from hrnet.errors import InputError
from hrnet.nn.task import Batch, SampleSource

_NAMED_FILES = 40


class Cause(NamedTuple):
    """A value that is not finite."""

    order: int  # rank in the chain of causes: images 0, labels 1, weights 2, loss 3, gradients 4
    what: str  # name of the value
    files: tuple[str, ...]  # files it may come from


def files_of(samples: SampleSource, indices: Sequence[int]) -> tuple[str, ...]:
    """Return the file of each sample, from the data set's `describe`, or its number."""
    describe = getattr(samples, "describe", "sample {}".format)
    return tuple(dict.fromkeys(str(describe(index)) for index in indices))


def input_cause(batch: Batch, samples: SampleSource) -> Cause | None:
    """Return an image or a label that is not finite; call it before the batch is moved to a device."""
    named = {"The image": batch.images, **{f"The label {name!r}": value for name, value in batch.targets.items()}}
    for order, (name, values) in enumerate(named.items()):
        if values.is_floating_point() and not math.isfinite(values.sum()):
            broken = ~torch.isfinite(values).flatten(1).all(1)
            if broken.any():
                files = files_of(samples, [batch.indices[i] for i in broken.nonzero()[:, 0]])
                return Cause(min(order, 1), f"{name} of {', '.join(files)}", files)
    return None


def step_cause(
    model: nn.Module, terms: Mapping[str, Tensor], samples: SampleSource, indices: Sequence[int]
) -> Cause | None:
    """Return the first weight, loss or gradient of a step that is not finite; None if all are, in this process."""
    files = files_of(samples, indices)
    for name, parameter in model.named_parameters():
        if not torch.isfinite(_local(parameter)).all():
            return Cause(2, f"The weight {name}", files)
    for name, value in terms.items():
        if not torch.isfinite(value):
            return Cause(3, f"The loss {name!r}", files)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not torch.isfinite(_local(parameter.grad)).all():
            return Cause(4, f"The gradient of {name}", files)
    return None


def stop_for(causes: Sequence[Cause], step: int, processes: Processes) -> None:
    """End the run in all processes with the earliest cause that any of them found.

    Raises:
        InputError: always.
    """
    found = processes.gather(list(causes))
    if not found:
        raise InputError(f"The gradient's norm is not finite at step {step}; lower the learning rate.")
    order, what, _ = min(found)
    files = list(dict.fromkeys(file for cause in found if cause.order == order for file in cause.files))
    more = f" and {len(files) - _NAMED_FILES} more" if len(files) > _NAMED_FILES else ""
    images = f"check the images of the batch, {', '.join(files[:_NAMED_FILES])}{more}, or lower the learning rate"
    cure = "fix or remove them" if order < 2 else images
    start = f"{what} is not finite at step {step}; the step was not taken and nothing was saved since"
    raise InputError(f"{start}: {cure}.")


def _local(value: Any) -> Tensor:
    """Return this process's shard of a tensor that FSDP has sharded."""
    return value.to_local() if hasattr(value, "to_local") else value
