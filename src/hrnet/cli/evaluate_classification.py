"""Scoring a classification model, for `hrnet evaluate`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from hrnet.classification.data import match_classes, read_classification
from hrnet.classification.metrics import ClassificationEvaluator
from hrnet.classification.model import ClassificationModel
from hrnet.classification.spec import ClassificationSpec
from hrnet.cli.evaluate import Evaluate, Scored, say
from hrnet.engine.progress import Progress
from hrnet.errors import InputError
from hrnet.formats.compare import hold_out
from hrnet.formats.records import ImageRecord
from hrnet.predictor import Predictor


def score(options: Evaluate, model: ClassificationModel) -> Scored:
    """Score a model on the class folders that the options name.

    Raises:
        InputError: they are missing or cannot be used.
    """
    images, problems = _open(options, model.spec)
    evaluator = ClassificationEvaluator(images, model.spec)
    predictor = Predictor(model, runtime=options.runtime, device=options.device, batch=options.batch, flip=options.flip)
    start = time.perf_counter()
    failed: set[Path] = set()
    given: deque[int] = deque()

    def leave_out(path: object, error: InputError) -> None:
        assert isinstance(path, Path)
        failed.add(path)
        say([str(error)])

    def inputs() -> Iterator[Path]:
        for position, image in enumerate(images):
            given.append(position)
            yield image.path

    with Progress("evaluate", len(images), "images") as progress:
        for result in predictor(inputs(), on_error=leave_out):
            while images[given[0]].path in failed:
                given.popleft()
            evaluator.update([given.popleft()], [result])
            progress.advance(1)
    metrics = evaluator.compute()
    seconds = time.perf_counter() - start
    counts = {"images": len(images) - len(failed)}
    return Scored("classification", evaluator, metrics, counts, seconds, problems or bool(failed), {})


def _open(options: Evaluate, spec: ClassificationSpec) -> tuple[Sequence[ImageRecord], bool]:
    """The images to be scored, their labels those of the model, and whether any had to be left out."""
    # What is held out is held out of the training set.
    data = read_classification(options.images, "train" if options.hold_out else "val")
    data = match_classes(data, spec.class_names)
    say([*data.notes, *data.problems])
    images: Sequence[ImageRecord] = data.images
    if options.hold_out:
        _, images = hold_out(images, options.hold_out)
    return images, bool(data.problems)
