"""Samples, batches and the base classes of every network: what the training loop and the predictor know of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from torch import Tensor, nn

from hrnet.inference.processor import MEAN_COLOR, Processor
from hrnet.io.geometry import Frame, Size
from hrnet.nn.backbone import HRNet
from hrnet.nn.spec import ModelSpec

# Source: statistics of ImageNet's training images, used by every published HRNet.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class SampleKey(NamedTuple):
    """All that the random choices of a sample may depend on; `repetition` counts how often the epoch had it before."""

    epoch: int
    sample: int
    repetition: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One network input with its targets.

    Attributes:
        image: input, RGB.
        frame: map from its image to the input.
        targets: arrays by name, as the task's loss wants them; all samples of a set have the same names, and the same
            shapes but for first axes that count something.
        index: position in the data set.
    """

    image: UInt8[np.ndarray, "h w c"]
    frame: Frame
    targets: dict[str, np.ndarray]
    index: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples stacked; images are bytes as stacked, floats in [0, 1] after `to`."""

    images: Num[Tensor, "n c h w"]
    frames: tuple[Frame, ...]
    targets: dict[str, Tensor]
    indices: tuple[int, ...]

    @classmethod
    def stack(cls, samples: Sequence[Sample]) -> Batch:
        """Stack samples; images stay bytes until `to`, which makes moving them cheap.

        Images of different sizes are padded with the mean color at the right and bottom to the largest height and
        width, which become those of the frames; targets with axes of different lengths with zeros at the end.
        """
        height, width = (max(sample.image.shape[axis] for sample in samples) for axis in (0, 1))
        images = np.stack([_padded(one.image, (height, width)) for one in samples])
        return cls(
            images=torch.from_numpy(images).permute(0, 3, 1, 2),
            frames=tuple(
                one.frame if one.image.shape[:2] == (height, width) else replace(one.frame, size=(height, width))
                for one in samples
            ),
            targets={
                name: torch.from_numpy(_stacked([one.targets[name] for one in samples])) for name in samples[0].targets
            },
            indices=tuple(sample.index for sample in samples),
        )

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device, images as floats in [0, 1] (channels-last in memory, as they were read)."""
        return replace(
            self,
            images=scale_images(self.images.to(device, non_blocking=True)),
            targets={name: value.to(device, non_blocking=True) for name, value in self.targets.items()},
        )


def _padded(image: UInt8[np.ndarray, "h w c"], size: Size) -> UInt8[np.ndarray, "H W c"]:
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
    largest = np.array([array.shape for array in arrays]).max(axis=0)
    stacked = np.zeros((len(arrays), *largest), arrays[0].dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[tuple(map(slice, array.shape))] = array
    return stacked


def scale_images(images: Num[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return bytes as floats in [0, 1]."""
    return images.float().div_(255)


# Named terms, whose sum is minimized.
Losses = dict[str, Float[Tensor, ""]]
Outputs = TypeVar("Outputs", bound=tuple[Any, ...])


def traceable(outputs: Outputs) -> Outputs:
    """Return outputs as they are; under `torch.jit.trace`, which returns tensors only, a tuple of those that exist."""
    if not torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]  # documented
        return outputs
    return cast(Outputs, tuple(value for value in outputs if value is not None))


def as_arrays(outputs: Outputs) -> Outputs:
    """Return a NamedTuple of tensors as one of NumPy arrays, floating-point values in at least single precision."""

    def array(value: object) -> object:
        if not isinstance(value, Tensor):
            return value
        value = value.detach().cpu()
        return (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy()

    return type(outputs)(*map(array, outputs))  # pyright: ignore[reportArgumentType]  # a NamedTuple


Spec = TypeVar("Spec", bound=ModelSpec)
Result = TypeVar("Result")


class HRNetModel(nn.Module, Generic[Spec]):
    """A network on an HRNet backbone that normalizes its images.

    Args:
        spec: the network as data.
        recompute: see `HRNet`.

    Attributes:
        mean: mean of the images' channels, in [0, 1].
        std: standard deviation of the images' channels.
        origin: one line about a checkpoint of another code base: which one, what was recognized and left out.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: Spec, *, recompute: bool = False) -> None:
        super().__init__()
        self.spec: Spec = spec
        self.origin = ""
        self.backbone: HRNet = HRNet(spec.backbone, recompute=recompute)
        # More channels than three: the statistics repeat, as the first convolution's weights do when they are inflated.
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            repeated = torch.tensor(np.resize(values, spec.backbone.in_channels), dtype=torch.float32)
            self.register_buffer(name, repeated.view(1, -1, 1, 1), persistent=False)

    def normalize(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return images in [0, 1] as the backbone wants them, in the type of its weights."""
        return ((images - self.mean) / self.std).to(self.backbone.conv1.weight.dtype)

    def features(self, images: Float[Tensor, "n c h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """Return the backbone's maps of RGB images in [0, 1], at strides 4, 8, 16, 32 (V1: 4 only)."""
        return self.backbone(self.normalize(images))

    def widening(self) -> nn.ModuleList | None:
        """Return the layers of the head that widen each map, as timm's features come; None where there are none."""
        return None

    def named_outputs(self) -> dict[str, tuple[str, ...]]:
        """Return the names (keypoints, classes) of the output channels of layers that have such: fine-tuning reuses them."""
        return {}


class TaskModel(HRNetModel[Spec], ABC, Generic[Spec, Result]):
    """A network for one task; each method does one thing, whatever the mode of the module.

    `forward` is what is exported; `loss` is minimized; `predict` gives results in pixels of the image.

    Attributes:
        processor: the NumPy side of the task: inputs of an image, and results of output arrays.
    """

    processor: Processor[Result]

    @abstractmethod
    def forward(self, images: Float[Tensor, "n c h w"]) -> Any:
        """Return the raw outputs, a NamedTuple of tensors, of RGB images in [0, 1]."""

    def dense(self, images: Float[Tensor, "n c h w"]) -> tuple[Tensor | None, ...]:
        """Return the outputs whose sizes depend on the input size only: what compiled runtimes run."""
        return self(images)

    def finish(self, outputs: tuple[Tensor | None, ...], size: Size) -> Any:
        """Return the outputs of `forward` from those of `dense` for inputs of this height and width."""
        return outputs

    @abstractmethod
    def loss(self, batch: Batch) -> Losses:
        """Return named terms; their sum is minimized."""

    def predict(self, images: Float[Tensor, "n c h w"], frames: Sequence[Frame]) -> list[Result]:
        """Return one result per input, in pixels of its image."""
        return self.processor.decode(as_arrays(self(images)), frames)


@runtime_checkable
class SampleSource(Protocol):
    """A data set: its length and its samples. Given a `SampleKey` it augments; given an index it does not.

    It may have a method ``describe(index: int) -> str`` that names the image's file for people.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, key: SampleKey | int) -> Sample: ...


def random_generator(seed: int, key: SampleKey) -> np.random.Generator:
    """Return the generator of one sample's random choices.

    They are counted, never consumed, so that worker processes, resuming and the number of machines change nothing.
    """
    return np.random.default_rng((seed, *key))
