"""The code bases whose files are read: the tensor that identifies each, and what it computes differently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from hrnet.foreign import names, shapes
from hrnet.foreign.names import Names
from hrnet.foreign.shapes import State
from hrnet.nn.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Origin:
    """One kind of network as one code base writes it.

    Attributes:
        name: name for messages.
        sign: name of the tensor that tells it from all others.
        names: regular expressions of whole names of the head, and the names here; the backbone's need no table.
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


def _zero_bias(state: State) -> State:
    """Add a bias of zero to the convolution before the batch norm, which has none in mmseg and one as published."""
    return state | {"head.project.bias": torch.zeros(state["head.project.weight"].shape[0])}


def _zero_biases(state: State) -> State:
    """Add biases of zero to the two such convolutions of mmseg's OCR."""
    layers = ("head.auxiliary.project", "head.features.conv")
    return state | {f"{layer}.bias": torch.zeros(state[f"{layer}.weight"].shape[0]) for layer in layers}


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


_BACKGROUND = "the box and the mask of the background class"

# The first whose sign is there; where one sign implies another, the narrower one stands first.
ORIGINS = (
    Origin(
        "a classification network",
        "incre_modules.0.0.conv1.weight",
        names.OFFICIAL_CLASSIFICATION,
        shapes.classification,
    ),
    Origin("an mmpretrain classification network", "head.fc.weight", names.MMPRETRAIN, shapes.classification),
    Origin("a pose network", "final_layer.weight", names.OFFICIAL_POSE, shapes.pose),
    Origin("an mmpose face or hand network", "head.conv_layers.0.weight", names.MMPOSE_1_V2, shapes.mmpose_v2),
    Origin(
        "an mmpose 0.x face or hand network", "keypoint_head.final_layer.3.weight", names.MMPOSE_0_V2, shapes.mmpose_v2
    ),
    Origin("an mmpose network", "head.final_layer.weight", names.MMPOSE_1, shapes.mmpose),
    Origin("an mmpose 0.x network", "keypoint_head.final_layer.weight", names.MMPOSE_0, shapes.mmpose),
    Origin("a face network", "head.3.weight", names.OFFICIAL_FACE, shapes.face),
    Origin(
        "a segmentation network",
        "last_layer.1.num_batches_tracked",
        names.OFFICIAL_SEGMENTATION,
        shapes.official_segmentation,
    ),
    Origin(
        "a segmentation network of PyTorch 0.4 (InPlaceABN)",
        "last_layer.3.weight",
        names.OFFICIAL_SEGMENTATION,
        shapes.activated_segmentation,
        complete=_activated_norms,
    ),
    Origin(
        "a segmentation network with OCR",
        "aux_head.1.num_batches_tracked",
        names.OFFICIAL_OCR,
        shapes.official_ocr,
    ),
    Origin(
        "a segmentation network with OCR of PyTorch 0.4 (InPlaceABN)",
        "cls_head.weight",
        names.OFFICIAL_OCR,
        shapes.official_ocr,
        complete=_activated_norms,
    ),
    Origin(
        "an mmseg network with OCR",
        "decode_head.1.conv_seg.weight",
        names.MMSEG_OCR,
        shapes.segmentation,
        complete=_zero_biases,
    ),
    Origin(
        "an mmdetection FCOS",
        "bbox_head.conv_centerness.weight",
        names.MMDET_FCOS,
        shapes.fcos,
        complete=_from_blue_first,
    ),
    Origin("an FCOS of HRNet-FCOS", "rpn.head.centerness.weight", names.BENCHMARK_FCOS, shapes.benchmark_fcos),
    Origin(
        "an R-CNN of HRNet-MaskRCNN-Benchmark",
        "rpn.head.cls_logits.weight",
        names.BENCHMARK_RCNN,
        shapes.benchmark_rcnn,
        complete=_background_last,
        note=_BACKGROUND,
    ),
    Origin(
        "an R-CNN of HRNet-Object-Detection",
        "neck.fpn_conv.0.weight",
        names.FIRST_RCNN,
        shapes.first_rcnn,
        complete=_background_last,
        note=_BACKGROUND,
    ),
    Origin("an mmdetection R-CNN", "rpn_head.rpn_cls.weight", names.MMDET_RCNN, shapes.rcnn),
    Origin(
        "an mmseg network", "decode_head.convs.0.conv.weight", names.MMSEG, shapes.segmentation, complete=_zero_bias
    ),
)
