"""A state dict in another code base's names -> the network it is, and weights that fit it exactly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hrnet.errors import InputError
from hrnet.foreign.origins import ORIGINS, Origin, translate
from hrnet.foreign.reading import read_weights
from hrnet.foreign.shapes import State, backbone_spec
from hrnet.io.checkpoint import check_finite, check_state
from hrnet.nn.backbone import HRNet
from hrnet.nn.spec import BackboneSpec, HRNetSpec, ModelSpec
from hrnet.tasks import create_model, task_of

# The tensor that every HRNet has exactly once: it makes the second branch. The prefix of its name is a wrapper.
_ANCHOR = "transition1.1.0.0.weight"
_BACKBONE = re.compile(r"(?:backbone\.(?:body\.)?)?((?:conv[12]|bn[12]|layer1|transition[123]|stage[234])\..+)")
# Tensors beside the weights: class weights of the loss, the constant of frozen norms, anchors without weights.
_LOSS = re.compile(r"(module\.)?loss\..+")
_CONSTANT = re.compile(r".+\.eps")
_ANCHORS = re.compile(r"rpn\.anchor_generator\..+")
# Source: files of hrnet_w32-36af842e and hrnet_w48-8ef0771d, whose tensors mmpose names in its logs: three bottlenecks per
# branch and what follows, with which the backbones of the pose networks were trained on ImageNet.
_IMAGENET_POSE = "head.0.0.0.conv1.weight"
_IMAGENET_CLASSES = 1000
# Source: the epsilon of all norms here, and torch's default.
_EPS = 1e-5
_BOTTOM_UP = re.compile(r"(final|deconv)_layers\.|(keypoint_)?head\.(final|deconv)_layers\.")


@dataclass(frozen=True, slots=True)
class Recognized:
    """A network of another code base.

    Attributes:
        spec: the network as data.
        state: weights that fit it exactly.
        origin: code base that wrote it.
        dropped: names of the file's other tensors, which are left out.
    """

    spec: ModelSpec
    state: State
    origin: str
    dropped: tuple[str, ...]

    def __str__(self) -> str:
        dropped = _some(self.dropped) if self.dropped else "nothing"
        return f"{self.origin}: {describe(self.spec)}; left out: {dropped}"


def describe(spec: ModelSpec) -> str:
    """Return task, width, variant, outputs and the fusion's upsampling in one line."""
    return f"{task_of(spec).name}, {describe_backbone(spec.backbone)}, {spec.outputs}"


def describe_backbone(spec: HRNetSpec) -> str:
    """Return width, variant, depth and the fusion's upsampling in one line."""
    maps = "V1 (the stride-4 map)" if spec.high_resolution_only else "V2 (all four maps)"
    modules = "-".join(str(stage.modules) for stage in spec.stages)
    blocks = "-".join(str(stage.blocks) for stage in spec.stages)
    fusion = spec.fusion_upsample + (", corners aligned" if spec.align_corners else "")
    return f"width {spec.widths[0]}, {maps}, {modules} modules of {blocks} blocks, fusion {fusion}"


def identify(path: Path) -> Recognized:
    """Recognize the network of a published checkpoint.

    Raises:
        InputError: the file is missing or damaged, holds more than weights, or no network that this version knows.
    """
    return match(read_weights(path), str(path))


def read_foreign(path: Path) -> tuple[ModelSpec, State]:
    """Return the spec of a published checkpoint and weights that fit it exactly; see `identify`."""
    found = identify(path)
    return found.spec, found.state


def recognize(state: Mapping[str, Tensor], source: str = "This state dict") -> tuple[ModelSpec, State]:
    """Return the spec of a state dict and weights that fit it exactly; see `match`."""
    found = match(state, source)
    return found.spec, found.state


def match(state: Mapping[str, Tensor], source: str) -> Recognized:
    """Recognize the network of weights in memory; otherwise as `identify`.

    Args:
        state: weights by the other code base's names, with or without ``module.``, ``model.`` and the like.
        source: name of their file, for messages.
    """
    bare, dropped = _unwrap_names(state, source)
    if any(map(_BOTTOM_UP.match, bare)):
        raise InputError(
            f"{source} is a bottom-up pose network, which this version cannot load; take a pose, face, classification, "
            "segmentation or detection network."
        )
    origin = next((origin for origin in ORIGINS if origin.sign in bare), None)
    if origin is None or _IMAGENET_POSE in bare:
        return _without_head(bare, dropped, source)
    try:
        renamed = _with_counters(origin.complete(_rename(bare, origin)))
        spec = origin.spec(renamed)
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(
            f"{source} looks like {origin.name}, but is not complete or not an HRNet ({error}); get the file again, or "
            "start a training from its backbone alone with --init."
        ) from None
    with torch.device("meta"):
        expected = create_model(spec).state_dict()
    check_state(expected, renamed, f"{source}, by its names {origin.name},")
    check_finite(renamed, source)
    native = {name: _native(renamed[name], expected[name]) for name in expected}
    return Recognized(spec, native, origin.name, (*dropped, origin.note) if origin.note else dropped)


def read_backbone(path: Path) -> tuple[HRNetSpec, State]:
    """Return the backbone alone, of any file that has one, as start weights.

    Its fusion is assumed ``nearest``: the file does not tell which upsampling the weights were trained with.

    Raises:
        InputError: as for `identify`; the head does not matter here.
    """
    bare, _ = _unwrap_names(read_weights(path), str(path))
    spec, found = _backbone_of(bare, str(path))
    check_finite(found, str(path))
    return spec, found


def _backbone_of(bare: State, source: str) -> tuple[HRNetSpec, State]:
    matches = {name: _BACKBONE.fullmatch(name) for name in bare}
    state = _with_counters({f"backbone.{found[1]}": bare[name] for name, found in matches.items() if found})
    try:
        spec = backbone_spec(state)
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(f"{source} holds no complete HRNet backbone ({error}); get the file again.") from None
    with torch.device("meta"):
        expected = HRNet(spec).state_dict()
    inner = {name.removeprefix("backbone."): value for name, value in state.items()}
    check_state(expected, inner, source)
    return spec, {name: _native(inner[name], expected[name]) for name in expected}


def _without_head(bare: State, dropped: tuple[str, ...], source: str) -> Recognized:
    """Return the backbone of a file that holds nothing else but perhaps an unknown head of ImageNet's classes."""
    spec, found = _backbone_of(bare, source)
    others = tuple(name for name in bare if not _BACKBONE.fullmatch(name))
    if others and not _is_imagenet_head(bare, others):
        raise InputError(_unknown_head(spec, others, source))
    check_finite(found, source)
    origin = "a backbone with another head of ImageNet's classes" if others else "a backbone without a head"
    state = {f"backbone.{name}": value for name, value in found.items()}
    return Recognized(BackboneSpec(spec), state, origin, (*dropped, *others))


def _is_imagenet_head(bare: State, others: tuple[str, ...]) -> bool:
    """Return True if the tensors beside a backbone are an unknown ImageNet head: one matrix has a row per class.

    Names of a known head rule that out: if some of them are missing, the file is damaged.
    """
    if _IMAGENET_POSE in bare:
        return True
    outputs = {name.rpartition(".")[0] for name in others if bare[name].shape[:-1] == (_IMAGENET_CLASSES,)}
    hidden = [name for name in others if name.rpartition(".")[0] not in outputs]
    return len(outputs) == 1 and not any(_fitting(origin, hidden) for origin in ORIGINS)


def _fitting(origin: Origin, names: Iterable[str]) -> int:
    return sum(translate(name, origin.names) is not None for name in names)


def _unknown_head(spec: HRNetSpec, others: tuple[str, ...], source: str) -> str:
    """Return the message about a backbone with an unknown head: the nearest layout and the first names that differ."""
    fits = [_fitting(origin, others) for origin in ORIGINS]
    nearest = ORIGINS[fits.index(max(fits))]
    near = f", the nearest layout is {nearest.name}, which has {nearest.sign}" if max(fits) else ""
    return (
        f"{source} holds an HRNet backbone ({describe_backbone(spec)}), but no head of a published pose, face, "
        f"classification, segmentation or detection network; its other tensors begin with {_some(others)}{near}; start "
        "a training from it with --init, or name the checkpoint of a whole network."
    )


def _some(names: tuple[str, ...] | list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def _unwrap_names(state: Mapping[str, Tensor], source: str) -> tuple[State, tuple[str, ...]]:
    """Strip the prefix of the whole network, such as module. (DataParallel) or model. (loss wrapper).

    Returns:
        The network's tensors, and the names of those beside it.
    """
    prefixes = [name.removesuffix(_ANCHOR) for name in state if name == _ANCHOR or name.endswith(f".{_ANCHOR}")]
    if len(prefixes) != 1:
        found = "no HRNet" if not prefixes else f"{len(prefixes)} HRNets"
        raise InputError(
            f"{source} holds {found} (by the names of its tensors, the first being {_some(list(state), 2)}, where an "
            f"HRNet has {_ANCHOR}); name the checkpoint of one HRNet."
        )
    wrapper = re.sub(r"backbone\.(body\.)?$", "", prefixes[0])
    bare: State = {}
    dropped = []
    for whole, value in state.items():
        name = whole.removeprefix(wrapper)
        # The weights of the loss are beside the wrapped network, not inside.
        if _LOSS.fullmatch(whole) or _ANCHORS.fullmatch(name):
            dropped.append(whole)
        elif _CONSTANT.fullmatch(name):
            if value.numel() != 1 or abs(float(value) - _EPS) > _EPS / 100:
                raise InputError(f"{source}: {whole} is not {_EPS}, as in all HRNets; get the file again.")
            dropped.append(whole)
        elif name in bare:
            raise InputError(f"{source} holds {name} twice, with and without {wrapper}; name the file of one network.")
        else:
            bare[name] = value
    return bare, tuple(dropped)


def _rename(state: State, origin: Origin) -> State:
    renamed: State = {}
    for name, value in state.items():
        backbone = _BACKBONE.fullmatch(name)
        ours = f"backbone.{backbone[1]}" if backbone else translate(name, origin.names)
        if ours is None or ours in renamed:
            raise ValueError(f"{name} has no place in it")
        renamed[ours] = value
    return renamed


def _with_counters(state: State) -> State:
    """Add batch counters of zero where a file has none at all: PyTorch 0.4.1 added them, and only training uses them."""
    if any(name.endswith(".num_batches_tracked") for name in state):
        return state
    norms = [name.removesuffix("running_var") for name in state if name.endswith(".running_var")]
    return state | {f"{norm}num_batches_tracked": torch.zeros((), dtype=torch.long) for norm in norms}


def _native(value: Tensor, like: Tensor) -> Tensor:
    return value.detach().to(like.dtype).contiguous()
