"""OpenVINO as a runtime: the traced graph on the CPU, in bf16 where the CPU multiplies bf16 faster than fp32."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import torch
from jaxtyping import UInt8
from torch import Tensor

from hrnet.inference.forward import Precision
from hrnet.io.warnings import suppress_warnings
from hrnet.nn.task import TaskModel, as_arrays, scale_images


class OpenVinoRuntime:
    """Compiled once per input size; the batch size is free. `TaskModel.finish` runs in torch.

    Args:
        model: in evaluation mode; moved to the CPU.
        precision: ``auto`` is bf16 where the CPU has a unit for it, else fp32.
    """

    def __init__(self, model: TaskModel[Any, Any], precision: Precision) -> None:
        self._core = openvino.Core()
        self._model = model.cpu()
        capable = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        bf16 = precision == "bf16" or (precision == "auto" and capable)
        self._precision = openvino.Type.bf16 if bf16 else openvino.Type.f32
        self._compiled: dict[tuple[int, ...], Any] = {}
        # Outputs of an example: which of them exist, and their NamedTuple.
        self._templates: dict[tuple[int, ...], Any] = {}

    def __call__(self, images: UInt8[np.ndarray, "n h w c"]) -> Any:
        inputs = scale_images(torch.from_numpy(images).permute(0, 3, 1, 2)).contiguous()
        size = tuple(inputs.shape[1:])
        if size not in self._compiled:
            self._compile(size)
        found = self._compiled[size](inputs.numpy())
        values = (torch.from_numpy(found[index].copy()) for index in range(len(found)))
        template = self._templates[size]
        outputs = [None if value is None else next(values) for value in template]
        with torch.inference_mode():
            return as_arrays(self._model.finish(_refilled(template, outputs), (size[-2], size[-1])))

    def _compile(self, size: tuple[int, ...]) -> None:
        example = torch.zeros(1, *size)
        # Tracing warns that sizes become constants, which is intended.
        with suppress_warnings, torch.no_grad():
            self._templates[size] = self._model.dense(example)
            graph = openvino.convert_model(
                _PresentOutputs(self._model), example_input=example, input=[("images", [-1, *size])]
            )
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": self._precision}
        self._compiled[size] = self._core.compile_model(graph, "CPU", hints)


class _PresentOutputs(torch.nn.Module):
    """The dense outputs of a model that are not None, as a plain tuple: what a traced graph can return."""

    def __init__(self, model: TaskModel[Any, Any]) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(value for value in self.model.dense(images) if value is not None)


def _refilled(template: Any, values: list[Any]) -> Any:
    """Return a tuple or NamedTuple with other values."""
    return template._make(values) if hasattr(template, "_make") else tuple(values)
