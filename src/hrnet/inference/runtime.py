"""The compiled forms of a model's forward, each behind the same callable: images in, the model's outputs back.

`torch` runs the module as it is; `openvino` runs the same graph compiled for the CPU, in bf16 where the CPU multiplies
bf16 faster than fp32 and in fp32 elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from hrnet.errors import InputError
from hrnet.io.warnings import suppress_warnings
from hrnet.nn.task import TaskModel

Runtime = Literal["auto", "torch", "openvino"]
Precision = Literal["auto", "fp32", "bf16"]
Forward = Callable[[Float[Tensor, "n c h w"]], Any]


def choose_runtime(runtime: str, device: str = "auto") -> tuple[str, torch.device]:
    """What ``auto`` stands for here: torch on a CUDA device, else OpenVINO on the CPU.

    Raises:
        InputError: no such runtime, or a device that is not there or that the runtime cannot use.
    """
    if runtime not in get_args(Runtime):
        raise InputError(f"There is no runtime {runtime!r}; choose one of {', '.join(get_args(Runtime))}.")
    if device == "auto":
        device = "cuda" if runtime != "openvino" and torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).tolist()  # which "meta" cannot answer
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"The device {device!r} cannot be used here ({str(error).splitlines()[0]}); try cpu."
        ) from None
    if runtime == "auto":
        runtime = "openvino" if chosen.type == "cpu" else "torch"
    if runtime == "openvino" and chosen.type != "cpu":
        raise InputError(f"OpenVINO runs on the CPU here, not on {device!r}; use the runtime torch.")
    return runtime, chosen


def compile_forward(
    model: TaskModel[Any, Any], *, runtime: str = "auto", device: str = "auto", precision: Precision = "auto"
) -> Forward:
    """The model's forward in a runtime, for images of any size and number.

    Args:
        model: in evaluation mode.
        runtime: see the head of this file.
        device: as torch names it.
        precision: of the arithmetic; ``auto`` as at the head of this file for openvino, fp32 for torch on a CPU and
            bf16 for torch on a GPU that has it.

    Raises:
        InputError: as of `choose_runtime`.
    """
    runtime, chosen = choose_runtime(runtime, device)
    if runtime == "openvino":
        return _OpenVino(model, precision)
    model.to(chosen)
    half = precision == "bf16" or (
        precision == "auto" and chosen.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    )

    def forward(images: Tensor) -> Any:
        with torch.inference_mode(), torch.autocast(chosen.type, torch.bfloat16, enabled=half):
            outputs = model(images.to(chosen))
        return type(outputs)(*[None if value is None else value.float() for value in outputs])

    return forward


class _OpenVino:
    """Compiled once for each size of input; the number of images is free. What `TaskModel.finish` does is left to torch."""

    def __init__(self, model: TaskModel[Any, Any], precision: Precision) -> None:
        import openvino

        self._openvino = openvino
        self._core = openvino.Core()
        self._model = model.cpu()
        capable = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        bf16 = precision == "bf16" or (precision == "auto" and capable)
        self._precision = openvino.Type.bf16 if bf16 else openvino.Type.f32
        self._compiled: dict[tuple[int, ...], Any] = {}
        # Which of the outputs there are.
        self._outputs: dict[tuple[int, ...], Any] = {}

    def __call__(self, images: Tensor) -> Any:
        size = tuple(images.shape[1:])
        if size not in self._compiled:
            self._compile(size)
        found = self._compiled[size](images.contiguous().numpy())
        values = (torch.from_numpy(found[index].copy()) for index in range(len(found)))
        template = self._outputs[size]
        outputs = [None if value is None else next(values) for value in template]
        with torch.inference_mode():
            return self._model.finish(_like(template, outputs), (size[-2], size[-1]))

    def _compile(self, size: tuple[int, ...]) -> None:
        example = torch.zeros(1, *size)
        # Tracing warns that sizes become constants, which is what is wanted here.
        with suppress_warnings, torch.no_grad():
            self._outputs[size] = self._model.dense(example)
            graph = self._openvino.convert_model(
                _Tensors(self._model), example_input=example, input=[("images", [-1, *size])]
            )
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": self._precision}
        self._compiled[size] = self._core.compile_model(graph, "CPU", hints)


class _Tensors(torch.nn.Module):
    """What is dense of a model, as a plain tuple without absent outputs: what a traced graph can return."""

    def __init__(self, model: TaskModel[Any, Any]) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(value for value in self.model.dense(images) if value is not None)


def _like(template: tuple[Any, ...], values: list[Any]) -> tuple[Any, ...]:
    """A tuple or NamedTuple with other values."""
    return template._make(values) if hasattr(template, "_make") else tuple(values)  # type: ignore[attr-defined]
