"""Pictures in, results out: the same crops as in evaluation, batched, through a compiled forward."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrnet.errors import InputError
from hrnet.geometry import Frame, Image, warp
from hrnet.images import check_image, read_image
from hrnet.pose.model import PoseModel, crop_frame, people
from hrnet.results import Boxes, Poses
from hrnet.runtime import Precision, compile_forward
from hrnet.task import TaskModel, scale_images

Picture = str | Path | np.ndarray
# How far decoding runs ahead of the network, in pictures.
_AHEAD = 32


@dataclass(slots=True)
class Seconds:
    """Where a predictor's time went. Reading overlaps with the rest, so the parts may exceed the whole."""

    read: float = 0.0
    crop: float = 0.0
    network: float = 0.0
    decode: float = 0.0

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, part, getattr(self, part) + time.perf_counter() - start)


@dataclass(slots=True)
class _Pending:
    """A picture whose crops are on their way through the network."""

    source: Path | np.ndarray
    boxes: Boxes
    results: list[Any]


class Predictor:
    """A model ready to run.

    Args:
        model: from `hrnet.load`.
        runtime: ``auto``, ``torch`` or ``openvino``.
        device: ``auto`` or as torch names it.
        precision: ``auto``, ``fp32`` or ``bf16``.
        batch: crops that go through the network together.
        flip: average with the mirrored crops, as the published figures do; twice the time.

    Attributes:
        seconds: time spent, by part.
    """

    def __init__(
        self,
        model: TaskModel[Any],
        *,
        runtime: str = "auto",
        device: str = "auto",
        precision: Precision = "auto",
        batch: int = 16,
        flip: bool = False,
    ) -> None:
        if not isinstance(model, PoseModel):
            raise InputError(f"This version predicts poses; {type(model).__name__} can be called as a network.")
        self.model = model.eval()
        self.batch = batch
        self.flip = flip
        self.seconds = Seconds()
        self._forward = compile_forward(model, runtime=runtime, device=device, precision=precision)

    def __call__(
        self,
        pictures: Iterable[Picture] | Picture,
        *,
        boxes: Callable[[Picture], Boxes | None] | None = None,
        on_error: Callable[[Picture, InputError], None] | None = None,
    ) -> Iterator[Poses]:
        """One result a picture, in order.

        Args:
            pictures: paths, or RGB arrays `h w 3` of bytes.
            boxes: where to look in a picture; without it, or where it returns None, the whole picture is one object.
            on_error: told of a picture that cannot be read, which is then left out; without it the error is raised.
        """
        if isinstance(pictures, str | Path | np.ndarray):
            pictures = [pictures]
        pending: deque[_Pending] = deque()
        crops: list[Image] = []
        frames: list[Frame] = []
        owners: list[_Pending] = []
        for picture, image in self._read_ahead(pictures, on_error):
            found = boxes(picture) if boxes else None
            found = Boxes.whole((image.shape[0], image.shape[1])) if found is None else found
            owner = _Pending(picture if isinstance(picture, np.ndarray) else Path(picture), found, [])
            pending.append(owner)
            with self.seconds.measure("crop"):
                for box in found.boxes:
                    frame = crop_frame(box, self.model.spec, (image.shape[0], image.shape[1]))
                    crops.append(warp(image, frame))
                    frames.append(frame)
                    owners.append(owner)
            while len(crops) >= self.batch:
                self._run(crops[: self.batch], frames[: self.batch], owners[: self.batch])
                crops, frames, owners = crops[self.batch :], frames[self.batch :], owners[self.batch :]
            yield from self._finished(pending)
        if crops:
            self._run(crops, frames, owners)
        yield from self._finished(pending)

    def _read_ahead(
        self, pictures: Iterable[Picture], on_error: Callable[[Picture, InputError], None] | None
    ) -> Iterator[tuple[Picture, Image]]:
        """Pictures in order, decoded in a thread of their own while the network works."""
        waiting: deque[tuple[Picture, Future[Image]]] = deque()
        with ThreadPoolExecutor(1) as reader:

            def next_read() -> Iterator[tuple[Picture, Image]]:
                picture, future = waiting.popleft()
                try:
                    yield picture, future.result()
                except InputError as error:
                    if on_error is None:
                        raise
                    on_error(picture, error)

            for picture in pictures:
                waiting.append((picture, reader.submit(self._read, picture)))
                if len(waiting) > _AHEAD:
                    yield from next_read()
            while waiting:
                yield from next_read()

    def _read(self, picture: Picture) -> Image:
        with self.seconds.measure("read"):
            return check_image(picture) if isinstance(picture, np.ndarray) else read_image(picture)

    def _run(self, crops: Sequence[Image], frames: Sequence[Frame], owners: Sequence[_Pending]) -> None:
        with self.seconds.measure("network"):
            images = scale_images(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2))
            outputs = self._forward(images)
            if self.flip:
                outputs = self.model.merge_flip(outputs, self._forward(images.flip(-1)), frames[0].size)
        with self.seconds.measure("decode"):
            for owner, result in zip(owners, self.model.decode(outputs, frames), strict=True):
                owner.results.append(result)

    def _finished(self, pending: deque[_Pending]) -> Iterator[Poses]:
        while pending and len(pending[0].results) == len(pending[0].boxes.boxes):
            done = pending.popleft()
            with self.seconds.measure("decode"):
                result = people(done.results, done.boxes.boxes, done.boxes.scores, self.model.spec, done.source)
            yield result
