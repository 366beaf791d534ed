"""What all tests share: one thread, fixed seeds, and where the reference data lies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
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


@pytest.fixture
def check_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], None]:
    """Compare a run of four steps, given the arguments of the command line, with one interrupted in step 3 and resumed.

    Oracle: both end bitwise equal.
    """
    from hrnet.cli import main
    from hrnet.engine.recipe import BEST, STATE
    from hrnet.engine.train import Trainer

    def check(arguments: list[str]) -> None:
        whole, run = tmp_path / "whole", tmp_path / "run"
        assert main([*arguments, "--out", str(whole)]) == 0
        step = Trainer.step

        def interrupted(self: Trainer, *given: Any) -> Any:
            if self.position.step == 2:
                self.signals.received = 15
            return step(self, *given)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "step", interrupted)
            assert main([*arguments, "--out", str(run)]) == 0
        assert "interrupted after step 3 of 4" in capsys.readouterr().err
        assert main(["train", str(run), "--resume", "--device", "cpu"]) == 0
        for file in (STATE, BEST):
            resumed, uninterrupted = load_file(run / file), load_file(whole / file)
            assert resumed.keys() == uninterrupted.keys()
            for name, value in uninterrupted.items():
                assert np.array_equal(value, resumed[name]), name

    return check
