"""The list of models, and models as files: save one, convert one."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hrnet.errors import InputError

if TYPE_CHECKING:
    from hrnet.nn.task import HRNetModel


def list_models(pattern: str = "*") -> list[str]:
    """Return the names that `hrnet.load` takes: models inside the package first, then published ones.

    Args:
        pattern: shell pattern, for example ``*w32*``.
    """
    from hrnet.io.published import published
    from hrnet.io.shipped import SHIPPED

    loadable = [name for name, entry in published().items() if entry.loadable]
    return [name for name in (*SHIPPED, *loadable) if fnmatchcase(name, pattern)]


def save(model: HRNetModel[Any], path: str | Path, *, half: bool = False, note: str = "") -> None:
    """Write a model that `hrnet.load` reads.

    Args:
        model: model to save.
        path: file to write, which ends in .safetensors; a file there is replaced.
        half: True to store half precision.
        note: free text for the file's header.

    Raises:
        InputError: the name has another ending.
    """
    from hrnet.io.checkpoint import save_model

    _check_suffix(Path(path), (".safetensors",))
    save_model(Path(path), model, half=half, note=note)


def convert(
    source: str | Path,
    target: str | Path,
    *,
    half: bool = False,
    layout: Literal["hrnet", "timm"] = "hrnet",
    align_corners: bool | None = None,
    overrides: Mapping[str, object] | None = None,
) -> HRNetModel[Any]:
    """Turn a checkpoint of another HRNet code base into a model file, and return the model.

    Args:
        source: checkpoint (.pth or similar), from which only tensors are read, never code; or anything `hrnet.load` takes.
        target: new file, which ends in .safetensors (or .pth with the layout of timm).
        half: True to store half precision.
        layout: names of the tensors: ``hrnet``, or ``timm`` for a classification network.
        align_corners: see `hrnet.load`.
        overrides: see `hrnet.load`.

    Raises:
        InputError: the checkpoint is not recognized, the file exists or has another ending.
    """
    from hrnet.io.atomic import check_free
    from hrnet.io.checkpoint import save_model
    from hrnet.io.zoo import load

    source, target = Path(source), Path(target)
    _check_suffix(target, (".safetensors",) if layout == "hrnet" else (".safetensors", ".pth"))
    check_free(target)
    model = load(source, align_corners=align_corners, overrides=overrides)
    if layout == "timm":
        _write_timm(model, target, half)
    else:
        note = f"converted from {source.name}" + (f", {model.origin}" if model.origin else "")
        save_model(target, model, half=half, note=note)
    return model


def _check_suffix(path: Path, suffixes: tuple[str, ...]) -> None:
    if path.suffix not in suffixes:
        raise InputError(f"{path} must end in {' or '.join(suffixes)}; choose such a name.")


def _write_timm(model: HRNetModel[Any], target: Path, half: bool) -> None:
    """Write the weights alone, in timm's names."""
    import torch
    from safetensors.torch import save_file

    from hrnet.foreign import timm_state
    from hrnet.io.atomic import atomic_path
    from hrnet.io.checkpoint import to_store

    state = to_store(timm_state(model), half)
    with atomic_path(target) as temporary:
        if target.suffix == ".pth":
            torch.save(state, temporary)
        else:
            save_file(state, temporary, metadata={"format": "pt"})
