"""The base class of all readers: one per data format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, Literal, TypeVar

from hrnet.errors import InputError
from hrnet.formats.records import DataSet

Content = Literal["boxes", "masks", "keypoints", "label_maps", "classes"]
Found = TypeVar("Found")


class Reader(ABC, Generic[Found]):
    """Reader of one data format.

    Attributes:
        title: name of the format in messages.
        looked_for: files or folders by which the format is recognized, for messages.
        gives: kinds of labels that the format can hold.
    """

    title: str
    looked_for: str
    gives: frozenset[Content]

    @abstractmethod
    def find(self, path: Path, images: Path | None) -> Found | None:
        """Return the files at a path that have this format, judged by names and first bytes; None or empty for none.

        Args:
            path: file or folder that holds the labels.
            images: folder of the images; None for the place that the format defines.
        """

    @abstractmethod
    def load(self, found: Found, path: Path, images: Path | None) -> tuple[DataSet, ...]:
        """Return the splits of the data set; arguments as for `find`, and its result."""

    def recognize(self, path: Path, images: Path | None = None) -> bool:
        """Return whether a file or folder has this format; arguments as for `find`."""
        return bool(self.find(path, images))

    def read(self, path: Path, images: Path | None = None) -> tuple[DataSet, ...]:
        """Return the splits of a data set; arguments as for `find`.

        Raises:
            InputError: the path has another format, or the data set cannot be read as a whole.
        """
        found = self.find(path, images)
        if not found:
            raise InputError(f"{path} is not {self.looked_for}; name one.")
        return self.load(found, path, images)
