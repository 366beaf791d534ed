"""A runtime from outside the package: one class, one row of `RUNTIMES`, and models are scored and run with it."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import UInt8
from PIL import Image

import hrnet
from hrnet.errors import InputError
from hrnet.inference.forward import Precision
from hrnet.inference.runtime import RUNTIMES, RuntimeEntry
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.nn.task import TaskModel, as_arrays, scale_images

TINY = HRNetSpec(
    stages=(StageSpec((8, 16), 1), StageSpec((8, 16, 32), 1), StageSpec((8, 16, 32, 64), 1)),
    bottlenecks=1,
    bottleneck_width=8,
    stem_width=16,
)


class DoubleRuntime:
    """PyTorch in double precision on the CPU."""

    def __init__(self, model: TaskModel[Any, Any], device: str, precision: Precision) -> None:
        self.model = copy.deepcopy(model).double()

    def __call__(self, images: UInt8[np.ndarray, "n h w c"]) -> Any:
        inputs = scale_images(torch.from_numpy(images).permute(0, 3, 1, 2))
        with torch.inference_mode():
            return as_arrays(self.model(inputs.double()))


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNTIMES, "double", RuntimeEntry(DoubleRuntime, supports=lambda kind: kind == "cpu"))


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            image = Image.fromarray(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8))
            image.save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_the_runtime_predicts_and_scores(folders: Path) -> None:
    """Oracle: PyTorch in single precision, whose rounding errors are some 1e-6 of a probability."""
    model = hrnet.create_model(hrnet.ClassificationSpec(("cat", "dog"), backbone=TINY, input_size=(64, 64)))
    assert isinstance(model, TaskModel)
    model.eval()
    images = sorted(folders.rglob("*.png"))
    found = [result.scores for result in hrnet.Predictor(model, runtime="double")(images)]
    expected = [result.scores for result in hrnet.Predictor(model, runtime="torch")(images)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    metrics = [hrnet.evaluate(model, images=folders, runtime=runtime) for runtime in ("double", "torch")]
    assert metrics[0] == metrics[1]


def test_an_unknown_runtime_is_refused_with_the_names_of_all(folders: Path) -> None:
    with pytest.raises(InputError, match="double"):
        hrnet.Predictor(hrnet.load("pose"), runtime="quadruple")
