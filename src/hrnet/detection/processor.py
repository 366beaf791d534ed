"""The NumPy side of detection: the input that shows an image, and the detections that output arrays mean.

Boxes are x1 y1 x2 y2 and count from the outer edge of the first pixel: a box that fills an input of w x h is 0 0 w h.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from hrnet.detection.spec import DetectionSpec
from hrnet.inference.processor import MEAN_COLOR, BoxPrompts, Processor
from hrnet.io.geometry import Color, Frame, Size, clip_boxes
from hrnet.results import Detections, Masks

# The sides of an input are multiples of this, the coarsest stride of the backbone.
INPUT_MULTIPLE = 32


class DetectionOutput(NamedTuple):
    """Outputs of a detector for a batch, tensors or arrays, best first and padded with the score 0.

    Attributes:
        boxes: pixels of the input.
        scores: 0 to 1.
        labels: classes.
        masks: logits of the m x m cells of each box; None for models without masks.
    """

    boxes: Float[Any, "n d 4"]
    scores: Float[Any, "n d"]
    labels: Int[Any, "n d"]
    masks: Float[Any, "n d m m"] | None = None


class DetectionProcessor(Processor[Detections]):
    """Whole images in, detections in pixels of the image out."""

    fill: ClassVar[Color] = MEAN_COLOR

    def __init__(self, spec: DetectionSpec) -> None:
        self.spec = spec

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.spec.class_names

    def frames(self, size: Size, prompts: BoxPrompts) -> list[Frame]:
        """Return one frame, which shows the whole image."""
        return [image_frame(size, self.spec)]

    def decode(self, outputs: DetectionOutput, frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of each image, best first, clipped to the image."""
        return [self._detections(outputs, index, frame) for index, frame in enumerate(frames)]

    def _detections(self, outputs: DetectionOutput, index: int, frame: Frame) -> Detections:
        kept = outputs.scores[index] > 0
        whole = boxes_to_source(outputs.boxes[index][kept].astype(float), frame)
        boxes = clip_boxes(whole, frame.source_size)
        # Drops boxes that lie on the padding of the input alone.
        inside = ~((whole[:, 2:] > whole[:, :2]).all(1) & (boxes[:, 2:] <= boxes[:, :2]).any(1))
        scores = outputs.scores[index][kept].astype(float)[inside]
        labels = outputs.labels[index][kept].astype(np.int64)[inside]
        masks = None
        if outputs.masks is not None:
            # The cells divide the predicted box, not its clipped part.
            probabilities = sigmoid(outputs.masks[index][kept][inside])
            masks = paste_masks(probabilities, whole[inside], frame.source_size)
        return Detections(boxes[inside], scores, labels, self.spec.class_names, masks)


def image_frame(source_size: Size, spec: DetectionSpec) -> Frame:
    """Return the frame of a whole image: at the top left, aspect ratio kept up to whole pixels; see `DetectionSpec.fit`."""
    if spec.fit == "sides":
        short, long = spec.input_size
        ratio = min(short / min(source_size), long / max(source_size))
    else:
        ratio = min(side / source for side, source in zip(spec.input_size, source_size, strict=True))
    height, width = (max(1, int(side * ratio + 0.5)) for side in source_size)
    if spec.fit == "canvas":
        height, width = min(height, spec.input_size[0]), min(width, spec.input_size[1])
        size = spec.input_size
    else:
        size = (-(-height // INPUT_MULTIPLE) * INPUT_MULTIPLE, -(-width // INPUT_MULTIPLE) * INPUT_MULTIPLE)
    return replace(Frame.resize(source_size, (height, width)), size=size)


def boxes_to_input(boxes: Float[np.ndarray, "n 4"], frame: Frame) -> Float[np.ndarray, "n 4"]:
    """Map boxes of the image to the input, unclipped. The frame must not rotate."""
    return _ordered(frame.to_input(boxes.reshape(-1, 2, 2) - 0.5) + 0.5)


def boxes_to_source(boxes: Float[np.ndarray, "n 4"], frame: Frame) -> Float[np.ndarray, "n 4"]:
    """Map boxes of the input to the image, unclipped. The frame must not rotate."""
    return _ordered(frame.to_source(boxes.reshape(-1, 2, 2) - 0.5) + 0.5)


def _ordered(corners: Float[np.ndarray, "n 2 2"]) -> Float[np.ndarray, "n 4"]:
    # A horizontal flip swaps the corners.
    return np.concatenate([corners.min(1), corners.max(1)], axis=1)


def sigmoid(logits: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Return probabilities in single precision, without overflow."""
    return np.exp(-np.logaddexp(0, -logits.astype(float))).astype(np.float32)


def paste_masks(
    probabilities: Float[np.ndarray, "n m m"], boxes: Float[np.ndarray, "n 4"], size: Size, threshold: float = 0.5
) -> Masks:
    """Resize each mask bilinearly to its box, 0 outside the box, and threshold it.

    A box of zero width or height shows the middle of its mask in the pixels that it touches, as published.

    Args:
        probabilities: foreground probabilities of the m x m cells of each box.
        boxes: pixels of the image.
        size: height and width of the image.
        threshold: minimum probability of a foreground pixel.
    """
    height, width = size
    low = np.clip(np.floor(boxes[:, :2]) - 1, 0, [width, height]).astype(int)
    high = np.clip(np.ceil(boxes[:, 2:]) + 1, low, [width, height]).astype(int)
    crops: list[Bool[np.ndarray, "_ _"]] = []
    for cells, box, (left, top), (right, bottom) in zip(probabilities, boxes, low.tolist(), high.tolist(), strict=True):
        # Bilinear interpolation is separable: two small matrix products instead of a grid of points.
        rows = _weights(top, bottom, box[1], box[3], cells.shape[0])
        columns = _weights(left, right, box[0], box[2], cells.shape[1])
        crops.append(rows @ cells.astype(np.float32) @ columns.T >= threshold)
    return Masks(tuple(crops), low, size)


def _weights(
    start: int, stop: int, low: float | np.floating[Any], high: float | np.floating[Any], cells: int
) -> Float[np.ndarray, "pixels cells"]:
    """Return the bilinear weights of the cells between `low` and `high` in the pixels from `start` to `stop`."""
    centers = np.arange(start, stop) + 0.5
    extent = high - low
    position = (centers - low) / extent if extent > 0 else np.full(len(centers), 0.5)
    distance = position[:, None] * cells - 0.5 - np.arange(cells)
    return np.maximum(1 - np.abs(distance), 0).astype(np.float32)
