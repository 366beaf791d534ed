"""What the processes of a run say to one another; with one process nothing is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from jaxtyping import Float
from torch import Tensor, distributed

T = TypeVar("T")


class Processes:
    """The processes that work on one thing together.

    Args:
        accelerator: what started them; None for this process alone.

    Attributes:
        rank: which of them this is.
        world: how many there are.
    """

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self.rank = accelerator.process_index if accelerator else 0
        self.world = accelerator.num_processes if accelerator else 1
        self._device = accelerator.device if accelerator else torch.device("cpu")

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0

    def agree(self, *values: int) -> list[int]:
        """The largest of all processes for each value."""
        if self.world == 1:
            return list(values)
        together = torch.tensor(values, device=self._device)
        distributed.all_reduce(together, distributed.ReduceOp.MAX)
        return together.tolist()

    def gather(self, values: Sequence[T]) -> list[T]:
        """The lists of all processes after each other."""
        return list(values) if self.world == 1 else gather_object(list(values))

    def share(self, value: T) -> T:
        """The value of the first process."""
        if self.world == 1:
            return value
        box = [value]
        broadcast_object_list(box, 0)
        return box[0]

    def mean(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The mean over the processes."""
        if self.world > 1:
            values = values.clone()
            distributed.all_reduce(values)
            values /= self.world
        return values

    def equalize(self, tensors: Sequence[Tensor]) -> None:
        """Give all processes the first one's tensors."""
        if self.world > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)


def whole(value: Any) -> Tensor:
    """A tensor in one piece, where FSDP may have spread it over the processes, which then all have to ask."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


@torch.no_grad()
def fill(target: Any, value: Tensor) -> None:
    """Copy a whole tensor into one that FSDP may have spread over the processes; its layout in memory stays."""
    if hasattr(target, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    target.copy_(value)
