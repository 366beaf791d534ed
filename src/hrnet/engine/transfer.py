"""Initialization from the weights of another model, of any task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hrnet.errors import InputError
from hrnet.nn.task import TaskModel

_FIRST = "backbone.conv1.weight"
# Below this depth of module names a report counts instead of naming.
_DEPTH = 2

Names = Mapping[str, tuple[str, ...]]


@torch.no_grad()
def transfer(model: TaskModel[Any, Any], state: Mapping[str, Tensor], outputs: Names, source: str) -> list[str]:
    """Copy the weights of another model that fit.

    Tensors of the same name and shape are copied. In a layer whose outputs have names (keypoints, classes), rows are matched
    by these names. The first convolution is adapted to another number of input channels.

    Args:
        model: model with new weights, which stay where nothing fits.
        state: state dict of the other model.
        outputs: `named_outputs` of the other model.
        source: name of the other model.

    Returns:
        Sentences that name the tensors that were taken, reshaped and left new.

    Raises:
        InputError: nothing fits.
    """
    own, mine = model.state_dict(), model.named_outputs()
    taken: set[str] = set()
    reshaped: list[str] = []
    for name, target in own.items():
        value, layer = state.get(name), name.rpartition(".")[0]
        if value is None:
            continue
        if layer in mine:
            theirs = {_plain(output): place for place, output in enumerate(outputs.get(layer, ()))}
            rows = {i: theirs[_plain(output)] for i, output in enumerate(mine[layer]) if _plain(output) in theirs}
            if rows and value.shape[1:] == target.shape[1:]:
                for to, origin in rows.items():
                    target[to].copy_(value[origin])
                taken.add(name)
                reshaped.append(_rows_sentence(layer, mine[layer], rows))
        elif value.shape == target.shape:
            target.copy_(value)
            taken.add(name)
        elif name == _FIRST and value.shape[:1] + value.shape[2:] == target.shape[:1] + target.shape[2:]:
            target.copy_(spread_channels(value, target.shape[1]))
            taken.add(name)
            reshaped.append(f"{name}: {value.shape[1]} input channels spread over {target.shape[1]}")
    if not taken:
        raise InputError(
            f"{source} has no weights of the shapes that this model needs; choose a model of the same backbone."
        )
    new, unused = [name for name in own if name not in taken], [name for name in state if name not in taken]
    return [
        f"{len(taken)} of {len(own)} tensors taken from {source}: {_modules(taken, own)}",
        *(f"reshaped: {line}" for line in dict.fromkeys(reshaped)),
        *([f"new: {_modules(new, own)}"] if new else []),
        *([f"not used of {source}: {_modules(unused, state)}"] if unused else []),
    ]


def spread_channels(weight: Float[Tensor, "o i h w"], channels: int) -> Float[Tensor, "o c h w"]:
    """Return a convolution for another number of input channels, which repeat (or, if fewer, add up).

    The sum over the input channels stays, so that an image with equal channels gives the same output.
    """
    before = weight.shape[1]
    # Round robin over old and new channels; each old one is divided evenly.
    places = torch.zeros(channels, before, dtype=weight.dtype)
    for turn in range(max(channels, before)):
        places[turn % channels, turn % before] += 1
    return torch.einsum("ci,oihw->ochw", places / places.sum(0), weight)


def _plain(name: str) -> str:
    """Return a name without case and punctuation."""
    return "".join(filter(str.isalnum, name.lower()))


def _rows_sentence(layer: str, names: tuple[str, ...], rows: Mapping[int, int]) -> str:
    new = [name for place, name in enumerate(names) if place not in rows]
    known = [name for place, name in enumerate(names) if place in rows]
    if not new:
        return f"{layer}: all {len(names)} outputs by name"
    return f"{layer}: {len(known)} of {len(names)} outputs by name ({_some(known)}); new: {_some(new)}"


def _some(names: list[str], count: int = 12) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def _modules(chosen: Iterable[str], everything: Iterable[str], prefix: str = "", depth: int = 0) -> str:
    """Return names of tensors, summarized as the largest modules that they fill, with counts."""
    chosen = set(chosen)
    groups: dict[str, list[str]] = {}
    for name in everything:
        head = name[len(prefix) :].split(".", 1)[0]
        groups.setdefault(f"{prefix}{head}", []).append(name)
    found: list[str] = []
    for group, names in groups.items():
        count = len(chosen.intersection(names))
        if count == len(names):
            found.append(f"{group} ({count})" if count > 1 or names[0] != group else group)
        elif count and depth < _DEPTH:
            found.append(_modules(chosen, names, f"{group}.", depth + 1))
        elif count:
            found.append(f"{group} ({count} of {len(names)})")
    return ", ".join(found)
