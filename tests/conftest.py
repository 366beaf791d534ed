"""What all tests share: one thread, fixed seeds, and where the reference data lies."""

from pathlib import Path

import pytest
import torch

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
