"""Backbones so small that a test can build many; `from tiny import tiny_hrnet` in any test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hrnet.nn.spec import HRNetSpec, StageSpec


def tiny_hrnet(modules: int = 1, **fields: Any) -> HRNetSpec:
    """Return a backbone of width 4 with one block per branch.

    Args:
        modules: modules of stages 3 and 4.
        fields: other values of fields of the spec.
    """
    stages = (StageSpec((4, 8), 1), StageSpec((4, 8, 16), 1, modules), StageSpec((4, 8, 16, 32), 1, modules))
    return replace(HRNetSpec(stages, bottlenecks=1, bottleneck_width=4, stem_width=8), **fields)
