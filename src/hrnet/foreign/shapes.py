"""Specs from the names and shapes of a state whose tensors have our names.

What these cannot tell is assumed as published; see the package's docstring.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from torch import Tensor

from hrnet.classification.spec import ClassificationSpec
from hrnet.detection import spec as detection
from hrnet.detection.spec import DetectionSpec, FCOSSpec, RCNNSpec
from hrnet.formats.cityscapes import CITYSCAPES
from hrnet.formats.lip import LIP, LIP_PAIRS
from hrnet.nn.spec import HRNetSpec, StageSpec, Upsample
from hrnet.pose.skeletons import COCO, MPII, Skeleton
from hrnet.pose.spec import CodecSpec, PoseSpec
from hrnet.segmentation.spec import OCRSpec, SegmentationSpec

State = dict[str, Tensor]

# Source: the settings of the published data sets, by their number of classes.
_SEGMENTATION_SIZES = {19: (1024, 2048), 20: (473, 473), **dict.fromkeys((59, 60, 150, 171), (520, 520))}
_ALIGNED_CLASSES = (150, 171)


def _count(state: State, pattern: str) -> int:
    """Return how many different indices the group of a pattern finds at the beginnings of the names."""
    found = (re.match(pattern, name) for name in state)
    return len({match[1] for match in found if match})


def backbone_spec(state: State, upsample: Upsample = "nearest", align_corners: bool = False) -> HRNetSpec:
    """Return the spec of the backbone. Indices are counted, so that a wrong one is reported as missing."""

    def count(pattern: str) -> int:
        return _count(state, rf"backbone\.{pattern}")

    def width(name: str) -> int:
        return state[f"backbone.{name}.weight"].shape[0]

    def stage(number: int) -> StageSpec:
        first = rf"stage{number}\.0\.branches\."
        widths = tuple(width(f"stage{number}.0.branches.{b}.0.conv1") for b in range(count(first + r"(\d+)\.")))
        return StageSpec(widths, blocks=count(first + r"0\.(\d+)\."), modules=count(rf"stage{number}\.(\d+)\."))

    stages = (stage(2), stage(3), stage(4))
    last = stages[-1].modules - 1
    return HRNetSpec(
        stages=stages,
        bottlenecks=count(r"layer1\.(\d+)\."),
        bottleneck_width=width("layer1.0.conv1"),
        fusion_upsample=upsample,
        align_corners=align_corners,
        high_resolution_only=count(rf"stage4\.{last}\.fuse_layers\.(\d+)\.") == 1,
        in_channels=state["backbone.conv1.weight"].shape[1],
        stem_width=width("conv1"),
    )


def classification(state: State) -> ClassificationSpec:
    outputs = state["head.classifier.weight"].shape[0]
    return ClassificationSpec(
        class_names=_imagenet_names() if outputs == 1000 else (),
        num_classes=outputs,
        backbone=backbone_spec(state),
        head_bias="head.expand.0.bias" in state,
    )


def _imagenet_names() -> tuple[str, ...]:
    from torchvision.models import ResNet50_Weights  # takes half a second, and most files need no names

    # In the order of the synsets, as every ImageNet network has them.
    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


def _skeleton(count: int) -> Skeleton:
    known = {len(COCO): COCO, len(MPII): MPII}
    return known.get(count) or Skeleton(tuple(f"keypoint_{number}" for number in range(count)))


def pose(state: State, *, per_axis: bool = False) -> PoseSpec:
    weight = state["head.weight"]
    skeleton = _skeleton(weight.shape[0])
    return PoseSpec(
        skeleton=skeleton,
        backbone=backbone_spec(state),
        input_size=(256, 192) if skeleton == COCO else (256, 256),
        codec=CodecSpec(per_axis=per_axis),
        head_kernel=weight.shape[-1],
    )


def v2_pose(state: State, codec: CodecSpec) -> PoseSpec:
    weight = state["head.classify.weight"]
    return PoseSpec(
        skeleton=_skeleton(weight.shape[0]),
        backbone=backbone_spec(state, "bilinear"),
        representation="v2",
        input_size=(256, 256),
        codec=codec,
        head_kernel=weight.shape[-1],
    )


def face(state: State) -> PoseSpec:
    # Source: HRNet-Facial-Landmark-Detection: sigma 1 for the 68 points of 300W, 1.5 for WFLW, COFW and AFLW.
    spec = v2_pose(state, CodecSpec(heatmap_sigma=1.0 if state["head.classify.weight"].shape[0] == 68 else 1.5))
    return replace(spec, backbone=replace(spec.backbone, norm_momentum=0.01))


def segmentation(state: State, align_corners: bool = False) -> SegmentationSpec:
    weight, query = state["head.classify.weight"], state.get("head.query.reduce.conv.weight")
    count = weight.shape[0]
    known = {len(CITYSCAPES): CITYSCAPES, len(LIP): LIP}
    return SegmentationSpec(
        class_names=known.get(count) or tuple(f"class_{label}" for label in range(count)),
        pairs=LIP_PAIRS if count == len(LIP) else (),
        backbone=backbone_spec(state, "bilinear", align_corners),
        input_size=_SEGMENTATION_SIZES.get(count, (512, 512)),
        head_kernel=weight.shape[-1],
        squash=count == len(LIP),
        ocr=None if query is None else OCRSpec(channels=query.shape[1], key_channels=query.shape[0]),
    )


def official_segmentation(state: State) -> SegmentationSpec:
    return segmentation(state, align_corners=state["head.classify.weight"].shape[0] in _ALIGNED_CLASSES)


def activated_segmentation(state: State) -> SegmentationSpec:
    """Return the spec of a network without OCR of the PyTorch 0.4 era, whose norms have another momentum.

    Source: the published configurations of both branches. Those of 150 and 171 classes come from the code with OCR.
    """
    spec = official_segmentation(state)
    return spec if spec.backbone.align_corners else replace(spec, backbone=replace(spec.backbone, norm_momentum=0.01))


def _object_names(count: int) -> tuple[str, ...]:
    return detection.COCO if count == len(detection.COCO) else tuple(f"class_{label}" for label in range(count))


def rcnn(state: State, **changes: Any) -> DetectionSpec:
    """Return the spec of an R-CNN, with other values of some fields of its detector."""
    stages = _count(state, r"detector\.box_heads\.(\d+)\.")
    masks = "detector.mask_heads.stages.0.logits.weight" in state
    pixels = state.get("detector.semantic_head.logits.weight")
    known: dict[tuple[int, bool], RCNNSpec] = {
        (1, False): detection.faster_rcnn(),
        (1, True): detection.mask_rcnn(),
        (3, False): detection.cascade_rcnn(),
        (3, True): detection.cascade_mask_rcnn() if pixels is None else detection.hybrid_task_cascade(),
    }
    if (stages, masks) not in known:
        raise ValueError(f"{stages} stages are not 1 or 3")
    if pixels is None and "detector.mask_heads.stages.1.previous.weight" in state:
        raise ValueError("mask heads that read one another's features belong to a semantic branch")
    classes = state["detector.box_heads.0.classify.weight"].shape[0] - 1
    spec = replace(
        known[stages, masks],
        pyramid_width=state["detector.pyramid.reduce.weight"].shape[0],
        head_width=state["detector.box_heads.0.hidden.0.weight"].shape[0],
        semantic_classes=0 if pixels is None else pixels.shape[0],
        # One class does not tell.
        class_agnostic=stages > 1 if classes == 1 else state["detector.box_heads.0.regress.weight"].shape[0] == 4,
        **changes,
    )
    return DetectionSpec(class_names=_object_names(classes), detector=spec, backbone=backbone_spec(state))


def fcos(state: State, detector: FCOSSpec | None = None) -> DetectionSpec:
    spec = replace(
        detector or detection.fcos(),
        pyramid_width=state["detector.pyramid.reduce.weight"].shape[0],
        tower_convs=_count(state, r"detector\.class_tower\.(\d+)\."),
    )
    classes = state["detector.classify.weight"].shape[0]
    return DetectionSpec(class_names=_object_names(classes), detector=spec, backbone=backbone_spec(state))


def benchmark_fcos(state: State) -> DetectionSpec:
    """Return the spec of HRNet-FCOS: five levels from stride 8, or six from stride 4. Source: that repository's settings."""
    detector = replace(detection.fcos(), nms_iou=0.6)
    if _count(state, r"detector\.scales\.(\d+)") == len(detector.ranges) + 1:
        finest = ((-1.0, 32.0), (32.0, 64.0))
        detector = replace(detector, pyramid_stride=1, ranges=finest + detector.ranges[1:])
    return fcos(state, detector)
