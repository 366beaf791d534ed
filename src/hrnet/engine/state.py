"""The state of a training run on disk: everything that resuming needs, in one safetensors file, written atomically."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from hrnet.atomic import atomic_path, read_tensors
from hrnet.engine.optim import MovingAverage
from hrnet.errors import InputError


@dataclass(slots=True)
class Position:
    """Where a run stands.

    Attributes:
        step: optimizer steps done.
        best: the highest headline metric so far; None before the first evaluation.
        seconds: spent training, over all sessions.
        recipe: the run's recipe as JSON, to refuse resuming another one.
    """

    step: int = 0
    best: float | None = None
    seconds: float = 0.0
    recipe: str = ""


def save_state(
    path: Path, model: nn.Module, average: MovingAverage | None, optimizer: Optimizer, position: Position
) -> None:
    """Write the run's state; the former file stays until the new one is complete on the disk."""
    tensors: dict[str, Tensor] = {f"model.{name}": value for name, value in model.state_dict().items()}
    if average:
        tensors |= {f"average.{name}": value for name, value in average.state.items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    header = {
        "step": str(position.step),
        "best": json.dumps(position.best),
        "seconds": json.dumps(position.seconds),
        "recipe": position.recipe,
    }
    with atomic_path(path) as temporary:
        save_file(
            {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, temporary, header
        )


def load_state(path: Path, model: nn.Module, average: MovingAverage | None, optimizer: Optimizer) -> Position:
    """Fill model, average and optimizer from a file of `save_state`.

    Raises:
        InputError: the file is damaged or belongs to another model.
    """
    header, tensors = read_tensors(path)
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
    for name, value in tensors.items():
        group, rest = name.split(".", 1)
        groups[group][rest] = value
    try:
        model.load_state_dict(groups["model"])
        if average:
            average.state = {name: value.to(average.state[name].device) for name, value in groups["average"].items()}
        optimizer.load_state_dict(_optimizer_state(optimizer, groups["optimizer"]))
    except (RuntimeError, KeyError, ValueError) as error:
        raise InputError(f"{path} belongs to another model or recipe ({error}); start in another --out.") from error
    return Position(int(header["step"]), json.loads(header["best"]), json.loads(header["seconds"]), header["recipe"])


def _optimizer_state(optimizer: Optimizer, tensors: dict[str, Tensor]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, field = name.split(".", 1)
        state.setdefault(int(index), {})[field] = value
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
