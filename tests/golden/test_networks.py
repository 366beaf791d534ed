"""Oracle: the published networks themselves, run once (the README beside the outputs says which file). The tolerance is
float32 rounding through some 300 layers, summed in another order by another PyTorch: about 1e-6 of the largest output is
seen; a wrong layer, upsampling or order gives 1e-2 or more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hrnet.classification.spec import ClassificationSpec
from hrnet.foreign import read_backbone, read_foreign, recognize
from hrnet.io.checkpoint import load_state
from hrnet.nn.representation import Pyramid
from hrnet.nn.spec import hrnet, hrnet_small_v1
from hrnet.pose.skeletons import COCO
from hrnet.pose.spec import PoseSpec
from hrnet.segmentation.spec import CITYSCAPES, SegmentationSpec
from hrnet.tasks import create_model

TOLERANCE = 1e-4

BILINEAR_18 = hrnet(18, fusion_upsample="bilinear")
ALIGNED_48 = hrnet(48, fusion_upsample="bilinear", align_corners=True)
V1_32 = hrnet(32, high_resolution_only=True)
NETWORKS = {
    "classification-w18": (ClassificationSpec, hrnet(18)),
    "classification-w18_small_v1": (ClassificationSpec, hrnet_small_v1()),
    "classification-w32": (ClassificationSpec, hrnet(32)),
    "pose-coco-w32": (PoseSpec, V1_32),
    "face-wflw-w18": (PoseSpec, replace(BILINEAR_18, norm_momentum=0.01)),
    "segmentation-cityscapes-w48": (SegmentationSpec, hrnet(48, fusion_upsample="bilinear")),
    "segmentation-cityscapes-w18_small_v1": (SegmentationSpec, hrnet_small_v1(fusion_upsample="bilinear")),
    "segmentation-cityscapes-ocr-w48": (SegmentationSpec, ALIGNED_48),
    "mmpose-coco-w32": (PoseSpec, V1_32),
    "mmpose-wflw-w18": (PoseSpec, BILINEAR_18),
    "mmseg-fcn-hr18": (SegmentationSpec, BILINEAR_18),
    "mmseg-ocrnet-hr18": (SegmentationSpec, BILINEAR_18),
    "mmpretrain-w18": (ClassificationSpec, hrnet(18)),
}
# Small enough to go through a file as well.
THROUGH_A_FILE = ("segmentation-cityscapes-w18_small_v1", "mmseg-fcn-hr18", "mmseg-ocrnet-hr18")
# mmseg's first convolutions of a head have no bias, ours have one of zeros.
ADDED_BIASES = {
    "mmseg-fcn-hr18": ("head.project",),
    "mmseg-ocrnet-hr18": ("head.auxiliary.project", "head.features.conv"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_published_network_gives_the_published_outputs(name, golden, tmp_path: Path, record_property) -> None:
    case = golden(name)
    if name in THROUGH_A_FILE:
        path = tmp_path / "weights.pth"
        torch.save({"meta": {"epoch": 1}, "state_dict": case.state}, path)
        spec, state = read_foreign(path)
    else:
        spec, state = recognize(case.state)
    kind, backbone = NETWORKS[name]
    assert isinstance(spec, kind)
    assert spec.backbone == backbone
    model = create_model(spec)
    load_state(model, state, Path(name))
    added = sum(model.get_parameter(f"{layer}.bias").numel() for layer in ADDED_BIASES.get(name, ()))
    assert sum(parameter.numel() for parameter in model.parameters()) == case.params + added
    with torch.inference_mode():
        # The golden input is what follows normalization.
        found = model.eval()(case.images * model.std + model.mean)
    outputs = [output.numpy() for output in found if output is not None]
    # Official OCR returns the auxiliary logits first.
    order = reversed(outputs) if len(outputs) == 2 and len(case.outputs) == 2 else outputs[:1]
    for output, expected in zip(order, case.outputs.values(), strict=True):
        error = float(np.abs(output - expected).max() / np.abs(expected).max())
        record_property("relative_error", error)
        assert error < TOLERANCE


def test_recognized_meanings(golden) -> None:
    pose = recognize(golden("mmpose-coco-w32").state)[0]
    assert isinstance(pose, PoseSpec)
    assert (pose.skeleton, pose.codec.per_axis, pose.input_size) == (COCO, True, (256, 192))
    face = recognize(golden("face-wflw-w18").state)[0]
    assert isinstance(face, PoseSpec)
    assert (len(face.skeleton), face.representation, face.codec.heatmap_sigma) == (98, "v2", 1.5)
    streets = recognize(golden("segmentation-cityscapes-w18_small_v1").state)[0]
    assert isinstance(streets, SegmentationSpec)
    assert streets.class_names == CITYSCAPES
    things = recognize(golden("classification-w18_small_v1").state)[0]
    assert isinstance(things, ClassificationSpec)
    assert (things.class_names[0], things.class_names[-1]) == ("tench", "toilet tissue")
    assert things.head_bias


def test_backbone_of_a_detector(golden, tmp_path: Path) -> None:
    state = golden("detection-faster-w18").state
    torch.save({"state_dict": state}, tmp_path / "detector.pth")
    spec, backbone = read_backbone(tmp_path / "detector.pth")
    assert spec == hrnet(18)
    assert all(torch.equal(value, state[f"backbone.{name}"]) for name, value in backbone.items())


def test_pyramid_gives_the_published_levels(golden, seeded_weight) -> None:
    case = golden("pyramid-w18")
    neck = Pyramid([18, 36, 72, 144])
    renamed = {
        name.replace("n.reduction_conv.0", "reduce").replace("n.fpn_conv", "levels"): value
        for name, value in case.state.items()
    }
    neck.load_state_dict(renamed)
    maps = [
        torch.from_numpy(seeded_weight(f"level{i}", [1, 18 * 2**i, 32 // 2**i, 64 // 2**i], True)) for i in range(4)
    ]
    with torch.inference_mode():
        levels = neck(maps)
    for (name, expected), level in zip(case.outputs.items(), levels, strict=True):
        found = level.numpy()[..., :16, :16] if name.endswith("corner") else level.numpy()
        assert np.abs(found - expected).max() / np.abs(expected).max() < TOLERANCE
