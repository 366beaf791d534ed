"""`hrnet models`: what can be loaded by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from hrnet.errors import InputError


@dataclass(frozen=True, slots=True)
class Models:
    """List the models that ship with the package, or show one."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = None
    """a model's name"""


def main(arguments: list[str]) -> int:
    options = tyro.cli(Models, args=arguments, prog="hrnet models")
    from hrnet.zoo import SHIPPED

    console = Console()
    if options.name is None:
        table = Table("name", "task", "input", "metric", "code", "data", "licence of the data", "MB")
        for name, model in SHIPPED.items():
            size = f"{model.path.stat().st_size / 1e6:.1f}"
            shape = f"{model.size[0]} x {model.size[1]}"
            table.add_row(
                name, model.task, shape, model.metric, model.code_licence, model.data, model.data_licence, size
            )
        console.print(table)
        console.print("hrnet predict NAME ... uses one; docs/models.md has their cards.")
        return 0
    if options.name not in SHIPPED:
        raise InputError(f"There is no model {options.name!r}; the names are {', '.join(SHIPPED)}.")
    model = SHIPPED[options.name]
    rows = {
        "task": model.task,
        "input": f"{model.size[0]} x {model.size[1]} pixels (height x width)",
        "metric": model.metric,
        "trained on": model.data,
        "licence of the data": model.data_licence,
        "licence of the code": model.code_licence,
        "size": f"{model.path.stat().st_size} bytes",
        "sha256": hashlib.sha256(model.path.read_bytes()).hexdigest(),
        "file": str(model.path),
    }
    for name, value in rows.items():
        console.print(f"[bold]{name}[/bold]  {value}", highlight=False, soft_wrap=True)
    return 0
