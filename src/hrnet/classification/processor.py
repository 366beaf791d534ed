"""The NumPy side of classification: the central crop, and probabilities from logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from hrnet.classification.spec import ClassificationSpec
from hrnet.inference.processor import BoxPrompts, Processor
from hrnet.io.geometry import Frame, Size
from hrnet.results import Classification


class ClassificationOutput(NamedTuple):
    """Network outputs, as tensors or arrays."""

    logits: Float[Any, "n k"]  # before the softmax


class ClassificationProcessor(Processor[Classification]):
    """One class per image."""

    def __init__(self, spec: ClassificationSpec) -> None:
        self.spec = spec

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.spec.class_names

    def frames(self, size: Size, prompts: BoxPrompts) -> list[Frame]:
        """Return the central crop, as published."""
        return [center_frame(size, self.spec)]

    def merge_flip(
        self, outputs: ClassificationOutput, flipped: ClassificationOutput, input_size: Size
    ) -> ClassificationOutput:
        """Return the mean of the logits (the geometric mean of the odds), not of the probabilities."""
        return ClassificationOutput((outputs.logits + flipped.logits) / 2)

    def decode(self, outputs: ClassificationOutput, frames: Sequence[Frame]) -> list[Classification]:
        """Return the probability of each class (softmax)."""
        logits = np.asarray(outputs.logits, np.float32)
        scores = np.exp(logits - logits.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        return [Classification(row, self.spec.class_names) for row, _ in zip(scores, frames, strict=True)]


def center_frame(size: Size, spec: ClassificationSpec) -> Frame:
    """Return the central crop of an image of this height and width."""
    height, width = size
    rows, columns = spec.input_size
    span = spec.crop_fraction * min(width, height * columns / rows)
    # `around` puts its center half a pixel right of and below the middle of the input.
    shift = 0.5 * span / columns
    center = ((width - 1) / 2 + shift, (height - 1) / 2 + shift)
    return Frame.around(center, span, spec.input_size, size)
