"""`hrnet models`: what can be loaded by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from hrnet.errors import InputError

if TYPE_CHECKING:
    from hrnet.io.published import PublishedCheckpoint
    from hrnet.io.shipped import Shipped

_COLUMNS = ("name", "figure", "code", "sha256", "input", "origin", "license of the data")
"""From the one that matters most: a narrow terminal shows the first of them."""

_ALWAYS = 3


@dataclass(frozen=True, slots=True)
class Models:
    """List the models that ship with the package and the published ones, or show one."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = None
    """a model's name, or a part of one, which lists all that have it"""


@dataclass(frozen=True, slots=True)
class _Row:
    """A model in the list: cells are in the order of `_COLUMNS`."""

    section: str
    data: str
    cells: tuple[str, ...]
    mark: str = " "


def main(arguments: list[str]) -> int:
    options = tyro.cli(Models, args=arguments, prog="hrnet models")
    from hrnet.io.published import published
    from hrnet.io.shipped import SHIPPED

    console = Console()
    name = (options.name or "").lower()
    if name in SHIPPED:
        _show(console, _shipped_whole(SHIPPED[name]))
        console.print(f"hrnet models {name}- lists the published ones.", highlight=False)
        return 0
    if name in published():
        _show(console, _published_whole(published()[name]))
        return 0
    rows = [_shipped_row(key, model) for key, model in SHIPPED.items() if name in key]
    rows += [_published_row(entry) for key, entry in published().items() if name in key]
    if not rows:
        raise InputError(f"There is no model {name!r} and none with that in its name; `hrnet models` lists all.")
    for section in dict.fromkeys(row.section for row in rows):
        _list(console, section, [row for row in rows if row.section == section])
    _explain(console, rows)
    return 0


def _list(console: Console, section: str, rows: list[_Row]) -> None:
    """One line a model, never broken or cut: names and hashes must survive a narrow terminal and `grep`."""
    order = list(dict.fromkeys(row.data for row in rows))
    rows = sorted(rows, key=lambda row: order.index(row.data))
    columns = [column for column in zip(_COLUMNS, *(row.cells for row in rows), strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    if console.is_terminal:
        widths = _fitting(widths, console.width)
    head, *lines = (
        "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=False)).rstrip()
        for cells in zip(*columns, strict=True)
    )
    console.print(f"\n[bold]{section} ({len(rows)})[/bold]", highlight=False)
    console.print(f"  {head}", style="dim", highlight=False, markup=False, soft_wrap=True)
    data = ""
    for row, line in zip(rows, lines, strict=True):
        if row.data != data:
            data = row.data
            console.print(data, style="cyan", highlight=False, markup=False, soft_wrap=not console.is_terminal)
        console.print(f"{row.mark} {line}", highlight=False, markup=False, soft_wrap=True)


def _fitting(widths: list[int], room: int) -> list[int]:
    """Those there is room for, with two blanks before each."""
    count = len(widths)
    while count > _ALWAYS and sum(widths[:count]) + 2 * count > room:
        count -= 1
    return widths[:count]


def _explain(console: Console, rows: list[_Row]) -> None:
    marks = {"-": "behind a login or a dead link: to be had by hand only", "x": "another kind of network: listed only"}
    used = {row.mark for row in rows}
    lines = [
        *(f"{mark} {meaning}" for mark, meaning in marks.items() if mark in used),
        "code: license of the code base, or of the weights where their page states one",
        "hrnet models PART  those with PART in their name: pose-coco-, w48, mmseg",
        "hrnet models NAME  one whole: all figures, licenses, sources, SHA-256",
        "hrnet predict NAME photo.jpg  uses one; downloaded the first time",
    ]
    console.print("\n" + "\n".join(lines), highlight=False, markup=False, soft_wrap=not console.is_terminal)


def _size(size: tuple[int, int] | None) -> str:
    return f"{size[0]} x {size[1]}" if size else ""


def _trained_on(data: str, data_license: str) -> str:
    return f"{data} (license: {data_license})"


def _shipped_row(name: str, model: Shipped) -> _Row:
    cells = (name, model.metric, model.code_license, _hash(model)[:8], _size(model.size), "hrnet", model.data_license)
    return _Row("inside the package", _trained_on(model.data, model.data_license), cells)


def _published_row(entry: PublishedCheckpoint) -> _Row:
    cells = (
        entry.name,
        entry.chief_figure,
        entry.code_license,
        entry.sha256[:8],
        _size(entry.input),
        entry.origin,
        entry.data_license,
    )
    mark = "x" if not entry.loadable else " " if entry.urls else "-"
    return _Row(f"{entry.task}, published", _trained_on(entry.data, entry.data_license), cells, mark)


def _hash(model: Shipped) -> str:
    from hrnet.io.download import file_hash

    return file_hash(model.path)


def _shipped_whole(model: Shipped) -> dict[str, str]:
    return {
        "task": model.task,
        "figure": model.metric,
        "input": f"{_size(model.size)} pixels (height x width)",
        "trained on": model.data,
        "license of the data": model.data_license,
        "license of the code": model.code_license,
        "size": f"{model.path.stat().st_size / 1e6:.1f} MB",
        "sha256": _hash(model),
        "file": str(model.path),
    }


def _published_whole(entry: PublishedCheckpoint) -> dict[str, str]:
    from hrnet.io.published import cache_folder

    return {
        "task": entry.task,
        "figures": "\n".join(entry.metric.split("; ")) or "none known",
        "input": f"{_size(entry.input)} pixels (height x width)" if entry.input else "",
        "trained on": entry.data,
        "license of the data": entry.data_license,
        "license of the code": entry.code_license,
        "origin": entry.origin,
        "file": entry.file or "its name is not known",
        "sha256": f"{entry.sha256}{' (its first digits)' if len(entry.sha256) == 8 else ''}" or "none published",
        "address": "\n".join(entry.urls) or "none without a login",
        "other sources": "\n".join(entry.sources),
        "note": entry.note,
        "kept in": str(cache_folder() / entry.name),
    }


def _show(console: Console, rows: dict[str, str]) -> None:
    """Labels in a column; long values run on, so that addresses can be copied."""
    width = max(map(len, rows)) + 2
    for name, value in rows.items():
        if value:
            console.print(f"[bold]{name:{width}}[/bold]", end="", highlight=False)
            console.print(value.replace("\n", "\n" + " " * width), highlight=False, markup=False, soft_wrap=True)
