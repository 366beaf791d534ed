"""`hrnet models`: what can be loaded by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.table import Table

from hrnet.errors import InputError

if TYPE_CHECKING:
    from hrnet.published import Published
    from hrnet.zoo import Shipped


@dataclass(frozen=True, slots=True)
class Models:
    """List the models that ship with the package and the published ones, or show one."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = None
    """a model's name, or a part of one, which lists all that have it"""


def main(arguments: list[str]) -> int:
    options = tyro.cli(Models, args=arguments, prog="hrnet models")
    from hrnet.published import published
    from hrnet.zoo import SHIPPED

    console = Console()
    name = options.name or ""
    if name in SHIPPED:
        _show(console, _shipped_rows(SHIPPED[name]))
        return 0
    if name in published():
        _show(console, _published_rows(published()[name]))
        return 0
    shipped = {key: model for key, model in SHIPPED.items() if name in key}
    others = [entry for key, entry in published().items() if name in key]
    if not shipped and not others:
        raise InputError(f"There is no model with {name!r} in its name; `hrnet models` lists all.")
    if shipped:
        _list_shipped(console, shipped)
    for task in dict.fromkeys(entry.task for entry in others):
        _list_published(console, task, [entry for entry in others if entry.task == task])
    console.print(
        "hrnet predict NAME ... uses one; the first use of a published one downloads it. hrnet models NAME shows one "
        "whole, hrnet models PART those with PART in their name. licences: of the code; of the training data.",
        soft_wrap=True,
    )
    return 0


def _list_shipped(console: Console, models: dict[str, Shipped]) -> None:
    table = Table("name", "task", "input", "metric", "code", "data", "licence of the data", "MB", title="inside")
    for name, model in models.items():
        size = f"{model.path.stat().st_size / 1e6:.1f}"
        shape = f"{model.size[0]} x {model.size[1]}"
        table.add_row(name, model.task, shape, model.metric, model.code_licence, model.data, model.data_licence, size)
    console.print(table)


def _list_published(console: Console, task: str, entries: list[Published]) -> None:
    """Lines rather than a table: names and hashes must survive a narrow terminal and `grep`."""
    console.print(f"\n[bold]{task}, published ({len(entries)})[/bold]", highlight=False)
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        parts = [
            entry.metric,
            _size(entry),
            f"{entry.code_licence}; {entry.data_licence}",
            entry.origin,
            f"sha256 {entry.sha256[:8]}" if entry.sha256 else "no sha256",
        ]
        line = f"{entry.name:{width}}  " + " | ".join(part for part in (*parts, _state(entry)) if part)
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _size(entry: Published) -> str:
    return f"{entry.input[0]} x {entry.input[1]}" if entry.input else ""


def _state(entry: Published) -> str:
    if not entry.loadable:
        return "listed only"
    return "" if entry.urls else "by hand only"


def _shipped_rows(model: Shipped) -> dict[str, str]:
    return {
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


def _published_rows(entry: Published) -> dict[str, str]:
    from hrnet.zoo import cache_folder

    rows = {
        "task": entry.task,
        "input": f"{_size(entry)} pixels (height x width)" if entry.input else "",
        "metric": f"{entry.metric} (as published)",
        "trained on": entry.data,
        "licence of the data": entry.data_licence,
        "licence of the code": entry.code_licence,
        "origin": entry.origin,
        "file": entry.file or "its name is not known",
        "sha256": f"{entry.sha256}{'...' if len(entry.sha256) == 8 else ''}" or "not published",
        "address": "\n         ".join(entry.urls) or "none without a login",
        "other sources": "\n               ".join(entry.sources),
        "note": entry.note,
        "kept in": str(cache_folder() / entry.name),
    }
    return {name: value for name, value in rows.items() if value}


def _show(console: Console, rows: dict[str, str]) -> None:
    for name, value in rows.items():
        console.print(f"[bold]{name}[/bold]  ", end="", highlight=False)
        console.print(value, highlight=False, markup=False, soft_wrap=True)
