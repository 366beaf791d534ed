from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny_hrnet

from hrnet.classification.spec import ClassificationSpec
from hrnet.errors import InputError
from hrnet.io.atomic import atomic_path, write_text
from hrnet.io.checkpoint import load_model, load_state, save_model
from hrnet.io.tensors import read_header
from hrnet.nn.spec import ModelSpec
from hrnet.pose.skeletons import Skeleton
from hrnet.pose.spec import PoseSpec
from hrnet.segmentation.spec import SegmentationSpec
from hrnet.tasks import create_model, spec_to_json

WHOLE = tiny_hrnet()
V1 = tiny_hrnet(high_resolution_only=True)
SPECS: dict[str, ModelSpec] = {
    "pose": PoseSpec(Skeleton(("eye", "nose")), V1),
    "classification": ClassificationSpec(("cat", "dog"), backbone=WHOLE),
    "segmentation": SegmentationSpec(("sky", "ground"), backbone=tiny_hrnet(fusion_upsample="bilinear")),
}


@pytest.mark.parametrize("task", SPECS)
def test_saved_model_returns_the_same(task: str, tmp_path: Path) -> None:
    # Oracle: the model itself; exact.
    model = create_model(SPECS[task]).eval()
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_()
    save_model(tmp_path / "model.safetensors", model, note="drawn at random")
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.spec == model.spec
    assert not loaded.training
    assert read_header(tmp_path / "model.safetensors")["note"] == "drawn at random"
    images = torch.rand(1, 3, 64, 32)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images)[0], model(images)[0], rtol=0, atol=0)


def test_half_precision_halves_the_file_and_rounds_once(tmp_path: Path) -> None:
    # Oracle: closed form: half precision keeps 11 bits, and is exact for whole numbers below 2048.
    model = create_model(SPECS["classification"])
    save_model(tmp_path / "whole.safetensors", model)
    save_model(tmp_path / "half.safetensors", model, half=True)
    loaded = load_model(tmp_path / "half.safetensors")
    for name, value in model.state_dict().items():
        found = loaded.state_dict()[name]
        assert found.dtype == value.dtype
        # Below 2**-14 halves are evenly spaced, 2**-24 apart.
        torch.testing.assert_close(found, value, rtol=2**-11, atol=2**-24)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.55 * sizes[1]


def test_other_weights_can_be_saved(tmp_path: Path) -> None:
    model = create_model(SPECS["pose"])
    doubled = {name: value * 2 for name, value in model.state_dict().items()}
    save_model(tmp_path / "model.safetensors", model, state=doubled)
    torch.testing.assert_close(load_model(tmp_path / "model.safetensors").state_dict(), doubled, rtol=0, atol=0)


def test_writing_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    write_text(path, "old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["notes.txt"]


def test_full_disk_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    write_text(path, "old")
    with pytest.raises(InputError, match="disk is full"), atomic_path(path):
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"


def test_saving_failing_half_way_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, create_model(SPECS["pose"]))
    before = path.read_bytes()

    def fail(tensors: object, name: Path, metadata: object) -> None:
        name.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hrnet.io.checkpoint.save_file", fail)
    with pytest.raises(InputError, match="disk is full"):
        save_model(path, create_model(SPECS["pose"]))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_and_strange_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match="does not exist"):
        load_model(path)
    save_model(path, create_model(SPECS["pose"]))
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:50], b"", b"\xff" * 64):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"not an intact \.safetensors file"):
            load_model(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="hrnet convert"):
        load_model(path)


def test_model_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    model = create_model(SPECS["pose"])
    content = {**json.loads(spec_to_json(model.spec)), "wings": 2}
    header = {"format": "hrnet-1", "spec": json.dumps(content)}
    save_file(model.state_dict(), tmp_path / "model.safetensors", metadata=header)
    with pytest.raises(InputError, match=r"unknown field 'wings'.*newer version wrote it"):
        load_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("head.bias"), r"1 tensors are missing \(first head.bias\)"),
        (lambda state: state.update(extra=torch.zeros(1)), r"1 are not expected \(first extra\)"),
        (lambda state: state.update({"head.bias": torch.zeros(3)}), r"head.bias has shape \(3,\).*expects \(2,\)"),
    ],
)
def test_weights_fill_a_model_wholly_or_not_at_all(change, message: str) -> None:
    model = create_model(SPECS["pose"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()}
    change(state)
    with pytest.raises(InputError, match=message):
        load_state(model, state, Path("weights"))
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
