"""A segmentation network as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from hrnet.geometry import Size
from hrnet.results import OUTSIDE
from hrnet.spec import HRNetSpec, hrnet

# Source: the evaluation labels of Cityscapes (trainId 0 to 18), in order.
CITYSCAPES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SegmentationSpec:
    """Everything that fixes a segmentation network and how it is used.

    Attributes:
        class_names: in the order of the network's outputs.
        pairs: classes that change places in the mirrored picture (left arm and right arm), by index.
        backbone: any that returns all four maps; its `align_corners` also rules how the maps are concatenated and how
            the logits come to the size of the picture, as in the published networks.
        input_size: height and width of the input.
        head_kernel: of the last convolution, 1 or 3.
    """

    class_names: tuple[str, ...] = CITYSCAPES
    pairs: tuple[tuple[int, int], ...] = ()
    backbone: HRNetSpec = field(default_factory=lambda: hrnet(48, fusion_upsample="bilinear"))
    input_size: Size = (512, 1024)
    head_kernel: int = 1

    def __post_init__(self) -> None:
        count = len(self.class_names)
        if not 1 <= count <= OUTSIDE or len(set(self.class_names)) != count:
            raise ValueError(f"Between 1 and {OUTSIDE} classes, each with its own name, are possible; not {count}.")
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
