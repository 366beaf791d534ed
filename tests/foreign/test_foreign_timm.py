"""Oracle: timm's nine HRNets, with random weights, both ways. In double precision, where the order of sums has no
effect and any error would show: 1e-5 relative is asked for, and 1e-9 is held."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from hrnet.classification.model import ClassificationModel
from hrnet.classification.spec import ClassificationSpec
from hrnet.cli import main
from hrnet.foreign import recognize, timm_state
from hrnet.nn.task import IMAGENET_MEAN, IMAGENET_STD
from hrnet.tasks import create_model

# Names, and whether the head's convolutions have biases: those of SSLD have none.
NETWORKS = (
    ("hrnet_w18_small", True), ("hrnet_w18_small", False), ("hrnet_w18_small_v2", True), ("hrnet_w18", True),
    ("hrnet_w30", True), ("hrnet_w32", True), ("hrnet_w40", True), ("hrnet_w44", True), ("hrnet_w48", True),
    ("hrnet_w64", True),
)  # fmt: skip
TOLERANCE = 1e-9


def filled(model: nn.Module) -> dict[str, Tensor]:
    """Weights of unit gain, from one long list of random numbers, which is far faster than each one's own."""
    noise = torch.randn(1_000_003)
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            state[name] = torch.tensor(0)
            continue
        some = noise.repeat(value.numel() // len(noise) + 1)[: value.numel()].reshape(value.shape)
        if value.ndim > 1:
            state[name] = some / value[0].numel() ** 0.5
        else:
            state[name] = 1 + 0.1 * some.abs() if name.endswith(("weight", "var")) else 0.1 * some
    return state


def timm_network(name: str, bias: bool, classes: int = 1000) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False, num_classes=classes, head_conv_bias=bias)


@pytest.mark.parametrize(("name", "bias"), NETWORKS)
@torch.inference_mode()
def test_both_ways(name: str, bias: bool) -> None:
    theirs = timm_network(name, bias)
    state = filled(theirs)
    theirs.load_state_dict(state, assign=True)
    spec, found = recognize(state)
    assert isinstance(spec, ClassificationSpec)
    assert (spec.num_classes, spec.head_bias) == (1000, bias)
    with torch.device("meta"):
        ours = create_model(spec)
    assert isinstance(ours, ClassificationModel)
    ours.load_state_dict(found, assign=True)
    ours.mean, ours.std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    # Theirs loads what ours writes, and is then bit for bit what it was: so are its outputs.
    theirs.load_state_dict(timm_state(ours), assign=True, strict=True)
    again = theirs.state_dict()
    assert all(torch.equal(again[key], value) for key, value in state.items())
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    expected = theirs.double().eval()(images)
    logits = ours.double().eval()(images * ours.std + ours.mean).logits
    scale = expected.abs().max()
    assert scale > 0.1
    assert (logits - expected).abs().max() / scale < TOLERANCE


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_convert_writes_what_timm_loads(ending: str, tmp_path: Path) -> None:
    state = filled(timm_network("hrnet_w18_small", bias=False, classes=5))
    torch.save(state, tmp_path / "weights.pth")
    out = tmp_path / f"theirs.{ending}"
    assert main(["convert", str(tmp_path / "weights.pth"), str(out), "--layout", "timm"]) == 0
    theirs = timm.create_model(
        "hrnet_w18_small", pretrained=False, num_classes=5, head_conv_bias=False, checkpoint_path=str(out)
    )
    torch.testing.assert_close(theirs.state_dict(), state, rtol=0, atol=0)


def test_convert_to_timm_needs_a_classification_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "pose", str(tmp_path / "out.pth"), "--layout", "timm"]) == 1
    assert "timm has classification networks only" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
