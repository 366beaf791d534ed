"""The code bases whose files are read: the names that each gives the layers of a head, and what it computes differently.

The backbone's names are the same everywhere and need no table. Source: the files published by the repositories that each
table names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from hrnet.errors import InputError
from hrnet.foreign import shapes
from hrnet.foreign.shapes import State
from hrnet.nn.spec import ModelSpec
from hrnet.pose.spec import CodecSpec

# Whole names of tensors there and here; each ``*`` stands for a part without dots.
Names = Mapping[str, str]


def translate(name: str, names: Names) -> str | None:
    """Return the name of a tensor by a table; None if the table lacks it."""
    for theirs, ours in names.items():
        if found := re.fullmatch(theirs.replace(".", r"\.").replace("*", r"(\w+)"), name):
            return ours.replace("*", "{}").format(*found.groups())
    return None


def _within(theirs: str, ours: str, names: Names) -> Names:
    """Return a table with a prefix before the names of both sides."""
    return {f"{theirs}.{one}": f"{ours}.{other}" for one, other in names.items()}


_RESIDUAL_BLOCK: Names = {name: name for name in ("conv*.*", "bn*.*", "downsample.*.*")}

# HRNet-Image-Classification, and timm, which keeps its names; Paddle's SSLD weights lack the biases.
_OFFICIAL_CLASSIFICATION: Names = {
    **_within("incre_modules.*.0", "head.widen.*", _RESIDUAL_BLOCK),
    "downsamp_modules.*.*.*": "head.halve.*.*.*",
    "final_layer.*.*": "head.expand.*.*",
    "classifier.*": "head.classifier.*",
}


def timm_state(model: nn.Module) -> dict[str, Tensor]:
    """Return weights that timm's HRNet of the same widths loads strictly; timm keeps the published names.

    Args:
        model: classification model; without biases in its head (`head_bias`) timm's network is one with
            ``head_conv_bias=False``.

    Raises:
        InputError: the model is not a classification model.
    """
    names = {ours: theirs for theirs, ours in _OFFICIAL_CLASSIFICATION.items()}
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        theirs = name.removeprefix("backbone.") if name.startswith("backbone.") else translate(name, names)
        if theirs is None:
            raise InputError(f"timm has classification networks only, and {name} is not of one; choose another model.")
        state[theirs] = value
    return state


# mmpretrain: the neck may be the first of a list.
_MMPRETRAIN_NECK: Names = {
    **_within("increase_layers.*.0", "widen.*", _RESIDUAL_BLOCK),
    "downsample_layers.*.conv.*": "halve.*.0.*",
    "downsample_layers.*.bn.*": "halve.*.1.*",
    "final_layer.conv.*": "expand.0.*",
    "final_layer.bn.*": "expand.1.*",
}
_MMPRETRAIN: Names = {
    **_within("neck", "head", _MMPRETRAIN_NECK),
    **_within("neck.0", "head", _MMPRETRAIN_NECK),
    "head.fc.*": "head.classifier.*",
}


def _pixel_head(theirs: str, ours: str = "head") -> Names:
    """Return the names of a head on the concatenated maps, which others number: convolution, norm, ReLU, convolution."""
    return _within(theirs, ours, {"0.*": "project.*", "1.*": "norm.*", "3.*": "classify.*"})


def _mmseg_head(theirs: str, ours: str = "head") -> Names:
    return _within(theirs, ours, {"convs.0.conv.*": "project.*", "convs.0.bn.*": "norm.*", "conv_seg.*": "classify.*"})


def _ocr_layer(theirs: str, ours: str, conv: str = "conv", norm: str = "bn") -> Names:
    return _within(theirs, f"head.{ours}", {f"{conv}.*": "conv.*", f"{norm}.*": "norm.*"})


# HRNet-Semantic-Segmentation with OCR. The released norms are wrapped together with a placeholder of their activation.
_BLOCK = "ocr_distri_head.object_context_block"
_OFFICIAL_OCR: Names = {
    **_pixel_head("aux_head", "head.auxiliary"),
    **_ocr_layer("conv3x3_ocr", "features", "0", "1"),
    **_ocr_layer(f"{_BLOCK}.f_pixel", "query.reduce", "0", "1.0"),
    **_ocr_layer(f"{_BLOCK}.f_pixel", "query.refine", "2", "3.0"),
    **_ocr_layer(f"{_BLOCK}.f_object", "key.reduce", "0", "1.0"),
    **_ocr_layer(f"{_BLOCK}.f_object", "key.refine", "2", "3.0"),
    **_ocr_layer(f"{_BLOCK}.f_down", "value", "0", "1.0"),
    **_ocr_layer(f"{_BLOCK}.f_up", "expand", "0", "1.0"),
    **_ocr_layer("ocr_distri_head.conv_bn_dropout", "merge", "0", "1.0"),
    "cls_head.*": "head.classify.*",
}
_MMSEG_BLOCK = "decode_head.1.object_context_block"
_MMSEG_OCR: Names = {
    **_mmseg_head("decode_head.0", "head.auxiliary"),
    **_ocr_layer("decode_head.1.bottleneck", "features"),
    **_ocr_layer(f"{_MMSEG_BLOCK}.query_project.0", "query.reduce"),
    **_ocr_layer(f"{_MMSEG_BLOCK}.query_project.1", "query.refine"),
    **_ocr_layer(f"{_MMSEG_BLOCK}.key_project.0", "key.reduce"),
    **_ocr_layer(f"{_MMSEG_BLOCK}.key_project.1", "key.refine"),
    **_ocr_layer(f"{_MMSEG_BLOCK}.value_project", "value"),
    **_ocr_layer(f"{_MMSEG_BLOCK}.out_project", "expand"),
    **_ocr_layer(f"{_MMSEG_BLOCK}.bottleneck", "merge"),
    "decode_head.1.conv_seg.*": "head.classify.*",
}

# mmdetection from version 2 on.
_MMDET_PYRAMID: Names = {
    "neck.reduction_conv.conv.*": "detector.pyramid.reduce.*",
    "neck.fpn_convs.*.conv.*": "detector.pyramid.levels.*.*",
}
_MMDET_FCOS: Names = {
    **_MMDET_PYRAMID,
    "bbox_head.cls_convs.*.conv.*": "detector.class_tower.*.0.*",
    "bbox_head.cls_convs.*.gn.*": "detector.class_tower.*.1.*",
    "bbox_head.reg_convs.*.conv.*": "detector.box_tower.*.0.*",
    "bbox_head.reg_convs.*.gn.*": "detector.box_tower.*.1.*",
    "bbox_head.conv_cls.*": "detector.classify.*",
    "bbox_head.conv_reg.*": "detector.regress.*",
    "bbox_head.conv_centerness.*": "detector.center.*",
    "bbox_head.scales.*.scale": "detector.scales.*",
}
# HRNet-Object-Detection, HRNet-FCOS and HRNet-MaskRCNN-Benchmark: the same neck, under three names.
_FIRST_PYRAMID: Names = {
    f"{neck}.{theirs}": f"detector.pyramid.{ours}"
    for neck in ("neck", "backbone.neck", "backbone.fpn")
    for theirs, ours in (("reduction_conv.0.*", "reduce.*"), ("fpn_conv.*.*", "levels.*.*"))
}


def _region_heads(prefix: str = "") -> Names:
    """Return the names of mmdetection's heads; the one stage of Faster and Mask R-CNN has no number."""
    boxes = {"shared_fcs.*.*": "hidden.*.*", "fc_cls.*": "classify.*", "fc_reg.*": "regress.*"}
    masks = {
        "convs.*.conv.*": "convs.*.*",
        "upsample.*": "upsample.*",
        "conv_logits.*": "logits.*",
        "conv_res.conv.*": "previous.*",
    }
    semantic = {
        "lateral_convs.*.conv.*": "laterals.*.*",
        "convs.*.conv.*": "convs.*.*",
        "conv_embedding.conv.*": "embedding.*",
        "conv_logits.*": "logits.*",
    }
    return {
        "rpn_head.rpn_conv.*": "detector.rpn.conv.*",
        "rpn_head.rpn_cls.*": "detector.rpn.classify.*",
        "rpn_head.rpn_reg.*": "detector.rpn.regress.*",
        **_within(f"{prefix}bbox_head", "detector.box_heads.0", boxes),
        **_within(f"{prefix}bbox_head.*", "detector.box_heads.*", boxes),
        **_within(f"{prefix}mask_head", "detector.mask_heads.stages.0", masks),
        **_within(f"{prefix}mask_head.*", "detector.mask_heads.stages.*", masks),
        **_within(f"{prefix}semantic_head", "detector.semantic_head", semantic),
    }


# maskrcnn-benchmark, and FCOS, which was built upon it: a tower is a list of convolution, group norm and ReLU in turn.
_BENCHMARK_RCNN: Names = {
    **_FIRST_PYRAMID,
    "rpn.head.conv.*": "detector.rpn.conv.*",
    "rpn.head.cls_logits.*": "detector.rpn.classify.*",
    "rpn.head.bbox_pred.*": "detector.rpn.regress.*",
    "roi_heads.box.feature_extractor.fc6.*": "detector.box_heads.0.hidden.0.*",
    "roi_heads.box.feature_extractor.fc7.*": "detector.box_heads.0.hidden.1.*",
    "roi_heads.box.predictor.cls_score.*": "detector.box_heads.0.classify.*",
    "roi_heads.box.predictor.bbox_pred.*": "detector.box_heads.0.regress.*",
    **{
        f"roi_heads.mask.feature_extractor.mask_fcn{number + 1}.*": f"detector.mask_heads.stages.0.convs.{number}.*"
        for number in range(4)
    },
    "roi_heads.mask.predictor.conv5_mask.*": "detector.mask_heads.stages.0.upsample.*",
    "roi_heads.mask.predictor.mask_fcn_logits.*": "detector.mask_heads.stages.0.logits.*",
}
_BENCHMARK_FCOS: Names = {
    **_FIRST_PYRAMID,
    **{
        f"rpn.head.{theirs}_tower.{3 * layer + part}.*": f"detector.{ours}_tower.{layer}.{part}.*"
        for theirs, ours in (("cls", "class"), ("bbox", "box"))
        for layer in range(8)
        for part in range(2)
    },
    "rpn.head.cls_logits.*": "detector.classify.*",
    "rpn.head.bbox_pred.*": "detector.regress.*",
    "rpn.head.centerness.*": "detector.center.*",
    "rpn.head.scales.*.scale": "detector.scales.*",
}


# ---- the networks


@dataclass(frozen=True, slots=True)
class Origin:
    """One kind of network as one code base writes it.

    Attributes:
        name: name for messages.
        sign: name of the tensor that tells it from all others.
        names: names of the head's tensors.
        spec: function that returns the network as data.
        complete: function that adds or changes weights where the other code base computes differently.
        note: parts that `complete` drops, for messages.
    """

    name: str
    sign: str
    names: Names
    spec: Callable[[State], ModelSpec]
    complete: Callable[[State], State] = dict
    note: str = ""


def _activated_norms(state: State) -> State:
    """Return the state with the scales of InPlaceABN, |weight| + 1e-5, which all networks of the PyTorch 0.4 era used."""
    norms = {name.removesuffix("running_var") for name in state if name.endswith(".running_var")}
    return {
        name: value.abs() + 1e-5 if name.endswith(".weight") and name.removesuffix("weight") in norms else value
        for name, value in state.items()
    }


def _from_blue_first(state: State) -> State:
    """Return the state for RGB images. Source: mmdetection's settings of FCOS over HRNet keep OpenCV's BGR."""
    return state | {"backbone.conv1.weight": state["backbone.conv1.weight"].flip(1)}


def _zero_biases(state: State, layers: Sequence[str]) -> State:
    """Add biases of zero to convolutions before a batch norm, which have none in mmseg and one as published."""
    return {f"{layer}.bias": torch.zeros(state[f"{layer}.weight"].shape[0]) for layer in layers} | state


def _background_last(state: State) -> State:
    """Move the background from the first class, as before mmdetection 2, to the last, which has no box and no mask."""
    changed = dict(state)
    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        if layer.startswith("detector.box_heads.") and layer.endswith(".classify"):
            changed[name] = value.roll(-1, 0)
            boxes = f"{layer.removesuffix('classify')}regress.{kind}"
            # A class-agnostic stage has four rows.
            if state[boxes].shape[0] == 4 * value.shape[0]:
                changed[boxes] = state[boxes][4:]
        elif layer.startswith("detector.mask_heads.stages.") and layer.endswith(".logits"):
            changed[name] = value[1:]
    return changed


# Source: the settings of HRNet-Object-Detection and of HRNet-MaskRCNN-Benchmark: 2000 and 1000 proposals in inference.
_first_rcnn = partial(shapes.rcnn, legacy=True, train_proposals=(2000, 2000), test_proposals=(2000, 2000))
_benchmark_rcnn = partial(shapes.rcnn, legacy=True, train_proposals=(2000, 2000), test_proposals=(1000, 1000))
_mmpose, _mmpose_v2 = partial(shapes.pose, per_axis=True), partial(shapes.v2_pose, codec=CodecSpec(per_axis=True))
_official_ocr = partial(shapes.segmentation, align_corners=True)
_zero_bias = partial(_zero_biases, layers=("head.project",))
_zero_ocr_biases = partial(_zero_biases, layers=("head.auxiliary.project", "head.features.conv"))
_BACKGROUND = "the box and the mask of the background class"
_OLD = "of PyTorch 0.4 (InPlaceABN)"

# The first whose sign is there; where one sign implies another, the narrower one stands first.
ORIGINS = (
    Origin(
        "a classification network", "incre_modules.0.0.conv1.weight", _OFFICIAL_CLASSIFICATION, shapes.classification
    ),
    Origin("an mmpretrain classification network", "head.fc.weight", _MMPRETRAIN, shapes.classification),
    Origin("a pose network", "final_layer.weight", {"final_layer.*": "head.*"}, shapes.pose),
    Origin(
        "an mmpose face or hand network",
        "head.conv_layers.0.weight",
        _within(
            "head", "head", {"conv_layers.0.*": "project.*", "conv_layers.1.*": "norm.*", "final_layer.*": "classify.*"}
        ),
        _mmpose_v2,
    ),
    Origin(
        "an mmpose 0.x face or hand network",
        "keypoint_head.final_layer.3.weight",
        _pixel_head("keypoint_head.final_layer"),
        _mmpose_v2,
    ),
    Origin("an mmpose network", "head.final_layer.weight", {"head.final_layer.*": "head.*"}, _mmpose),
    Origin(
        "an mmpose 0.x network", "keypoint_head.final_layer.weight", {"keypoint_head.final_layer.*": "head.*"}, _mmpose
    ),
    Origin("a face network", "head.3.weight", _pixel_head("head"), shapes.face),
    Origin(
        "a segmentation network",
        "last_layer.1.num_batches_tracked",
        _pixel_head("last_layer"),
        shapes.official_segmentation,
    ),
    Origin(
        f"a segmentation network {_OLD}",
        "last_layer.3.weight",
        _pixel_head("last_layer"),
        shapes.activated_segmentation,
        _activated_norms,
    ),
    Origin("a segmentation network with OCR", "aux_head.1.num_batches_tracked", _OFFICIAL_OCR, _official_ocr),
    Origin(
        f"a segmentation network with OCR {_OLD}", "cls_head.weight", _OFFICIAL_OCR, _official_ocr, _activated_norms
    ),
    Origin(
        "an mmseg network with OCR", "decode_head.1.conv_seg.weight", _MMSEG_OCR, shapes.segmentation, _zero_ocr_biases
    ),
    Origin("an mmdetection FCOS", "bbox_head.conv_centerness.weight", _MMDET_FCOS, shapes.fcos, _from_blue_first),
    Origin("an FCOS of HRNet-FCOS", "rpn.head.centerness.weight", _BENCHMARK_FCOS, shapes.benchmark_fcos),
    Origin(
        "an R-CNN of HRNet-MaskRCNN-Benchmark",
        "rpn.head.cls_logits.weight",
        _BENCHMARK_RCNN,
        _benchmark_rcnn,
        _background_last,
        _BACKGROUND,
    ),
    Origin(
        "an R-CNN of HRNet-Object-Detection",
        "neck.fpn_conv.0.weight",
        {**_FIRST_PYRAMID, **_region_heads()},
        _first_rcnn,
        _background_last,
        _BACKGROUND,
    ),
    Origin(
        "an mmdetection R-CNN", "rpn_head.rpn_cls.weight", {**_MMDET_PYRAMID, **_region_heads("roi_head.")}, shapes.rcnn
    ),
    Origin(
        "an mmseg network",
        "decode_head.convs.0.conv.weight",
        _mmseg_head("decode_head"),
        shapes.segmentation,
        _zero_bias,
    ),
)
