"""The protocol that every data format implements."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from hrnet.formats.records import DataSet

Content = Literal["boxes", "masks", "keypoints", "label_maps", "classes"]


@runtime_checkable
class Reader(Protocol):
    """Reader of one data format.

    Attributes:
        title: name of the format in messages.
        looked_for: files or folders by which the format is recognized, for messages.
        gives: kinds of labels that the format can hold.
    """

    @property
    def title(self) -> str: ...
    @property
    def looked_for(self) -> str: ...
    @property
    def gives(self) -> frozenset[Content]: ...

    def recognize(self, path: Path, images: Path | None = None) -> bool:
        """Return whether a file or folder has this format, judged by names and first bytes; arguments as of `read`."""
        ...

    def read(self, path: Path, images: Path | None = None) -> tuple[DataSet, ...]:
        """Return the splits of a data set.

        Args:
            path: file or folder that holds the labels.
            images: folder of the images, where it is not the place that the format defines.

        Raises:
            InputError: the data set cannot be read as a whole.
        """
        ...
