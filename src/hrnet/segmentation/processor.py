"""The NumPy side of segmentation: the input of an image, and the label map from output arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from hrnet.inference.processor import BoxPrompts, Processor
from hrnet.io.geometry import Frame, Size, flip_order
from hrnet.results import IGNORE_INDEX, SemanticMap
from hrnet.segmentation.spec import SegmentationSpec
from hrnet.segmentation.upsampling import BLOCK_PIXELS, best_classes, interpolate, logit_positions, sample

# Logits that are held at once while a label map is made: 16 MiB in single precision.
STRIP_ELEMENTS = 1 << 22


class SegmentationOutput(NamedTuple):
    """Outputs of a segmentation network, tensors or arrays, before the softmax."""

    logits: Float[Any, "n k h w"]  # at stride 4
    auxiliary: Float[Any, "n k h w"] | None = None
    """logits of the OCR head's auxiliary classifier, which also helps training; None for the plain head"""


class SegmentationProcessor(Processor[SemanticMap]):
    """Label maps of whole images; `hrnet.segmentation.windows` has sliding windows and test-time augmentation."""

    def __init__(self, spec: SegmentationSpec) -> None:
        self.spec = spec

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.spec.class_names

    def frames(self, size: Size, prompts: BoxPrompts) -> list[Frame]:
        """Return one frame: the whole image in the canvas."""
        return [image_frame(size, self.spec)]

    def decode(self, outputs: SegmentationOutput, frames: Sequence[Frame]) -> list[SemanticMap]:
        """Return one label map per input, of its image's size: the class with the largest interpolated logit."""
        align = self.spec.backbone.align_corners
        return [
            SemanticMap(image_labels(logits, frame, align), self.spec.class_names)
            for logits, frame in zip(outputs.logits, frames, strict=True)
        ]

    def merge_flip(
        self, outputs: SegmentationOutput, flipped: SegmentationOutput, input_size: Size
    ) -> SegmentationOutput:
        """Return the mean of the logits, as published, not of the probabilities."""
        order = flip_order(len(self.spec.class_names), self.spec.pairs)
        logits, auxiliary = (
            None if one is None or other is None else (one + other[:, order, :, ::-1]) / 2
            for one, other in zip(outputs, flipped, strict=True)
        )
        return SegmentationOutput(logits, auxiliary)


def image_frame(source_size: Size, spec: SegmentationSpec, scale: float = 1.0) -> Frame:
    """Return the frame of a whole image in the canvas of `spec.input_size`: as large as fits, at the top left.

    Source: the published protocol, which resizes the long side to the base size, rounds both sides to whole pixels and
    pads at the right and bottom; for LIP (`spec.squash`) both sides are resized to the base size instead. `scale` is that of
    the canvas, and so of the image in it, for multi-scale inference.
    """
    canvas = [max(1, round(side * scale)) for side in spec.input_size]
    shown = canvas
    if not spec.squash:
        ratio = min(side * scale / source for side, source in zip(spec.input_size, source_size, strict=True))
        shown = [min(max(1, round(source * ratio)), side) for source, side in zip(source_size, canvas, strict=True)]
    frame = Frame.resize(source_size, (shown[0], shown[1]))
    return replace(frame, size=(canvas[0], canvas[1]))


def image_labels(logits: Float[np.ndarray, "k h w"], frame: Frame, align_corners: bool) -> UInt8[np.ndarray, "H W"]:
    """Return the label of every pixel of an image; 255 where the frame does not show it.

    The logits are interpolated once, straight at the pixels of the image, whatever the frame does: resize, crop, pad,
    flip or rotate.
    """
    logits = np.ascontiguousarray(logits)  # networks often return them channels last
    height, width = frame.source_size
    rows = max(1, STRIP_ELEMENTS // (logits.shape[0] * width))
    strips = [range(top, min(top + rows, height)) for top in range(0, height, rows)]
    upright = frame.matrix[0, 1] == 0 and frame.matrix[1, 0] == 0
    label = _upright_strip if upright else _rotated_strip
    return np.concatenate([label(logits, frame, strip, align_corners) for strip in strips])


def _upright_strip(
    logits: Float[np.ndarray, "k h w"], frame: Frame, rows: range, align_corners: bool
) -> UInt8[np.ndarray, "r W"]:
    """Label some rows of the image: columns and rows are interpolated one after the other."""
    height, width = frame.size
    xs = frame.matrix[0, 0] * np.arange(frame.source_size[1]) + frame.matrix[0, 2]
    ys = frame.matrix[1, 1] * np.asarray(rows) + frame.matrix[1, 2]
    columns = logit_positions(xs, width, logits.shape[2], align_corners)
    lines = logit_positions(ys, height, logits.shape[1], align_corners)
    # Columns first, for there are fewer rows of logits than of pixels.
    low = int(min(lines[0], lines[-1]))
    wide = interpolate(logits[:, low : int(max(lines[0], lines[-1])) + 2], columns, -1)
    step = max(1, BLOCK_PIXELS // len(xs))
    blocks = (lines[start : start + step] - low for start in range(0, len(lines), step))
    labels = np.concatenate([best_classes(interpolate(wide, block, -2)) for block in blocks])
    shown = np.logical_and.outer(_inside(ys, height), _inside(xs, width))
    return np.where(shown, labels, np.uint8(IGNORE_INDEX))


def _rotated_strip(
    logits: Float[np.ndarray, "k h w"], frame: Frame, rows: range, align_corners: bool
) -> UInt8[np.ndarray, "r W"]:
    """Label some rows of the image: every pixel is interpolated on its own."""
    pixels = np.stack(np.meshgrid(np.arange(frame.source_size[1]), np.asarray(rows)), -1).astype(float)
    xs, ys = np.moveaxis(frame.to_input(pixels), -1, 0)
    height, width = frame.size
    columns = logit_positions(xs, width, logits.shape[2], align_corners)
    lines = logit_positions(ys, height, logits.shape[1], align_corners)
    labels = best_classes(sample(logits, columns, lines))
    return np.where(_inside(xs, width) & _inside(ys, height), labels, np.uint8(IGNORE_INDEX))


def _inside(points: Float[np.ndarray, "*n"], length: int) -> Bool[np.ndarray, "*n"]:
    return (points >= -0.5) & (points <= length - 0.5)
