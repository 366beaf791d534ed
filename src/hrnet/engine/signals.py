"""Interrupting a run between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """A context in which SIGTERM and Ctrl-C are recorded and handled between steps.

    A second Ctrl-C interrupts at once. A second SIGTERM changes nothing: a cluster manager and `torchrun` may send one each.

    Attributes:
        received: number of the received signal; 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _NUMBERS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


def ignore_stop_signals(_: int = 0) -> None:
    """Ignore the signals in workers, which the parent needs to finish its step; they end with the parent."""
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)
