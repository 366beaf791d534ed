"""Precision, memory layout and allocation that suit the machine."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from functools import cache

import torch

# Source: malloc.h of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def gains_from_bf16(device: torch.device) -> bool:
    """Return True if matrix products are faster in bf16 than in fp32: recent GPUs, CPUs with AMX or AVX512-bf16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bf16_unit() is not None


def bf16_unit() -> str | None:
    """Return the CPU's unit for bf16 products: ``AMX``, ``AVX512-bf16`` or None."""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX512-bf16" if torch.cpu._is_avx512_bf16_supported() else None


def gains_from_channels_last(device: torch.device, bf16: bool) -> bool:
    """Return True if convolutions are faster in channels-last memory: on every CPU, on GPUs with bf16."""
    return bf16 or device.type == "cpu"


@cache
def keep_freed_memory() -> None:
    """Let the C library reuse freed memory.

    glibc returns blocks of 32 MiB and more, and the end of its heap, to the system at once; every training step then waits
    for the system to zero the same pages again. docs/decisions.md has the figures.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):  # other C libraries have no mallopt
            library = ctypes.CDLL(None)
            library.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            library.mallopt(_M_TRIM_THRESHOLD, -1)


def default_workers() -> int:
    """Return the number of workers that read samples: one less than the cores, at most 8."""
    return min(max(len(os.sched_getaffinity(0)) - 1, 1), 8) if hasattr(os, "sched_getaffinity") else 1
