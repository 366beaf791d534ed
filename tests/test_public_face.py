"""The names of `hrnet`, and the imports they cause."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hrnet

FACE = [
    "Classification",
    "ClassificationSpec",
    "DetectionSpec",
    "Detections",
    "HRNet",
    "InputError",
    "PoseSpec",
    "Poses",
    "Predictor",
    "Run",
    "SegmentationSpec",
    "SemanticMap",
    "__version__",
    "check_data",
    "convert",
    "create_model",
    "evaluate",
    "features_only",
    "list_models",
    "load",
    "save",
    "spec",
    "train",
]


def test_only_the_public_names_are_shown_and_each_is_there() -> None:
    assert dir(hrnet) == sorted(FACE)
    for name in FACE:
        assert getattr(hrnet, name) is not None
    with pytest.raises(AttributeError, match="module 'hrnet' has no attribute 'nothing'"):
        _ = hrnet.nothing  # pyright: ignore[reportAttributeAccessIssue]  # on purpose


def test_type_checkers_see_the_same_names_at_the_same_places() -> None:
    tree = ast.parse(Path(hrnet.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name  # exported
            seen[alias.name] = node.module
    assert seen.pop("spec") == "hrnet.nn"
    assert seen == hrnet._MODULE_OF


@pytest.mark.parametrize(
    "code",
    ["import hrnet", "import hrnet; hrnet.spec.hrnet(32); hrnet.PoseSpec()", "import hrnet; hrnet.train"],
)
def test_no_torch_before_a_network_is_needed(code: str) -> None:
    code = f"{code}; import sys; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
