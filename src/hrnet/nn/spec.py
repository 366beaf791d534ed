"""The backbone as data: one width gives W18 to W64, two small variants differ. No torch import.

Source of every number: arXiv 1908.07919, table 1, and the released configurations of HRNet-Image-Classification.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

Upsample = Literal["nearest", "bilinear"]


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One of the stages 2, 3, 4: parallel branches that exchange information at the end of every module.

    Attributes:
        widths: channels of each branch, from stride 4 downwards in resolution.
        blocks: basic blocks of each branch in one module.
        modules: number of repetitions of branches and fusion.
    """

    widths: tuple[int, ...]
    blocks: int = 4
    modules: int = 1

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or self.blocks < 1 or self.modules < 1:
            raise ValueError(f"A stage needs branches, blocks and modules of at least 1, not {self}.")


@dataclass(frozen=True, slots=True)
class HRNetSpec:
    """Everything that fixes a backbone.

    Attributes:
        stages: stages 2, 3 and 4, with two, three and four branches.
        bottlenecks: bottleneck blocks of stage 1.
        bottleneck_width: middle channels of those blocks; stage 1 returns four times as many.
        fusion_upsample: interpolation of the fusions. Classification, pose and detection networks
            were trained with ``nearest``, segmentation and face networks with ``bilinear``.
        align_corners: True to align the corner pixels in the bilinear fusion, as in every published OCR network.
        high_resolution_only: True for V1: the last fusion makes, and the backbone returns, the stride-4 map only.
        in_channels: channels of the input image.
        stem_width: channels of the two stride-2 convolutions.
        norm_momentum: fraction of a batch in the running statistics of all norms, the head's too. 0.01 in the released face
            training and the first two segmentation trainings (Cityscapes 81.1 with plain torch), 0.1 in all others, the
            one with OCR among them.
    """

    stages: tuple[StageSpec, StageSpec, StageSpec]
    bottlenecks: int = 4
    bottleneck_width: int = 64
    fusion_upsample: Upsample = "nearest"
    align_corners: bool = False
    high_resolution_only: bool = False
    in_channels: int = 3
    stem_width: int = 64
    norm_momentum: float = 0.1

    def __post_init__(self) -> None:
        branches = tuple(len(stage.widths) for stage in self.stages)
        if branches != (2, 3, 4):
            raise ValueError(f"Stages 2, 3 and 4 have 2, 3 and 4 branches; these have {branches}.")
        if min(self.bottlenecks, self.bottleneck_width, self.in_channels, self.stem_width) < 1:
            raise ValueError(f"Widths and counts start at 1: {self}.")
        if not 0 < self.norm_momentum <= 1:
            raise ValueError(f"norm_momentum is above 0 and at most 1, not {self.norm_momentum}.")
        if self.align_corners and self.fusion_upsample == "nearest":
            raise ValueError("align_corners belongs to fusion_upsample='bilinear'; nearest has no corners to align.")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the maps that the backbone returns, at strides 4, 8, 16, 32 (V1: stride 4 only)."""
        widths = self.stages[-1].widths
        return widths[:1] if self.high_resolution_only else widths


def _stages(width: int, blocks: int, modules: tuple[int, int, int]) -> tuple[StageSpec, StageSpec, StageSpec]:
    widths = tuple(width * 2**branch for branch in range(4))
    second, third, fourth = (StageSpec(widths[: 2 + stage], blocks, modules[stage]) for stage in range(3))
    return second, third, fourth


def hrnet(
    width: int,
    *,
    fusion_upsample: Upsample = "nearest",
    align_corners: bool = False,
    high_resolution_only: bool = False,
    in_channels: int = 3,
) -> HRNetSpec:
    """Return the spec of the family W18, W30, W32, W40, W44, W48, W64, and any other width.

    Args:
        width: channels of the stride-4 branch; each lower resolution has twice as many.
        fusion_upsample: see `HRNetSpec`, also for the arguments that follow.
    """
    return HRNetSpec(
        stages=_stages(width, blocks=4, modules=(1, 4, 3)),
        fusion_upsample=fusion_upsample,
        align_corners=align_corners,
        high_resolution_only=high_resolution_only,
        in_channels=in_channels,
    )


def hrnet_small_v1(
    *, fusion_upsample: Upsample = "nearest", align_corners: bool = False, high_resolution_only: bool = False
) -> HRNetSpec:
    """Return the spec of W18-Small-v1, whose stride-4 branch is 16 wide, not 18; options as for `hrnet`."""
    return HRNetSpec(
        stages=_stages(16, blocks=2, modules=(1, 1, 1)),
        bottlenecks=1,
        bottleneck_width=32,
        fusion_upsample=fusion_upsample,
        align_corners=align_corners,
        high_resolution_only=high_resolution_only,
    )


def hrnet_small_v2(
    *, fusion_upsample: Upsample = "nearest", align_corners: bool = False, high_resolution_only: bool = False
) -> HRNetSpec:
    """Return the spec of W18-Small-v2; options as for `hrnet`."""
    return HRNetSpec(
        stages=_stages(18, blocks=2, modules=(1, 3, 2)),
        bottlenecks=2,
        fusion_upsample=fusion_upsample,
        align_corners=align_corners,
        high_resolution_only=high_resolution_only,
    )


@runtime_checkable
class ModelSpec(Protocol):
    """A task's network as data: a frozen dataclass, made by the task, of which `create_model` makes the network."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def backbone(self) -> HRNetSpec:
        """The backbone as data."""
        ...

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's inputs in training."""
        ...

    @property
    def outputs(self) -> str:
        """The network's outputs in words, for example "17 keypoints"."""
        ...


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """A backbone alone."""

    backbone: HRNetSpec = field(default_factory=lambda: hrnet(18))
    input_size: tuple[int, int] = (224, 224)

    @property
    def outputs(self) -> str:
        return "no head"
