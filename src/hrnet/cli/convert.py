"""`hrnet convert`: a checkpoint of another code base becomes a model of this one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from hrnet.errors import InputError


@dataclass(frozen=True, slots=True)
class Convert:
    """Convert a checkpoint of another HRNet code base to a .safetensors model."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """checkpoint, .pth or similar; only tensors are read from it, never code"""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """new file, ending in .safetensors (or .pth with --layout timm)"""
    half: bool = False
    """store half precision"""
    layout: Literal["hrnet", "timm"] = "hrnet"
    """tensor names of the new file: this program's, or timm's for a classification network"""
    align_corners: bool | None = None
    """upsampling was trained with aligned corners, which the file cannot tell; by default as published"""
    set: tuple[str, ...] = ()
    """other fields that the file cannot tell, as FIELD=JSON: codec.kind=udp 'input_size=[384, 288]'"""


def main(arguments: list[str]) -> int:
    options = tyro.cli(Convert, args=arguments, prog="hrnet convert")
    from hrnet.foreign import describe
    from hrnet.io.models import convert

    model = convert(
        options.source,
        options.out,
        half=options.half,
        layout=options.layout,
        align_corners=options.align_corners,
        overrides=_overrides(options.set),
    )
    count = sum(parameter.numel() for parameter in model.parameters())
    if model.origin:
        print(f"{options.source} is {model.origin}")
    print(f"{options.out}: {describe(model.spec)}, {count / 1e6:.2f} million parameters")
    return 0


def _overrides(fields: tuple[str, ...]) -> dict[str, object]:
    """Return the values of ``FIELD=JSON`` by field; what is not JSON is text."""
    overrides: dict[str, object] = {}
    for field in fields:
        name, equals, value = field.partition("=")
        if not equals:
            raise InputError(f"--set {field} has no value; write FIELD=VALUE, for example codec.kind=udp.")
        try:
            overrides[name] = json.loads(value)
        except ValueError:
            overrides[name] = value
    return overrides
