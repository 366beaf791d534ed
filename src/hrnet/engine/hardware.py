"""What the machine gains from: precision and memory layout."""

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
    """Whether matrix products in bf16 are faster than in fp32: recent GPUs, CPUs with AMX or AVX512-bf16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bf16_unit() is not None


def bf16_unit() -> str | None:
    """The CPU's unit for bf16 products: ``AMX``, ``AVX512-bf16`` or None."""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX512-bf16" if torch.cpu._is_avx512_bf16_supported() else None


def gains_from_channels_last(device: torch.device, bf16: bool) -> bool:
    """Whether convolutions are faster with the channels innermost: on every CPU, on GPUs with bf16."""
    return bf16 or device.type == "cpu"


@cache
def keep_freed_memory() -> None:
    """Have the C library keep what is freed for what is made next.

    glibc gives blocks of 32 MiB and more, and the end of its heap, back to the system at once; every training step then
    waits for the system to hand out, zeroed, what the step before had. docs/decisions.md has the figures.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):  # other C libraries have nothing to be told
            library = ctypes.CDLL(None)
            library.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            library.mallopt(_M_TRIM_THRESHOLD, -1)


def default_workers() -> int:
    """Processes that read samples: one less than there are cores, at most 8."""
    return min(max(len(os.sched_getaffinity(0)) - 1, 1), 8) if hasattr(os, "sched_getaffinity") else 1
