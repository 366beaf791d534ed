"""Pictures in, results out: the same inputs as in evaluation, batched, through a compiled forward."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition
from typing import Any

import numpy as np
import torch

from hrnet.errors import InputError
from hrnet.geometry import Frame, Image, warp
from hrnet.images import check_image, read_image
from hrnet.results import Boxes, SemanticMap
from hrnet.runtime import Precision, compile_forward
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.windows import Protocol, segment
from hrnet.task import TaskModel, scale_images

Picture = str | Path | np.ndarray
# How far decoding runs ahead of the network: in pictures, and in bytes after which no further one is begun.
_AHEAD, _AHEAD_BYTES = 32, 1 << 28
# At most so many inputs go through the network together, and so many pixels, if nothing else is asked for.
_BATCH, _BATCH_PIXELS = 16, 1 << 21
# Pixels of pictures after which a batch does not wait to be full: some results are as large as their pictures.
_PENDING_PIXELS = 1 << 28


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
    """A picture whose inputs are on their way through the network."""

    source: Path | np.ndarray
    boxes: Boxes
    inputs: int
    results: list[Any]


class _Room:
    """Bytes of pictures that were read and not yet used; the reader waits while there are too many."""

    def __init__(self, limit: float) -> None:
        self._limit, self._held, self._changed = limit, 0, Condition()

    def wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._held < self._limit)

    def hold(self, size: int) -> None:
        """More (or, below zero, less) is held."""
        with self._changed:
            self._held += size
            self._changed.notify_all()

    def open(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._limit = math.inf
            self._changed.notify_all()


class Predictor:
    """A model ready to run.

    Args:
        model: from `hrnet.load`.
        runtime: ``auto``, ``torch`` or ``openvino``.
        device: ``auto`` or as torch names it.
        precision: ``auto``, ``fp32`` or ``bf16``.
        batch: inputs that go through the network together; None for as many as hold two million pixels, at most 16.
        flip: average with the mirrored inputs, as the published figures do; twice the time.
        protocol: how a segmentation model looks at pictures: windows, scales, mirrored too (`flip` is not asked then);
            None for the whole picture.

    Attributes:
        seconds: time spent, by part.

    Raises:
        InputError: the runtime or device cannot be used, or the model is not of a kind that has a protocol.
    """

    def __init__(
        self,
        model: TaskModel[Any],
        *,
        runtime: str = "auto",
        device: str = "auto",
        precision: Precision = "auto",
        batch: int | None = None,
        flip: bool = False,
        protocol: Protocol | None = None,
    ) -> None:
        if protocol is not None and not isinstance(model, SegmentationModel):
            raise InputError("Windows and scales are for segmentation models; leave them out.")
        self.model = model.eval()
        self.batch = batch or min(_BATCH, max(1, _BATCH_PIXELS // math.prod(model.spec.input_size)))
        self.flip = flip
        self.protocol = protocol
        self.seconds = Seconds()
        self._windows = batch
        self._forward = compile_forward(model, runtime=runtime, device=device, precision=precision)

    def __call__(
        self,
        pictures: Iterable[Picture] | Picture,
        *,
        boxes: Callable[[Picture], Boxes | None] | None = None,
        on_error: Callable[[Picture, InputError], None] | None = None,
    ) -> Iterator[Any]:
        """One result a picture, in order: `Poses`, `SemanticMap` or `Classification`, as the model finds.

        Args:
            pictures: paths, or RGB arrays `h w 3` of bytes.
            boxes: where to look in a picture; without it, or where it returns None, the whole picture is one object.
            on_error: told of a picture that cannot be read, which is then left out; without it the error is raised.

        Raises:
            InputError: a picture cannot be read, or boxes are given to a model that looks at whole pictures.
        """
        if boxes is not None and not self.model.takes_boxes:
            raise InputError("This model looks at whole pictures; leave out the boxes.")
        if isinstance(pictures, str | Path | np.ndarray):
            pictures = [pictures]
        read = self._read_ahead(pictures, on_error)
        return self._segmented(read) if self.protocol is not None else self._batched(read, boxes)

    def _segmented(self, pictures: Iterator[tuple[Picture, Image]]) -> Iterator[SemanticMap]:
        """By the protocol, one picture after the other."""
        assert isinstance(self.model, SegmentationModel)
        assert self.protocol is not None
        for picture, image in pictures:
            with self.seconds.measure("network"):
                labels = segment(image, self.model, self._forward, self.protocol, self._windows)
            del image  # not held while somebody draws
            yield SemanticMap(labels, self.model.spec.class_names, _source(picture))

    def _batched(
        self, pictures: Iterator[tuple[Picture, Image]], boxes: Callable[[Picture], Boxes | None] | None
    ) -> Iterator[Any]:
        pending: deque[_Pending] = deque()
        crops: list[Image] = []
        frames: list[Frame] = []
        owners: list[_Pending] = []
        for picture, image in pictures:
            size = (image.shape[0], image.shape[1])
            found = boxes(picture) if boxes else None
            found = Boxes.whole(size) if found is None else found
            with self.seconds.measure("crop"):
                looks = self.model.frames(size, found)
                owner = _Pending(_source(picture), found, len(looks), [])
                pending.append(owner)
                crops += [warp(image, frame) for frame in looks]
                frames += looks
                owners += [owner] * len(looks)
            del image  # not held while somebody draws
            while len(crops) >= self.batch:
                self._run(crops[: self.batch], frames[: self.batch], owners[: self.batch])
                crops, frames, owners = crops[self.batch :], frames[self.batch :], owners[self.batch :]
            if sum(math.prod(frame.source_size) for frame in frames) > _PENDING_PIXELS:
                self._run(crops, frames, owners)
                crops, frames, owners = [], [], []
            yield from self._finished(pending)
        if crops:
            self._run(crops, frames, owners)
        yield from self._finished(pending)

    def _read_ahead(
        self, pictures: Iterable[Picture], on_error: Callable[[Picture, InputError], None] | None
    ) -> Iterator[tuple[Picture, Image]]:
        """Pictures in order, decoded in a thread of their own while the network works."""
        waiting: deque[tuple[Picture, Future[Image]]] = deque()
        room = _Room(_AHEAD_BYTES)
        reader = ThreadPoolExecutor(1)

        def next_read() -> Iterator[tuple[Picture, Image]]:
            picture, future = waiting.popleft()
            try:
                image = [future.result()]
            except InputError as error:
                if on_error is None:
                    raise
                on_error(picture, error)
                return
            del future
            room.hold(-image[0].nbytes)
            # Popped: what is handed out is not held here too.
            yield picture, image.pop()

        try:
            for picture in pictures:
                waiting.append((picture, reader.submit(self._read, picture, room)))
                if len(waiting) > _AHEAD:
                    yield from next_read()
            while waiting:
                yield from next_read()
        finally:
            room.open()
            reader.shutdown(cancel_futures=True)

    def _read(self, picture: Picture, room: _Room) -> Image:
        room.wait()
        with self.seconds.measure("read"):
            image = check_image(picture) if isinstance(picture, np.ndarray) else read_image(picture)
        room.hold(image.nbytes)
        return image

    def _run(self, crops: Sequence[Image], frames: Sequence[Frame], owners: Sequence[_Pending]) -> None:
        with self.seconds.measure("network"):
            images = scale_images(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2))
            outputs = self._forward(images)
            if self.flip:
                outputs = self.model.merge_flip(outputs, self._forward(images.flip(-1)), frames[0].size)
        with self.seconds.measure("decode"):
            for owner, result in zip(owners, self.model.decode(outputs, frames), strict=True):
                owner.results.append(result)

    def _finished(self, pending: deque[_Pending]) -> Iterator[Any]:
        while pending and len(pending[0].results) == pending[0].inputs:
            done = pending.popleft()
            with self.seconds.measure("decode"):
                result = self.model.join(done.results, done.boxes, done.source)
            del done
            yield result


def _source(picture: Picture) -> Path | np.ndarray:
    return picture if isinstance(picture, np.ndarray) else Path(picture)
