"""Files that are broken or meant to harm, given to all that reads models: nothing of them runs, each is refused by its name
within seconds, and nothing is left behind. Oracles: exit status, the error stream, the folder, the clock."""

from __future__ import annotations

import json
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save
from tiny import tiny_hrnet
from torch import Tensor

from hrnet.cli import main
from hrnet.errors import InputError
from hrnet.io.zoo import load
from hrnet.pose.recipes import RECIPES
from hrnet.pose.skeletons import Skeleton
from hrnet.pose.spec import PoseSpec
from hrnet.tasks import create_model, recipe_to_json, spec_to_json

# Of the processor: the clock on the wall also counts what else the machine does.
SECONDS = 5
SPEC = PoseSpec(
    Skeleton(("beak", "tail", "horn")),
    tiny_hrnet(high_resolution_only=True),
    input_size=(32, 32),
)
State = dict[str, Any]


class Acts:
    """What a pickle calls when it is read without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def weights() -> State:
    """A pose network as the official code names it."""
    torch.manual_seed(0)
    names = {"head.weight": "final_layer.weight", "head.bias": "final_layer.bias"}
    return {names.get(k, k.removeprefix("backbone.")): v for k, v in create_model(SPEC).state_dict().items()}


def changed(change: Callable[[State], Any]) -> Callable[[Path, Path], None]:
    def write(path: Path, marker: Path) -> None:
        state = weights()
        change(state)
        torch.save(state, path)

    return write


def content(make: Callable[[State, Path], Any], modern: bool = True) -> Callable[[Path, Path], None]:
    def write(path: Path, marker: Path) -> None:
        torch.save(make(weights(), marker), path, _use_new_zipfile_serialization=modern)

    return write


def raw(make: Callable[[Path], bytes]) -> Callable[[Path, Path], None]:
    def write(path: Path, marker: Path) -> None:
        path.write_bytes(make(marker))

    return write


def cut(share: float, modern: bool) -> Callable[[Path, Path], None]:
    def write(path: Path, marker: Path) -> None:
        torch.save(weights(), path, _use_new_zipfile_serialization=modern)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])

    return write


def repacked(
    change: Callable[[dict[str, bytes]], Any], compression: int = zipfile.ZIP_STORED
) -> Callable[[Path, Path], None]:
    """The archive of torch with other entries."""

    def write(path: Path, marker: Path) -> None:
        torch.save(weights(), path)
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        change(entries)
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, value in entries.items():
                archive.writestr(name, value)

    return write


def without(*endings: str) -> Callable[[dict[str, bytes]], None]:
    def change(entries: dict[str, bytes]) -> None:
        for name in [name for name in entries if any(ending in name for ending in endings)]:
            del entries[name]

    return change


def inflated(entries: dict[str, bytes]) -> None:
    """A storage of 30 MB of zeros, which a compressed archive holds in 30 kB."""
    name = next(name for name in entries if "/data/" in name)
    entries[name] = bytes(30_000_000)


def cyclic(state: State, _: Path) -> State:
    state["state_dict"] = state
    return state


def image(_: Path) -> bytes:
    import io

    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def tensors(header: Any, data: bytes = b"", length: int | None = None) -> Callable[[Path], bytes]:
    """A safetensors file by hand: length of the header, header, bytes of the tensors."""
    text = json.dumps(header).encode()
    return lambda _: struct.pack("<Q", len(text) if length is None else length) + text + data


def own(change: Callable[[Any], Any]) -> Callable[[Path], bytes]:
    """A model of this program whose header is changed, not its weights."""

    def make(_: Path) -> bytes:
        described = json.loads(spec_to_json(SPEC))
        change(described)
        state = {name: value.contiguous() for name, value in create_model(SPEC).state_dict().items()}
        return save(state, {"format": "hrnet-1", "spec": json.dumps(described)})

    return make


def deeper(described: Any) -> None:
    described["backbone"]["stages"][2]["blocks"] = 10**9


def wider(described: Any) -> None:
    described["backbone"]["stages"][2]["widths"] = [4, 4, 4, 10**6]


def endless(state: State) -> None:
    state["conv1.weight"] = torch.zeros(1).expand(10**12)


FILES: dict[str, Callable[[Path, Path], Any]] = {
    # They want something to be called.
    "pickle.pth": raw(lambda marker: pickle.dumps(Acts(marker))),
    "in_the_state.pth": content(lambda state, marker: {**state, "extra": Acts(marker)}),
    "in_the_optimizer.pth": content(lambda state, marker: {"state_dict": state, "optimizer": {"x": [{"y": Acts(marker)}]}}),
    "old_format.tar": content(lambda state, marker: {"state_dict": state, "meta": (Acts(marker),)}, modern=False),
    "whole_module.pt": content(lambda state, marker: {"state_dict": torch.nn.Linear(2, 2)}),
    # They are not what their name says, or not all of it.
    "empty.pth": raw(lambda _: b""),
    "text.ckpt": raw(lambda _: b"<html>404 not found</html>"),
    "image.pth": raw(image),
    "first_half.pth": cut(0.5, modern=True),
    "nearly_all.pth": cut(0.99, modern=True),
    "half_of_the_old_format.pth": cut(0.5, modern=False),
    "zip_without_pickle.pth": repacked(without("data.pkl")),
    "storages_missing.pth": repacked(without("/data/1", "/data/2")),
    # They claim more than they have.
    "zip_bomb.pth": repacked(inflated, zipfile.ZIP_DEFLATED),
    "gigantic_tensor.pth": changed(endless),
    # Their weights are none, or not those of one network.
    "not_a_number.pth": changed(lambda state: state["bn1.weight"].fill_(float("nan"))),
    "wrong_shape.pth": changed(lambda state: state.update({"conv2.weight": torch.ones(4, 4, 5, 5)})),
    "extra_layer.pth": changed(lambda state: state.update({"layer1.9.conv9.weight": torch.ones(1)})),
    "layer_missing.pth": changed(lambda state: state.pop("stage3.0.branches.1.0.bn2.bias")),
    "no_tensors.pth": content(lambda state, _: {**state, "epoch": "three"}),
    "cyclic.bin": content(cyclic),
    # The other format.
    "long_header.safetensors": raw(tensors({}, length=2**40)),
    "short_data.safetensors": raw(tensors({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, bytes(8))),
    "wrong_length.safetensors": raw(tensors({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}}, bytes(8))),
    "no_json.safetensors": raw(lambda _: struct.pack("<Q", 8) + b"{{{{{{{{"),
    "a_billion_layers.safetensors": raw(own(deeper)),
    "a_million_channels.safetensors": raw(own(wider)),
}  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of the same small network on two images."""
    folder = tmp_path_factory.mktemp("data")
    images, annotations = [], []
    for number in range(2):
        Image.fromarray(np.full((32, 32, 3), 80 * number, np.uint8)).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 32, "height": 32})
        annotations.append({
            "id": number + 1, "image_id": number, "category_id": 1, "bbox": [1, 1, 30, 30], "area": 900, "iscrowd": 0,
            "num_keypoints": 3, "keypoints": [5, 5, 2, 9, 20, 2, 25, 12, 2],
        })  # fmt: skip
    categories = [{"id": 1, "name": "bird", "keypoints": ["beak", "tail", "horn"], "skeleton": []}]
    labels = folder / "labels.json"
    labels.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    base = RECIPES["pose-lsp"]
    small = replace(
        base,
        model=replace(base.model, backbone=SPEC.backbone, input_size=(32, 32)),
        data=replace(base.data, images=(folder,), annotations=(labels,), val_images=folder, val_annotations=labels),
        train=replace(base.train, epochs=1, batch=2, workers=0, precision="fp32", trackers=()),
    )
    path = folder / "recipe.json"
    path.write_text(recipe_to_json(small))
    return path


def arguments(verb: str, file: Path, recipe: Path) -> list[str]:
    folder = file.parent
    if verb == "convert":
        return ["convert", str(file), str(folder / "out.safetensors")]
    if verb == "predict":
        return ["predict", str(file), str(recipe.parent / "0.png"), "--out", str(folder / "out")]
    return ["train", str(recipe), "--device", "cpu", "--out", str(folder / "run"), "--init", str(file)]


@pytest.mark.parametrize("verb", ["load", "convert", "predict", "train"])
@pytest.mark.parametrize("name", FILES)
def test_refused_by_name_at_once_and_without_a_trace(
    name: str, verb: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, marker = tmp_path / name, tmp_path / "was-here"
    FILES[name](file, marker)
    before = file.read_bytes()
    start = time.process_time()
    if verb == "load":
        with pytest.raises(InputError) as refused:
            load(file)
        said = str(refused.value)
    else:
        assert main(arguments(verb, file, recipe)) == 1
        said = capsys.readouterr().err
    assert time.process_time() - start < SECONDS
    assert name in said.splitlines()[-1]
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert file.read_bytes() == before


def test_the_network_itself_is_taken(recipe: Path, tmp_path: Path) -> None:
    """What is refused above is refused for what was done to it."""
    state: dict[str, Tensor] = weights()
    file = tmp_path / "weights.pth"
    torch.save(state, file)
    assert load(file).spec.backbone == SPEC.backbone
    assert main(arguments("convert", file, recipe)) == 0
    assert main([*arguments("train", file, recipe), "--dry-run"]) == 0
