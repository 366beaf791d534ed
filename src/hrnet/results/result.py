"""What every result has in common, and the optional bridge to the library supervision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import PIL.Image

from hrnet.errors import InputError
from hrnet.io.geometry import Frame, Image
from hrnet.io.images import read_image

Source = Path | np.ndarray | None
# Ignore index of label maps: outside the input, or unlabeled.
IGNORE_INDEX = 255


@runtime_checkable
class Result(Protocol):
    """One image's prediction, in pixels of that image.

    Attributes:
        source: the image, or its path.
    """

    source: Source

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers with the key ``task``."""
        ...

    def to_file_dict(self) -> dict[str, Any]:
        """Return `to_dict` without what `attachments` hold."""
        ...

    def to_json(self) -> str:
        """Return `to_dict` as one line of JSON."""
        ...

    def above(self, score: float) -> Self:
        """Return the objects with at least this score; results without objects are returned whole."""
        ...

    def count(self) -> int:
        """Return the number of objects; 0 for results that have none."""
        ...

    def summary(self, threshold: float = 0.3) -> str:
        """Return a line about the content, without keypoints below the threshold."""
        ...

    def plot(self, threshold: float = 0.3) -> PIL.Image.Image:
        """Return the image with the result drawn on it, without objects or keypoints below the threshold."""
        ...

    def attachments(self) -> dict[str, PIL.Image.Image]:
        """Return images that belong beside the JSON file, by the ending of their names."""
        ...

    def plot_pair(self, found: Self, image: Image, frame: Frame) -> tuple[PIL.Image.Image, PIL.Image.Image]:
        """Return this ground truth and a prediction of the same type, drawn on the part of an image a frame shows."""
        ...

    def color_key(self) -> list[tuple[str, str]]:
        """Return the classes in the result with their colors, as #rrggbb."""
        ...


class ResultBase:
    """Defaults of `Result` for types that need nothing else."""

    __slots__ = ()
    source: Source

    def to_dict(self) -> dict[str, Any]:
        raise NotImplementedError

    def to_file_dict(self) -> dict[str, Any]:
        """Return `to_dict`: nothing is attached."""
        return self.to_dict()

    def to_json(self) -> str:
        """Return `to_dict` as one line of JSON."""
        return json.dumps(self.to_dict())

    def above(self, score: float) -> Self:
        """Return the result whole: it has no objects to leave out."""
        return self

    def count(self) -> int:
        """Return 0: the result has no objects."""
        return 0

    def attachments(self) -> dict[str, PIL.Image.Image]:
        """Return nothing: the JSON file holds all of it."""
        return {}

    def color_key(self) -> list[tuple[str, str]]:
        """Return nothing: colors stand for no classes."""
        return []

    def pixels(self) -> Image:
        """Return the image that the result belongs to.

        Raises:
            InputError: the result has no source, or its file cannot be read.
        """
        if self.source is None:
            raise InputError("This result has no source image; make it with a Predictor, or set `source`.")
        return read_image(self.source) if isinstance(self.source, Path) else self.source


def rounded(values: np.ndarray, digits: int) -> list[Any]:
    """Return an array as nested lists of rounded numbers."""
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
