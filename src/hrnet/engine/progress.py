"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

_SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """A progress bar on standard error, or nothing if `quiet`; `unit` names the items in the plural."""

    def __init__(self, title: str, total: int, unit: str, *, quiet: bool = False) -> None:
        self.title = title
        self.total = total
        self.unit = unit
        self.done: int = 0
        self.note: str = ""
        self._quiet = quiet
        self._start = self._last_line = time.monotonic()
        self._bar: RichProgress | None = None
        if not quiet and sys.stderr.isatty():
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(title, total=total, rate="", note="")

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    @property
    def rate(self) -> float:
        """Items per second so far."""
        return self.done / max(time.monotonic() - self._start, 1e-9)

    def advance(self, count: int, note: str = "") -> None:
        """Count further items as done."""
        self.done += count
        self.note = note or self.note
        if self._bar:
            self._bar.update(self._task, advance=count, rate=f"{self.rate:.1f} {self.unit}/s", note=self.note)
        elif not self._quiet and time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            done = f"{self.done} of {self.total} {self.unit}, {self.rate:.1f} per second"
            left = duration((self.total - self.done) / max(self.rate, 1e-9))
            print(f"{self.title}: {done}, {left} left {self.note}".rstrip(), file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
