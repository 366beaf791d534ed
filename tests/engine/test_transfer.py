"""Weights of another model as a start. Oracles: the other model's own tensors and outputs."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from hrnet.classification.model import ClassificationModel
from hrnet.classification.spec import ClassificationSpec
from hrnet.engine.transfer import spread_channels, transfer
from hrnet.errors import InputError
from hrnet.nn.backbone import HRNet
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.pose.model import PoseModel
from hrnet.pose.skeletons import Skeleton
from hrnet.pose.spec import PoseSpec
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.spec import SegmentationSpec

STAGES = (StageSpec((4, 8), 1), StageSpec((4, 8, 16), 1), StageSpec((4, 8, 16, 32), 1))
V1 = HRNetSpec(STAGES, 1, 4, high_resolution_only=True, stem_width=8)
V2 = HRNetSpec(STAGES, 1, 4, stem_width=8)
FACE = PoseSpec(Skeleton(("nose", "left_eye", "right_eye")), V1)


def moved(model: torch.nn.Module) -> Any:
    """No tensor as it was new."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def report(model, other) -> str:
    return "\n".join(transfer(model, other.state_dict(), other.named_outputs(), "other"))


def test_the_same_kind_is_taken_wholly() -> None:
    other = moved(PoseModel(FACE))
    model: Any = PoseModel(FACE)
    said = report(model, other)
    torch.testing.assert_close(model.state_dict(), other.state_dict(), rtol=0, atol=0)
    assert "new:" not in said
    assert "head: all 3 outputs by name" in said


def test_keypoints_are_taken_by_name_wherever_they_stand() -> None:
    other = moved(PoseModel(FACE))
    model: Any = PoseModel(replace(FACE, skeleton=Skeleton(("tail", "Left Eye", "nose", "right_paw"))))
    new = {name: value.clone() for name, value in model.state_dict().items()}
    said = report(model, other)
    for here, there in {1: 1, 2: 0}.items():
        torch.testing.assert_close(model.head.weight[here], other.head.weight[there], rtol=0, atol=0)
        assert model.head.bias[here] == other.head.bias[there]
    for here in (0, 3):
        torch.testing.assert_close(model.head.weight[here], new["head.weight"][here], rtol=0, atol=0)
    assert "head: 2 of 4 outputs by name (Left Eye, nose); new: tail, right_paw" in said
    assert len(said.splitlines()) <= 4


@pytest.mark.parametrize(
    "model",
    [
        ClassificationModel(ClassificationSpec(("cat", "dog"), backbone=V2)),
        SegmentationModel(SegmentationSpec(("sky", "ground"), backbone=replace(V2, fusion_upsample="bilinear"))),
    ],
)
def test_the_backbone_of_another_task_is_taken_and_its_head_is_not(model) -> None:
    other = moved(PoseModel(FACE))
    said = report(model, other)
    theirs, mine = other.backbone.state_dict(), model.backbone.state_dict()
    assert len(theirs) > 100
    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, rtol=0, atol=0)
    # V1 has no fusion of the lower resolutions at its end.
    assert "backbone.stage4.0" in said.splitlines()[-2]
    assert "not used of other: head (2)" in said


def test_classes_of_the_same_name_are_taken() -> None:
    spec = SegmentationSpec(("sky", "ground"), backbone=replace(V2, fusion_upsample="bilinear"))
    other = moved(SegmentationModel(spec))
    model: Any = SegmentationModel(replace(spec, class_names=("ground", "sea")))
    report(model, other)
    torch.testing.assert_close(model.head.classify.weight[0], other.head.classify.weight[1], rtol=0, atol=0)
    torch.testing.assert_close(model.head.project.weight, other.head.project.weight, rtol=0, atol=0)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 7])
def test_more_or_fewer_channels_see_a_gray_image_as_before(channels: int) -> None:
    # Oracle: the network with three channels. The sum over the channels is the same but for rounding.
    three = moved(HRNet(V1)).eval()
    weight = three.conv1.weight
    spread = spread_channels(weight, channels)
    torch.testing.assert_close(spread.sum(1), weight.sum(1))
    gray = torch.rand(2, 1, 32, 32)
    found = torch.nn.functional.conv2d(gray.expand(-1, channels, -1, -1), spread, stride=2, padding=1)
    torch.testing.assert_close(found, three.conv1(gray.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


def test_input_channels_are_spread_and_said() -> None:
    other = moved(PoseModel(FACE))
    model: Any = PoseModel(replace(FACE, backbone=replace(V1, in_channels=4)))
    assert "backbone.conv1.weight: 3 input channels spread over 4" in report(model, other)
    # Red is first and last, and shared by both.
    torch.testing.assert_close(model.backbone.conv1.weight[:, 3], other.backbone.conv1.weight[:, 0] / 2)


def test_a_model_of_which_nothing_fits_is_refused() -> None:
    with pytest.raises(InputError, match="no weights of the shapes"):
        transfer(PoseModel(FACE), {"fc.weight": torch.zeros(3, 3)}, {}, "other")
