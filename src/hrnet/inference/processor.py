"""The NumPy side of a task: from an image to network inputs, and from output arrays to results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

import numpy as np
from jaxtyping import Float
from PIL import Image as Pillow

from hrnet.io.geometry import Color, Frame, Image, Size
from hrnet.results import Source

# See `hrnet.io.images.to_source`; tensors are named by `Any`, as torch is not imported here.
ImageSource = str | Path | np.ndarray
AnyImage = ImageSource | Pillow.Image | bytes | Any
Result = TypeVar("Result")
# ImageNet's mean color as bytes, nearly 0 after normalization: the color of padding where black is not neutral.
MEAN_COLOR = (124, 116, 104)


@dataclass(frozen=True, slots=True, eq=False)
class BoxPrompts:
    """The boxes of one image that a top-down model runs on.

    Attributes:
        boxes: x1 y1 x2 y2, pixels of the image, pixel centers at whole numbers.
        scores: detector scores in [0, 1]; the scores of the results are multiplied by them.
    """

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]

    @classmethod
    def whole(cls, size: Size) -> BoxPrompts:
        """Return one box that covers an image of this height and width."""
        height, width = size
        return cls(np.array([[0.0, 0.0, width - 1.0, height - 1.0]]), np.ones(1))


@dataclass(frozen=True, slots=True)
class Input:
    """An image to predict.

    Attributes:
        source: path, or RGB bytes `h w 3`.
        prompts: boxes for a top-down model; None asks the detector, or takes the whole image.
        read: function that returns the pixels of a path in place of `read_image`.
    """

    source: ImageSource
    prompts: BoxPrompts | None = None
    read: Callable[[], Image] | None = None


class Processor(ABC, Generic[Result]):
    """All steps of a prediction around the network's forward, in NumPy: no subclass needs torch.

    Attributes:
        takes_boxes: True for top-down models, which run on one crop per box.
        fill: color of an input outside its image.
    """

    takes_boxes: ClassVar[bool] = False
    fill: ClassVar[Color] = (0, 0, 0)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; empty for models without classes."""
        return ()

    @property
    def can_flip(self) -> bool:
        """Whether outputs can be averaged with those of horizontally flipped inputs."""
        return type(self).merge_flip is not Processor.merge_flip

    @abstractmethod
    def frames(self, size: Size, prompts: BoxPrompts) -> list[Frame]:
        """Return the frames of the network inputs for an image of a height and width.

        Args:
            prompts: boxes to run on; the whole image unless the model `takes_boxes`.
        """

    def check_detector(self, class_names: tuple[str, ...]) -> None:
        """Raise InputError if a detector of these classes finds no objects of a top-down model's kind."""

    def select_prompts(self, detections: Any, score_threshold: float) -> BoxPrompts:
        """Return the boxes of a detector's result, from a minimum score, that a top-down model runs on."""
        raise NotImplementedError(f"{type(self).__name__} takes no boxes.")

    @abstractmethod
    def decode(self, outputs: Any, frames: Sequence[Frame]) -> list[Result]:
        """Return one result per input, in pixels of its image, from the output arrays of a batch."""

    def merge_flip(self, outputs: Any, flipped: Any, input_size: Size) -> Any:
        """Return outputs averaged with those of the horizontally flipped inputs."""
        raise NotImplementedError(f"{type(self).__name__} cannot merge the outputs of flipped inputs.")

    def join(self, results: Sequence[Result], prompts: BoxPrompts, source: Source) -> Result:
        """Return the result of one image from those of its inputs, in the order of `frames`: that of the only input."""
        (result,) = results
        return replace(cast(Any, result), source=source)
