"""The training state on disk: everything that resuming needs, in one safetensors file, written atomically."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from hrnet.engine.optim import MovingAverage
from hrnet.engine.processes import fill, whole
from hrnet.engine.recipe import PREVIOUS, STATE
from hrnet.errors import InputError
from hrnet.io.atomic import atomic_path, sync_file
from hrnet.io.tensors import read_header, read_tensors


@dataclass(slots=True)
class Position:
    """The progress of a run."""

    step: int = 0  # number of optimizer steps taken
    evaluated: int = 0  # step of the last evaluation
    best: float | None = None  # highest headline metric so far; None before the first evaluation
    metrics: dict[str, float] = field(default_factory=dict)  # metrics of the last evaluation
    seconds: float = 0.0  # training time over all sessions
    log_bytes: int | None = None  # length of the log, to which resuming truncates it; None if unknown
    recipe: str = ""  # recipe of the run as JSON; resuming with another one is refused

    def to_header(self) -> dict[str, str]:
        numbers = ("step", "evaluated", "best", "metrics", "seconds", "log_bytes")
        return {name: json.dumps(getattr(self, name)) for name in numbers} | {"recipe": self.recipe}

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> Position:
        fields = {name: json.loads(text) for name, text in header.items() if name in cls.__slots__ and name != "recipe"}
        return cls(**fields, recipe=header.get("recipe", ""))


def collect(model: nn.Module, average: MovingAverage | None, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return all tensors of the training state by name, on the CPU; all processes must call this.

    Raises:
        InputError: a value is not finite; the state saved before is kept.
    """
    tensors: dict[str, Tensor] = {f"model.{name}": value for name, value in model.state_dict().items()}
    if average:
        tensors |= {f"average.{name}": value for name, value in average.state.items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    found = {name: whole(value.detach()).cpu().contiguous() for name, value in tensors.items()}
    for name, value in found.items():
        if not torch.isfinite(value).all():
            raise InputError(f"{name} is not finite; the state is not saved, and the one before it stays.")
    return found


def write_state(folder: Path, tensors: Mapping[str, Tensor], position: Position) -> None:
    """Write the training state, read it back, and keep the previous one under another name.

    Raises:
        InputError: the disk is full or returns other bytes than it got; the previous state is intact.
    """
    path = folder / STATE
    checksum = _checksum(tensors[name] for name in sorted(tensors))
    with atomic_path(path) as temporary:
        save_file(dict(tensors), temporary, {**position.to_header(), "crc32": str(checksum)})
        sync_file(temporary)
        with safe_open(temporary, framework="pt") as file:
            if _checksum(file.get_tensor(name) for name in sorted(file.keys())) != checksum:
                raise InputError(f"{path} was not written: the disk returned other bytes; the state before it stays.")
        if path.exists():
            path.replace(folder / PREVIOUS)


def has_state(folder: Path) -> bool:
    """Return True if a folder has a training state."""
    return (folder / STATE).exists() or (folder / PREVIOUS).exists()


def read_recipe(folder: Path) -> str | None:
    """Return the recipe of the state that a run would resume from; None where its header cannot be read."""
    for name in (STATE, PREVIOUS):
        try:
            return read_header(folder / name).get("recipe")
        except InputError:
            continue
    return None


def read_state(folder: Path) -> tuple[Position, dict[str, Tensor], str]:
    """Return the last state of a run, or the previous one with a message if the last is damaged.

    Raises:
        InputError: neither can be read.
    """
    try:
        return *_read(folder / STATE), ""
    except InputError as error:
        if not (folder / PREVIOUS).exists():
            raise
        position, tensors = _read(folder / PREVIOUS)
        return position, tensors, f"{error} Resuming from {PREVIOUS}, step {position.step}."


def _read(path: Path) -> tuple[Position, dict[str, Tensor]]:
    header, tensors = read_tensors(path)
    checksum = str(_checksum(tensors[name] for name in sorted(tensors)))
    if header.get("crc32", checksum) != checksum:
        raise InputError(f"{path} is damaged: its checksum does not fit its bytes.")
    return Position.from_header(header), tensors


def _checksum(tensors: Iterable[Tensor]) -> int:
    checksum = 0
    for value in tensors:
        checksum = zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().data, checksum)
    return checksum


def restore(
    tensors: Mapping[str, Tensor], model: nn.Module, average: MovingAverage | None, optimizer: Optimizer
) -> None:
    """Fill model, average and optimizer with what `collect` returned.

    Raises:
        InputError: the tensors belong to another model.
    """
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
    for name, value in tensors.items():
        group, rest = name.split(".", 1)
        groups[group][rest] = value
    try:
        _fill_all(model.state_dict(), groups["model"])
        if average:
            _fill_all(average.state, groups["average"])
        optimizer.load_state_dict(_optimizer_state(optimizer, groups["optimizer"]))
    except (RuntimeError, KeyError, ValueError) as error:
        raise InputError(f"The state belongs to another model or recipe ({error}); start in another --out.") from error


def _fill_all(targets: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    if targets.keys() != values.keys():
        raise KeyError(f"{len(targets.keys() ^ values.keys())} tensors are missing or left over")
    for name, target in targets.items():
        if target.shape != values[name].shape:
            raise ValueError(f"{name} has shape {tuple(values[name].shape)}, expected {tuple(target.shape)}")
        fill(target, values[name])


def _optimizer_state(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, field_name = name.split(".", 1)
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            # In the memory layout of the parameter, as the optimizer creates it.
            laid_out = torch.empty_like(parameter)
            fill(laid_out, value)
            value = laid_out.detach()
        state.setdefault(int(index), {})[field_name] = value
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
