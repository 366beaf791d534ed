"""The maps alone. Oracle: timm's HRNet with features_only and the same weights; the model's own parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from tiny import tiny_hrnet

import hrnet
from hrnet.classification.model import ClassificationModel
from hrnet.classification.spec import ClassificationSpec
from hrnet.nn.spec import hrnet_small_v1
from hrnet.nn.task import IMAGENET_MEAN, IMAGENET_STD
from hrnet.pose.model import PoseModel
from hrnet.pose.skeletons import COCO
from hrnet.pose.spec import PoseSpec

TINY = tiny_hrnet()


def classifier() -> ClassificationModel:
    return ClassificationModel(ClassificationSpec(num_classes=3, backbone=TINY, head_width=8)).eval()


@pytest.mark.parametrize("widened", [False, True])
def test_maps_channels_and_reductions(widened: bool) -> None:
    model = classifier()
    images = torch.rand(2, 3, 64, 96)
    features = hrnet.features_only(model, widened=widened)
    with torch.inference_mode():
        maps, raw = features(images), model.features(images)
        expected = model.head.widened(raw) if widened else raw
        logits = model(images).logits
        torch.testing.assert_close(model.head(raw), logits, rtol=0, atol=0)
    assert features.channels == ((32, 64, 128, 256) if widened else (4, 8, 16, 32))
    assert features.reductions == (4, 8, 16, 32)
    for x, other, width, stride in zip(maps, expected, features.channels, features.reductions, strict=True):
        assert x.shape == (2, width, 64 // stride, 96 // stride)
        torch.testing.assert_close(x, other, rtol=0, atol=0)


def test_every_task_has_features() -> None:
    v1 = replace(TINY, high_resolution_only=True)
    model = PoseModel(PoseSpec(skeleton=COCO, backbone=v1, input_size=(64, 48))).eval()
    features = hrnet.features_only(model)
    assert (features.channels, features.reductions) == ((4,), (4,))
    images = torch.rand(1, 3, 64, 48)
    with torch.inference_mode():
        (x,) = model.features(images)
        torch.testing.assert_close(x, features(images)[0], rtol=0, atol=0)
        assert x.shape == (1, 4, 16, 12)
    with pytest.raises(ValueError, match="widened"):
        hrnet.features_only(model, widened=True)


def test_weights_are_shared() -> None:
    model = classifier()
    features = hrnet.features_only(model)
    torch.stack([x.sum() for x in features(torch.rand(2, 3, 32, 32))]).sum().backward()
    assert model.backbone.conv1.weight.grad is not None


def test_widened_maps_are_timms() -> None:
    # Oracle: timm, of which the first map is the stem's. Tolerance: float32 through 60 layers, in another order of sums.
    theirs: Any = timm.create_model("hrnet_w18_small", features_only=True).eval()
    ours = ClassificationModel(ClassificationSpec(num_classes=2, backbone=hrnet_small_v1())).eval()
    generator = torch.Generator().manual_seed(0)
    for name, buffer in theirs.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5, generator=generator)
    state = {name: value for name, value in theirs.state_dict().items() if not name.startswith("incre_modules")}
    missing, unexpected = ours.backbone.load_state_dict(state, strict=False)
    assert not unexpected
    assert not missing
    widen = {
        name.removeprefix("incre_modules.").replace(".0.", ".", 1): value
        for name, value in theirs.state_dict().items()
        if name.startswith("incre_modules")
    }
    ours.head.widen.load_state_dict(widen)
    images = torch.rand(1, 3, 96, 64, generator=generator)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    features = hrnet.features_only(ours, widened=True)
    with torch.inference_mode():
        expected = theirs((images - mean) / std)[1:]
        found = features(images)
    assert features.channels == tuple(theirs.feature_info.channels()[1:])
    assert features.reductions == tuple(theirs.feature_info.reduction()[1:])
    for x, other in zip(found, expected, strict=True):
        torch.testing.assert_close(x, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
