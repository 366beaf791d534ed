"""`hrnet convert`: a checkpoint of another code base becomes a model of this one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from hrnet.errors import InputError


@dataclass(frozen=True, slots=True)
class Convert:
    """Turn a checkpoint of another HRNet code base into a .safetensors model that needs no guessing."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """the checkpoint, .pth or alike; only tensors are read from it, never code"""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT.safetensors")]
    """the new file, ending in .safetensors"""
    half: bool = False
    """store half precision"""


def main(arguments: list[str]) -> int:
    options = tyro.cli(Convert, args=arguments, prog="hrnet convert")
    from hrnet.checkpoint import save_model
    from hrnet.tasks import task_of
    from hrnet.zoo import load

    if options.out.suffix != ".safetensors":
        raise InputError(f"{options.out} does not end in .safetensors, the only format written; rename it.")
    if options.out.exists():
        raise InputError(f"{options.out} exists; choose another name or remove it first.")
    model = load(options.source)
    save_model(options.out, model, half=options.half, note=f"converted from {options.source.name}")
    count = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{options.out}: {task_of(model.spec)}, width {model.spec.backbone.widths[0]}, {count / 1e6:.2f} million parameters"
    )
    return 0
