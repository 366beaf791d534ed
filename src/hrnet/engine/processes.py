"""The processes of a run: communication, and the signals that stop them between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from jaxtyping import Float
from torch import Tensor, distributed

T = TypeVar("T")
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Processes:
    """The processes of one run; with one process every method returns its input.

    Args:
        accelerator: the Accelerator of the run; None for a single process.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
    """

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self.rank: int = accelerator.process_index if accelerator else 0
        self.world: int = accelerator.num_processes if accelerator else 1
        self._device = accelerator.device if accelerator else torch.device("cpu")

    @property
    def first(self) -> bool:
        """True for the process that writes and prints."""
        return self.rank == 0

    def all_reduce_max(self, *values: int) -> list[int]:
        """Return the largest of each value over all processes."""
        if self.world == 1:
            return list(values)
        combined = torch.tensor(values, device=self._device)
        distributed.all_reduce(combined, distributed.ReduceOp.MAX)
        return combined.tolist()

    def gather(self, values: Sequence[T]) -> list[T]:
        """Return the lists of all processes, concatenated."""
        return list(values) if self.world == 1 else gather_object(list(values))

    def broadcast(self, value: T) -> T:
        """Return the value of the first process."""
        if self.world == 1:
            return value
        box = [value]
        broadcast_object_list(box, 0)
        return box[0]

    def mean(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the mean over the processes."""
        if self.world > 1:
            values = values.clone()
            distributed.all_reduce(values)
            values /= self.world
        return values

    def sync_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors in all processes with those of the first."""
        if self.world > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)


def whole(value: Any) -> Tensor:
    """Return a tensor that FSDP may have sharded in one piece; all processes must call this."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


@torch.no_grad()
def fill(target: Any, value: Tensor) -> None:
    """Copy a whole tensor into one that FSDP may have sharded; the memory layout of the target stays."""
    if hasattr(target, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    target.copy_(value)


class StopSignals:
    """A context in which SIGTERM and Ctrl-C are recorded and handled between steps.

    A second Ctrl-C interrupts at once. A second SIGTERM changes nothing: a cluster manager and `torchrun` may send one each.

    Attributes:
        received: number of the received signal; 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _STOP_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


def ignore_stop_signals(_: int = 0) -> None:
    """Ignore the signals in workers, which the parent needs to finish its step; they end with the parent."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
