"""A segmentation network, and what it learns, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hrnet.io.geometry import Size
from hrnet.nn.spec import HRNetSpec, hrnet
from hrnet.results import IGNORE_INDEX

# Source: the evaluation labels of Cityscapes (trainId 0 to 18), in order.
CITYSCAPES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip


# Source: the released training code: the weights of the classes of Cityscapes in the cross entropy, in their order.
CITYSCAPES_WEIGHTS = (
    0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023, 0.9539, 0.9843, 1.1116, 0.9037,
    1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ContextSpec:
    """The object context of OCR: pixels look at the regions of the classes.

    Source of the values: arXiv 1909.11065 and the released configurations.

    Attributes:
        channels: of the map that the regions are gathered from.
        key_channels: of queries, keys and values.
        dropout: share of whole channels that training leaves out before the last convolution.
    """

    channels: int = 512
    key_channels: int = 256
    dropout: float = 0.05

    def __post_init__(self) -> None:
        if min(self.channels, self.key_channels) < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"Channels start at 1 and dropout lies from 0 to below 1; these are {self}.")


@dataclass(frozen=True, slots=True)
class LossSpec:
    """What is minimized: cross entropy of the marked pixels.

    Attributes:
        class_weights: of every class, in order; empty for all alike.
        hard_pixels: at least so many pixels of a batch are learned from, the hardest ones, and all whose true class is
            less probable than `hard_below` (OHEM); 0 learns from all.
        hard_below: see `hard_pixels`.
        auxiliary: weight of the auxiliary output's term.
        auxiliary_mean: over what the auxiliary term is averaged where there are `hard_pixels`: the ``marked`` pixels, as
            without them, or ``all``, which the released code does and which makes the term the smaller the less is
            marked.
    """

    class_weights: tuple[float, ...] = ()
    hard_pixels: int = 0
    hard_below: float = 0.9
    auxiliary: float = 0.4
    auxiliary_mean: Literal["marked", "all"] = "marked"

    def __post_init__(self) -> None:
        if any(weight < 0 for weight in self.class_weights) or (self.class_weights and not sum(self.class_weights)):
            raise ValueError(f"Weights of classes are not negative and not all zero: {self.class_weights}.")
        if self.hard_pixels < 0 or not 0 < self.hard_below <= 1 or self.auxiliary < 0:
            raise ValueError(f"hard_pixels and auxiliary are not negative, hard_below is a probability: {self}.")


# Source: the released configurations: Cityscapes; those with OHEM (COCO-Stuff, ADE20K, Cityscapes optionally); and OHEM as
# it was really computed for OCR.
WEIGHTED_LOSS = LossSpec(CITYSCAPES_WEIGHTS)
HARD_LOSS = LossSpec(hard_pixels=131_072)
RELEASED_HARD_LOSS = LossSpec(hard_pixels=131_072, auxiliary_mean="all")


@dataclass(frozen=True, slots=True)
class SegmentationSpec:
    """Everything that fixes a segmentation network and how it is used.

    Attributes:
        class_names: in the order of the network's outputs.
        pairs: classes that change places in the mirrored image (left arm and right arm), by index.
        backbone: any that returns all four maps; its `align_corners` also rules how the maps are concatenated and how
            the logits come to the size of the image, as in the published networks.
        input_size: height and width of the canvas that a whole image is fitted into, at the top left, with its aspect
            kept; the base size of the published protocols.
        head_kernel: of the last convolution, 1 or 3; without `context`.
        squash: images are brought to `input_size` without keeping their aspect, as published for LIP.
        context: of the OCR head; None for the plain head.
        loss: what is minimized.
    """

    class_names: tuple[str, ...] = CITYSCAPES
    pairs: tuple[tuple[int, int], ...] = ()
    backbone: HRNetSpec = field(default_factory=lambda: hrnet(48, fusion_upsample="bilinear"))
    input_size: Size = (512, 1024)
    head_kernel: int = 1
    squash: bool = False
    context: ContextSpec | None = None
    loss: LossSpec = field(default_factory=LossSpec)

    def __post_init__(self) -> None:
        count = len(self.class_names)
        if not 1 <= count <= IGNORE_INDEX or len(set(self.class_names)) != count:
            raise ValueError(
                f"Between 1 and {IGNORE_INDEX} classes, each with its own name, are possible; not {count}."
            )
        paired = [label for pair in self.pairs for label in pair]
        if len(set(paired)) != len(paired) or any(not 0 <= label < count for label in paired):
            raise ValueError(
                f"Pairs are labels from 0 to {count - 1}, each with one partner at the most: {self.pairs}."
            )
        if min(self.input_size) < 32:
            raise ValueError(f"input_size is at least 32 x 32, not {self.input_size}.")
        if self.head_kernel not in (1, 3):
            raise ValueError(f"head_kernel is 1 or 3, not {self.head_kernel}.")
        if self.backbone.high_resolution_only:
            raise ValueError("Segmentation reads all four maps; the backbone must not be high_resolution_only.")
        if self.context and self.head_kernel != 1:
            raise ValueError("head_kernel belongs to the plain head; with context it is 1.")
        if len(self.loss.class_weights) not in (0, count):
            raise ValueError(f"{count} classes need {count} weights in the loss, not {len(self.loss.class_weights)}.")

    @property
    def outputs(self) -> str:
        """The network's outputs in words."""
        return f"{len(self.class_names)} classes"
