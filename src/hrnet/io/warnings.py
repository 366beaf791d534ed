"""Suppress the warnings of other libraries, thread-safely."""

from __future__ import annotations

import os
import threading
import warnings
from contextlib import ExitStack


class _SuppressWarnings:
    """Context manager that shows no warning, whatever other threads enter and leave meanwhile.

    `warnings.catch_warnings` is for one thread: the filters belong to the process, so the first thread that leaves restores
    them for all. Here the first thread in replaces them, and the last one out restores them.
    """

    def __init__(self) -> None:
        self._start()
        # Another thread may be inside, and never leaves in the new process.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._caught.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._caught.close()


suppress_warnings: _SuppressWarnings = _SuppressWarnings()
