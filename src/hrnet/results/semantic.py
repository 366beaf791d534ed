"""A class for every pixel of an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8

from hrnet.io.geometry import Frame, Image, warp
from hrnet.results.result import IGNORE_INDEX, Result, Source
from hrnet.vis.draw import color_key, draw_label_map, palette_image, sample_labels, shade_label_map

# Pixels that are counted at once: bincount makes an eight-byte number of each.
_BINCOUNT_PIXELS = 1 << 20
# Classes that a summary names.
_NAMED = 4


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SemanticMap(Result):
    """A class for every pixel of one image.

    Attributes:
        labels: `h w`, size of the image; 255 where the network did not see it.
        names: names of the classes.
        source: the image, or its path.
    """

    labels: UInt8[np.ndarray, "h w"]
    names: tuple[str, ...]
    source: Source = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or self.labels.dtype != np.uint8 or not self.labels.size:
            raise ValueError(f"Labels are bytes, h w, not {self.labels.dtype} of shape {self.labels.shape}.")
        inside = self.labels[self.labels != IGNORE_INDEX]
        if inside.size and int(inside.max()) >= len(self.names):
            raise ValueError(f"Label {inside.max()} has no name; there are {len(self.names)}.")

    def fractions(self) -> Float[np.ndarray, " k"]:
        """Return the fraction of the image that each class covers."""
        flat, counts = self.labels.ravel(), np.zeros(IGNORE_INDEX + 1, int)
        for start in range(0, len(flat), _BINCOUNT_PIXELS):
            counts += np.bincount(flat[start : start + _BINCOUNT_PIXELS], minlength=IGNORE_INDEX + 1)
        return counts[: len(self.names)] / self.labels.size

    def to_file_dict(self) -> dict[str, Any]:
        """Return plain numbers: the size and the fraction of each class in the image, to a millionth."""
        fractions = self.fractions()
        return {
            "task": "segmentation",
            "size": list(self.labels.shape),
            "classes": [
                {"label": label, "name": self.names[label], "fraction": round(float(fractions[label]), 6)}
                for label in np.flatnonzero(fractions).tolist()
            ],
        }

    def to_dict(self) -> dict[str, Any]:
        """Return `to_file_dict` and the map as `runs`: label and length in turn, row by row from the top left."""
        flat = self.labels.ravel()
        starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        lengths = np.diff(np.append(starts, flat.size))
        return self.to_file_dict() | {"runs": np.stack([flat[starts], lengths], axis=1).ravel().tolist()}

    def summary(self, threshold: float = 0.3) -> str:
        """Return the percentages of the largest classes."""
        fractions = self.fractions()
        order = sorted(range(len(fractions)), key=lambda label: -fractions[label])[:_NAMED]
        return ", ".join(f"{self.names[label]} {100 * fractions[label]:.1f} %" for label in order if fractions[label])

    def to_image(self) -> PIL.Image.Image:
        """Return a palette image that stores the labels, in the colors of `plot`."""
        return palette_image(self.labels, self.names)

    def attachments(self) -> dict[str, PIL.Image.Image]:
        """Return the palette image, which stores the map instead of the JSON file."""
        return {".labels.png": self.to_image()}

    def plot(self, threshold: float = 0.3) -> PIL.Image.Image:
        """Return the image with each class in its color, and a legend below it."""
        return draw_label_map(self.pixels(), self.labels, self.names, self.fractions())

    def plot_pair(self, found: SemanticMap, image: Image, frame: Frame) -> tuple[PIL.Image.Image, PIL.Image.Image]:
        """Return both maps, which may be smaller than the image; wrong pixels of the prediction are hatched."""
        view = warp(image, frame)
        labels, others = sample_labels(self.labels, frame), sample_labels(found.labels, frame)
        wrong = (labels != IGNORE_INDEX) & (labels != others)
        return shade_label_map(view, labels, self.names), shade_label_map(view, others, self.names, hatched=wrong)

    def color_key(self) -> list[tuple[str, str]]:
        """Return the classes in the map with their colors, as #rrggbb."""
        return color_key(self.names, np.flatnonzero(self.fractions()).tolist())
