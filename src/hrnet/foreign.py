"""Published checkpoints of every origin: a file of weights -> (ModelSpec, state), recognised by names and shapes alone.

Nothing is taken from the file but tensors: the width, the blocks and the classes are read off the shapes, whatever they
are. What names and shapes cannot tell is assumed as published, and is a field of the spec that the caller may replace:

* the size of the input, and the sigma of the heatmaps;
* whether a pose network was trained for DARK or UDP (the classic codec is assumed), and which keypoints are left and
  right partners where the set is not one that we know by its number (17 COCO, 16 MPII): without pairs, averaging with
  the mirror image is wrong;
* `align_corners` of an official segmentation network: True with object context (OCR); else False as in Cityscapes, LIP
  and PASCAL-Context, True where there are 150 (ADE20K) or 171 (COCO-Stuff) classes, unless it is so old that no network
  had it;
* `norm_momentum`, which only further training asks for: 0.01 where the file says so (face, and segmentation of the
  PyTorch 0.4 era), else 0.1; and the dropout of OCR;
* the meaning of the classes: 19 of a segmentation network are taken for Cityscapes, 20 for LIP with its left and right
  limbs, 1000 of a classification network for ImageNet, 80 of a detector for COCO;
* of a detector: anchors, ranges, overlaps, how results are chosen, and that FCOS saw pictures with blue first.

Source of all names: FACTS of this project (section B), read from the repositories that are named at each table.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hrnet.atomic import read_tensors
from hrnet.backbone import HRNet
from hrnet.checkpoint import check_state
from hrnet.classification.spec import ClassificationSpec
from hrnet.detection import spec as detection
from hrnet.detection.spec import DetectionSpec, RCNNSpec
from hrnet.errors import InputError
from hrnet.pose.skeletons import COCO, MPII, Skeleton
from hrnet.pose.spec import CodecSpec, PoseSpec
from hrnet.segmentation.spec import CITYSCAPES, ContextSpec, SegmentationSpec
from hrnet.spec import HRNetSpec, StageSpec, Upsample
from hrnet.tasks import ModelSpec, build_model

State = dict[str, Tensor]

# The one tensor that every HRNet has, and once: it makes the second branch. What stands before its name is a wrapper.
_ANCHOR = "transition1.1.0.0.weight"
_BACKBONE = re.compile(r"(?:backbone\.)?((?:conv[12]|bn[12]|layer1|transition[123]|stage[234])\..+)")

# Source: the settings of the published data sets (FACTS D3), by their number of classes.
_SEGMENTATION_SIZES = {
    19: (1024, 2048),
    20: (473, 473),
    59: (520, 520),
    60: (520, 520),
    150: (520, 520),
    171: (520, 520),
}
_ALIGNED_CLASSES = (150, 171)
# Source: LIP's label list.
_LIP = (
    "background", "hat", "hair", "glove", "sunglasses", "upper clothes", "dress", "coat", "socks", "trousers",
    "jumpsuit", "scarf", "skirt", "face", "left arm", "right arm", "left leg", "right leg", "left shoe", "right shoe",
)  # fmt: skip
_LIP_PAIRS = ((14, 15), (16, 17), (18, 19))


@dataclass(frozen=True, slots=True)
class _Origin:
    """One code base's way of writing one kind of network.

    Attributes:
        name: for messages.
        sign: the tensor that tells it from all others.
        names: regular expressions of whole names of the head, and the names here; the backbone's need no table.
        spec: the network as data.
        complete: adds, or changes, what the other code base computes otherwise.
    """

    name: str
    sign: str
    names: tuple[tuple[str, str], ...]
    spec: Callable[[State], ModelSpec]
    complete: Callable[[State], State] = dict


def read_foreign(path: Path) -> tuple[ModelSpec, State]:
    """The model of a published checkpoint, and weights that fit it exactly.

    Raises:
        InputError: the file is missing, damaged, holds more than weights, or no network that this version knows.
    """
    return recognise(read_weights(path), str(path))


def recognise(state: Mapping[str, Tensor], source: str = "This state dict") -> tuple[ModelSpec, State]:
    """As `read_foreign`, of weights that are read already.

    Args:
        state: as the other code base names it, with or without ``module.``, ``model.`` and the like.
        source: where it comes from, for messages.
    """
    bare = _unwrap_names(state, source)
    for kind, sign in _REFUSED:
        if any(sign.match(name) for name in bare):
            raise InputError(
                f"{source} is {kind}, which this version cannot load; take a pose, face, classification, "
                "segmentation or mmdetection network."
            )
    origin = next((origin for origin in _ORIGINS if origin.sign in bare), None)
    if origin is None:
        raise InputError(
            f"{source} holds an HRNet backbone, but no head of a published pose, face, classification, segmentation or "
            "detection network; start a training from it with --init, or name the checkpoint of a whole network."
        )
    try:
        renamed = origin.complete(_rename(bare, origin))
        renamed = _with_counters(renamed)
        spec = origin.spec(renamed)
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(
            f"{source} looks like {origin.name}, but is not complete or not an HRNet ({error}); get the file again."
        ) from None
    with torch.device("meta"):
        expected = build_model(spec).state_dict()
    check_state(expected, renamed, source)
    return spec, {name: _native(renamed[name], expected[name]) for name in expected}


def read_backbone(path: Path) -> tuple[HRNetSpec, State]:
    """Only the backbone, of any file that has one, as weights to start from: ImageNet's pose networks, detectors, OCR.

    Fusion is given as ``nearest``; which upsampling the weights were trained with is not in the file.

    Raises:
        InputError: as `read_foreign`; here a head does not matter.
    """
    bare = _unwrap_names(read_weights(path), str(path))
    matches = {name: _BACKBONE.fullmatch(name.removeprefix("backbone.body.")) for name in bare}
    state = {f"backbone.{match[1]}": bare[name] for name, match in matches.items() if match}
    state = _with_counters({name: value for name, value in state.items() if not name.endswith(".eps")})
    try:
        spec = _backbone(state)
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(f"{path} holds no complete HRNet backbone ({error}); get the file again.") from None
    with torch.device("meta"):
        expected = HRNet(spec).state_dict()
    bare = {name.removeprefix("backbone."): value for name, value in state.items()}
    check_state(expected, bare, str(path))
    return spec, {name: _native(bare[name], expected[name]) for name in expected}


# ---- reading


def read_weights(path: Path) -> State:
    """All tensors of a file (.pth, .pt, .tar through torch's restricted reader; .safetensors), out of their envelope.

    Raises:
        InputError: the file is missing, damaged, or holds more than weights.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist or is no file; check the name.")
    if path.suffix == ".safetensors":
        return read_tensors(path)[1]
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's word for a class or function that the file wants to have called.
        if "GLOBAL" in str(error):
            raise InputError(
                f"{path} holds Python objects beside its weights, which are never loaded, since they could run code; "
                "where you trust its origin, save its state dict alone with torch.save(model.state_dict(), ...)."
            ) from None
        raise InputError(f"{path} is no intact checkpoint; get it again.") from None
    except Exception as error:
        # A damaged file can make the reader fail in any way: EOFError, RuntimeError, KeyError, UnicodeDecodeError ...
        raise InputError(f"{path} is no intact checkpoint ({type(error).__name__}); get it again.") from None
    state = _open_envelope(content)
    if state is None:
        raise InputError(f"{path} holds no weights (a mapping from names to tensors); get the checkpoint of a network.")
    claimed = sum(value.numel() * value.element_size() for value in state.values())
    if claimed > path.stat().st_size:
        raise InputError(f"{path} claims {claimed} bytes of weights and is smaller than that; get it again.")
    return state


def _open_envelope(content: Any) -> State | None:
    """The innermost mapping of tensors, or None. Training checkpoints put it beside optimizer, epoch and the like."""
    for _ in range(4):
        if not isinstance(content, Mapping):
            return None
        # 'model' is the network's name, a text, in the pose repository and its weights in maskrcnn-benchmark.
        inner = next((content[key] for key in ("state_dict", "model") if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    state = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    plain = all(map(_is_plain, state.values()))
    return state if state and len(state) == len(content) and plain else None


def _is_plain(value: Tensor) -> bool:
    """Real numbers, all of them there: the restricted reader also makes sparse, quantised and empty (meta) tensors."""
    usual = value.layout == torch.strided and value.device.type == "cpu"
    return usual and not (value.is_quantized or value.is_complex())


def _unwrap_names(state: Mapping[str, Tensor], source: str) -> State:
    """Names without what stands before the whole network: module. (DataParallel), model. (loss wrapper) and so on."""
    prefixes = [name.removesuffix(_ANCHOR) for name in state if name == _ANCHOR or name.endswith(f".{_ANCHOR}")]
    if len(prefixes) != 1:
        found = "no HRNet" if not prefixes else f"{len(prefixes)} HRNets"
        raise InputError(f"{source} holds {found} (by the names of its tensors); name the checkpoint of one HRNet.")
    wrapper = re.sub(r"backbone\.(body\.)?$", "", prefixes[0])
    # The weights of the loss stand beside the wrapped network, not inside.
    return {
        name.removeprefix(wrapper): value
        for name, value in state.items()
        if not re.fullmatch(r"(module\.)?loss\..+", name)
    }


def _rename(state: State, origin: _Origin) -> State:
    renamed: State = {}
    for name, value in state.items():
        backbone = _BACKBONE.fullmatch(name)
        heads = (re.sub(pattern, ours, name) for pattern, ours in origin.names if re.fullmatch(pattern, name))
        ours = f"backbone.{backbone[1]}" if backbone else next(heads, None)
        if ours is None or ours in renamed:
            raise ValueError(f"{name} has no place in it")
        renamed[ours] = value
    return renamed


def _with_counters(state: State) -> State:
    """Batch counters of zero where a file has none at all: they were added in PyTorch 0.4.1 and serve only training."""
    if any(name.endswith(".num_batches_tracked") for name in state):
        return state
    norms = [name.removesuffix("running_var") for name in state if name.endswith(".running_var")]
    return state | {f"{norm}num_batches_tracked": torch.zeros((), dtype=torch.long) for norm in norms}


def _native(value: Tensor, like: Tensor) -> Tensor:
    return value.detach().to(like.dtype).contiguous()


# ---- what the shapes say


def _backbone(state: State, upsample: Upsample = "nearest", align_corners: bool = False) -> HRNetSpec:
    """The backbone that these names and shapes belong to. Indices are counted, so a wrong one is found as missing."""

    def count(pattern: str) -> int:
        found = (re.match(rf"backbone\.{pattern}", name) for name in state)
        return len({match[1] for match in found if match})

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


def _classification(state: State) -> ClassificationSpec:
    outputs = state["head.classifier.weight"].shape[0]
    return ClassificationSpec(
        class_names=_imagenet_names() if outputs == 1000 else (),
        num_classes=outputs,
        backbone=_backbone(state),
        head_bias="head.expand.0.bias" in state,
    )


def _imagenet_names() -> tuple[str, ...]:
    from torchvision.models import ResNet50_Weights  # takes half a second, and most files need no names

    # In the order of the synsets, as every ImageNet network has them.
    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


def _skeleton(count: int) -> Skeleton:
    known = {len(COCO): COCO, len(MPII): MPII}
    return known.get(count) or Skeleton(tuple(f"keypoint_{number}" for number in range(count)))


def _pose(state: State, *, per_axis: bool = False) -> PoseSpec:
    weight = state["head.weight"]
    skeleton = _skeleton(weight.shape[0])
    return PoseSpec(
        skeleton=skeleton,
        backbone=_backbone(state),
        input_size=(256, 192) if skeleton == COCO else (256, 256),
        codec=CodecSpec(per_axis=per_axis),
        head_kernel=weight.shape[-1],
    )


def _mmpose(state: State) -> PoseSpec:
    return _pose(state, per_axis=True)


def _v2_pose(state: State, codec: CodecSpec) -> PoseSpec:
    weight = state["head.3.weight"]
    return PoseSpec(
        skeleton=_skeleton(weight.shape[0]),
        backbone=_backbone(state, "bilinear"),
        representation="v2",
        input_size=(256, 256),
        codec=codec,
        head_kernel=weight.shape[-1],
    )


def _face(state: State) -> PoseSpec:
    # Source: HRNet-Facial-Landmark-Detection: sigma 1 for the 68 points of 300W, 1.5 for WFLW, COFW and AFLW.
    spec = _v2_pose(state, CodecSpec(heatmap_sigma=1.0 if state["head.3.weight"].shape[0] == 68 else 1.5))
    return replace(spec, backbone=replace(spec.backbone, norm_momentum=0.01))


def _mmpose_v2(state: State) -> PoseSpec:
    return _v2_pose(state, CodecSpec(per_axis=True))


def _segmentation(state: State, align_corners: bool = False) -> SegmentationSpec:
    context = _context(state)
    weight = state["head.classify.weight" if context else "head.3.weight"]
    count = weight.shape[0]
    known = {len(CITYSCAPES): CITYSCAPES, len(_LIP): _LIP}
    return SegmentationSpec(
        class_names=known.get(count) or tuple(f"class_{label}" for label in range(count)),
        pairs=_LIP_PAIRS if count == len(_LIP) else (),
        backbone=_backbone(state, "bilinear", align_corners),
        input_size=_SEGMENTATION_SIZES.get(count, (512, 512)),
        head_kernel=weight.shape[-1],
        squash=count == len(_LIP),
        context=context,
    )


def _context(state: State) -> ContextSpec | None:
    weight = state.get("head.query.0.0.weight")
    return None if weight is None else ContextSpec(channels=weight.shape[1], key_channels=weight.shape[0])


def _official_segmentation(state: State) -> SegmentationSpec:
    return _segmentation(state, align_corners=state["head.3.weight"].shape[0] in _ALIGNED_CLASSES)


def _official_context(state: State) -> SegmentationSpec:
    return _segmentation(state, align_corners=True)


def _activated_segmentation(state: State) -> SegmentationSpec:
    spec = _segmentation(state)
    return replace(spec, backbone=replace(spec.backbone, norm_momentum=0.01))


def _object_names(count: int) -> tuple[str, ...]:
    return detection.COCO if count == len(detection.COCO) else tuple(f"class_{label}" for label in range(count))


def _rcnn(state: State) -> DetectionSpec:
    found = (re.match(r"detector\.boxes\.(\d+)\.", name) for name in state)
    stages = len({match[1] for match in found if match})
    masks = "detector.masks.stages.0.logits.weight" in state
    pixels = state.get("detector.semantic.logits.weight")
    cascades = detection.hybrid_task_cascade() if pixels is not None else detection.cascade_mask_rcnn()
    singles = detection.mask_rcnn() if masks else detection.faster_rcnn()
    known: dict[tuple[int, bool], RCNNSpec] = {
        (1, masks): singles,
        (3, True): cascades,
        (3, False): detection.cascade_rcnn(),
    }
    if (stages, masks) not in known:
        raise ValueError(f"{stages} stages are not 1 or 3")
    classes = state["detector.boxes.0.classify.weight"].shape[0] - 1
    spec = replace(
        known[stages, masks],
        pyramid_width=state["detector.pyramid.reduce.weight"].shape[0],
        head_width=state["detector.boxes.0.hidden.0.weight"].shape[0],
        semantic_classes=0 if pixels is None else pixels.shape[0],
        # Of one class nothing can be told.
        class_agnostic=stages > 1 if classes == 1 else state["detector.boxes.0.measure.weight"].shape[0] == 4,
    )
    return DetectionSpec(class_names=_object_names(classes), detector=spec, backbone=_backbone(state))


def _fcos(state: State) -> DetectionSpec:
    towers = (re.match(r"detector\.class_tower\.(\d+)\.", name) for name in state)
    spec = replace(
        detection.fcos(),
        pyramid_width=state["detector.pyramid.reduce.weight"].shape[0],
        tower_convs=len({match[1] for match in towers if match}),
    )
    classes = state["detector.classify.weight"].shape[0]
    return DetectionSpec(class_names=_object_names(classes), detector=spec, backbone=_backbone(state))


def _activated_norms(state: State) -> State:
    """Source: InPlaceABN, which all networks of the PyTorch 0.4 era used: its scale is |weight| + 1e-5."""
    norms = {name.removesuffix("running_var") for name in state if name.endswith(".running_var")}
    return {
        name: value.abs() + 1e-5 if name.endswith(".weight") and name.removesuffix("weight") in norms else value
        for name, value in state.items()
    }


def _from_blue_first(state: State) -> State:
    """Source: mmdetection's settings of FCOS over HRNet, whose pictures keep OpenCV's order of colours (FACTS D5)."""
    return state | {"backbone.conv1.weight": state["backbone.conv1.weight"].flip(1)}


def _zero_bias(state: State) -> State:
    """The convolution before mmseg's batch norm has no bias, ours has the published one: zero is the same."""
    return state | {"head.0.bias": torch.zeros(state["head.0.weight"].shape[0])}


def _zero_biases(state: State) -> State:
    """As `_zero_bias`, for the two convolutions of mmseg's OCR."""
    layers = ("head.guess.0", "head.features.0")
    return state | {f"{layer}.bias": torch.zeros(state[f"{layer}.weight"].shape[0]) for layer in layers}


# ---- the origins

_RESIDUAL_TAIL = r"((?:conv|bn)\d\..+|downsample\.[01]\..+)"

# HRNet-Image-Classification, and timm, which keeps its names; Paddle's SSLD weights lack the biases.
_OFFICIAL_CLASSIFICATION = (
    (rf"incre_modules\.(\d)\.0\.{_RESIDUAL_TAIL}", r"head.widen.\1.\2"),
    (r"downsamp_modules\.(\d)\.([01]\..+)", r"head.halve.\1.\2"),
    (r"final_layer\.([01]\..+)", r"head.expand.\1"),
    (r"classifier\.(.+)", r"head.classifier.\1"),
)

# mmpretrain: the neck may be the first of a list.
_MMPRETRAIN = (
    (rf"neck\.(?:0\.)?increase_layers\.(\d)\.0\.{_RESIDUAL_TAIL}", r"head.widen.\1.\2"),
    (r"neck\.(?:0\.)?downsample_layers\.(\d)\.conv\.(.+)", r"head.halve.\1.0.\2"),
    (r"neck\.(?:0\.)?downsample_layers\.(\d)\.bn\.(.+)", r"head.halve.\1.1.\2"),
    (r"neck\.(?:0\.)?final_layer\.conv\.(.+)", r"head.expand.0.\1"),
    (r"neck\.(?:0\.)?final_layer\.bn\.(.+)", r"head.expand.1.\1"),
    (r"head\.fc\.(.+)", r"head.classifier.\1"),
)

# deep-high-resolution-net.pytorch; mmpose 1.x and 0.x.
_OFFICIAL_POSE = ((r"final_layer\.(weight|bias)", r"head.\1"),)
_MMPOSE_1 = ((r"head\.final_layer\.(weight|bias)", r"head.\1"),)
_MMPOSE_0 = ((r"keypoint_head\.final_layer\.(weight|bias)", r"head.\1"),)

# HRNet-Facial-Landmark-Detection; mmpose 1.x and 0.x, face and hand.
_OFFICIAL_FACE = ((r"(head\.[013]\..+)", r"\1"),)
_MMPOSE_1_V2 = (
    (r"head\.conv_layers\.([01]\..+)", r"head.\1"),
    (r"head\.final_layer\.(weight|bias)", r"head.3.\1"),
)
_MMPOSE_0_V2 = ((r"keypoint_head\.final_layer\.([013]\..+)", r"head.\1"),)

# HRNet-Semantic-Segmentation, all branches; mmsegmentation.
_OFFICIAL_SEGMENTATION = ((r"last_layer\.([013]\..+)", r"head.\1"),)
_MMSEG = (
    (r"decode_head\.convs\.0\.conv\.(weight)", r"head.0.\1"),
    (r"decode_head\.convs\.0\.bn\.(.+)", r"head.1.\1"),
    (r"decode_head\.conv_seg\.(.+)", r"head.3.\1"),
)

# The same two, with object context. The released norms are wrapped with what stands for their activation.
_BLOCK = r"ocr_distri_head\.object_context_block"
_OFFICIAL_CONTEXT = (
    (r"aux_head\.([013]\..+)", r"head.guess.\1"),
    (r"conv3x3_ocr\.([01]\..+)", r"head.features.\1"),
    *(
        (rf"{_BLOCK}\.{theirs}\.{layer}\.(.+)", rf"head.{ours}.{place}.\1")
        for theirs, ours in (("f_pixel", "query"), ("f_object", "key"))
        for layer, place in (("0", "0.0"), (r"1\.0", "0.1"), ("2", "1.0"), (r"3\.0", "1.1"))
    ),
    *(
        (rf"{theirs}\.{layer}\.(.+)", rf"head.{ours}.{place}.\1")
        for theirs, ours in (
            (rf"{_BLOCK}\.f_down", "value"),
            (rf"{_BLOCK}\.f_up", "expand"),
            (r"ocr_distri_head\.conv_bn_dropout", "merge"),
        )
        for layer, place in (("0", "0"), (r"1\.0", "1"))
    ),
    (r"cls_head\.(.+)", r"head.classify.\1"),
)
_MMSEG_BLOCK = r"decode_head\.1\.object_context_block"
_MMSEG_CONTEXT = (
    (r"decode_head\.0\.convs\.0\.conv\.(weight)", r"head.guess.0.\1"),
    (r"decode_head\.0\.convs\.0\.bn\.(.+)", r"head.guess.1.\1"),
    (r"decode_head\.0\.conv_seg\.(.+)", r"head.guess.3.\1"),
    *(
        (rf"{theirs}\.{layer}\.(.+)", rf"head.{ours}.{place}.\1")
        for theirs, ours in (
            (r"decode_head\.1\.bottleneck", "features"),
            (rf"{_MMSEG_BLOCK}\.query_project\.0", "query.0"),
            (rf"{_MMSEG_BLOCK}\.query_project\.1", "query.1"),
            (rf"{_MMSEG_BLOCK}\.key_project\.0", "key.0"),
            (rf"{_MMSEG_BLOCK}\.key_project\.1", "key.1"),
            (rf"{_MMSEG_BLOCK}\.value_project", "value"),
            (rf"{_MMSEG_BLOCK}\.out_project", "expand"),
            (rf"{_MMSEG_BLOCK}\.bottleneck", "merge"),
        )
        for layer, place in (("conv", "0"), ("bn", "1"))
    ),
    (r"decode_head\.1\.conv_seg\.(.+)", r"head.classify.\1"),
)

# mmdetection from version 2 on.
_MMDET_PYRAMID = (
    (r"neck\.reduction_conv\.conv\.(.+)", r"detector.pyramid.reduce.\1"),
    (r"neck\.fpn_convs\.(\d)\.conv\.(.+)", r"detector.pyramid.levels.\1.\2"),
)
_MMDET_FCOS = (
    *_MMDET_PYRAMID,
    *(
        (rf"bbox_head\.{theirs}_convs\.(\d)\.{layer}\.(.+)", rf"detector.{ours}_tower.\1.{place}.\2")
        for theirs, ours in (("cls", "class"), ("reg", "box"))
        for layer, place in (("conv", "0"), ("gn", "1"))
    ),
    *(
        (rf"bbox_head\.conv_{theirs}\.(.+)", rf"detector.{ours}.\1")
        for theirs, ours in (("cls", "classify"), ("reg", "measure"), ("centerness", "centre"))
    ),
    (r"bbox_head\.scales\.(\d)\.scale", r"detector.scales.\1"),
)
# The one stage of Faster and Mask R-CNN has no number.
_MMDET_RCNN = (
    *_MMDET_PYRAMID,
    *(
        (rf"rpn_head\.rpn_{theirs}\.(.+)", rf"detector.proposals.{ours}.\1")
        for theirs, ours in (("conv", "conv"), ("cls", "classify"), ("reg", "measure"))
    ),
    *(
        (rf"roi_head\.bbox_head\.{number}{theirs}\.(.+)", rf"detector.boxes.{stage}.{ours}.\{place}")
        for number, stage, place in (("", "0", 1), (r"(\d)\.", r"\1", 2))
        for theirs, ours in (
            (r"shared_fcs\.0", "hidden.0"),
            (r"shared_fcs\.1", "hidden.1"),
            ("fc_cls", "classify"),
            ("fc_reg", "measure"),
        )
    ),
    *(
        (rf"roi_head\.mask_head\.{number}{theirs}\.(weight|bias)", rf"detector.masks.stages.{stage}.{ours}.\{place}")
        for number, stage, place in (("", "0", 1), (r"(\d)\.", r"\1", 2))
        for theirs, ours in (
            *((rf"convs\.{index}\.conv", f"convs.{index}") for index in range(4)),
            ("upsample", "upsample"),
            ("conv_logits", "logits"),
            (r"conv_res\.conv", "previous"),
        )
    ),
    *(
        (rf"roi_head\.semantic_head\.{theirs}\.(weight|bias)", rf"detector.semantic.{ours}.\1")
        for theirs, ours in (
            *((rf"lateral_convs\.{index}\.conv", f"laterals.{index}") for index in range(5)),
            *((rf"convs\.{index}\.conv", f"convs.{index}") for index in range(4)),
            (r"conv_embedding\.conv", "embedding"),
            ("conv_logits", "logits"),
        )
    ),
)

_REFUSED = (
    (
        "a detector of an old code base",
        re.compile(r"backbone\.body\.|rpn\.|(backbone\.)?neck\.(reduction_conv\.0|fpn_conv)\.|(roi_heads|mask_head)\."),
    ),
    ("a bottom-up pose network", re.compile(r"(final|deconv)_layers\.|(keypoint_)?head\.(final|deconv)_layers\.")),
)


# The first whose sign is there; where one sign implies another, the narrower one stands first.
_ORIGINS = (
    _Origin("a classification network", "classifier.weight", _OFFICIAL_CLASSIFICATION, _classification),
    _Origin("an mmpretrain classification network", "head.fc.weight", _MMPRETRAIN, _classification),
    _Origin("a pose network", "final_layer.weight", _OFFICIAL_POSE, _pose),
    _Origin("an mmpose face or hand network", "head.conv_layers.0.weight", _MMPOSE_1_V2, _mmpose_v2),
    _Origin("an mmpose 0.x face or hand network", "keypoint_head.final_layer.3.weight", _MMPOSE_0_V2, _mmpose_v2),
    _Origin("an mmpose network", "head.final_layer.weight", _MMPOSE_1, _mmpose),
    _Origin("an mmpose 0.x network", "keypoint_head.final_layer.weight", _MMPOSE_0, _mmpose),
    _Origin("a face network", "head.3.weight", _OFFICIAL_FACE, _face),
    _Origin(
        "a segmentation network",
        "last_layer.1.num_batches_tracked",
        _OFFICIAL_SEGMENTATION,
        _official_segmentation,
    ),
    _Origin(
        "a segmentation network of PyTorch 0.4 (InPlaceABN)",
        "last_layer.3.weight",
        _OFFICIAL_SEGMENTATION,
        _activated_segmentation,
        complete=_activated_norms,
    ),
    _Origin("a segmentation network with OCR", "cls_head.weight", _OFFICIAL_CONTEXT, _official_context),
    _Origin("an mmseg network with OCR", "decode_head.1.conv_seg.weight", _MMSEG_CONTEXT, _segmentation, _zero_biases),
    _Origin("an mmdetection FCOS", "bbox_head.conv_centerness.weight", _MMDET_FCOS, _fcos, _from_blue_first),
    _Origin("an mmdetection R-CNN", "rpn_head.rpn_cls.weight", _MMDET_RCNN, _rcnn),
    _Origin("an mmseg network", "decode_head.convs.0.conv.weight", _MMSEG, _segmentation, complete=_zero_bias),
)
