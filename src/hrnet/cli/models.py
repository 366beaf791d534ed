"""`hrnet models`: list the models that can be loaded by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

import tyro
from rich.console import Console

from hrnet.errors import InputError

if TYPE_CHECKING:
    from hrnet.io.published import PublishedCheckpoint
    from hrnet.io.shipped import Shipped

# The most important first: a narrow terminal shows as many as fit, and at least _ALWAYS.
_COLUMNS = ("name", "figure", "code", "sha256", "input", "origin", "license of the data")
_ALWAYS = 3
_MARKS = {"-": "behind a login or a dead link: download it by hand", "x": "another kind of network: listed only"}
_LEGEND = """code: license of the code base, or of the weights where their page states one
hrnet models PART  lists the models with PART in their name: pose-coco-, w48, mmseg
hrnet models NAME  shows one model: all figures, licenses, sources, SHA-256
hrnet predict NAME photo.jpg  runs one, which is downloaded the first time"""


@dataclass(frozen=True, slots=True)
class Models:
    """List the shipped and the published models, or show one."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None
    """name of a model, or a part of the names to list"""


class _Row(NamedTuple):
    """A model in the list; cells: in the order of `_COLUMNS`."""

    section: str
    data: str
    mark: str
    cells: tuple[str, ...]


def main(arguments: list[str]) -> int:
    options = tyro.cli(Models, args=arguments, prog="hrnet models")
    from hrnet.io.published import published
    from hrnet.io.shipped import SHIPPED

    # Nothing is broken or cut: names, hashes and addresses must survive a narrow terminal, `grep` and the clipboard.
    console = Console(highlight=False, markup=False, soft_wrap=True)
    name = (options.name or "").lower()
    if name in SHIPPED:
        _show(console, _shipped_facts(SHIPPED[name]))
        console.print(f"hrnet models {name}- lists the published ones.")
        return 0
    if name in published():
        _show(console, _published_facts(published()[name]))
        return 0
    rows = list(_rows(name))
    if not rows:
        raise InputError(f"There is no model {name!r} and none with that in its name; `hrnet models` lists all.")
    for section in dict.fromkeys(row.section for row in rows):
        _list(console, section, [row for row in rows if row.section == section])
    marks = [f"{mark} {meaning}" for mark, meaning in _MARKS.items() if any(row.mark == mark for row in rows)]
    console.print("\n" + "\n".join([*marks, _LEGEND]), soft_wrap=not console.is_terminal)
    return 0


def _rows(part: str) -> Iterator[_Row]:
    """Yield the models with a part in their names, shipped ones first."""
    from hrnet.io.published import published
    from hrnet.io.shipped import SHIPPED

    for name, model in SHIPPED.items():
        if part in name:
            about = (name, model.metric, model.code_license, _sha256(model)[:8], _size(model.size), "hrnet")
            yield _Row("inside the package", model.data, " ", (*about, model.data_license))
    for name, entry in published().items():
        if part in name:
            mark = "x" if not entry.loadable else " " if entry.urls else "-"
            about = (name, entry.chief_figure, entry.code_license, entry.sha256[:8], _size(entry.input), entry.origin)
            yield _Row(f"{entry.task}, published", entry.data, mark, (*about, entry.data_license))


def _list(console: Console, section: str, rows: list[_Row]) -> None:
    """Print one line per model, by training data."""
    columns = [column for column in zip(_COLUMNS, *(row.cells for row in rows), strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    while console.is_terminal and len(widths) > _ALWAYS and sum(widths) + 2 * len(widths) > console.width:
        widths.pop()
    head, *lines = (
        "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=False)).rstrip()
        for cells in zip(*columns, strict=True)
    )
    groups: dict[str, list[str]] = {}
    for row, line in zip(rows, lines, strict=True):
        groups.setdefault(f"{row.data} (license: {row.cells[-1]})", []).append(f"{row.mark} {line}")
    console.print(f"\n{section} ({len(rows)})", style="bold")
    console.print(f"  {head}", style="dim")
    for data, group in groups.items():
        console.print(data, style="cyan", soft_wrap=not console.is_terminal)
        console.print("\n".join(group))


def _size(size: tuple[int, int] | None, unit: str = "") -> str:
    return f"{size[0]} x {size[1]}{unit}" if size else ""


def _sha256(model: Shipped) -> str:
    from hrnet.io.download import file_hash

    return file_hash(model.path)


def _shipped_facts(model: Shipped) -> dict[str, str]:
    return {
        "task": model.task,
        "figure": model.metric,
        "input": _size(model.size, " pixels (height x width)"),
        "trained on": model.data,
        "license of the data": model.data_license,
        "license of the code": model.code_license,
        "size": f"{model.path.stat().st_size / 1e6:.1f} MB",
        "sha256": _sha256(model),
        "file": str(model.path),
    }


def _published_facts(entry: PublishedCheckpoint) -> dict[str, str]:
    from hrnet.io.published import cache_folder

    return {
        "task": entry.task,
        "figures": "\n".join(entry.metric.split("; ")) or "none known",
        "input": _size(entry.input, " pixels (height x width)"),
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


def _show(console: Console, facts: dict[str, str]) -> None:
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        if value:
            console.print(f"{name:{width}}", style="bold", end="")
            console.print(value.replace("\n", "\n" + " " * width))
