"""Inputs of the tests of detectors: the maps of a small backbone, random boxes and ground truth."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hrnet.detection.boxes import GroundTruth
from hrnet.nn.spec import HRNetSpec, StageSpec


@pytest.fixture(scope="session")
def backbone() -> HRNetSpec:
    return HRNetSpec(
        stages=(StageSpec((8, 16), 1), StageSpec((8, 16, 32), 1), StageSpec((8, 16, 32, 64), 1)),
        bottlenecks=1,
        bottleneck_width=8,
        stem_width=16,
    )


@pytest.fixture
def maps_of(backbone: HRNetSpec) -> Callable[[int, int], list[Tensor]]:
    """Make the maps of a number of square images, given the side of the finest."""

    def made(count: int, side: int) -> list[Tensor]:
        return [torch.randn(count, width, side // 2**i, side // 2**i) for i, width in enumerate(backbone.widths)]

    return made


@pytest.fixture
def random_boxes() -> Callable[..., Tensor]:
    """Make a number of boxes between 0 and an extent."""

    def made(count: int, extent: float = 100.0) -> Tensor:
        points = torch.rand(count, 2, 2) * extent
        return torch.cat([points.amin(1), points.amax(1)], 1)

    return made


@pytest.fixture
def objects_of() -> Callable[..., GroundTruth]:
    """Make the ground truth of one image, without a crowd unless one is given."""

    def made(boxes: Tensor, labels: Tensor, crowd: Tensor | None = None) -> GroundTruth:
        return GroundTruth(boxes, labels, torch.zeros(0, 4) if crowd is None else crowd)

    return made
