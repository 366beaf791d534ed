"""What all tests share: one thread, fixed seeds, and where the reference data lies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hrnet.inference.runtime import open_runtime

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


# Small tensors on many threads spend their time waiting for one another.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def shared() -> Path:
    """The folder with reference data beside the repository; tests that want it are skipped by name without it."""
    if not SHARED.is_dir():
        pytest.skip(f"needs {SHARED}")
    return SHARED


@pytest.fixture
def openvino_outputs() -> Callable[[Any, Tensor], Any]:
    """Outputs of a model compiled by OpenVINO in fp32, as tensors, for inputs in [0, 1] that are multiples of 1/255."""

    def run(model: Any, images: Tensor) -> Any:
        pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        outputs = open_runtime(model, "openvino", precision="fp32")(pixels)
        return type(outputs)(*[None if value is None else torch.from_numpy(value) for value in outputs])

    return run
