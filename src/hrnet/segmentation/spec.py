"""A segmentation network and its loss as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hrnet.formats.cityscapes import CITYSCAPES as CITYSCAPES
from hrnet.io.geometry import Size
from hrnet.nn.spec import HRNetSpec, hrnet
from hrnet.results import IGNORE_INDEX

# Source: the released training code: class weights of the cross entropy for Cityscapes, in the order of its classes.
CITYSCAPES_WEIGHTS = (
    0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023, 0.9539, 0.9843, 1.1116, 0.9037,
    1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OCRSpec:
    """The OCR head (object-contextual representations): pixels attend to the object regions of the classes.

    Source of the values: arXiv 1909.11065 and the released configurations.
    """

    channels: int = 512  # channels of the features that the regions are means of
    key_channels: int = 256  # channels of queries, keys and values
    dropout: float = 0.05  # fraction of channels dropped in training before the last convolution

    def __post_init__(self) -> None:
        if min(self.channels, self.key_channels) < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"channels and key_channels must be at least 1, dropout from 0 to below 1; got {self}.")


@dataclass(frozen=True, slots=True)
class LossSpec:
    """Cross entropy of the labeled pixels."""

    class_weights: tuple[float, ...] = ()  # weight of every class, in order; empty for equal weights
    hard_pixels: int = 0
    """OHEM: keep at least this many pixels of a batch, the hardest, and all with p(true class) < `hard_below`; 0 keeps
    all"""
    hard_below: float = 0.9  # probability; see `hard_pixels`
    auxiliary: float = 0.4  # weight of the auxiliary term
    auxiliary_mean: Literal["labeled", "all"] = "labeled"
    """pixels that the auxiliary term is averaged over with OHEM: the ``labeled`` ones, as without it, or ``all``, as in
    the released code, which makes the term smaller the fewer pixels are labeled"""

    def __post_init__(self) -> None:
        if any(weight < 0 for weight in self.class_weights) or (self.class_weights and not sum(self.class_weights)):
            raise ValueError(f"class_weights must not be negative, nor all zero; got {self.class_weights}.")
        if self.hard_pixels < 0 or not 0 < self.hard_below <= 1 or self.auxiliary < 0:
            raise ValueError(
                f"hard_pixels and auxiliary must be at least 0, hard_below a probability above 0; got {self}."
            )


# Source: the released configurations: Cityscapes; those with OHEM (COCO-Stuff, ADE20K, Cityscapes optionally); and OHEM as
# the released code computes it for OCR.
WEIGHTED_LOSS = LossSpec(CITYSCAPES_WEIGHTS)
HARD_LOSS = LossSpec(hard_pixels=131_072)
RELEASED_HARD_LOSS = LossSpec(hard_pixels=131_072, auxiliary_mean="all")


@dataclass(frozen=True, slots=True)
class SegmentationSpec:
    """A segmentation network and how it is used."""

    class_names: tuple[str, ...] = CITYSCAPES  # names in the order of the network's outputs
    pairs: tuple[tuple[int, int], ...] = ()
    """indices of classes that change places under a horizontal flip (left arm and right arm)"""
    backbone: HRNetSpec = field(default_factory=lambda: hrnet(48, fusion_upsample="bilinear"))
    """a backbone that returns all four maps; its `align_corners` also applies where the maps are concatenated and where
    the logits are resized to the image, as in the published networks"""
    input_size: Size = (512, 1024)
    """height and width of the canvas that a whole image is letterboxed into, at the top left; the base size of the
    published protocols"""
    head_kernel: int = 1  # kernel size of the plain head's last convolution, 1 or 3
    squash: bool = False
    """whether images are resized to `input_size` without keeping their aspect, as published for LIP"""
    ocr: OCRSpec | None = None  # the OCR head; None for the plain head
    loss: LossSpec = field(default_factory=LossSpec)

    def __post_init__(self) -> None:
        count = len(self.class_names)
        if not 1 <= count <= IGNORE_INDEX or len(set(self.class_names)) != count:
            raise ValueError(f"class_names must be 1 to {IGNORE_INDEX} different names; got {self.class_names}.")
        paired = [label for pair in self.pairs for label in pair]
        if len(set(paired)) != len(paired) or any(not 0 <= label < count for label in paired):
            raise ValueError(f"pairs must be labels from 0 to {count - 1}, each in one pair; got {self.pairs}.")
        if min(self.input_size) < 32:
            raise ValueError(f"input_size must be at least 32 x 32; got {self.input_size}.")
        if self.head_kernel not in (1, 3):
            raise ValueError(f"head_kernel must be 1 or 3; got {self.head_kernel}.")
        if self.backbone.high_resolution_only:
            raise ValueError("Segmentation reads all four maps; set backbone.high_resolution_only to False.")
        if self.ocr and self.head_kernel != 1:
            raise ValueError(f"head_kernel applies to the plain head; with ocr it must be 1; got {self.head_kernel}.")
        if len(self.loss.class_weights) not in (0, count):
            raise ValueError(
                f"loss.class_weights must be empty or {count} numbers; got {len(self.loss.class_weights)}."
            )

    @property
    def outputs(self) -> str:
        """The network's outputs in words."""
        return f"{len(self.class_names)} classes"
