from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from hrnet.nn.spec import StageSpec, hrnet, hrnet_small_v1, hrnet_small_v2


@pytest.mark.parametrize("width", [18, 30, 32, 40, 44, 48, 64])
def test_family_is_one_number(width: int) -> None:
    # Oracle: table of the variants (arXiv 1908.07919, table 1).
    spec = hrnet(width)
    assert [stage.modules for stage in spec.stages] == [1, 4, 3]
    assert [stage.blocks for stage in spec.stages] == [4, 4, 4]
    assert spec.widths == (width, 2 * width, 4 * width, 8 * width)
    assert (spec.bottlenecks, spec.bottleneck_width, spec.stem_width) == (4, 64, 64)


def test_small_variants_are_not_the_family() -> None:
    # Oracle: the released configurations; Small-v1 is 16 wide, whatever its name says.
    first, second = hrnet_small_v1(), hrnet_small_v2()
    assert first.widths == (16, 32, 64, 128)
    assert (first.bottlenecks, first.bottleneck_width) == (1, 32)
    assert [(stage.blocks, stage.modules) for stage in first.stages] == [(2, 1), (2, 1), (2, 1)]
    assert second.widths == (18, 36, 72, 144)
    assert (second.bottlenecks, second.bottleneck_width) == (2, 64)
    assert [(stage.blocks, stage.modules) for stage in second.stages] == [(2, 1), (2, 3), (2, 2)]


def test_v1_returns_one_width() -> None:
    assert hrnet(32, high_resolution_only=True).widths == (32,)


def test_spec_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        hrnet(32).stem_width = 1  # type: ignore[misc]  # that it cannot be set is what is tested


@pytest.mark.parametrize(
    "change",
    [
        {"stages": (StageSpec((8, 16)), StageSpec((8, 16)), StageSpec((8, 16, 32, 64)))},
        {"bottlenecks": 0},
        {"bottleneck_width": 0},
        {"in_channels": 0},
        {"stem_width": -1},
        {"align_corners": True},
        {"norm_momentum": 0.0},
    ],
)
def test_impossible_backbones_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        replace(hrnet(18), **change)


@pytest.mark.parametrize("stage", [((), 4, 1), ((8, 0), 4, 1), ((8,), 0, 1), ((8,), 4, 0)])
def test_impossible_stages_are_refused(stage: tuple[tuple[int, ...], int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        StageSpec(*stage)
