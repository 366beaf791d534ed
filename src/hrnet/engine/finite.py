"""A number that is not finite, found before it can spoil the weights, and called by its name."""

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
    """What was found, likeliest cause first.

    Attributes:
        order: of images 0, labels 1, weights 2, loss 3, gradients 4: each makes all that follow not finite.
        what: is not finite.
        files: where it may come from.
    """

    order: int
    what: str
    files: tuple[str, ...]


def files_of(samples: SampleSource, indices: Sequence[int]) -> tuple[str, ...]:
    """What a person can look at: what the data set's `describe` says of each sample, or its number."""
    describe = getattr(samples, "describe", "sample {}".format)
    return tuple(dict.fromkeys(str(describe(index)) for index in indices))


def input_cause(batch: Batch, samples: SampleSource) -> Cause | None:
    """An image or a label that is not finite; call it before the batch is moved to a device."""
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
    """What in a step is not finite though its inputs are; None if all is well in this process."""
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
    """End the run in all processes, with the likeliest cause that any of them found.

    Raises:
        InputError: always.
    """
    found = processes.gather(list(causes))
    if not found:
        raise InputError(f"The gradient's norm is not finite at step {step}; lower the learning rate.")
    order, what, _ = min(found)
    files = list(dict.fromkeys(file for cause in found if cause.order == order for file in cause.files))
    more = f" and {len(files) - _NAMED_FILES} more" if len(files) > _NAMED_FILES else ""
    cure = (
        "mend or remove them"
        if order < 2
        else f"look at the batch's images, {', '.join(files[:_NAMED_FILES])}{more}, or lower the learning rate"
    )
    raise InputError(
        f"{what} is not finite at step {step}; the step was not taken and nothing was saved since: {cure}."
    )


def _local(value: Any) -> Tensor:
    """This process's part of a tensor that FSDP has spread."""
    return value.to_local() if hasattr(value, "to_local") else value
