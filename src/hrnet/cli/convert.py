"""`hrnet convert`: a checkpoint of another code base becomes a model of this one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from hrnet.errors import InputError


@dataclass(frozen=True, slots=True)
class Convert:
    """Turn a checkpoint of another HRNet code base into a .safetensors model that needs no guessing."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """the checkpoint, .pth or alike; only tensors are read from it, never code"""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """the new file, ending in .safetensors (or .pth, in the layout of timm)"""
    half: bool = False
    """store half precision"""
    layout: Literal["hrnet", "timm"] = "hrnet"
    """names of the new file: this program's, or timm's, for a classification network (.pth or .safetensors)"""


def main(arguments: list[str]) -> int:
    options = tyro.cli(Convert, args=arguments, prog="hrnet convert")
    from hrnet.foreign import describe
    from hrnet.io.atomic import check_free
    from hrnet.io.checkpoint import save_model
    from hrnet.io.zoo import load

    endings = (".safetensors",) if options.layout == "hrnet" else (".safetensors", ".pth")
    if options.out.suffix not in endings:
        raise InputError(f"{options.out} does not end in {' or '.join(endings)}, what is written; rename it.")
    check_free(options.out)
    model = load(options.source)
    if options.layout == "timm":
        _write_timm(model, options)
    else:
        note = f"converted from {options.source.name}" + (f", {model.origin}" if model.origin else "")
        save_model(options.out, model, half=options.half, note=note)
    count = sum(parameter.numel() for parameter in model.parameters())
    if model.origin:
        print(f"{options.source} is {model.origin}")
    print(f"{options.out}: {describe(model.spec)}, {count / 1e6:.2f} million parameters")
    return 0


def _write_timm(model: Any, options: Convert) -> None:
    """The weights alone, in timm's names."""
    import torch
    from safetensors.torch import save_file

    from hrnet.classification.model import ClassificationModel
    from hrnet.foreign import timm_state
    from hrnet.io.atomic import atomic_path

    if not isinstance(model, ClassificationModel):
        raise InputError(f"{options.source} is no classification network, and timm has classification networks only.")
    state = {
        name: (value.half() if options.half and value.is_floating_point() else value).contiguous()
        for name, value in timm_state(model).items()
    }
    with atomic_path(options.out) as temporary:
        if options.out.suffix == ".pth":
            torch.save(state, temporary)
        else:
            save_file(state, temporary, metadata={"format": "pt"})
