"""Tables of the names that each code base gives the layers of a head: regular expressions of whole names, and ours.

The backbone's names are the same everywhere and need no table. Source: the files published by the repositories that each
table names.
"""

from __future__ import annotations

Names = tuple[tuple[str, str], ...]


_RESIDUAL_TAIL = r"((?:conv|bn)\d\..+|downsample\.[01]\..+)"

# HRNet-Image-Classification, and timm, which keeps its names; Paddle's SSLD weights lack the biases.
OFFICIAL_CLASSIFICATION: Names = (
    (rf"incre_modules\.(\d)\.0\.{_RESIDUAL_TAIL}", r"head.widen.\1.\2"),
    (r"downsamp_modules\.(\d)\.([01]\..+)", r"head.halve.\1.\2"),
    (r"final_layer\.([01]\..+)", r"head.expand.\1"),
    (r"classifier\.(.+)", r"head.classifier.\1"),
)

# mmpretrain: the neck may be the first of a list.
MMPRETRAIN: Names = (
    (rf"neck\.(?:0\.)?increase_layers\.(\d)\.0\.{_RESIDUAL_TAIL}", r"head.widen.\1.\2"),
    (r"neck\.(?:0\.)?downsample_layers\.(\d)\.conv\.(.+)", r"head.halve.\1.0.\2"),
    (r"neck\.(?:0\.)?downsample_layers\.(\d)\.bn\.(.+)", r"head.halve.\1.1.\2"),
    (r"neck\.(?:0\.)?final_layer\.conv\.(.+)", r"head.expand.0.\1"),
    (r"neck\.(?:0\.)?final_layer\.bn\.(.+)", r"head.expand.1.\1"),
    (r"head\.fc\.(.+)", r"head.classifier.\1"),
)

# deep-high-resolution-net.pytorch; mmpose 1.x and 0.x.
OFFICIAL_POSE: Names = ((r"final_layer\.(weight|bias)", r"head.\1"),)
MMPOSE_1: Names = ((r"head\.final_layer\.(weight|bias)", r"head.\1"),)
MMPOSE_0: Names = ((r"keypoint_head\.final_layer\.(weight|bias)", r"head.\1"),)


def _pixel_head(prefix: str, ours: str = "head") -> Names:
    """Return the names of a head on the concatenated maps, which others number: convolution, norm, ReLU, convolution.

    Args:
        prefix: expression of the layers' common prefix.
        ours: name of the head here.
    """
    layers = (("0", "project"), ("1", "norm"), ("3", "classify"))
    return tuple((rf"{prefix}\.{number}\.(.+)", rf"{ours}.{layer}.\1") for number, layer in layers)


# HRNet-Facial-Landmark-Detection; mmpose 1.x and 0.x, face and hand.
OFFICIAL_FACE: Names = _pixel_head("head")
MMPOSE_1_V2: Names = (
    *_pixel_head(r"head\.conv_layers")[:2],
    (r"head\.final_layer\.(weight|bias)", r"head.classify.\1"),
)
MMPOSE_0_V2: Names = _pixel_head(r"keypoint_head\.final_layer")


def _mmseg_head(prefix: str, ours: str = "head") -> Names:
    return (
        (rf"{prefix}\.convs\.0\.conv\.(weight)", rf"{ours}.project.\1"),
        (rf"{prefix}\.convs\.0\.bn\.(.+)", rf"{ours}.norm.\1"),
        (rf"{prefix}\.conv_seg\.(.+)", rf"{ours}.classify.\1"),
    )


# HRNet-Semantic-Segmentation, all branches; mmsegmentation.
OFFICIAL_SEGMENTATION: Names = _pixel_head("last_layer")
MMSEG: Names = _mmseg_head("decode_head")

# The same two, with OCR. The released norms are wrapped together with a placeholder of their activation.
_BLOCK = r"ocr_distri_head\.object_context_block"
OFFICIAL_OCR: Names = (
    *_pixel_head("aux_head", "head.auxiliary"),
    (r"conv3x3_ocr\.0\.(.+)", r"head.features.conv.\1"),
    (r"conv3x3_ocr\.1\.(.+)", r"head.features.norm.\1"),
    *(
        (rf"{_BLOCK}\.{theirs}\.{layer}\.(.+)", rf"head.{ours}.{place}.\1")
        for theirs, ours in (("f_pixel", "query"), ("f_object", "key"))
        for layer, place in (
            ("0", "reduce.conv"),
            (r"1\.0", "reduce.norm"),
            ("2", "refine.conv"),
            (r"3\.0", "refine.norm"),
        )
    ),
    *(
        (rf"{theirs}\.{layer}\.(.+)", rf"head.{ours}.{place}.\1")
        for theirs, ours in (
            (rf"{_BLOCK}\.f_down", "value"),
            (rf"{_BLOCK}\.f_up", "expand"),
            (r"ocr_distri_head\.conv_bn_dropout", "merge"),
        )
        for layer, place in (("0", "conv"), (r"1\.0", "norm"))
    ),
    (r"cls_head\.(.+)", r"head.classify.\1"),
)
_MMSEG_BLOCK = r"decode_head\.1\.object_context_block"
MMSEG_OCR: Names = (
    *_mmseg_head(r"decode_head\.0", "head.auxiliary"),
    *(
        (rf"{theirs}\.{layer}\.(.+)", rf"head.{ours}.{place}.\1")
        for theirs, ours in (
            (r"decode_head\.1\.bottleneck", "features"),
            (rf"{_MMSEG_BLOCK}\.query_project\.0", "query.reduce"),
            (rf"{_MMSEG_BLOCK}\.query_project\.1", "query.refine"),
            (rf"{_MMSEG_BLOCK}\.key_project\.0", "key.reduce"),
            (rf"{_MMSEG_BLOCK}\.key_project\.1", "key.refine"),
            (rf"{_MMSEG_BLOCK}\.value_project", "value"),
            (rf"{_MMSEG_BLOCK}\.out_project", "expand"),
            (rf"{_MMSEG_BLOCK}\.bottleneck", "merge"),
        )
        for layer, place in (("conv", "conv"), ("bn", "norm"))
    ),
    (r"decode_head\.1\.conv_seg\.(.+)", r"head.classify.\1"),
)

# mmdetection from version 2 on.
_MMDET_PYRAMID = (
    (r"neck\.reduction_conv\.conv\.(.+)", r"detector.pyramid.reduce.\1"),
    (r"neck\.fpn_convs\.(\d)\.conv\.(.+)", r"detector.pyramid.levels.\1.\2"),
)
MMDET_FCOS: Names = (
    *_MMDET_PYRAMID,
    *(
        (rf"bbox_head\.{theirs}_convs\.(\d)\.{layer}\.(.+)", rf"detector.{ours}_tower.\1.{place}.\2")
        for theirs, ours in (("cls", "class"), ("reg", "box"))
        for layer, place in (("conv", "0"), ("gn", "1"))
    ),
    *(
        (rf"bbox_head\.conv_{theirs}\.(.+)", rf"detector.{ours}.\1")
        for theirs, ours in (("cls", "classify"), ("reg", "regress"), ("centerness", "center"))
    ),
    (r"bbox_head\.scales\.(\d)\.scale", r"detector.scales.\1"),
)
# HRNet-Object-Detection, HRNet-MaskRCNN-Benchmark and HRNet-FCOS: the same neck, under three names.
_FIRST_PYRAMID = (
    (r"(?:backbone\.)?(?:neck|fpn)\.reduction_conv\.0\.(.+)", r"detector.pyramid.reduce.\1"),
    (r"(?:backbone\.)?(?:neck|fpn)\.fpn_conv\.(\d)\.(.+)", r"detector.pyramid.levels.\1.\2"),
)


def _region_heads(prefix: str) -> Names:
    """Return the names of mmdetection's heads; the one stage of Faster and Mask R-CNN has no number.

    Args:
        prefix: expression of the prefix of the region heads.
    """
    proposals = (
        (rf"rpn_head\.rpn_{theirs}\.(.+)", rf"detector.rpn.{ours}.\1")
        for theirs, ours in (("conv", "conv"), ("cls", "classify"), ("reg", "regress"))
    )
    boxes = (
        (rf"{prefix}bbox_head\.{number}{theirs}\.(.+)", rf"detector.box_heads.{stage}.{ours}.\{place}")
        for number, stage, place in (("", "0", 1), (r"(\d)\.", r"\1", 2))
        for theirs, ours in (
            (r"shared_fcs\.0", "hidden.0"),
            (r"shared_fcs\.1", "hidden.1"),
            ("fc_cls", "classify"),
            ("fc_reg", "regress"),
        )
    )
    masks = (
        (rf"{prefix}mask_head\.{number}{theirs}\.(weight|bias)", rf"detector.mask_heads.stages.{stage}.{ours}.\{place}")
        for number, stage, place in (("", "0", 1), (r"(\d)\.", r"\1", 2))
        for theirs, ours in (
            *((rf"convs\.{index}\.conv", f"convs.{index}") for index in range(4)),
            ("upsample", "upsample"),
            ("conv_logits", "logits"),
            (r"conv_res\.conv", "previous"),
        )
    )
    semantic = (
        (rf"{prefix}semantic_head\.{theirs}\.(weight|bias)", rf"detector.semantic_head.{ours}.\1")
        for theirs, ours in (
            *((rf"lateral_convs\.{index}\.conv", f"laterals.{index}") for index in range(5)),
            *((rf"convs\.{index}\.conv", f"convs.{index}") for index in range(4)),
            (r"conv_embedding\.conv", "embedding"),
            ("conv_logits", "logits"),
        )
    )
    return (*proposals, *boxes, *masks, *semantic)


MMDET_RCNN: Names = (*_MMDET_PYRAMID, *_region_heads(r"roi_head\."))
FIRST_RCNN: Names = (*_FIRST_PYRAMID, *_region_heads(""))

# maskrcnn-benchmark, and FCOS, which was built upon it: a tower is a list of convolution, group norm and ReLU in turn.
BENCHMARK_RCNN: Names = (
    *_FIRST_PYRAMID,
    *(
        (rf"rpn\.head\.{theirs}\.(.+)", rf"detector.rpn.{ours}.\1")
        for theirs, ours in (("conv", "conv"), ("cls_logits", "classify"), ("bbox_pred", "regress"))
    ),
    *(
        (rf"roi_heads\.box\.{theirs}\.(.+)", rf"detector.box_heads.0.{ours}.\1")
        for theirs, ours in (
            (r"feature_extractor\.fc6", "hidden.0"),
            (r"feature_extractor\.fc7", "hidden.1"),
            (r"predictor\.cls_score", "classify"),
            (r"predictor\.bbox_pred", "regress"),
        )
    ),
    *(
        (rf"roi_heads\.mask\.{theirs}\.(.+)", rf"detector.mask_heads.stages.0.{ours}.\1")
        for theirs, ours in (
            *((rf"feature_extractor\.mask_fcn{index + 1}", f"convs.{index}") for index in range(4)),
            (r"predictor\.conv5_mask", "upsample"),
            (r"predictor\.mask_fcn_logits", "logits"),
        )
    ),
)
BENCHMARK_FCOS: Names = (
    *_FIRST_PYRAMID,
    *(
        (rf"rpn\.head\.{theirs}_tower\.{3 * layer + part}\.(.+)", rf"detector.{ours}_tower.{layer}.{part}.\1")
        for theirs, ours in (("cls", "class"), ("bbox", "box"))
        for layer in range(8)
        for part in range(2)
    ),
    *(
        (rf"rpn\.head\.{theirs}\.(.+)", rf"detector.{ours}.\1")
        for theirs, ours in (("cls_logits", "classify"), ("bbox_pred", "regress"), ("centerness", "center"))
    ),
    (r"rpn\.head\.scales\.(\d)\.scale", r"detector.scales.\1"),
)
