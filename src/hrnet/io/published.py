"""The published checkpoints of every origin, as data (`published.json` has one a line), and their files in the cache."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from hrnet.errors import InputError
from hrnet.io.download import DeadLinkError, UnreachableError, fetch, file_hash, locked


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
        code_license: of that code base, or what the file's own page says.
        data_license: what is known of the data's license.
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
    code_license: str
    data_license: str
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
    entries = json.loads((resources.files("hrnet.io") / "published.json").read_text(encoding="utf-8"))
    return {entry["name"]: _entry(entry) for entry in entries}


def _entry(values: dict) -> Published:
    tuples = {key: tuple(values[key]) for key in ("urls", "sources", "input") if key in values}
    return Published(**{**values, **tuples})


def cache_folder() -> Path:
    """Where published models are kept: ``HRNET_HOME``, else ``hrnet`` in the user's folder for what can be had again."""
    if home := os.environ.get("HRNET_HOME"):
        return Path(home).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hrnet"


def published_file(entry: Published) -> Path:
    """The file of a published checkpoint as it was published, downloaded when it is not there.

    Raises:
        InputError: it cannot be had (the message says where else it may be), or its hash is not the published one.
    """
    target = cache_folder() / entry.name / (entry.file or "checkpoint.pth")
    with locked(target.parent / ".lock"):
        if not target.is_file():
            _download(entry, target)
        elif not file_hash(target).startswith(entry.sha256):
            raise InputError(
                f"{target} has not the published SHA-256 {entry.sha256[:16]}...; delete it or copy it again."
            )
    return target


def _download(entry: Published, target: Path) -> None:
    place = f"put {entry.file or 'the file'} at {target}, or pass the path of the file instead of the name"
    if not entry.urls:
        raise InputError(f"{entry.name} can only be had by hand: {'; '.join(entry.sources)}; {place}.")
    if os.environ.get("HRNET_OFFLINE", "0") not in ("", "0"):
        raise InputError(
            f"{entry.name} is not in the cache and HRNET_OFFLINE is set; get {entry.urls[0]} elsewhere and {place}."
        )
    failed: dict[str, DeadLinkError | UnreachableError] = {}
    for url in entry.urls:
        try:
            return fetch(url, target, entry.sha256)
        except (DeadLinkError, UnreachableError) as error:
            failed[url] = error
    told = "; ".join(f"{url}: {error}" for url, error in failed.items())
    if any(isinstance(error, DeadLinkError) for error in failed.values()):
        others = "; ".join(entry.sources) or f"none is known; the code base is {entry.origin}"
        raise InputError(f"{entry.name} is no longer there ({told}); other sources: {others}; {place}.")
    raise InputError(f"{entry.name} cannot be reached ({told}); get it elsewhere and {place}.")
