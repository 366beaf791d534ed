"""Detection of dead processes, which a collective would otherwise wait for half an hour."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from torch import distributed

from hrnet.engine.processes import Processes

_BEAT_SECONDS = 1.0
# A prefix apart from the other names in the common store.
_BEAT, _ENDED, _REASON = "hrnet/beat", "hrnet/ended", "hrnet/reason"


class _Peer(NamedTuple):
    rank: int
    pid: int
    machine: str
    namespace: str  # of process ids, which are unique only inside one


class Watch:
    """A thread that sends a heartbeat every second, and ends this process when another one has died.

    The first process watches all others, and they watch the first.

    Args:
        processes: processes of the run.
        silence: seconds without a heartbeat after which a process counts as dead; on the same machine it is noticed at once.
        cure: sentence that says how to resume.
    """

    def __init__(self, processes: Processes, silence: float, cure: str = "") -> None:
        self._processes, self._silence, self._cure = processes, silence, cure
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Watch:
        rank, world = self._processes.rank, self._processes.world
        if world > 1:
            namespace = Path("/proc/self/ns/pid")
            here = str(namespace.readlink()) if namespace.exists() else ""
            own = _Peer(rank, os.getpid(), socket.gethostname(), here)
            peers = self._processes.gather([own])
            watched = [peer for peer in peers if peer.rank != rank and 0 in (peer.rank, rank)]
            self._thread = threading.Thread(target=self._run, args=(own, watched), daemon=True)
            self._thread.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._thread is None:
            return
        if error is None:
            distributed.barrier()
        # After a failed collective (gloo raises a plain RuntimeError) the thread finds the dead peer and ends this process.
        elif isinstance(error, distributed.DistError) or (
            isinstance(error, RuntimeError) and "gloo" in str(error).lower()
        ):
            self._thread.join(self._silence + 5 * _BEAT_SECONDS)
        self._done.set()
        self._thread.join()
        if error is not None:
            with contextlib.suppress(RuntimeError):  # the store is gone
                self._tell(
                    f"process {self._processes.rank} of {self._processes.world} ended: {str(error) or type(error).__name__}"
                )
            if self._processes.first:
                # The store may end with this process; the others read it once a second.
                time.sleep(2 * _BEAT_SECONDS)

    def _run(self, own: _Peer, watched: list[_Peer]) -> None:
        store = _store()
        seen = {peer.rank: (0, time.monotonic()) for peer in watched}
        while not self._done.wait(_BEAT_SECONDS):
            try:
                store.add(f"{_BEAT}/{own.rank}", 1)
                if store.add(_ENDED, 0):
                    self._end(store.get(_REASON).decode())
                for peer in watched:
                    # Adding nothing reads without waiting.
                    count, now = store.add(f"{_BEAT}/{peer.rank}", 0), time.monotonic()
                    if count != seen[peer.rank][0]:
                        seen[peer.rank] = (count, now)
                    gone = (peer.machine, peer.namespace) == (own.machine, own.namespace) and not _alive(peer.pid)
                    if gone or now - seen[peer.rank][1] > self._silence:
                        how = "has died" if gone else f"sent no heartbeat for {self._silence:g} s"
                        name = f"process {peer.rank} of {self._processes.world} ({peer.machine}, pid {peer.pid})"
                        self._tell(f"{name} {how}")
                        self._end(f"{name} {how}")
            except RuntimeError:
                if not self._done.is_set():
                    self._end("the process that holds the store, the first or torchrun, has died")

    @staticmethod
    def _tell(reason: str) -> None:
        """Tell all processes why the run ends."""
        _store().set(_REASON, reason)
        _store().add(_ENDED, 1)

    def _end(self, reason: str) -> None:
        # Not an exception: the main thread may wait inside a collective that nothing interrupts.
        print(f"hrnet train: {reason}, so this process ends too. {self._cure}".rstrip(), file=sys.stderr, flush=True)
        os._exit(1)


def _store() -> Any:
    return distributed.distributed_c10d._get_default_store()


def _alive(pid: int) -> bool:
    """Return True if a process of this machine runs, or if the system does not tell."""
    if not Path("/proc/self/stat").exists():
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")
