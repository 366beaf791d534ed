"""Goldens: what published networks returned for weights that anyone can rebuild from names and shapes alone."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Golden:
    """One published network: its state dict, filled; its input, already normalized; its outputs."""

    params: int
    state: dict[str, Tensor]
    images: Tensor
    outputs: dict[str, np.ndarray]


def normal(name: str, shape: list[int]) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return generator.standard_normal(tuple(shape)).astype(np.float32)


def weight(name: str, shape: list[int], is_norm: bool) -> np.ndarray:
    """The rule of the goldens: norms near 1 and 0, all else of unit gain."""
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros((), np.int64)
    values = normal(name, shape)
    if kind == "running_var":
        return (1.0 + 0.2 * np.abs(values)).astype(np.float32)
    if kind in ("running_mean", "bias"):
        return (0.1 * values).astype(np.float32)
    if kind == "weight" and is_norm:
        return (1.0 + 0.1 * values).astype(np.float32)
    return (values * np.sqrt(1.0 / max(1, int(np.prod(shape[1:]))))).astype(np.float32)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    def read(name: str) -> Golden:
        content = json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))
        norms = set(content["norm_modules"])
        state = {
            key: torch.from_numpy(np.asarray(weight(key, shape, key.rpartition(".")[0] in norms)))
            for key, shape in content["keys"]
        }
        batch, _, height, width = content["input"]
        images = normal(f"image-{batch}x3x{height}x{width}", [batch, 3, height, width])
        outputs = FOLDER / f"{name}.npz"
        return Golden(
            content["params"], state, torch.from_numpy(images), dict(np.load(outputs)) if outputs.is_file() else {}
        )

    return read


@pytest.fixture(scope="session")
def seeded_normal() -> Callable[[str, list[int]], np.ndarray]:
    return normal


@pytest.fixture(scope="session")
def seeded_weight() -> Callable[[str, list[int], bool], np.ndarray]:
    return weight
