"""OpenVINO as a runtime: the traced graph on the CPU, in bf16 where the CPU multiplies bf16 faster than fp32."""

from __future__ import annotations

import copy
from threading import Lock
from typing import Any

import numpy as np
import openvino
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hrnet.inference.forward import Precision
from hrnet.io.warnings import suppress_warnings
from hrnet.nn.task import TaskModel, as_arrays, scale_images

# Tracing changes state of the whole process.
_TRACING = Lock()


class OpenVinoRuntime:
    """Compiled once per input size; the batch size is free. `TaskModel.finish` runs in torch.

    Args:
        model: model in evaluation mode, which is moved to the CPU.
        precision: ``auto`` is bf16 where the CPU has a unit for it, else fp32.
    """

    def __init__(self, model: TaskModel[Any, Any], precision: Precision) -> None:
        self._core = openvino.Core()
        model = getattr(model, "_orig_mod", model)  # of torch.compile
        # Graphs are traced in single precision; `precision` decides how they are computed.
        single = all(value.dtype == torch.float32 for value in model.parameters())
        self._model = model.cpu() if single else copy.deepcopy(model).cpu().float()
        capable = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        bf16 = precision == "bf16" or (precision == "auto" and capable)
        self._precision = openvino.Type.bf16 if bf16 else openvino.Type.f32
        self._compiled: dict[tuple[int, ...], _Compiled] = {}

    def __call__(self, images: UInt8[np.ndarray, "n h w c"]) -> Any:
        inputs = scale_images(torch.from_numpy(images).permute(0, 3, 1, 2)).contiguous()
        size = tuple(inputs.shape[1:])
        compiled = self._compiled.get(size) or self._compile(size)
        present = iter(compiled.infer(inputs.numpy()))
        outputs = [None if value is None else next(present) for value in compiled.template]
        with torch.inference_mode():
            template: Any = compiled.template
            dense = template._make(outputs) if hasattr(template, "_make") else tuple(outputs)
            return as_arrays(self._model.finish(dense, (size[-2], size[-1])))

    def _compile(self, size: tuple[int, ...]) -> _Compiled:
        example = torch.zeros(1, *size, dtype=torch.float32)
        # Tracing warns that sizes become constants, which is intended.
        with _TRACING, suppress_warnings, torch.no_grad():
            if size in self._compiled:  # by another thread
                return self._compiled[size]
            template = self._model.dense(example)
            graph = openvino.convert_model(
                _PresentOutputs(self._model), example_input=example, input=[("images", [-1, *size])]
            )
            hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": self._precision}
            compiled = _Compiled(self._core.compile_model(graph, "CPU", hints), template)
            self._compiled[size] = compiled
        return compiled


class _Compiled:
    """A compiled graph that any number of threads may call: each call takes an idle request, or makes one.

    Attributes:
        template: outputs of an example, a NamedTuple; those that are None do not exist in the graph.
    """

    def __init__(self, graph: openvino.CompiledModel, template: tuple[Tensor | None, ...]) -> None:
        self.template = template
        self._graph = graph
        self._idle: list[openvino.InferRequest] = []

    def infer(self, images: Float[np.ndarray, "n c h w"]) -> list[Tensor]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._graph.create_infer_request()
        try:
            found = request.infer(images, share_inputs=True, share_outputs=True)
            return [torch.from_numpy(found[index].copy()) for index in range(len(found))]
        finally:
            self._idle.append(request)


class _PresentOutputs(torch.nn.Module):
    """The dense outputs of a model that are not None, as a plain tuple, which a traced graph can return."""

    def __init__(self, model: TaskModel[Any, Any]) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(value for value in self.model.dense(images) if value is not None)
