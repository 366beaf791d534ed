"""The log of a run, its curves in trackers, and images with predictions."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, WandBTracker
from jaxtyping import UInt8
from PIL import Image as Pillow

from hrnet.engine.evaluate import run_batch
from hrnet.engine.recipe import LOG, Tracker
from hrnet.errors import InputError
from hrnet.io.geometry import Frame
from hrnet.nn.task import Batch, SampleSource, TaskModel

EXAMPLES = "examples"
_LOCK = ".lock"
_TILE_PIXELS = 256
_PROJECT = "hrnet"


class Journal:
    """The records of a run, which its first process writes.

    Args:
        step: step that is resumed from; curves after it are removed.
        log_bytes: length of the log at that step, to which it is truncated; None if unknown.
        trackers: trackers that get the curves; None for TensorBoard where it is installed.

    Raises:
        InputError: a tracker is not installed, or another process trains in the folder.
    """

    def __init__(self, out: Path, step: int, log_bytes: int | None, trackers: Sequence[Tracker] | None) -> None:
        self._log = out / LOG
        self._examples = out / EXAMPLES
        chosen = _chosen(trackers)
        out.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(out / _LOCK)
        if log_bytes is not None and self._log.exists() and self._log.stat().st_size > log_bytes:
            os.truncate(self._log, log_bytes)
        self._trackers = [_start(name, out, step) for name in chosen]

    @property
    def log_bytes(self) -> int:
        """Length of the log, after it was written to the disk."""
        if not self._log.exists():
            return 0
        with self._log.open("rb+") as file:
            os.fsync(file.fileno())
            return file.seek(0, os.SEEK_END)

    def write(self, line: dict[str, Any], curves: dict[str, float]) -> None:
        """Write a line of the log, and its numbers as points of the trackers' curves."""
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for tracker in self._trackers:
            # MLflow allows few characters in names.
            restricted = isinstance(tracker, MLflowTracker)
            named = {re.sub(r"[^\w\-./ ]", "_", name) if restricted else name: value for name, value in curves.items()}
            tracker.log(named, step=line["step"])

    def show(self, sheet: UInt8[np.ndarray, "h w 3"], step: int, epoch: int) -> None:
        """Write images with predictions to a small file and the trackers."""
        path = self._examples / f"epoch-{epoch:04}.jpg"
        path.parent.mkdir(exist_ok=True)
        Pillow.fromarray(sheet).save(path, quality=85)
        for tracker in self._trackers:
            if isinstance(tracker, TensorBoardTracker):
                tracker.log_images({EXAMPLES: sheet[None]}, step=step, dataformats="NHWC")
            elif isinstance(tracker, WandBTracker):
                tracker.log_images({EXAMPLES: [sheet]}, step=step)
            elif isinstance(tracker, MLflowTracker):
                tracker.log_artifact(str(path), EXAMPLES)

    def close(self) -> None:
        for tracker in self._trackers:
            tracker.finish()
        if self._lock:
            Path(self._lock.name).unlink(missing_ok=True)
            self._lock.close()


def _locked(path: Path) -> IO[str] | None:
    """Lock a file for this process, until it ends.

    A POSIX lock, not filelock's: workers would inherit that one, and outlive a killed run for some seconds.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    file = path.open("w")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            file.close()
            raise InputError(f"Another process trains in {path.parent}; wait for its end, or stop it.") from None
        # The file system has no locks.
    return file


def _chosen(trackers: Sequence[Tracker] | None) -> Sequence[Tracker]:
    if trackers is None:
        return ("tensorboard",) if find_spec("tensorboard") else ()
    for name in trackers:
        if not find_spec(name):
            raise InputError(f"The tracker {name} is not installed; `pip install {name}`, or leave it out.")
    return trackers


def _start(name: Tracker, out: Path, step: int) -> GeneralTracker:
    tracker: GeneralTracker
    if name == "tensorboard":
        tracker = TensorBoardTracker(name, out, purge_step=step + 1)
    elif name == "wandb":
        tracker = WandBTracker(_PROJECT, name=out.name, dir=str(out))
    else:
        tracker = MLflowTracker(_PROJECT, run_name=out.name)
    tracker.start()
    return tracker


def example_positions(count: int, wanted: int) -> list[int]:
    """Return evenly spaced positions of a data set."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(int)).tolist()


def example_sheet(
    model: TaskModel[Any, Any], samples: SampleSource, positions: Sequence[int], device: torch.device
) -> UInt8[np.ndarray, "h w 3"]:
    """Return inputs side by side with their predictions drawn."""
    items = [samples[position] for position in positions]
    batch = Batch.stack(items).to(device)
    # The input stands for the image, so that results are in its pixels.
    frame = Frame.resize(items[0].frame.size, items[0].frame.size)
    results = run_batch(model, replace(batch, frames=(frame,) * len(items)), model, flip=False)
    tiles = []
    for item, result in zip(items, results, strict=True):
        tile = replace(result, source=item.image).plot().convert("RGB")
        tile.thumbnail((_TILE_PIXELS, _TILE_PIXELS))
        tiles.append(np.asarray(tile))
    # Drawings with a legend differ in height.
    height = max(len(tile) for tile in tiles)
    return np.concatenate([np.pad(tile, ((0, height - len(tile)), (0, 0), (0, 0))) for tile in tiles], axis=1)
