"""PyTorch as a runtime: the module itself, on any device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from hrnet.errors import InputError
from hrnet.inference.forward import Precision
from hrnet.nn.task import TaskModel, as_arrays, scale_images


def default_device() -> str:
    """Return ``cuda`` where there is one, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str) -> str:
    """Return the type of a device.

    Raises:
        InputError: the device cannot be used.
    """
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).tolist()  # the device "meta" fails here
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"The device {device!r} cannot be used here ({reason}); try cpu.") from None
    return chosen.type


class TorchRuntime:
    """The module as it is; ``auto`` precision is fp32 on a CPU, and bf16 on a GPU that has it.

    Args:
        model: model in evaluation mode, which is moved to the device.
        precision: precision of autocast.
    """

    def __init__(self, model: TaskModel[Any, Any], device: str, precision: Precision) -> None:
        self._model, self._device = model.to(device), torch.device(device)
        gpu = self._device.type == "cuda"
        capable = gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        self._bf16 = precision == "bf16" or (precision == "auto" and capable)

    def __call__(self, images: UInt8[np.ndarray, "n h w c"]) -> Any:
        inputs = scale_images(torch.from_numpy(images).permute(0, 3, 1, 2).to(self._device))
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            outputs = self._model(inputs)
        return as_arrays(outputs)
