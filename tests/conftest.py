"""What all tests share: one thread, fixed seeds, and where the reference data lies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from scipy.io import savemat
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
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave signatures unchecked (`checker`), for tests that pass a wrong type on purpose."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


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


# Tiny data sets in the folders of the published ones. Each image has its own size and every number once at least.


def _save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def _numbers(count: int, seed: int = 0) -> np.ndarray:
    """Every number below `count`, in an order of its own, in a map 24 high."""
    width = max(-(-count // 24), 32)
    values = np.arange(24 * width) % count
    values = np.random.default_rng(seed).permutation(values).reshape(24, width)
    return values.astype(np.uint8 if count <= 256 else np.uint16)


def _image(path: Path, labels: np.ndarray, seed: int = 0) -> None:
    _save(path, np.random.default_rng(seed).integers(0, 256, (*labels.shape, 3), np.uint8))


def _cityscapes(root: Path, train_ids: bool) -> np.ndarray:
    count, kind = (19, "labelTrainIds") if train_ids else (34, "labelIds")
    values = _numbers(count)
    for part, city in (("train", "aachen"), ("val", "lindau")):
        for number in range(2):
            name = f"{city}_00000{number}_000019"
            _image(root / f"leftImg8bit/{part}/{city}/{name}_leftImg8bit.png", values)
            _save(root / f"gtFine/{part}/{city}/{name}_gtFine_{kind}.png", values)
            # Beside them lie others that are not read.
            _save(root / f"gtFine/{part}/{city}/{name}_gtFine_instanceIds.png", values.astype(np.uint16))
    return values


def _lip(root: Path) -> np.ndarray:
    values = _numbers(20)
    for part in ("train", "val"):
        for number in range(2):
            _image(root / f"TrainVal_images/{part}_images/{number}_1.jpg", values)
            _save(root / f"TrainVal_parsing_annotations/{part}_segmentations/{number}_1.png", values)
    return values


def _context(root: Path, form: str) -> np.ndarray:
    values = _numbers(60 if form == "ready" else 460)
    base = root / "VOC2010"
    for part in ("train", "val"):
        names = [f"2008_00000{number}{part}" for number in range(2)]
        for name in names:
            _image(base / f"JPEGImages/{name}.jpg", values)
            if form == "mat":
                (root / "trainval").mkdir(exist_ok=True)
                savemat(root / f"trainval/{name}.mat", {"LabelMap": values})
            else:
                folder = base / "SegmentationClassContext" if form == "ready" else root / "trainval"
                _save(folder / f"{name}.png", values)
        lists = base / "ImageSets/SegmentationContext"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{part}.txt").write_text("\n".join(names) + "\n")
    return values


def _coco_stuff(root: Path, form: str) -> np.ndarray:
    values = _numbers(171 if form == "train ids" else 183)
    (root / "annotations").mkdir(parents=True)
    (root / "imageLists").mkdir()
    for part in ("train", "test"):
        names = [f"COCO_train2014_00000000000{number}_{part}" for number in range(2)]
        for name in names:
            _image(root / f"images/{name}.jpg", values)
            if form == "mat":
                savemat(root / f"annotations/{name}.mat", {"S": values, "names": np.array(["unlabeled"], object)})
            else:
                _save(root / f"annotations/{name}{'_labelTrainIds' if form == 'train ids' else ''}.png", values)
        (root / f"imageLists/{part}.txt").write_text("\n".join(names))
    return values


def _ade20k(root: Path) -> np.ndarray:
    values = _numbers(151)
    for part, short in (("training", "train"), ("validation", "val")):
        for number in range(2):
            name = f"ADE_{short}_0000000{number}"
            _image(root / f"images/{part}/{name}.jpg", values)
            _save(root / f"annotations/{part}/{name}.png", values)
    return values


Published = Callable[[str, Path], np.ndarray]


@pytest.fixture
def published() -> Published:
    """Makes a tiny data set in the folders of a published one; returns the numbers that all its label files hold."""

    def make(name: str, root: Path) -> np.ndarray:
        kind, _, form = name.partition(" ")
        match kind:
            case "cityscapes":
                return _cityscapes(root, train_ids=bool(form))
            case "lip":
                return _lip(root)
            case "context":
                return _context(root, form)
            case "stuff":
                return _coco_stuff(root, form)
            case _:
                return _ade20k(root)

    return make
