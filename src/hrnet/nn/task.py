"""Samples, batches and the task model: all that the training loop knows of a task's network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hrnet.inference.processor import MEAN_COLOR, BoxPrompts, Processor
from hrnet.io.geometry import Color, Frame, Image, Size
from hrnet.nn.backbone import HRNet
from hrnet.results import Source

# Source: statistics of ImageNet's training images, used by every published HRNet.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class SampleKey(NamedTuple):
    """Which sample, and in which epoch: all that its random choices may depend on."""

    epoch: int
    sample: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One network input with what is to be learned from it.

    Attributes:
        image: the input, RGB.
        frame: where it lies in its image.
        targets: arrays by name, as the task's loss wants them; all samples of a set have the same names, and the same
            shapes but for first axes that count something.
        index: position in the data set.
    """

    image: Image
    frame: Frame
    targets: dict[str, np.ndarray]
    index: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples stacked: images `n 3 h w` in [0, 1], targets by name, frames and positions in order."""

    images: Float[Tensor, "n c h w"]
    frames: tuple[Frame, ...]
    targets: dict[str, Tensor]
    indices: tuple[int, ...]

    @classmethod
    def stack(cls, samples: Sequence[Sample]) -> Batch:
        """Images stay bytes until `to`, which makes moving them cheap.

        Images of different sizes are filled up with the mean color at the right and bottom to the largest height and
        width, which become those of the frames; targets with axes of different lengths with zeros at the end.
        """
        height, width = (max(sample.image.shape[axis] for sample in samples) for axis in (0, 1))
        names = samples[0].targets
        return cls(
            images=torch.from_numpy(np.stack([_filled(one.image, (height, width)) for one in samples])).permute(
                0, 3, 1, 2
            ),
            frames=tuple(
                one.frame if one.image.shape[:2] == (height, width) else replace(one.frame, size=(height, width))
                for one in samples
            ),
            targets={name: torch.from_numpy(_stacked([one.targets[name] for one in samples])) for name in names},
            indices=tuple(sample.index for sample in samples),
        )

    def to(self, device: torch.device) -> Batch:
        """On a device, images as floats in [0, 1] (and channels-last in memory, as they were read)."""
        return replace(
            self,
            images=scale_images(self.images.to(device, non_blocking=True)),
            targets={name: value.to(device, non_blocking=True) for name, value in self.targets.items()},
        )


def _filled(image: Image, size: Size) -> Image:
    height, width, channels = image.shape
    if (height, width) == size:
        return image
    canvas = np.empty((*size, channels), image.dtype)
    canvas[:] = np.resize(MEAN_COLOR, channels)
    canvas[:height, :width] = image
    return canvas


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    if len({array.shape for array in arrays}) == 1:
        return np.stack(arrays)
    largest = np.max([array.shape for array in arrays], axis=0)
    stacked = np.zeros((len(arrays), *largest), arrays[0].dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[tuple(map(slice, array.shape))] = array
    return stacked


def as_arrays(outputs: Any) -> Any:
    """Return a NamedTuple of tensors as one of NumPy arrays, floating-point values in at least single precision."""

    def array(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.detach().cpu()
        return (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy()

    return type(outputs)(*map(array, outputs))


def scale_images(images: Tensor) -> Float[Tensor, "n c h w"]:
    """Bytes to floats in [0, 1]."""
    return images.float().div_(255)


Result = TypeVar("Result")


class TaskModel(nn.Module, ABC, Generic[Result]):
    """A network for one task. Each of the three methods does one thing, whatever the mode of the module.

    `forward` is what is exported; `loss` is what is learned; `predict` gives results in pixels of the image.
    """

    spec: Any
    processor: Processor[Any]
    backbone: HRNet
    mean: Tensor
    std: Tensor
    # Whether it looks into boxes that somebody found, not at whole images.
    takes_boxes = False
    # The color of an input where it shows nothing of its image.
    fill: Color = (0, 0, 0)
    # Of a checkpoint of another code base: which one, what was recognized and what was left out, in one line.
    origin: str = ""

    def __init__(self, spec: Any, in_channels: int = 3) -> None:
        super().__init__()
        self.spec = spec
        # More channels than three: the statistics repeat, as the first convolution's weights do when they are inflated.
        mean, std = np.resize(IMAGENET_MEAN, in_channels), np.resize(IMAGENET_STD, in_channels)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def normalize(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Images in [0, 1] as the backbone wants them."""
        return (images - self.mean) / self.std

    def features(self, images: Float[Tensor, "n c h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """The backbone's maps of RGB images in [0, 1], at strides 4, 8, 16, 32 (V1: 4 only), as no head has seen them."""
        return self.backbone(self.normalize(images))

    @abstractmethod
    def forward(self, images: Float[Tensor, "n c h w"]) -> Any:
        """Raw outputs, a NamedTuple of tensors, of RGB images in [0, 1]."""

    def dense(self, images: Float[Tensor, "n c h w"]) -> tuple[Tensor | None, ...]:
        """That part of `forward` in which all sizes follow from the input's: what compiled runtimes run."""
        return self(images)

    def finish(self, outputs: tuple[Tensor | None, ...], size: Size) -> Any:
        """The rest of `forward`: its outputs, from those of `dense` for inputs of this height and width."""
        return outputs

    @abstractmethod
    def loss(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Named terms; their sum is minimized."""

    def named_outputs(self) -> dict[str, tuple[str, ...]]:
        """Layers whose output channels have names (keypoints, classes), with these: what another set can take over."""
        return {}

    # The image side, which `processor` decides; these stand in until nobody asks a model for it.
    def decode(self, outputs: Any, frames: Sequence[Frame]) -> list[Result]:
        """Return one result per input; see `Processor.decode`."""
        return self.processor.decode(as_arrays(outputs), frames)

    @property
    def flips(self) -> bool:
        """Whether outputs can be averaged with those of flipped images."""
        overridden = type(self).merge_flip is not TaskModel.merge_flip
        return overridden or (getattr(self, "processor", None) is not None and self.processor.can_flip)

    def merge_flip(self, outputs: Any, mirrored: Any, input_size: Size) -> Any:
        """Return averaged outputs; see `Processor.merge_flip`."""
        return self.processor.merge_flip(as_arrays(outputs), as_arrays(mirrored), input_size)

    def frames(self, size: Size, boxes: BoxPrompts) -> list[Frame]:
        """Return the frames of the inputs of an image; see `Processor.frames`."""
        return self.processor.frames(size, boxes)

    def join(self, results: Sequence[Result], boxes: BoxPrompts, source: Source) -> Result:
        """Return the result of one image; see `Processor.join`."""
        return self.processor.join(results, boxes, source)

    def predict(self, images: Float[Tensor, "n c h w"], frames: Sequence[Frame]) -> list[Result]:
        """One result an input, in pixels of its image."""
        return self.decode(self(images), frames)


@runtime_checkable
class SampleSource(Protocol):
    """A data set: how many samples, and one of them. Given a `SampleKey` it augments; given a number it does not.

    It may have a method ``describe(index: int) -> str`` that says what a person can look at: the image's file.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, key: SampleKey | int) -> Sample: ...


def random_generator(seed: int, draw: SampleKey) -> np.random.Generator:
    """The generator of one sample's random choices: counted, never consumed, so that worker processes, resuming and the
    number of machines change nothing."""
    return np.random.default_rng((seed, draw.epoch, draw.sample))
