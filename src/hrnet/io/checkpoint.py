"""One file is one model: safetensors whose header holds the ModelSpec."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hrnet.errors import InputError
from hrnet.io.atomic import atomic_path
from hrnet.io.tensors import read_header, read_tensors
from hrnet.nn.backbone_model import BackboneModel
from hrnet.nn.spec import ModelSpec
from hrnet.nn.task import HRNetModel, TaskModel
from hrnet.tasks import create_model, override_spec, spec_from_json, spec_to_json

FORMAT = "hrnet-1"


def save_model(
    path: Path, model: HRNetModel[Any], *, state: Mapping[str, Tensor] | None = None, half: bool = False, note: str = ""
) -> None:
    """Write a model that `load_model` reads; see `hrnet.save`. `state` are weights to save instead of the model's own."""
    tensors = to_store(state or model.state_dict(), half)
    header = {"format": FORMAT, "spec": spec_to_json(model.spec), "note": note}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=header)


def to_store(state: Mapping[str, Tensor], half: bool) -> dict[str, Tensor]:
    """Return contiguous tensors on the CPU, floating-point values in half precision if asked for."""
    found = {name: value.detach().cpu() for name, value in state.items()}
    return {k: (v.half() if half and v.is_floating_point() else v).contiguous() for k, v in found.items()}


def is_model(path: Path) -> bool:
    """Return True for a .safetensors file that `save_model` wrote."""
    return read_header(path).get("format") == FORMAT


def load_model(path: Path, overrides: Mapping[str, object] | None = None) -> TaskModel[Any, Any] | BackboneModel:
    """Load a model that `save_model` wrote, in evaluation mode and single precision; for `overrides` see `override_spec`.

    Raises:
        InputError: the file is missing, damaged, not of this program, or its weights do not fit its spec.
    """
    header, state = read_tensors(path)
    if header.get("format") != FORMAT or "spec" not in header:
        raise InputError(f"{path} holds weights but no model of this program; use `hrnet convert` on the checkpoint.")
    try:
        spec = spec_from_json(header["spec"])
        spec = override_spec(spec, overrides, str(path)) if overrides else spec
        _check_depth(spec, state, path)
        with torch.device("meta"):
            expected = create_model(spec).state_dict()
        # Before memory is taken for a network that the header describes and the file does not hold.
        check_state(expected, state, str(path))
        model = create_model(spec)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"{path} describes an unknown model ({error}); if a newer version wrote it, update."
        ) from error
    load_state(model, state, path)
    return model.eval()


def _check_depth(spec: ModelSpec, state: Mapping[str, Tensor], path: Path) -> None:
    """Raise InputError where the header describes more layers than the file has tensors, before any is built."""
    stages = spec.backbone.stages
    layers = spec.backbone.bottlenecks + sum(stage.modules * stage.blocks * len(stage.widths) for stage in stages)
    if layers > len(state):
        raise InputError(f"{path} describes {layers} blocks of layers and holds {len(state)} tensors; copy it again.")


def load_state(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Set all weights of a model.

    Raises:
        InputError: as `check_state` and `check_finite`.
    """
    expected = model.state_dict()
    check_state(expected, state, str(path))
    check_finite(state, str(path))
    model.load_state_dict({name: value.to(expected[name].dtype) for name, value in state.items()})


def check_state(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """Check that the weights of a file `source` fit a model exactly; its tensors may be on the device ``meta``.

    Raises:
        InputError: a tensor is missing, left over or of another shape; the first of them is named.
    """
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    if missing or unknown:
        raise InputError(
            f"{source} does not fit its model: {len(missing)} tensors are missing{_first(missing)}, "
            f"{len(unknown)} are not expected{_first(unknown)}; the file was changed or made for another model."
        )
    for name, value in expected.items():
        if state[name].shape != value.shape:
            raise InputError(
                f"{source}: {name} has shape {tuple(state[name].shape)}, the model expects {tuple(value.shape)}; "
                "the file was made for another width or another number of outputs."
            )


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Check that all weights of a file `source` are finite.

    Raises:
        InputError: a value is NaN or infinite; the first tensor with one is named.
    """
    for name, value in state.items():
        # A sum is not finite if one of its terms is not, and is far faster than a test of each.
        if value.is_floating_point() and not value.sum(dtype=torch.float64).isfinite():
            raise InputError(
                f"{source}: {name} holds values that are not finite (NaN or infinite); a training has failed, or the "
                "file is damaged: take an earlier checkpoint or get it again."
            )


def _first(names: list[str]) -> str:
    return f" (first {names[0]})" if names else ""
