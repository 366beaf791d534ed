"""Scoring a segmentation model, for `hrnet evaluate`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hrnet.cli.evaluate import Evaluate, Scored, say
from hrnet.engine.progress import Progress
from hrnet.errors import InputError
from hrnet.formats.compare import hold_out
from hrnet.formats.label_maps import LabeledImage
from hrnet.io.images import image_size, read_image
from hrnet.predictor import ImageSource, Predictor
from hrnet.segmentation.data import match_classes, read_segmentation
from hrnet.segmentation.metrics import SegmentationEvaluator
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.spec import SegmentationSpec
from hrnet.segmentation.windows import InferenceMode, published_mode


def score(options: Evaluate, model: SegmentationModel) -> Scored:
    """Score a model on the labeled images that the options name.

    Raises:
        InputError: labels are missing or cannot be used, or options exclude one another.
    """
    protocol = _protocol(options, model.spec)
    images, problems = _open(options, model.spec)
    evaluator = SegmentationEvaluator(images, model.spec)
    predictor = Predictor(model, runtime=options.runtime, device=options.device, batch=options.batch, protocol=protocol)
    start = time.perf_counter()
    failed: dict[Path, InputError] = {}

    def leave_out(image: ImageSource, error: InputError) -> None:
        assert isinstance(image, Path)
        failed[image] = error
        say([str(error)])

    with Progress("evaluate", len(images), "images") as progress:
        position = 0
        for result in predictor(_inputs(images), on_error=leave_out):
            while images[position].path in failed:
                position += 1
            evaluator.update([position], [result])
            position += 1
            progress.advance(1)
    metrics = evaluator.compute()
    seconds = time.perf_counter() - start
    counts = {"images": len(images) - len(failed)}
    return Scored("segmentation", evaluator, metrics, counts, seconds, problems or bool(failed), _facts(protocol))


def _protocol(options: Evaluate, spec: SegmentationSpec) -> InferenceMode:
    if options.protocol == "published" and options.windows:
        raise InputError("The published protocol says itself which windows there are; leave out --windows.")
    try:
        if options.protocol == "published":
            return published_mode(spec, options.scales, options.flip)
        windows = "sliding" if options.windows else "whole"
        return InferenceMode(options.scales, options.flip, windows, native=options.windows)
    except ValueError as error:
        raise InputError(f"{error} Mend --scales.") from None


def _open(options: Evaluate, spec: SegmentationSpec) -> tuple[Sequence[LabeledImage], bool]:
    """The images to be scored, their labels those of the model, and whether any had to be left out."""
    # What is held out is held out of the training set.
    data = read_segmentation(options.images, options.annotations, "train" if options.hold_out else "val")
    data = match_classes(data, spec.class_names)
    say([*data.notes, *data.problems])
    images = data.images
    if options.hold_out:
        _, images = hold_out(images, options.hold_out)
    return images, bool(data.problems)


def _inputs(images: Sequence[LabeledImage]) -> Iterator[ImageSource]:
    """Paths; of an image that was labeled as it is stored, not as its orientation tag turns it, the pixels."""
    for one in images:
        yield _as_stored(one) if _turned(one) else one.path


def _turned(one: LabeledImage) -> bool:
    try:
        return image_size(one.path) != one.size
    except InputError:
        return False  # the predictor says what is wrong with it


def _as_stored(one: LabeledImage) -> np.ndarray | Path:
    try:
        return read_image(one.path, upright=False)
    except InputError:
        return one.path


def _facts(protocol: InferenceMode) -> dict[str, str]:
    how = {"whole": "whole images", "sliding": "overlapping windows", "tiles": "whole, in tiles above scale 1"}
    return {
        "looked at": how[protocol.windows] + (" at the image's own scale" if protocol.native else ""),
        "scales": ", ".join(f"{scale:g}" for scale in protocol.scales),
        "protocol": "published" if protocol.published else "plain",
    }
