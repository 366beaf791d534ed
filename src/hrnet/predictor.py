"""Prediction on any images, batched, through any runtime, with the network inputs of the evaluation."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar, cast, overload, runtime_checkable

import numpy as np
import PIL.Image

from hrnet.errors import InputError
from hrnet.inference.forward import Precision, Runtime
from hrnet.inference.processor import AnyImage, BoxPrompts, ImageSource, Input, Processor
from hrnet.inference.runtime import open_runtime
from hrnet.io.geometry import Frame, Image, Size, warp
from hrnet.io.images import check_image, read_image, to_source
from hrnet.results import Source

if TYPE_CHECKING:
    from hrnet.nn.task import TaskModel

Result = TypeVar("Result")
ResultOut = TypeVar("ResultOut", covariant=True)
# How far reading runs ahead of the network: in images, and in bytes after which no further image is begun.
_READ_AHEAD, _READ_AHEAD_BYTES = 32, 1 << 28
# The largest default batch, in inputs and in pixels.
_BATCH, _BATCH_PIXELS = 16, 1 << 21
# Pixels of images and inputs after which a batch runs before it is full: some results are as large as their images.
_PENDING_PIXELS = 1 << 28
# The same in images: inputs of a rare size must not delay the results of all images after them.
_PENDING_IMAGES = 64
# The same in pixels where the images themselves are held, between a detector and a top-down model.
_HELD_PIXELS = _READ_AHEAD_BYTES // 3


@runtime_checkable
class ImagePredictor(Protocol[ResultOut]):
    """A prediction of whole images through any number of forwards: sliding windows, scales."""

    def predict(self, image: Image, forward: Runtime, source: Source) -> ResultOut: ...


@dataclass(slots=True)
class Seconds:
    """Time of a predictor by part, in seconds. Reading overlaps with the rest."""

    read: float = 0.0  # opening and decoding images
    detect: float = 0.0  # detection before a top-down model runs
    crop: float = 0.0  # making inputs
    network: float = 0.0  # forward
    decode: float = 0.0  # results from outputs

    @contextmanager
    def record(self, part: str) -> Iterator[None]:
        """Add the duration of a block to a part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, part, getattr(self, part) + time.perf_counter() - start)


class _Loaded(NamedTuple):
    """An input with its position and its pixels."""

    number: int
    input: Input
    image: Image


@dataclass(slots=True)
class _Pending:
    """An image whose inputs wait for the network; pixels: its own and those of its inputs."""

    index: int
    source: Path | np.ndarray
    prompts: BoxPrompts
    num_inputs: int
    pixels: int
    results: list[Any]


class _Crop(NamedTuple):
    """A network input that waits for others of its size."""

    image: Image
    frame: Frame
    owner: _Pending


class _ReadAhead:
    """Bytes of images that were read and not yet used; the reader waits while there are too many."""

    def __init__(self, limit: float) -> None:
        self._limit, self._held, self._changed = limit, 0, Condition()

    def wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._held < self._limit)

    def hold(self, size: int) -> None:
        """Add bytes; a negative size releases them."""
        with self._changed:
            self._held += size
            self._changed.notify_all()

    def open(self) -> None:
        """Lift the limit, which ends all waiting."""
        with self._changed:
            self._limit = math.inf
            self._changed.notify_all()


class Results(Iterator[Result]):
    """Results of images, computed while they are iterated over. An index, a slice or `len` computes and keeps them all."""

    def __init__(self, results: Generator[Result, None, None]) -> None:
        self._rest, self._kept, self._taken = results, list[Result](), 0
        self._whole = False

    def __next__(self) -> Result:
        if self._whole:
            if self._taken >= len(self._kept):
                raise StopIteration
            result = self._kept[self._taken]
        else:
            result = next(self._rest)
        self._taken += 1
        return result

    def close(self) -> None:
        """End the computation."""
        self._rest.close()

    def _all(self) -> list[Result]:
        if self._taken and not self._whole:
            raise TypeError("these results were iterated over, which keeps none; index a list of them")
        if not self._whole:
            self._kept, self._whole = list(self._rest), True
        return self._kept

    def __len__(self) -> int:
        return len(self._all())

    @overload
    def __getitem__(self, index: int) -> Result: ...

    @overload
    def __getitem__(self, index: slice) -> list[Result]: ...

    def __getitem__(self, index: int | slice) -> Result | list[Result]:
        return self._all()[index]


class Predictor(Generic[Result]):
    """A model ready to run.

    Args:
        model: from `hrnet.load`, or a name or path for it.
        runtime: ``auto`` or a key of `hrnet.inference.runtime.RUNTIMES`: ``openvino``, ``torch``.
        device: ``auto`` or a torch device.
        precision: ``auto``, ``fp32`` or ``bf16``.
        batch: inputs per forward; None for as many as hold two million pixels, at most 16.
        flip: flip test: average with the horizontally flipped inputs, as the published figures do; twice the time.
        windows: prediction of whole images in place of single inputs, for example `hrnet.segmentation.windows.Windowed`,
            which has a flip test of its own.
        detector: detection model, or a predictor with one, for the boxes that a top-down model runs on. None takes the
            whole image as one box.
        detector_score: minimum score of a detection that is used as a box.
        antialias: True to average the pixels of reduced images; see `hrnet.io.geometry.warp`.

    Attributes:
        seconds: time spent, by part.

    Raises:
        InputError: the runtime or device cannot be used, the model does not take what was given with it, or the detector
            does not detect what the model needs.
    """

    def __init__(
        self,
        model: TaskModel[Any, Result] | str | Path,
        *,
        runtime: str = "auto",
        device: str = "auto",
        precision: Precision = "auto",
        batch: int | None = None,
        flip: bool = False,
        windows: ImagePredictor[Result] | None = None,
        detector: TaskModel[Any, Any] | Predictor[Any] | str | Path | None = None,
        detector_score: float = 0.3,
        antialias: bool = True,
    ) -> None:
        if isinstance(model, str | Path):
            from hrnet.io.zoo import load

            model = load(model)
        if not hasattr(model, "processor"):
            model = cast("TaskModel[Any, Result]", getattr(model, "module", model))  # of DataParallel
        processor: Processor[Result] | None = getattr(model, "processor", None)
        if processor is None:
            cure = "train from it with `hrnet train RECIPE --init`, or take its maps with hrnet.features_only(model)"
            raise InputError(f"this model is a backbone without a head, which predicts nothing; {cure}")
        if flip and not processor.can_flip:
            raise InputError("this model has no flip test; leave out flip")
        if detector is not None and not processor.takes_boxes:
            raise InputError("a detector applies to top-down (pose) models only; leave it out")
        if detector is not None and not isinstance(detector, Predictor):
            detector = Predictor(detector, runtime=runtime, device=device, precision=precision)
        if detector is not None:
            processor.check_detector(detector.class_names)
        self.model: TaskModel[Any, Result] = model.eval()
        self.processor = processor
        self.batch = batch
        self.flip = flip
        self.windows = windows
        self.detector = detector
        self.detector_score = detector_score
        self.antialias = antialias
        self.seconds: Seconds = Seconds()
        self._forward = open_runtime(model, runtime, device=device, precision=precision)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, for models that have some."""
        return self.processor.class_names

    def __call__(
        self,
        images: Iterable[AnyImage] | AnyImage,
        *,
        score_threshold: float | None = None,
        boxes: Callable[[ImageSource], BoxPrompts | None] | None = None,
        on_error: Callable[[ImageSource, InputError], None] | None = None,
    ) -> Results[Result]:
        """Return one result per image, in order: `Poses`, `SemanticMap`, `Detections` or `Classification`.

        Args:
            images: one image or many, also an endless iterator: paths, RGB arrays `h w 3` of uint8, PIL images, bytes of
                image files, or torch tensors `3 h w` (uint8, or floating-point in [0, 1]).
            score_threshold: minimum score of the objects in the results; None returns all.
            boxes: function that returns the boxes of an image for a top-down model, None for the whole image. Without it
                the detector runs, and without a detector every image is one box.
            on_error: function that gets an image that cannot be read and is left out; without it the error is raised.

        Raises:
            InputError: an image cannot be read, or boxes are given to a model that is not top-down.
        """
        if boxes is not None and not self.processor.takes_boxes:
            raise InputError("boxes apply to top-down (pose) models only; leave them out")
        inputs = _with_boxes(_each(images), boxes, on_error)
        results = (result for _, result in self.run(inputs, detect=boxes is None, on_error=on_error))
        if score_threshold is None:
            return Results(results)
        return Results(cast(Any, result).above(score_threshold) for result in results)

    def run(
        self,
        inputs: Iterable[Input],
        *,
        detect: bool = True,
        on_error: Callable[[ImageSource, InputError], None] | None = None,
    ) -> Iterator[tuple[int, Result]]:
        """Return the position and the result of each input, in order; `on_error` as in `__call__`.

        Args:
            inputs: images, with or without boxes.
            detect: True to run the detector on inputs without boxes.
        """
        loaded = self._load(inputs, on_error)
        if self.windows is not None:
            return self._by_windows(loaded, self.windows)
        if detect and self.detector is not None:
            return self._batched(self._detected(loaded, self.detector))
        return self._batched(loaded)

    def _by_windows(self, loaded: Iterator[_Loaded], windows: ImagePredictor[Result]) -> Iterator[tuple[int, Result]]:
        for index, given, image in loaded:
            with self.seconds.record("network"):
                result = windows.predict(image, self._forward, _source(given.source))
            del image  # not held while the caller works
            yield index, result

    def _detected(self, loaded: Iterator[_Loaded], detector: Predictor[Any]) -> Iterator[_Loaded]:
        """Return inputs with the boxes that a detector finds, some images ahead."""
        held: deque[_Loaded] = deque()

        def shown() -> Iterator[_Loaded]:
            for one in loaded:
                held.append(one)
                yield _Loaded(one.number, Input(one.input.source), one.image)

        for _, found in detector._batched(shown(), _HELD_PIXELS):
            index, given, image = held.popleft()
            parts = detector.seconds
            self.seconds.detect = parts.crop + parts.network + parts.decode
            prompts = self.processor.select_prompts(found, self.detector_score)
            yield _Loaded(index, Input(given.source, prompts), image)
            del image  # not held while the next image is read

    def _batched(self, loaded: Iterator[_Loaded], most_pixels: int = _PENDING_PIXELS) -> Iterator[tuple[int, Result]]:
        """Return results in order; inputs of one size share a forward, `most_pixels` limits what waits for it."""
        pending: deque[_Pending] = deque()
        waiting: dict[Size, list[_Crop]] = {}
        for one in loaded:
            with self.seconds.record("crop"):
                owner, crops = self._crops(one)
            del one  # its pixels are not held while the caller works
            pending.append(owner)
            for crop in crops:
                same_size = waiting.setdefault(crop.frame.size, [])
                same_size.append(crop)
                if len(same_size) >= (self.batch or min(_BATCH, max(1, _BATCH_PIXELS // math.prod(crop.frame.size)))):
                    self._forward_batch(waiting.pop(crop.frame.size))
            yield from self._finished(pending)
            while len(pending) > _PENDING_IMAGES or sum(image.pixels for image in pending) > most_pixels:
                # The oldest without a result is the first of its size: what came before it has one.
                oldest = next(size for size, crops in waiting.items() if crops[0].owner is pending[0])
                self._forward_batch(waiting.pop(oldest))
                yield from self._finished(pending)
        for crops in waiting.values():
            self._forward_batch(crops)
        yield from self._finished(pending)

    def _crops(self, loaded: _Loaded) -> tuple[_Pending, list[_Crop]]:
        index, given, image = loaded
        size = (image.shape[0], image.shape[1])
        prompts = given.prompts or BoxPrompts.whole(size)
        frames = self.processor.frames(size, prompts)
        pixels = math.prod(size) + sum(math.prod(frame.size) for frame in frames)
        owner = _Pending(index, _source(given.source), prompts, len(frames), pixels, [])
        fill = self.processor.fill
        return owner, [_Crop(warp(image, frame, antialias=self.antialias, fill=fill), frame, owner) for frame in frames]

    def _load(
        self, inputs: Iterable[Input], on_error: Callable[[ImageSource, InputError], None] | None
    ) -> Iterator[_Loaded]:
        """Return inputs with their pixels in order, read in another thread while the network runs."""
        waiting: deque[tuple[int, Input, Future[Image]]] = deque()
        ahead = _ReadAhead(_READ_AHEAD_BYTES)
        reader = ThreadPoolExecutor(1)

        def next_read() -> Iterator[_Loaded]:
            index, given, future = waiting.popleft()
            try:
                image = [future.result()]
            except InputError as error:
                if on_error is None:
                    raise
                on_error(given.source, error)
                return
            del future
            ahead.hold(-image[0].nbytes)
            # Popped: what is handed out is not held here too.
            yield _Loaded(index, given, image.pop())

        try:
            for index, given in enumerate(inputs):
                waiting.append((index, given, reader.submit(self._read, given, ahead)))
                if len(waiting) > _READ_AHEAD:
                    yield from next_read()
            while waiting:
                yield from next_read()
        finally:
            ahead.open()
            reader.shutdown(cancel_futures=True)

    def _read(self, given: Input, ahead: _ReadAhead) -> Image:
        ahead.wait()
        with self.seconds.record("read"):
            if given.read is not None:
                image = given.read()
            elif isinstance(given.source, np.ndarray):
                image = check_image(given.source)
            else:
                image = read_image(given.source)
        ahead.hold(image.nbytes)
        return image

    def _forward_batch(self, crops: Sequence[_Crop]) -> None:
        frames = [crop.frame for crop in crops]
        with self.seconds.record("network"):
            images = np.stack([crop.image for crop in crops])
            outputs = self._forward(images)
            if self.flip:
                flipped = self._forward(np.ascontiguousarray(images[:, :, ::-1]))
                outputs = self.processor.merge_flip(outputs, flipped, frames[0].size)
        with self.seconds.record("decode"):
            for crop, result in zip(crops, self.processor.decode(outputs, frames), strict=True):
                crop.owner.results.append(result)

    def _finished(self, pending: deque[_Pending]) -> Iterator[tuple[int, Result]]:
        while pending and len(pending[0].results) == pending[0].num_inputs:
            done = pending.popleft()
            with self.seconds.record("decode"):
                result = self.processor.join(done.results, done.prompts, done.source)
            index = done.index
            del done
            yield index, result


def _each(images: Iterable[AnyImage] | AnyImage) -> Iterable[AnyImage]:
    """Return the images of an argument that is one image, several in an array or tensor, or any iterable of them."""
    single = isinstance(images, str | Path | bytes | PIL.Image.Image) or getattr(images, "ndim", 4) == 3
    return images if isinstance(images, Iterable) and not single else [images]


def _with_boxes(
    images: Iterable[AnyImage],
    boxes: Callable[[ImageSource], BoxPrompts | None] | None,
    on_error: Callable[[ImageSource, InputError], None] | None,
) -> Iterator[Input]:
    for image in images:
        try:
            source = to_source(image)
            given = Input(source, boxes(source) if boxes else None)
        except InputError as error:
            if on_error is None:
                raise
            on_error(cast(ImageSource, image), error)
        else:
            yield given


def _source(source: ImageSource) -> Path | np.ndarray:
    return source if isinstance(source, np.ndarray) else Path(source)
