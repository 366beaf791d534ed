"""The class of an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Float

from hrnet.io.geometry import Frame, Image, warp
from hrnet.results.result import Result, Source, rounded, supervision
from hrnet.vis.draw import caption_below, caption_over, plain_name

# Classes in a summary, a drawing and a dictionary.
TOP = 5


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Classification(Result):
    """Class probabilities of one image.

    Attributes:
        scores: probability of each class, `k`.
        names: names of the k classes.
        source: the image, or its path.
    """

    scores: Float[np.ndarray, " k"]
    names: tuple[str, ...]
    source: Source = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.scores.shape != (len(self.names),) or not self.names:
            raise ValueError(f"{len(self.names)} classes need as many scores, not {self.scores.shape}.")

    @property
    def label(self) -> int:
        """The most probable class."""
        return int(self.scores.argmax())

    @property
    def name(self) -> str:
        """Name of the most probable class."""
        return self.names[self.label]

    def top(self, count: int) -> list[int]:
        """Return the most probable classes, best first."""
        return np.argsort(-self.scores, kind="stable")[:count].tolist()

    def to_dict(self, count: int = TOP) -> dict[str, Any]:
        """Return the best `count` classes as plain numbers, scores to 0.0001."""
        classes = [
            {"label": label, "name": self.names[label], "score": rounded(self.scores[label], 4)}
            for label in self.top(count)
        ]
        return {"task": "classification", "classes": classes}

    def to_supervision(self) -> Any:
        """Return supervision's `Classifications`: every class with its probability.

        Raises:
            InputError: supervision is not installed.
        """
        return supervision().Classifications(np.arange(len(self.names)), self.scores.astype(np.float32))

    def summary(self, threshold: float = 0.3) -> str:
        """Return the best five classes with their scores."""
        return ", ".join(f"{self.names[label]} {self.scores[label]:.2f}" for label in self.top(TOP))

    def plot(self, threshold: float = 0.3) -> PIL.Image.Image:
        """Return the image with the best five classes written below it."""
        return caption_below(self.pixels(), self._captions(TOP))

    def plot_pair(self, found: Classification, image: Image, frame: Frame) -> tuple[PIL.Image.Image, PIL.Image.Image]:
        """Return the image twice: with the true class, and with the best three predicted ones."""
        view = warp(image, frame)
        return caption_over(view, self._captions(1)), caption_over(view, found._captions(3))

    def _captions(self, count: int) -> list[str]:
        return [f"{plain_name(self.names[label])}  {self.scores[label]:.2f}" for label in self.top(count)]
