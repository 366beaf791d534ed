"""Scoring a detection model, for `hrnet evaluate`."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from hrnet.cli.evaluate import Evaluate, Scored, say
from hrnet.detection.data import match_classes, read_detection
from hrnet.detection.metrics import DetectionEvaluator
from hrnet.detection.model import DetectionModel
from hrnet.detection.spec import DetectionSpec
from hrnet.engine.progress import Progress
from hrnet.errors import InputError
from hrnet.formats.compare import hold_out
from hrnet.formats.records import ImageRecord
from hrnet.io.atomic import write_text
from hrnet.io.images import image_size, read_labeled
from hrnet.predictor import ImageSource as Given
from hrnet.predictor import Predictor


def score(options: Evaluate, model: DetectionModel) -> Scored:
    """Score a model on the labeled images that the options name.

    Raises:
        InputError: labels are missing or cannot be used.
    """
    records, category_ids, problems = _open(options, model.spec)
    evaluator = DetectionEvaluator(records, model.spec, category_ids)
    predictor = Predictor(model, runtime=options.runtime, device=options.device, batch=options.batch)
    start = time.perf_counter()
    failed: set[Path] = set()
    given: deque[int] = deque()

    def leave_out(path: object, error: InputError) -> None:
        assert isinstance(path, Path)
        failed.add(path)
        say([str(error)])

    def inputs() -> Iterator[Given]:
        for position, record in enumerate(records):
            try:
                image = _as_labeled(record)
            except InputError as error:
                leave_out(record.path, error)
                continue
            given.append(position)
            yield image

    with Progress("evaluate", len(records), "images") as progress:
        for result in predictor(inputs(), on_error=leave_out):
            while records[given[0]].path in failed:
                given.popleft()
            evaluator.update([given.popleft()], [result])
            progress.advance(1)
    metrics = evaluator.compute()
    seconds = time.perf_counter() - start
    if options.results:
        write_text(options.results, json.dumps(evaluator.coco_results()) + "\n")
    used = [record for record in records if record.path not in failed]
    counts = {"images": len(used), "objects": sum(len(record.objects) for record in used)}
    return Scored("detection", evaluator, metrics, counts, seconds, problems or bool(failed), {})


def _open(options: Evaluate, spec: DetectionSpec) -> tuple[Sequence[ImageRecord], tuple[int, ...], bool]:
    """The images to be scored, COCO's numbers of their classes, and whether any had to be left out."""
    # What is held out is held out of the training set.
    data = read_detection(options.images, options.annotations, "train" if options.hold_out else "val")
    data = match_classes(data, spec.class_names, options.aliases)
    say([*data.notes, *data.problems])
    images: Sequence[ImageRecord] = data.images
    if options.hold_out:
        _, images = hold_out(images, options.hold_out)
    return images, data.category_ids, bool(data.problems)


def _as_labeled(image: ImageRecord) -> Given:
    """The path; of an image that was labeled as it is stored, not as its orientation tag turns it, the pixels."""
    if image_size(image.path) == image.size:
        return image.path
    return read_labeled(image.path, image.size)
