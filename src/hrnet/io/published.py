"""The published checkpoints of every origin as data (`published.json`, one per line), and their files in the cache."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

from hrnet.errors import InputError
from hrnet.io.download import DeadLinkError, UnreachableError, fetch, file_hash, locked


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """A checkpoint somebody else published.

    Attributes:
        name: task, data, network, input and origin; no origin for the files of HRNet's authors.
        task: task of the network; ``backbone`` has no head.
        data: training data, beside ImageNet.
        metric: figures that its publisher states, as ``NAME VALUE (HOW)`` between commas, the chief one first; a
            semicolon begins another row of its list; empty where no figure is known.
        origin: code base that wrote it.
        code_license: license of that code base, or of the file's own page.
        data_license: license of the data, as far as known.
        file: name of the file; empty where it is not known.
        urls: addresses that need no login, tried in this order.
        sha256: 64 hexadecimal digits, or the first 8; empty where none was published.
        sources: other places that may have it, or one like it.
        input: height and width of the input in pixels.
        spec_fields: other fields of the spec that weights do not tell; see `overrides`.
        note: further remarks.
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
    spec_fields: Mapping[str, object] = field(default_factory=dict)
    note: str = ""
    loadable: bool = True

    @property
    def overrides(self) -> dict[str, object]:
        """Fields of the spec that weights do not tell, by names with dots between levels; see `hrnet.load`."""
        return ({"input_size": self.input} if self.input else {}) | dict(self.spec_fields)

    @property
    def chief_figure(self) -> str:
        """The first figure of `metric`, without how it was measured."""
        return re.split(r"[,;(]", self.metric)[0].strip() or "none known"


@cache
def published() -> dict[str, PublishedCheckpoint]:
    """Return the published checkpoints by name."""
    entries = json.loads((resources.files("hrnet.io") / "published.json").read_text(encoding="utf-8"))
    for entry in entries:
        entry |= {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
    return {entry["name"]: PublishedCheckpoint(**entry) for entry in entries}


def cache_folder() -> Path:
    """Return the folder of published models: ``HRNET_HOME``, else ``hrnet`` in the user's cache folder."""
    if home := os.environ.get("HRNET_HOME"):
        return Path(home).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hrnet"


def published_file(entry: PublishedCheckpoint) -> Path:
    """Return the file of a published checkpoint as it was published, downloaded when it is not there.

    Raises:
        InputError: it cannot be downloaded (the message names other sources), or its hash is not the published one.
    """
    target = cache_folder() / entry.name / (entry.file or "checkpoint.pth")
    with locked(target.parent / ".lock"):
        if not target.is_file():
            _download(entry, target)
        elif not file_hash(target).startswith(entry.sha256):
            expected = f"the published SHA-256 {entry.sha256[:16]}..."
            raise InputError(f"{target} does not have {expected}; delete it or copy it again.")
    return target


def _download(entry: PublishedCheckpoint, target: Path) -> None:
    place = f"put {entry.file or 'the file'} at {target}, or pass the path of the file instead of the name"
    if not entry.urls:
        raise InputError(f"{entry.name} can only be downloaded by hand: {'; '.join(entry.sources)}; {place}.")
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
