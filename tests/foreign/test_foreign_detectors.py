"""Small detectors, written the way other code writes them (mmdetection 1 to 3, and maskrcnn-benchmark), must come back
as they were. Of the code before mmdetection 2 no published file was at hand: this checks names, shapes and the order of
classes; how regions are read is checked against closed forms."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hrnet.detection import spec as detection
from hrnet.detection.regions import pool_regions
from hrnet.detection.rpn import level_anchors
from hrnet.detection.spec import DetectionSpec, DetectorSpec, FCOSSpec, RCNNSpec
from hrnet.errors import InputError
from hrnet.foreign import read_foreign, recognize
from hrnet.io.checkpoint import load_state
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.tasks import create_model

State = dict[str, Tensor]

STAGES = (StageSpec((4, 6), 1, 1), StageSpec((4, 6, 8), 1, 2), StageSpec((4, 6, 8, 10), 2, 1))
BACKBONE = HRNetSpec(STAGES, bottlenecks=1, bottleneck_width=4, stem_width=4)
CLASSES = ("class_0", "class_1", "class_2")

HEADS = (
    (r"detector\.pyramid\.reduce\.", "neck.reduction_conv.0."),
    (r"detector\.pyramid\.levels\.", "neck.fpn_conv."),
)
FORK = (
    *HEADS,
    (r"detector\.rpn\.conv\.", "rpn_head.rpn_conv."),
    (r"detector\.rpn\.classify\.", "rpn_head.rpn_cls."),
    (r"detector\.rpn\.regress\.", "rpn_head.rpn_reg."),
    (r"detector\.box_heads\.(\d)\.hidden\.", r"bbox_head.\1.shared_fcs."),
    (r"detector\.box_heads\.(\d)\.classify\.", r"bbox_head.\1.fc_cls."),
    (r"detector\.box_heads\.(\d)\.regress\.", r"bbox_head.\1.fc_reg."),
    (r"detector\.mask_heads\.stages\.(\d)\.convs\.(\d)\.", r"mask_head.\1.convs.\2.conv."),
    (r"detector\.mask_heads\.stages\.(\d)\.upsample\.", r"mask_head.\1.upsample."),
    (r"detector\.mask_heads\.stages\.(\d)\.logits\.", r"mask_head.\1.conv_logits."),
)
BENCHMARK = (
    (r"detector\.pyramid\.reduce\.", "backbone.neck.reduction_conv.0."),
    (r"detector\.pyramid\.levels\.", "backbone.neck.fpn_conv."),
    (r"detector\.rpn\.conv\.", "rpn.head.conv."),
    (r"detector\.rpn\.classify\.", "rpn.head.cls_logits."),
    (r"detector\.rpn\.regress\.", "rpn.head.bbox_pred."),
    (r"detector\.box_heads\.0\.hidden\.0\.", "roi_heads.box.feature_extractor.fc6."),
    (r"detector\.box_heads\.0\.hidden\.1\.", "roi_heads.box.feature_extractor.fc7."),
    (r"detector\.box_heads\.0\.classify\.", "roi_heads.box.predictor.cls_score."),
    (r"detector\.box_heads\.0\.regress\.", "roi_heads.box.predictor.bbox_pred."),
    *(
        (rf"detector\.mask_heads\.stages\.0\.convs\.{i}\.", f"roi_heads.mask.feature_extractor.mask_fcn{i + 1}.")
        for i in range(4)
    ),
    (r"detector\.mask_heads\.stages\.0\.upsample\.", "roi_heads.mask.predictor.conv5_mask."),
    (r"detector\.mask_heads\.stages\.0\.logits\.", "roi_heads.mask.predictor.mask_fcn_logits."),
    (r"backbone\.", "backbone.body."),
)
MMDET = (
    (r"detector\.pyramid\.reduce\.", "neck.reduction_conv.conv."),
    (r"detector\.pyramid\.levels\.(\d)\.", r"neck.fpn_convs.\1.conv."),
    *((ours, theirs if theirs.startswith("rpn_head") else f"roi_head.{theirs}") for ours, theirs in FORK[len(HEADS) :]),
    (r"detector\.mask_heads\.stages\.(\d)\.previous\.", r"roi_head.mask_head.\1.conv_res.conv."),
    (r"detector\.semantic_head\.laterals\.(\d)\.", r"roi_head.semantic_head.lateral_convs.\1.conv."),
    (r"detector\.semantic_head\.convs\.(\d)\.", r"roi_head.semantic_head.convs.\1.conv."),
    (r"detector\.semantic_head\.embedding\.", "roi_head.semantic_head.conv_embedding.conv."),
    (r"detector\.semantic_head\.logits\.", "roi_head.semantic_head.conv_logits."),
)
MMDET_FCOS = (
    *MMDET[: len(HEADS)],
    *(
        (rf"detector\.{ours}_tower\.(\d)\.{part}\.", rf"bbox_head.{theirs}_convs.\1.{layer}.")
        for ours, theirs in (("class", "cls"), ("box", "reg"))
        for part, layer in enumerate(("conv", "gn"))
    ),
    (r"detector\.classify\.", "bbox_head.conv_cls."),
    (r"detector\.regress\.", "bbox_head.conv_reg."),
    (r"detector\.center\.", "bbox_head.conv_centerness."),
    (r"detector\.scales\.(\d)", r"bbox_head.scales.\1.scale"),
)
TOWERS = (
    (r"detector\.pyramid\.reduce\.", "backbone.fpn.reduction_conv.0."),
    (r"detector\.pyramid\.levels\.", "backbone.fpn.fpn_conv."),
    *(
        (rf"detector\.{ours}_tower\.{layer}\.{part}\.", f"rpn.head.{theirs}_tower.{3 * layer + part}.")
        for ours, theirs in (("class", "cls"), ("box", "bbox"))
        for layer in range(4)
        for part in range(2)
    ),
    (r"detector\.classify\.", "rpn.head.cls_logits."),
    (r"detector\.regress\.", "rpn.head.bbox_pred."),
    (r"detector\.center\.", "rpn.head.centerness."),
    (r"detector\.scales\.(\d)", r"rpn.head.scales.\1.scale"),
    (r"backbone\.", "backbone.body."),
)


def network(detector: DetectorSpec, classes: tuple[str, ...] = CLASSES) -> DetectionSpec:
    return DetectionSpec(class_names=classes, detector=detector, backbone=BACKBONE)


def filled(spec: DetectionSpec) -> State:
    return {
        name: torch.randn(value.shape) if value.is_floating_point() else torch.tensor(7)
        for name, value in create_model(spec).state_dict().items()
    }


def in_their_words(state: State, names: tuple[tuple[str, str], ...]) -> State:
    """The first expression at the start of a name rules."""

    def rename(name: str) -> str:
        found = ((pattern, theirs) for pattern, theirs in names if re.match(pattern, name))
        pattern, theirs = next(found, ("", ""))
        return re.sub(f"^{pattern}", theirs, name, count=1) if pattern else name

    return {rename(name): value for name, value in state.items()}


def background_first(state: State, agnostic: bool) -> State:
    """The rows as they were: the background before the classes, with a box and a mask of its own."""
    changed = dict(state)
    for name, value in state.items():
        if re.match(r"detector\.box_heads\.\d\.classify", name):
            changed[name] = torch.cat([value[-1:], value[:-1]])
        elif re.match(r"detector\.box_heads\.\d\.regress", name) and not agnostic:
            changed[name] = torch.cat([torch.randn_like(value[:4]), value])
        elif re.match(r"detector\.mask_heads\.stages\.\d\.logits", name):
            changed[name] = torch.cat([torch.randn_like(value[:1]), value])
    return changed


def assert_loads(theirs: State, spec: DetectionSpec, state: State, path: Path) -> None:
    torch.save({"model": {f"module.{name}": value for name, value in theirs.items()}, "iteration": 5}, path)
    found_spec, found = read_foreign(path)
    assert found_spec == spec
    torch.testing.assert_close(found, state, rtol=0, atol=0)
    load_state(create_model(found_spec), found, path)


def small(spec: RCNNSpec) -> RCNNSpec:
    limits = (2000, 2000)
    return replace(
        spec, pyramid_width=4, head_width=6, legacy=True, train_proposals=limits, test_proposals=limits
    )  # fmt: skip


@pytest.mark.parametrize("family", ["faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn"])
@pytest.mark.parametrize("classes", [CLASSES, CLASSES[:1]])
def test_fork_of_mmdetection(family: str, classes: tuple[str, ...], tmp_path: Path) -> None:
    spec = network(small(getattr(detection, family)()), classes)
    state = filled(spec)
    assert isinstance(spec.detector, RCNNSpec)
    theirs = in_their_words(background_first(state, spec.detector.class_agnostic), FORK)
    if len(spec.detector.stages) == 1:
        # The one stage has no number.
        theirs = {re.sub(r"^(bbox|mask)_head\.0\.", r"\1_head.", name): value for name, value in theirs.items()}
    assert_loads(theirs, spec, state, tmp_path / "weights.pth")


@pytest.mark.parametrize(
    "family", ["faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn", "hybrid_task_cascade"]
)
def test_mmdetection(family: str, tmp_path: Path) -> None:
    """Of other widths and classes than the published ones, which are in golden/."""
    spec = network(replace(getattr(detection, family)(), pyramid_width=4, head_width=6))
    state = filled(spec)
    theirs = in_their_words(state, MMDET)
    assert isinstance(spec.detector, RCNNSpec)
    if len(spec.detector.stages) == 1:
        theirs = {re.sub(r"(bbox|mask)_head\.0\.", r"\1_head.", name): value for name, value in theirs.items()}
    assert_loads(theirs, spec, state, tmp_path / "weights.pth")


def test_fcos_of_mmdetection(tmp_path: Path) -> None:
    spec = network(replace(detection.fcos(), pyramid_width=32))
    state = filled(spec)
    # Its images have blue first.
    theirs = in_their_words(state, MMDET_FCOS)
    theirs["backbone.conv1.weight"] = theirs["backbone.conv1.weight"].flip(1)
    assert_loads(theirs, spec, state, tmp_path / "weights.pth")


@pytest.mark.parametrize("family", ["faster_rcnn", "mask_rcnn"])
def test_maskrcnn_benchmark(family: str, tmp_path: Path) -> None:
    limits = (1000, 1000)
    spec = network(replace(small(getattr(detection, family)()), test_proposals=limits))
    state = filled(spec)
    theirs = in_their_words(background_first(state, agnostic=False), BENCHMARK)
    # Its frozen norms have a constant more and no counter; the anchors lie beside the weights.
    norms = [name.removesuffix("running_var") for name in theirs if name.endswith("running_var")]
    theirs = {name: value for name, value in theirs.items() if not name.endswith("num_batches_tracked")}
    theirs |= {f"{norm}eps": torch.tensor(1e-5) for norm in norms}
    theirs |= {f"rpn.anchor_generator.cell_anchors.{level}": torch.zeros(3, 4) for level in range(5)}
    expected = {k: torch.tensor(0) if k.endswith("tracked") else v for k, v in state.items()}
    assert_loads(theirs, spec, expected, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="eps is not 1e-05"):
        recognize({**theirs, f"{norms[0]}eps": torch.tensor(1e-3)})


@pytest.mark.parametrize("levels", [5, 6])
def test_fcos_on_maskrcnn_benchmark(levels: int, tmp_path: Path) -> None:
    # Oracle: the published configurations: five levels from stride 8, or six from stride 4, whose ranges start at 32.
    spec = FCOSSpec(pyramid_width=32, nms_iou=0.6)
    if levels == 6:
        ranges = ((-1.0, 32.0), (32.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, 1e8))
        spec = replace(spec, pyramid_stride=1, ranges=ranges)
    state = filled(network(spec))
    assert_loads(in_their_words(state, TOWERS), network(spec), state, tmp_path / "weights.pth")


def test_anchors_of_old_detectors_lie_in_the_middle_of_their_cells() -> None:
    # Oracle: the code before mmdetection 2: boxes count their last pixel, an anchor's center is (stride - 1) / 2,
    # which is stride / 2 between edges.
    new, old = (level_anchors((2, 3), 16, RCNNSpec(legacy=legacy), torch.zeros(())) for legacy in (False, True))
    torch.testing.assert_close(old, new + 8)
    assert old[1].tolist() == [8 - 64, 8 - 64, 8 + 64, 8 + 64]


def test_regions_of_old_detectors_are_read_without_a_shift() -> None:
    # Oracle: closed form. On a ramp, whose value is the column, a cell's mean is the place of its middle; cells of a region
    # from 0 to 28 pixels are one column of stride 4 wide. Float32 rounding of sums of four.
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    region = torch.tensor([[0.0, 16.0, 16.0, 44.0, 44.0]])
    new, old = (pool_regions([ramp], region, 7, legacy) for legacy in (False, True))
    torch.testing.assert_close(new[0, 0, 0], torch.arange(7.0) + 4)
    torch.testing.assert_close(old[0, 0, 0], torch.arange(7.0) + 4.5)
