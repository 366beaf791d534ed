"""The published checkpoints of every origin, as data: `published.json` has one a line."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint somebody else published.

    Attributes:
        name: task, data, network, input and origin; no origin for the files of HRNet's authors.
        task: what it does; ``backbone`` has no head.
        data: what it was trained on, beside ImageNet.
        metric: what its publisher states, as ``NAME VALUE (HOW)`` between commas, the chief one first; a semicolon
            begins another row of its list; empty where no figure is known.
        origin: the code base that wrote it.
        code_licence: of that code base, or what the file's own page says.
        data_licence: what is known of the data's licence.
        file: its name; empty where it is not known.
        urls: where it can be had without a login; tried in this order.
        sha256: 64 hexadecimal digits, or the first 8; empty where none was published.
        sources: where else it, or one like it, may be had.
        input: height and width of the input in pixels, which weights do not tell.
        codec: of pose: how heatmaps are read, which weights do not tell.
        note: what else is to be known.
        loadable: False for networks of other kinds, which are listed only.
    """

    name: str
    task: str
    data: str
    metric: str
    origin: str
    code_licence: str
    data_licence: str
    file: str = ""
    urls: tuple[str, ...] = ()
    sha256: str = ""
    sources: tuple[str, ...] = ()
    input: tuple[int, int] | None = None
    codec: Literal["", "classic", "dark", "udp"] = ""
    note: str = ""
    loadable: bool = True

    @property
    def chief_figure(self) -> str:
        """The first of `metric`, without how it was measured."""
        return re.split(r"[,;(]", self.metric)[0].strip() or "none known"


@cache
def published() -> dict[str, Published]:
    """By names."""
    entries = json.loads((resources.files("hrnet") / "published.json").read_text(encoding="utf-8"))
    return {entry["name"]: _entry(entry) for entry in entries}


def _entry(values: dict) -> Published:
    tuples = {key: tuple(values[key]) for key in ("urls", "sources", "input") if key in values}
    return Published(**{**values, **tuples})
