"""Images in, results out: the same inputs as in evaluation, batched, through a compiled forward."""

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
from typing import Any, NamedTuple

import numpy as np
import torch

from hrnet.errors import InputError
from hrnet.inference.processor import BoxPrompts
from hrnet.inference.runtime import Precision, compile_forward
from hrnet.io.geometry import Frame, Image, Size, warp
from hrnet.io.images import check_image, read_image
from hrnet.nn.backbone_model import BackboneModel, refuse_headless
from hrnet.nn.task import TaskModel, scale_images
from hrnet.pose.boxes import person_boxes, person_labels
from hrnet.results import SemanticMap
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.windows import InferenceMode, segment

ImageSource = str | Path | np.ndarray
# How far decoding runs ahead of the network: in images, and in bytes after which no further one is begun.
_AHEAD, _AHEAD_BYTES = 32, 1 << 28
# At most so many inputs go through the network together, and so many pixels, if nothing else is asked for.
_BATCH, _BATCH_PIXELS = 16, 1 << 21
# Pixels of images and inputs after which a batch does not wait to be full: some results are as large as their images.
_PENDING_PIXELS = 1 << 28
# The same in images: inputs of a rare size do not hold up the results of all that come after them.
_PENDING = 64
# The same in pixels where the images themselves are held, which a detector looks at before the model does.
_HELD_PIXELS = _AHEAD_BYTES // 3


@dataclass(slots=True)
class Seconds:
    """Where a predictor's time went. Reading overlaps with the rest, so the parts may exceed the whole.

    Attributes:
        read: opening and decoding images.
        detect: all that a detector does before the model looks.
        crop: making inputs.
        network: its forward.
        decode: results of its outputs.
    """

    read: float = 0.0
    detect: float = 0.0
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
    """An image whose inputs are on their way through the network; pixels: its own and those of its inputs."""

    source: Path | np.ndarray
    boxes: BoxPrompts
    inputs: int
    pixels: int
    results: list[Any]


class _Input(NamedTuple):
    """An input that waits for others of its size."""

    crop: Image
    frame: Frame
    owner: _Pending


class _Room:
    """Bytes of images that were read and not yet used; the reader waits while there are too many."""

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
        protocol: how a segmentation model looks at images: windows, scales, mirrored too (`flip` is not asked then);
            None for the whole image.
        detector: finds the people that a model which looks into boxes is to look at; a detection model, or a predictor
            with one. None for the whole image.
        detector_score: what the detector is less sure of is not looked at.

    Attributes:
        seconds: time spent, by part.

    Raises:
        InputError: the runtime or device cannot be used; the model is of no kind that has a protocol, can look twice or
            looks into boxes; or the detector finds no people.
    """

    def __init__(
        self,
        model: TaskModel[Any, Any],
        *,
        runtime: str = "auto",
        device: str = "auto",
        precision: Precision = "auto",
        batch: int | None = None,
        flip: bool = False,
        protocol: InferenceMode | None = None,
        detector: TaskModel[Any, Any] | Predictor | None = None,
        detector_score: float = 0.3,
    ) -> None:
        if isinstance(model, BackboneModel):
            refuse_headless()
        if protocol is not None and not isinstance(model, SegmentationModel):
            raise InputError("Windows and scales are for segmentation models; leave them out.")
        if flip and not model.flips:
            raise InputError("This model has no average over mirrored images; leave out flip.")
        if detector is not None and not model.takes_boxes:
            raise InputError("This model looks at whole images; leave out the detector.")
        if isinstance(detector, TaskModel):
            detector = Predictor(detector, runtime=runtime, device=device, precision=precision)
        if detector is not None:
            person_labels(detector.names)
        self.model = model.eval()
        self.batch = batch
        self.flip = flip
        self.protocol = protocol
        self.detector = detector
        self.detector_score = detector_score
        self.seconds = Seconds()
        self._forward = compile_forward(model, runtime=runtime, device=device, precision=precision)

    def __call__(
        self,
        images: Iterable[ImageSource] | ImageSource,
        *,
        boxes: Callable[[ImageSource], BoxPrompts | None] | None = None,
        on_error: Callable[[ImageSource, InputError], None] | None = None,
    ) -> Iterator[Any]:
        """One result an image, in order: `Poses`, `SemanticMap`, `Detections` or `Classification`, as the model finds.

        Args:
            images: paths, or RGB arrays `h w 3` of bytes.
            boxes: where to look in an image; where it returns None the whole image is one object. Without it the
                detector is asked, and without a detector every image is one object.
            on_error: told of an image that cannot be read, which is then left out; without it the error is raised.

        Raises:
            InputError: an image cannot be read, or boxes are given to a model that looks at whole images.
        """
        if boxes is not None and not self.model.takes_boxes:
            raise InputError("This model looks at whole images; leave out the boxes.")
        if isinstance(images, str | Path | np.ndarray):
            images = [images]
        read = self._read_ahead(images, on_error)
        if self.protocol is not None:
            return self._segmented(read)
        if boxes is None and self.detector is not None:
            return self._batched(self._people(read, self.detector))
        return self._batched(_aimed(read, boxes))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes, of models that have some."""
        return getattr(self.model.spec, "class_names", ())

    def _segmented(self, sources: Iterator[tuple[ImageSource, Image]]) -> Iterator[SemanticMap]:
        """By the protocol, one image after the other."""
        assert isinstance(self.model, SegmentationModel)
        assert self.protocol is not None
        for source, image in sources:
            with self.seconds.measure("network"):
                labels = segment(image, self.model, self._forward, self.protocol, self.batch)
            del image  # not held while somebody draws
            yield SemanticMap(labels, self.model.spec.class_names, _source(source))

    def _people(
        self, sources: Iterator[tuple[ImageSource, Image]], detector: Predictor
    ) -> Iterator[tuple[ImageSource, Image, BoxPrompts]]:
        """Images and the people that a detector finds in them, some images ahead."""
        held: deque[tuple[ImageSource, Image]] = deque()

        def shown() -> Iterator[tuple[ImageSource, Image, BoxPrompts]]:
            for source, image in sources:
                held.append((source, image))
                yield source, image, BoxPrompts.whole((image.shape[0], image.shape[1]))

        for found in detector._batched(shown(), _HELD_PIXELS):
            source, image = held.popleft()
            parts = detector.seconds
            self.seconds.detect = parts.crop + parts.network + parts.decode
            yield source, image, person_boxes(found, self.detector_score)
            del image  # not held while the next image is looked at

    def _batched(
        self, sources: Iterator[tuple[ImageSource, Image, BoxPrompts]], most_pixels: int = _PENDING_PIXELS
    ) -> Iterator[Any]:
        """Results in order. Inputs of one size go through the network together.

        Args:
            images: and where to look in them.
            most_pixels: of images without a result, and of their inputs.
        """
        pending: deque[_Pending] = deque()
        waiting: dict[Size, list[_Input]] = {}
        for source, image, boxes in sources:
            with self.seconds.measure("crop"):
                owner, inputs = self._inputs(source, image, boxes)
            del image  # not held while somebody draws
            pending.append(owner)
            for one in inputs:
                together = waiting.setdefault(one.frame.size, [])
                together.append(one)
                if len(together) >= self._batch_of(one.frame.size):
                    self._run(waiting.pop(one.frame.size))
            yield from self._finished(pending)
            while len(pending) > _PENDING or sum(one.pixels for one in pending) > most_pixels:
                # The oldest without a result is the first of its inputs' size: what came before it has one.
                oldest = next(size for size, inputs in waiting.items() if inputs[0].owner is pending[0])
                self._run(waiting.pop(oldest))
                yield from self._finished(pending)
        for inputs in waiting.values():
            self._run(inputs)
        yield from self._finished(pending)

    def _inputs(self, source: ImageSource, image: Image, boxes: BoxPrompts) -> tuple[_Pending, list[_Input]]:
        size = (image.shape[0], image.shape[1])
        frames = self.model.frames(size, boxes)
        pixels = math.prod(size) + sum(math.prod(frame.size) for frame in frames)
        owner = _Pending(_source(source), boxes, len(frames), pixels, [])
        return owner, [_Input(warp(image, frame, fill=self.model.fill), frame, owner) for frame in frames]

    def _batch_of(self, size: Size) -> int:
        """How many inputs of a size go through the network together."""
        return self.batch or min(_BATCH, max(1, _BATCH_PIXELS // math.prod(size)))

    def _read_ahead(
        self, sources: Iterable[ImageSource], on_error: Callable[[ImageSource, InputError], None] | None
    ) -> Iterator[tuple[ImageSource, Image]]:
        """Images in order, decoded in a thread of their own while the network works."""
        waiting: deque[tuple[ImageSource, Future[Image]]] = deque()
        room = _Room(_AHEAD_BYTES)
        reader = ThreadPoolExecutor(1)

        def next_read() -> Iterator[tuple[ImageSource, Image]]:
            source, future = waiting.popleft()
            try:
                image = [future.result()]
            except InputError as error:
                if on_error is None:
                    raise
                on_error(source, error)
                return
            del future
            room.hold(-image[0].nbytes)
            # Popped: what is handed out is not held here too.
            yield source, image.pop()

        try:
            for source in sources:
                waiting.append((source, reader.submit(self._read, source, room)))
                if len(waiting) > _AHEAD:
                    yield from next_read()
            while waiting:
                yield from next_read()
        finally:
            room.open()
            reader.shutdown(cancel_futures=True)

    def _read(self, source: ImageSource, room: _Room) -> Image:
        room.wait()
        with self.seconds.measure("read"):
            image = check_image(source) if isinstance(source, np.ndarray) else read_image(source)
        room.hold(image.nbytes)
        return image

    def _run(self, inputs: Sequence[_Input]) -> None:
        frames = [one.frame for one in inputs]
        with self.seconds.measure("network"):
            crops = np.stack([one.crop for one in inputs])
            images = scale_images(torch.from_numpy(crops).permute(0, 3, 1, 2))
            outputs = self._forward(images)
            if self.flip:
                outputs = self.model.merge_flip(outputs, self._forward(images.flip(-1)), frames[0].size)
        with self.seconds.measure("decode"):
            for one, result in zip(inputs, self.model.decode(outputs, frames), strict=True):
                one.owner.results.append(result)

    def _finished(self, pending: deque[_Pending]) -> Iterator[Any]:
        while pending and len(pending[0].results) == pending[0].inputs:
            done = pending.popleft()
            with self.seconds.measure("decode"):
                result = self.model.join(done.results, done.boxes, done.source)
            del done
            yield result


def _aimed(
    sources: Iterator[tuple[ImageSource, Image]], boxes: Callable[[ImageSource], BoxPrompts | None] | None
) -> Iterator[tuple[ImageSource, Image, BoxPrompts]]:
    """Images and where to look in them."""
    for source, image in sources:
        found = boxes(source) if boxes else None
        yield source, image, BoxPrompts.whole((image.shape[0], image.shape[1])) if found is None else found
        del image  # not held while the next image is looked at


def _source(image: ImageSource) -> Path | np.ndarray:
    return image if isinstance(image, np.ndarray) else Path(image)
