"""`hrnet doctor`: show the hardware and libraries of this machine, and the cure where something is missing."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

import tyro


@dataclass(frozen=True, slots=True)
class Doctor:
    """Show the hardware and libraries that hrnet can use: Python, torch, device, bf16, runtimes."""


def main(arguments: list[str]) -> int:
    tyro.cli(Doctor, args=arguments, prog="hrnet doctor")
    import torch

    from hrnet.engine.hardware import bf16_unit

    unit = bf16_unit()
    cuda = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ""
    tensorboard = metadata.version("tensorboard") if find_spec("tensorboard") else ""
    lines = {
        "hrnet": f"{metadata.version('hrnet')} on Python {platform.python_version()}, {platform.platform(terse=True)}",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads on {os.cpu_count()} cores",
        "CUDA": cuda or "none; everything runs on the CPU",
        "bf16": f"{unit}: training uses it" if unit else "no AMX or AVX512-bf16: training uses fp32 on this CPU",
        "OpenVINO": _openvino(),
        "TensorBoard": tensorboard or "not installed; pip install 'hrnet[train]' for curves in a browser",
    }
    for name, text in lines.items():
        print(f"{name:<12} {text}")
    return 0


def _openvino() -> str:
    try:
        import openvino

        core = openvino.Core()
        name = core.get_property("CPU", "FULL_DEVICE_NAME")
        bf16 = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"
    except (ImportError, RuntimeError) as error:
        return f"does not work ({error}); pip install --force-reinstall openvino, or use --runtime torch"
    return f"{metadata.version('openvino')} on {name.strip()}, predicts in {bf16}"
