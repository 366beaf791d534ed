"""What the machine gains from: precision and memory layout."""

from __future__ import annotations

import os

import torch


def gains_from_bf16(device: torch.device) -> bool:
    """Whether matrix products in bf16 are faster than in fp32: recent GPUs, CPUs with AMX or AVX512-bf16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bf16_unit() is not None


def bf16_unit() -> str | None:
    """The CPU's unit for bf16 products: ``AMX``, ``AVX512-bf16`` or None."""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX512-bf16" if torch.cpu._is_avx512_bf16_supported() else None


def default_workers() -> int:
    """Processes that read samples: one less than there are cores, at most 8."""
    return min(max(len(os.sched_getaffinity(0)) - 1, 1), 8) if hasattr(os, "sched_getaffinity") else 1
