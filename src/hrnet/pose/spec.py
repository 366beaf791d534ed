"""A pose network as data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from hrnet.io.geometry import Size
from hrnet.nn.spec import HRNetSpec, hrnet
from hrnet.pose.skeletons import COCO, Skeleton


@dataclass(frozen=True, slots=True)
class CodecSpec:
    """Parameters of a heatmap codec."""

    kind: str = "classic"
    """name of the codec in `hrnet.pose.codecs.CODECS`: ``classic`` as published; ``dark`` with unrounded targets and a
    Taylor step (arXiv 1910.06278); ``udp`` the same on lengths counted between pixel centers (arXiv 1911.07524), which
    needs no flip shift"""
    heatmap_sigma: float = 2.0  # standard deviation of the Gaussian, in heatmap pixels
    blur: int = 11  # size of the smoothing kernel before the Taylor step of ``dark`` and ``udp``; odd
    per_axis: bool = False
    """True to refine one axis even where the peak lies at the border of the other, as mmpose does and the published
    code does not; ``classic`` only"""
    flip_shift: bool = True
    """True to move the flipped heatmap right by one pixel before averaging; ``classic`` and ``dark`` only"""

    def __post_init__(self) -> None:
        if not 0 < self.heatmap_sigma < math.inf:
            raise ValueError(
                f"heatmap_sigma must be above 0, not {self.heatmap_sigma}; the published networks use 2 or 3."
            )


@dataclass(frozen=True, slots=True)
class PoseSpec:
    """A pose network, with the crop that it runs on."""

    skeleton: Skeleton = COCO  # keypoints of its heatmaps
    backbone: HRNetSpec = field(default_factory=lambda: hrnet(32, high_resolution_only=True))
    """spec of the backbone; ``v1`` needs `high_resolution_only`"""
    representation: Literal["v1", "v2"] = "v1"
    """``v1``: one convolution on the stride-4 map; ``v2``: the concatenation of all maps and a `PixelHead`, as in the
    published face and hand networks"""
    input_size: Size = (256, 192)  # height and width of the crop
    codec: CodecSpec = CodecSpec()  # encoding of keypoints as heatmaps, and its inverse
    head_kernel: int = 1  # size of the last convolution, 1 or 3
    box_padding: float = 1.25  # ratio of the crop's side to the box's

    def __post_init__(self) -> None:
        if min(self.input_size) < 32:
            raise ValueError(f"input_size must be at least 32 x 32, not {self.input_size}.")
        if (self.representation == "v1") != self.backbone.high_resolution_only:
            raise ValueError(
                "representation 'v1' needs a backbone with high_resolution_only, 'v2' one without it; change one of the two."
            )

    @property
    def outputs(self) -> str:
        """The network's outputs in words."""
        return f"{len(self.skeleton)} keypoints"
