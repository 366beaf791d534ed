"""Our small networks, written the way each code base writes them (our names turned into theirs),
must come back unchanged. The published networks themselves are in golden/, timm's in test_foreign_timm.py."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import hrnet.io.zoo
from hrnet.classification.spec import ClassificationSpec
from hrnet.cli import main
from hrnet.errors import InputError
from hrnet.foreign import read_backbone, read_foreign, recognize
from hrnet.io.checkpoint import load_state
from hrnet.io.published import published
from hrnet.io.zoo import load
from hrnet.nn.backbone import HRNet
from hrnet.nn.backbone_model import features_only
from hrnet.nn.spec import BackboneSpec, HRNetSpec, ModelSpec, StageSpec
from hrnet.pose.skeletons import COCO, MPII, Skeleton
from hrnet.pose.spec import CodecSpec, PoseSpec
from hrnet.predictor import Predictor
from hrnet.segmentation.spec import OCRSpec, SegmentationSpec
from hrnet.tasks import create_model

State = dict[str, Tensor]

# No published width, and everything that can be inferred differs from the published networks.
STAGES = (StageSpec((4, 10), 3, 2), StageSpec((4, 10, 12), 1, 1), StageSpec((5, 9, 12, 14), 2, 2))
WHOLE = HRNetSpec(STAGES, bottlenecks=2, bottleneck_width=6, in_channels=4, stem_width=7)
V1 = replace(WHOLE, high_resolution_only=True)
SMOOTH = replace(WHOLE, fusion_upsample="bilinear")

THREE = Skeleton(("keypoint_0", "keypoint_1", "keypoint_2"))
CLASSES = ("class_0", "class_1")
POSE = PoseSpec(THREE, V1, input_size=(256, 256))
SLOW_NORMS = replace(SMOOTH, norm_momentum=0.01)
FACE = PoseSpec(THREE, SLOW_NORMS, "v2", (256, 256), CodecSpec(heatmap_sigma=1.5))
MM_FACE = PoseSpec(THREE, SMOOTH, "v2", (256, 256), CodecSpec(per_axis=True))
SEGMENTATION = SegmentationSpec(CLASSES, backbone=SMOOTH, input_size=(512, 512))
OCR = replace(SEGMENTATION, backbone=replace(SMOOTH, align_corners=True), ocr=OCRSpec(channels=11, key_channels=6))
CLASSIFICATION = ClassificationSpec(CLASSES, backbone=WHOLE)


def renamed(*pairs: tuple[str, str]) -> Callable[[str], str]:
    """The first pair whose left side begins the name rules."""

    def rename(name: str) -> str:
        return next((new + name.removeprefix(old) for old, new in pairs if name.startswith(old)), name)

    return rename


def levels(old: str, new: str, count: int, tail: str = "") -> list[tuple[str, str]]:
    return [(f"{old}.{level}.", f"{new}.{level}.{tail}") for level in range(count)]


def pixel_head(theirs: str, ours: str = "head") -> list[tuple[str, str]]:
    layers = (("project", 0), ("norm", 1), ("classify", 3))
    return [(f"{ours}.{layer}.", f"{theirs}.{number}.") for layer, number in layers]


OFFICIAL_CLASSIFICATION = renamed(
    ("backbone.", ""),
    *levels("head.widen", "incre_modules", 4, "0."),
    ("head.halve.", "downsamp_modules."),
    ("head.expand.", "final_layer."),
    ("head.classifier.", "classifier."),
)
OCR_BLOCK = "model.ocr_distri_head.object_context_block"
ORIGINS: dict[str, tuple[ModelSpec, Callable[[str], str]]] = {
    "official classification": (CLASSIFICATION, OFFICIAL_CLASSIFICATION),
    "official classification, SSLD": (replace(CLASSIFICATION, head_bias=False), OFFICIAL_CLASSIFICATION),
    "mmpretrain": (
        replace(CLASSIFICATION, head_bias=False),
        renamed(
            *levels("head.widen", "neck.0.increase_layers", 4, "0."),
            *[
                (f"head.halve.{level}.{part}.", f"neck.0.downsample_layers.{level}.{name}.")
                for level in range(3)
                for part, name in enumerate(("conv", "bn"))
            ],
            ("head.expand.0.", "neck.0.final_layer.conv."),
            ("head.expand.1.", "neck.0.final_layer.bn."),
            ("head.classifier.", "head.fc."),
        ),
    ),
    "official pose": (POSE, renamed(("backbone.", ""), ("head.", "final_layer."))),
    "pose with a 3x3 head": (
        replace(POSE, head_kernel=3),
        renamed(("backbone.", ""), ("head.", "final_layer.")),
    ),
    "mmpose 1": (replace(POSE, codec=CodecSpec(per_axis=True)), renamed(("head.", "head.final_layer."))),
    "mmpose 0": (replace(POSE, codec=CodecSpec(per_axis=True)), renamed(("head.", "keypoint_head.final_layer."))),
    "official face": (FACE, renamed(("backbone.", ""), *pixel_head("head"))),
    "mmpose 1 face": (
        MM_FACE,
        renamed(("head.classify.", "head.final_layer."), *pixel_head("head.conv_layers")),
    ),
    "mmpose 0 face": (
        MM_FACE,
        renamed(*pixel_head("keypoint_head.final_layer")),
    ),
    "official segmentation": (SEGMENTATION, renamed(("backbone.", "model."), *pixel_head("model.last_layer"))),
    "official OCR": (
        OCR,
        renamed(
            ("backbone.", "model."),
            *pixel_head("model.aux_head", "head.auxiliary"),
            ("head.features.conv.", "model.conv3x3_ocr.0."),
            ("head.features.norm.", "model.conv3x3_ocr.1."),
            *[
                (f"head.{ours}.{layer}.{part}.", f"{OCR_BLOCK}.{theirs}.{2 * first + second}.{'0.' * second}")
                for ours, theirs in (("query", "f_pixel"), ("key", "f_object"))
                for first, layer in enumerate(("reduce", "refine"))
                for second, part in enumerate(("conv", "norm"))
            ],
            *[
                (f"head.{ours}.{part}.", f"{theirs}.{number}.{'0.' * number}")
                for ours, theirs in (
                    ("value", f"{OCR_BLOCK}.f_down"),
                    ("expand", f"{OCR_BLOCK}.f_up"),
                    ("merge", "model.ocr_distri_head.conv_bn_dropout"),
                )
                for number, part in enumerate(("conv", "norm"))
            ],
            ("head.classify.", "model.cls_head."),
        ),
    ),
}


def random_state(spec: ModelSpec) -> State:
    return {
        name: torch.randn(value.shape) if value.is_floating_point() else torch.tensor(7)
        for name, value in create_model(spec).state_dict().items()
    }


def written(origin: str) -> tuple[ModelSpec, State, State]:
    """Spec and state here, and the state in the words of an origin."""
    spec, rename = ORIGINS[origin]
    state = random_state(spec)
    return spec, state, {rename(name): value for name, value in state.items()}


def assert_same(found: State, expected: State) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("origin", ORIGINS)
def test_every_origin_comes_back_unchanged(origin: str, tmp_path: Path) -> None:
    spec, state, theirs = written(origin)
    torch.save(theirs, tmp_path / "weights.pth")
    found_spec, found = read_foreign(tmp_path / "weights.pth")
    assert found_spec == spec
    assert_same(found, state)
    load_state(create_model(found_spec), found, Path("weights"))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"state": {}}},
        lambda state: {"model": "pose_hrnet", "state_dict": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {"model": {f"module.{k}": v for k, v in state.items()}, "iteration": 5},
        lambda state: (
            {f"module.model.{k}": v for k, v in state.items()} | {"module.loss.criterion.weight": torch.ones(2)}
        ),
        lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
    ],
)
def test_envelopes_and_wrappers(wrap: Callable[[State], Any], tmp_path: Path) -> None:
    spec, state, theirs = written("official pose")
    torch.save(wrap(theirs), tmp_path / "weights.pth.tar")
    found_spec, found = read_foreign(tmp_path / "weights.pth.tar")
    assert found_spec == spec
    # Tolerance: one of the envelopes holds halves.
    torch.testing.assert_close(found, state, rtol=2**-11, atol=2**-24)


@pytest.mark.parametrize("kind", ["DataParallel", "training", "cutmix"])
def test_envelopes_of_classification(kind: str, tmp_path: Path) -> None:
    spec, state, theirs = written("official classification")
    parallel = {f"module.{name}": value for name, value in theirs.items()}
    content: dict[str, Any] = {
        "DataParallel": parallel,
        "training": {
            "state_dict": parallel,
            "epoch": 99,
            "best_perf": 76.8,
            "optimizer": {"state": {0: theirs["bn1.bias"]}},
        },
        "cutmix": {"state_dict": theirs, "epoch": 299},
    }
    torch.save(content[kind], tmp_path / "weights.pth.tar")
    found_spec, found = read_foreign(tmp_path / "weights.pth.tar")
    assert found_spec == spec
    assert_same(found, state)


@pytest.mark.parametrize(("count", "skeleton", "size"), [(17, COCO, (256, 192)), (16, MPII, (256, 256))])
def test_keypoints_that_are_known_by_their_number(count: int, skeleton: Skeleton, size: tuple[int, int]) -> None:
    # Oracle: the published configurations.
    names = tuple(f"keypoint_{number}" for number in range(count))
    rename = ORIGINS["official pose"][1]
    theirs = {rename(k): v for k, v in random_state(replace(POSE, skeleton=Skeleton(names))).items()}
    spec, _ = recognize(theirs)
    assert spec == replace(POSE, skeleton=skeleton, input_size=size)


def test_safetensors_and_the_old_format_of_torch(tmp_path: Path) -> None:
    _, state, theirs = written("official face")
    save_file(theirs, tmp_path / "weights.safetensors")
    assert_same(read_foreign(tmp_path / "weights.safetensors")[1], state)
    torch.save(theirs, tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    assert_same(read_foreign(tmp_path / "weights.pth")[1], state)


def test_loss_weights_of_cityscapes_are_left_behind() -> None:
    spec, state, theirs = written("official segmentation")
    found_spec, found = recognize({**theirs, "loss.criterion.weight": torch.ones(2)})
    assert found_spec == spec
    assert_same(found, state)


@pytest.mark.parametrize("counters", [True, False])
@pytest.mark.parametrize(("classes", "aligned"), [(19, False), (20, False), (150, True), (171, True)])
def test_corners_and_classes_of_segmentation(classes: int, aligned: bool, counters: bool) -> None:
    # Oracle: the published configurations. Files without counters are of PyTorch 0.4; those of 150 and 171
    # classes were made by the code that has OCR, whose norms note a tenth of every batch.
    names = tuple(str(label) for label in range(classes))
    rename = ORIGINS["official segmentation"][1]
    theirs = {rename(k): v for k, v in random_state(replace(SEGMENTATION, class_names=names)).items()}
    spec, _ = recognize({k: v for k, v in theirs.items() if counters or not k.endswith("tracked")})
    assert isinstance(spec, SegmentationSpec)
    assert spec.backbone.align_corners is aligned
    assert spec.backbone.norm_momentum == (0.1 if counters or aligned else 0.01)
    assert len(spec.class_names) == classes
    assert bool(spec.pairs) is (classes == 20)


@pytest.mark.parametrize("origin", ["official segmentation", "official OCR"])
def test_norms_of_inplace_abn(origin: str) -> None:
    # Oracle: InPlaceABN's definition: the scale is |weight| + 1e-5. Such files have no batch counters.
    spec, state, theirs = written(origin)
    old = {name: value for name, value in theirs.items() if not name.endswith("num_batches_tracked")}
    found_spec, found = recognize(old)
    # Without OCR their norms also noted a hundredth of every batch, not a tenth.
    assert found_spec == (spec if origin == "official OCR" else replace(spec, backbone=SLOW_NORMS))
    norms = {name.removesuffix("running_var") for name in state if name.endswith("running_var")}
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            expected = torch.tensor(0)
        else:
            scale = name.endswith("weight") and name.removesuffix("weight") in norms
            expected = value.abs() + 1e-5 if scale else value
        torch.testing.assert_close(found[name], expected, rtol=0, atol=0)


def test_other_files_without_counters_keep_their_norms() -> None:
    _, state, theirs = written("official pose")
    _, found = recognize({name: value for name, value in theirs.items() if not name.endswith("num_batches_tracked")})
    expected = {k: torch.tensor(0) if k.endswith("num_batches_tracked") else v for k, v in state.items()}
    assert_same(found, expected)


def test_aligned_corners_are_the_callers_word(tmp_path: Path) -> None:
    """Oracle: the same weights in a network that was built with aligned corners. Keys and shapes are those of a plain one."""
    _, state, theirs = written("official segmentation")
    for name, value in (*state.items(), *theirs.items()):
        if name.endswith("running_var"):
            value.abs_()
    torch.save(theirs, tmp_path / "ocr_branch.pth")
    aligned = replace(SEGMENTATION, backbone=replace(SMOOTH, align_corners=True))
    expected = create_model(aligned).eval()
    expected.load_state_dict(state)
    assert load(tmp_path / "ocr_branch.pth").spec == SEGMENTATION
    target = tmp_path / "aligned.safetensors"
    assert main(["convert", str(tmp_path / "ocr_branch.pth"), str(target), "--align-corners", "True"]) == 0
    images = torch.rand(1, 4, 64, 64)
    with torch.inference_mode():
        for model in (load(tmp_path / "ocr_branch.pth", align_corners=True), load(target)):
            assert model.spec == aligned
            torch.testing.assert_close(model(images), expected(images), rtol=0, atol=0)
    assert load(target, align_corners=False).spec == SEGMENTATION


def test_other_fields_are_the_callers_word(tmp_path: Path) -> None:
    _, _, theirs = written("official pose")
    torch.save(theirs, tmp_path / "udp.pth")
    changed = replace(POSE, input_size=(96, 64), codec=replace(POSE.codec, kind="udp"))
    fields = {"input_size": (96, 64), "codec.kind": "udp"}
    assert load(tmp_path / "udp.pth", overrides=fields).spec == changed
    target = tmp_path / "udp.safetensors"
    told = ["--set", "input_size=[96, 64]", "codec.kind=udp"]
    assert main(["convert", str(tmp_path / "udp.pth"), str(target), *told]) == 0
    assert load(target).spec == changed


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"codec.sort": "udp"}, r"no field 'codec\.sort'; choose from skeleton"),
        ({"task": "segmentation"}, "no field 'task'"),
        ({"codec.kind": "simcc"}, r"codec\.kind: .*'classic'"),
        ({"backbone.align_corners": True}, "align_corners belongs to fusion_upsample='bilinear'"),
        ({"head_kernel": 3}, r"head\.weight has shape"),
    ],
)
def test_overrides_that_do_not_fit_are_refused(overrides: dict[str, object], message: str, tmp_path: Path) -> None:
    _, _, theirs = written("official pose")
    torch.save(theirs, tmp_path / "pose.pth")
    with pytest.raises(InputError, match=message):
        load(tmp_path / "pose.pth", overrides=overrides)


def test_head_of_mmseg_has_a_bias_of_zero() -> None:
    state = random_state(SEGMENTATION) | {"head.project.bias": torch.zeros(40)}
    rename = renamed(
        ("head.project.", "decode_head.convs.0.conv."),
        ("head.norm.", "decode_head.convs.0.bn."),
        ("head.classify.", "decode_head.conv_seg."),
    )
    theirs = {rename(name): value for name, value in state.items() if name != "head.project.bias"}
    spec, found = recognize(theirs)
    assert spec == SEGMENTATION
    assert_same(found, state)


BACKBONES = {
    "bare.pth": ("", {}, V1),
    "data_parallel.pth": ("module.", {}, WHOLE),
    "openmmlab.pth": ("backbone.", {}, WHOLE),
    # The file that the pose networks were trained from: all four maps, and a head of its own.
    "imagenet.pth": (
        "",
        {"head.0.0.0.conv1.weight": (4, 5, 1, 1), "head.3.2.0.bn3.bias": (9,), "classifier.weight": (1000, 9)},
        WHOLE,
    ),
    "another_imagenet.pth": ("module.", {"module.join.weight": (8, 5, 1, 1), "module.fc.weight": (1000, 8)}, WHOLE),
}


@pytest.mark.parametrize("file", BACKBONES)
def test_a_backbone_alone(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It loads, is kept, gives its maps and nothing else. Oracle: the backbone that the fixture was made of."""
    wrap, head, backbone = BACKBONES[file]
    own = HRNet(backbone).eval()
    for name, buffer in own.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    state = own.state_dict()
    theirs = {f"{wrap}{name}": value for name, value in state.items()}
    torch.save(
        {"meta": {}, "state_dict": theirs | {name: torch.ones(shape) for name, shape in head.items()}}, tmp_path / file
    )
    found_backbone, found = read_backbone(tmp_path / file)
    assert found_backbone == backbone
    assert_same(found, state)

    model = load(tmp_path / file)
    assert model.spec == BackboneSpec(backbone)
    assert "backbone, width 5" in model.origin
    left_out = model.origin.partition("; left out: ")[2]
    assert left_out == (", ".join(name.removeprefix("module.") for name in head) or "nothing")
    assert main(["convert", str(tmp_path / file), str(tmp_path / "kept.safetensors")]) == 0
    assert "width 5" in capsys.readouterr().out
    again = load(tmp_path / "kept.safetensors")
    assert again.spec == model.spec
    images = torch.rand(1, 4, 64, 32)
    with torch.inference_mode():
        expected = own((images - model.mean) / model.std)
        for one in (model, again):
            maps = [x for x in one(images) if x is not None]
            for x, also, right in zip(maps, features_only(one)(images), expected, strict=True):
                torch.testing.assert_close(x, right, rtol=0, atol=0)
                torch.testing.assert_close(also, right, rtol=0, atol=0)
    with pytest.raises(InputError, match=r"without a head.*--init.*features_only"):
        Predictor(again)


def test_a_published_backbone_loads_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "backbone-imagenet-v1-w32"
    entry = replace(published()[name], sha256="")
    monkeypatch.setenv("HRNET_HOME", str(tmp_path))
    monkeypatch.setattr(hrnet.io.zoo, "published", lambda: {name: entry})
    state = HRNet(V1).state_dict()
    (tmp_path / name).mkdir()
    torch.save(state, tmp_path / name / entry.file)
    for _ in range(2):  # the file, then what was kept of it
        model = load(name)
        assert model.spec == BackboneSpec(V1)
        assert_same(model.backbone.state_dict(), state)


def test_a_backbone_with_a_head_that_is_not_known_is_refused(tmp_path: Path) -> None:
    state = {f"module.backbone.body.{name}": value for name, value in HRNet(V1).state_dict().items()}
    eps = {"module.backbone.body.bn1.eps": torch.tensor(1e-5)}
    torch.save(state | eps | {"module.rpn.x": torch.zeros(1)}, tmp_path / "detector.pth")
    spec, found = read_backbone(tmp_path / "detector.pth")
    assert spec == V1
    assert_same(
        found, HRNet(V1).state_dict() | {name.removeprefix("module.backbone.body."): v for name, v in state.items()}
    )
    with pytest.raises(InputError, match=r"begin with rpn\.x.*--init"):
        read_foreign(tmp_path / "detector.pth")


# ---- what is refused


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    _, _, theirs = written("official pose")
    marker = tmp_path / "was-here"
    torch.save({"state_dict": theirs, "extra": Hostile(marker)}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Hostile(marker)))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(InputError, match=r"holds Python objects|not an intact"):
            read_foreign(tmp_path / name)
    assert not marker.exists()


@pytest.mark.parametrize("keep", [0, 1, 20, 1000, 0.5, 0.99])
@pytest.mark.parametrize("modern", [True, False])
def test_truncated_files_are_named(keep: float, modern: bool, tmp_path: Path) -> None:
    _, _, theirs = written("official pose")
    path = tmp_path / "weights.pth"
    torch.save(theirs, path, _use_new_zipfile_serialization=modern)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(InputError, match=r"weights\.pth is not an intact checkpoint"):
        read_foreign(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no weights"),
        ([1, 2], "holds no weights"),
        (torch.zeros(3), "holds no weights"),
        ({"epoch": 3}, "holds no weights"),
        ({"weight": torch.zeros(3), "epoch": 3}, "holds no weights"),
        ({"state_dict": {}}, "holds no weights"),
        ({"fc.weight": torch.zeros(3)}, "holds no HRNet"),
        ({"x": torch.zeros(1).expand(10**9)}, "claims 4000000000 bytes"),
        ({"x": torch.zeros(2, 2).to_sparse()}, "holds no weights|not an intact"),
        ({"x": torch.zeros(2, 2, dtype=torch.complex64)}, "holds no weights"),
        ({"x": torch.empty(2, device="meta")}, "holds no weights"),
    ],
)
def test_files_without_a_network_are_named(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=message):
        read_foreign(tmp_path / "weights.pth")


def test_paths_without_a_file_are_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.pth"):
        with pytest.raises(InputError, match="does not exist or is no file"):
            read_foreign(path)
    (tmp_path / "text.pth").write_text("<html>404 not found</html>")
    with pytest.raises(InputError, match="not an intact checkpoint"):
        read_foreign(tmp_path / "text.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("stage3.0.branches.1.0.bn2.bias"), r"1 tensors are missing \(first backbone.stage3"),
        (lambda state: state.update({"head.extra.weight": torch.ones(1)}), "head.extra.weight has no place in it"),
        (lambda state: state.update({"layer1.9.conv9.weight": torch.ones(1)}), "tensors are missing"),
        (lambda state: state.update({"stage2.999999999.x": torch.ones(1)}), "tensors are missing"),
        (
            lambda state: state.update({"conv2.weight": torch.ones(7, 7, 5, 5)}),
            r"conv2.weight has shape \(7, 7, 5, 5\)",
        ),
        (lambda state: state.pop("conv1.weight"), "not complete or not an HRNet"),
        (lambda state: state.pop("final_layer.weight"), "no head of a published"),
        (lambda state: state.update({"conv1.weight": torch.ones(())}), "not complete or not an HRNet"),
        (lambda state: state.update({"conv1.weight": torch.ones(7, 0, 3, 3)}), "not complete or not an HRNet"),
        (
            lambda state: state.update({"stage4.0.branches.0.0.conv1.weight": torch.ones(10**6, 0)}),
            "does not fit its model|has shape",
        ),
        (
            lambda state: state.update({f"teacher.{name}": value for name, value in list(state.items())}),
            "holds 2 HRNets",
        ),
        (lambda state: state.update({"backbone.conv1.weight": torch.ones(1)}), "has no place in it"),
    ],
)
def test_no_network_is_loaded_in_part(change: Callable[[State], Any], message: str) -> None:
    _, _, theirs = written("official pose")
    change(theirs)
    with pytest.raises(InputError, match=message):
        recognize(theirs, "weights.pth")


def test_networks_of_later_versions_are_named() -> None:
    _, _, theirs = written("official pose")
    with pytest.raises(InputError, match="is a bottom-up pose network, which this version cannot load"):
        recognize({**theirs, "final_layers.0.weight": torch.ones(1)})


def test_a_head_that_is_not_known_is_named_with_the_nearest_layout() -> None:
    _, _, theirs = written("official classification")
    theirs = {name.replace("incre_modules", "widening"): value for name, value in theirs.items()}
    message = r"width 5, V2.*begin with widening\.0\.0.*nearest layout is a classification.*incre_modules\.0.*--init"
    with pytest.raises(InputError, match=message):
        recognize(theirs, "weights.pth")


def test_damaged_classification_networks_are_not_taken_for_backbones() -> None:
    _, _, theirs = written("official classification")
    thousand = {"classifier.weight": torch.zeros(1000, 2048), "classifier.bias": torch.zeros(1000)}
    for lost in ("incre_modules", "downsamp_modules", "final_layer"):
        left = {name: value for name, value in theirs.items() if not name.startswith(lost)} | thousand
        with pytest.raises(InputError, match=r"nearest layout is a classification|not complete|tensors are missing"):
            recognize(left, "weights.pth")


def test_what_is_recognized_and_left_out_is_said(tmp_path: Path) -> None:
    # Oracle: the spec that the fixture was made of.
    _, _, theirs = written("official segmentation")
    torch.save({**theirs, "loss.criterion.weight": torch.ones(2)}, tmp_path / "weights.pth")
    model = load(tmp_path / "weights.pth")
    assert model.origin == (
        "a segmentation network: segmentation, width 5, V2 (all four maps), 2-1-2 modules of 3-1-2 blocks, "
        "fusion bilinear, 2 classes; left out: loss.criterion.weight"
    )


def test_best_score_of_a_training_as_a_number_of_numpy(tmp_path: Path) -> None:
    spec, state, theirs = written("official pose")
    torch.save({"state_dict": theirs, "perf": np.float64(0.7)}, tmp_path / "checkpoint.pth")
    found_spec, found = read_foreign(tmp_path / "checkpoint.pth")
    assert found_spec == spec
    assert_same(found, state)


def test_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    for value in (float("nan"), float("inf")):
        _, _, theirs = written("official pose")
        theirs["bn1.bias"][1] = value
        torch.save(theirs, tmp_path / "weights.pth")
        for read in (read_foreign, read_backbone):
            with pytest.raises(InputError, match=r"bn1\.bias holds values that are not finite"):
                read(tmp_path / "weights.pth")
