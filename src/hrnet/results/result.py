"""The base of every result, and the optional bridge to the library supervision."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import numpy as np
import PIL.Image

from hrnet.errors import InputError
from hrnet.io.geometry import Frame, Image
from hrnet.io.images import read_image

Source = Path | np.ndarray | None
# Ignore index of label maps: outside the input, or unlabeled.
IGNORE_INDEX = 255


class Result(ABC):
    """One image's prediction, in pixels of that image.

    Attributes:
        source: the image, or its path.
    """

    __slots__ = ()
    source: Source

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers with the key ``task``."""

    @abstractmethod
    def summary(self, threshold: float = 0.3) -> str:
        """Return a line about the content, without keypoints below the threshold."""

    @abstractmethod
    def plot(self, threshold: float = 0.3) -> PIL.Image.Image:
        """Return the image with the result drawn on it, without objects or keypoints below the threshold."""

    @abstractmethod
    def plot_pair(self, found: Any, image: Image, frame: Frame) -> tuple[PIL.Image.Image, PIL.Image.Image]:
        """Return this ground truth and a prediction of the same type, drawn on the part of an image a frame shows."""

    def __repr__(self) -> str:
        name = f", {self.source}" if isinstance(self.source, Path) else ""
        return f"{type(self).__name__}({self.summary()}{name})"

    def to_file_dict(self) -> dict[str, Any]:
        """Return `to_dict` without the content of the `attachments`."""
        return self.to_dict()

    def to_json(self) -> str:
        """Return `to_dict` as one line of JSON."""
        return json.dumps(self.to_dict())

    def above(self, score: float) -> Self:
        """Return the objects with at least this score; results without objects are returned whole."""
        return self

    def count(self) -> int:
        """Return the number of objects; 0 for results that have none."""
        return 0

    def attachments(self) -> dict[str, PIL.Image.Image]:
        """Return images that belong beside the JSON file, by the ending of their names."""
        return {}

    def color_key(self) -> list[tuple[str, str]]:
        """Return the classes in the result with their colors, as #rrggbb."""
        return []

    def pixels(self) -> Image:
        """Return the image that the result belongs to.

        Raises:
            InputError: the result has no source, or its file cannot be read.
        """
        if self.source is None:
            raise InputError("This result has no source image; make it with a Predictor, or set `source`.")
        return read_image(self.source) if isinstance(self.source, Path) else self.source


def rounded(values: np.ndarray | np.floating, digits: int) -> Any:
    """Return a number, or an array as nested lists of numbers, rounded."""
    return np.round(values.astype(float), digits).tolist()


def supervision() -> Any:
    """Return the library supervision, which is not a dependency.

    Raises:
        InputError: it is not installed.
    """
    try:
        import supervision as library  # pyright: ignore[reportMissingImports]  # optional
    except ModuleNotFoundError as error:
        if error.name != "supervision":
            raise
        raise InputError("supervision is not installed; run `pip install supervision`.") from None
    return library
