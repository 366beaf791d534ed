"""The table of runtimes, which execute a network. A runtime is one file and one row of `RUNTIMES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from hrnet.errors import InputError
from hrnet.inference.forward import Precision, Runtime

if TYPE_CHECKING:
    from hrnet.nn.task import TaskModel


@dataclass(frozen=True, slots=True)
class RuntimeEntry:
    """A row of `RUNTIMES`.

    Attributes:
        open: function that returns the runtime of a model (in evaluation mode) on a device in a precision.
        supports: function that returns True if the runtime works on a type of device: cpu, cuda, mps ...
    """

    open: Callable[[TaskModel[Any, Any], str, Precision], Runtime]
    supports: Callable[[str], bool]


def _open_openvino(model: TaskModel[Any, Any], device: str, precision: Precision) -> Runtime:
    from hrnet.inference.openvino_runtime import OpenVinoRuntime

    return OpenVinoRuntime(model, precision)


def _open_torch(model: TaskModel[Any, Any], device: str, precision: Precision) -> Runtime:
    from hrnet.inference.torch_runtime import TorchRuntime

    return TorchRuntime(model, device, precision)


# `auto` takes the first that works on the device.
RUNTIMES: dict[str, RuntimeEntry] = {
    "openvino": RuntimeEntry(_open_openvino, lambda kind: kind == "cpu"),
    "torch": RuntimeEntry(_open_torch, lambda kind: True),
}


def choose_runtime(runtime: str = "auto", device: str = "auto") -> tuple[str, str]:
    """Return the names of the runtime and the device that ``auto`` stands for: CUDA where there is one, else the CPU.

    Raises:
        InputError: no such runtime or device, or the runtime does not work on the device.
    """
    from hrnet.inference.torch_runtime import check_device, default_device

    if runtime != "auto" and runtime not in RUNTIMES:
        raise InputError(f"unknown runtime {runtime!r}; choose from auto, {', '.join(RUNTIMES)}")
    if device == "auto":
        device = default_device()
        if runtime != "auto" and not RUNTIMES[runtime].supports(device.partition(":")[0]):
            device = "cpu"
    kind = check_device(device)
    if runtime == "auto":
        runtime = next(name for name, entry in RUNTIMES.items() if entry.supports(kind))
    if not RUNTIMES[runtime].supports(kind):
        raise InputError(f"the runtime {runtime} does not run on {device!r} here; use the runtime torch")
    return runtime, device


def open_runtime(
    model: TaskModel[Any, Any], runtime: str = "auto", *, device: str = "auto", precision: Precision = "auto"
) -> Runtime:
    """Return a model in a runtime, for inputs of any size and number.

    Args:
        model: model in evaluation mode.
        runtime: ``auto`` or a key of `RUNTIMES`.
        device: ``auto`` or a torch device.
        precision: arithmetic; ``auto`` is bf16 where the hardware gains from it.

    Raises:
        InputError: see `choose_runtime`; or an unknown precision.
    """
    if precision not in get_args(Precision):
        raise InputError(f"unknown precision {precision!r}; choose from {', '.join(get_args(Precision))}")
    runtime, device = choose_runtime(runtime, device)
    return RUNTIMES[runtime].open(model, device, precision)
