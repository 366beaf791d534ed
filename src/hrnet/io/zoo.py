"""Models by name: those inside the package, published ones, run folders, and files of every known origin."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from hrnet.engine.recipe import BEST
from hrnet.errors import InputError
from hrnet.foreign import identify
from hrnet.io.checkpoint import is_model, load_model, load_state, save_model
from hrnet.io.download import locked
from hrnet.io.published import PublishedCheckpoint, cache_folder, published, published_file
from hrnet.io.shipped import SHIPPED
from hrnet.nn.backbone_model import BackboneModel
from hrnet.nn.task import TaskModel
from hrnet.tasks import create_model, override_spec

if TYPE_CHECKING:
    from hrnet.detection.model import DetectionModel
    from hrnet.pose.model import PoseModel
    from hrnet.segmentation.model import SegmentationModel

_log = logging.getLogger(__name__)

_FOREIGN_SUFFIXES = (".pth", ".pt", ".tar", ".ckpt", ".bin")


@overload
def load(
    model: Literal["pose"], *, align_corners: bool | None = None, overrides: Mapping[str, object] | None = None
) -> PoseModel: ...
@overload
def load(
    model: Literal["segmentation"], *, align_corners: bool | None = None, overrides: Mapping[str, object] | None = None
) -> SegmentationModel: ...
@overload
def load(
    model: Literal["detection"], *, align_corners: bool | None = None, overrides: Mapping[str, object] | None = None
) -> DetectionModel: ...
@overload
def load(
    model: str | Path, *, align_corners: bool | None = None, overrides: Mapping[str, object] | None = None
) -> TaskModel[Any, Any]: ...
def load(
    model: str | Path, *, align_corners: bool | None = None, overrides: Mapping[str, object] | None = None
) -> TaskModel[Any, Any] | BackboneModel:
    """Load a model by name or path, in evaluation mode, on the CPU.

    Args:
        model: ``pose``, ``segmentation`` or ``detection``, which are inside the package; the name of a published
            checkpoint (`hrnet models` lists them), downloaded and converted when first asked for; a .safetensors file of
            this program; the folder of a training run (its best model); or a checkpoint of another HRNet code base
            (.pth), recognized by its keys and shapes.
        align_corners: True for a network whose bilinear upsampling was trained with aligned corners, which neither keys
            nor shapes tell, such as one of the OCR branch without OCR; None as `hrnet.foreign` assumes.
        overrides: other values of fields of the spec that keys and shapes do not tell, by their names with dots between
            levels: ``{"input_size": (384, 288), "codec.kind": "udp"}``.

    Returns:
        The model; of a checkpoint without a head a `BackboneModel`, which gives maps and no results.

    Raises:
        InputError: there is no such model, the file cannot be used, or an override does not fit.
    """
    name, path = str(model), Path(model)
    changes = dict(overrides or {})
    if align_corners is not None:
        changes["backbone.align_corners"] = align_corners
    if (path / BEST).is_file():
        return load_model(path / BEST, changes)
    if not path.is_file():
        # Before other folders: images may lie in one that is called pose.
        if name in SHIPPED:
            return load_model(SHIPPED[name].path, changes)
        if name in published():
            return _load_published(published()[name], changes)
        raise _unknown(name, path)
    if path.suffix == ".safetensors" and is_model(path):
        return load_model(path, changes)
    if path.suffix in (".safetensors", *_FOREIGN_SUFFIXES):
        return _load_foreign(path, changes)
    raise InputError(f"{path} is not a model file; models end in .safetensors or {', '.join(_FOREIGN_SUFFIXES)}.")


def _unknown(name: str, path: Path) -> InputError:
    if path.is_dir():
        return InputError(f"{path} is a folder without {BEST}; name a run folder that has been evaluated once.")
    near = get_close_matches(name, (*SHIPPED, *published()), 1)
    return InputError(
        f"There is no model {name!r}; name an existing file, {' or '.join(SHIPPED)}, or one that `hrnet models` lists"
        f"{f', perhaps {near[0]}' if near else ''}."
    )


def _load_published(entry: PublishedCheckpoint, overrides: Mapping[str, object]) -> TaskModel[Any, Any] | BackboneModel:
    if not entry.loadable:
        raise InputError(f"{entry.name} is listed only ({entry.note}); choose another of `hrnet models`.")
    converted = cache_folder() / entry.name / "model.hrnet.safetensors"
    if not converted.is_file():
        source = published_file(entry)
        with locked(converted.parent / ".lock"):
            if not converted.is_file():
                model = _load_foreign(source, entry.overrides)
                save_model(converted, model, note=f"{entry.name}; {model.origin}")
    return load_model(converted, overrides)


def _load_foreign(path: Path, overrides: Mapping[str, object]) -> TaskModel[Any, Any] | BackboneModel:
    found = identify(path)
    model = create_model(override_spec(found.spec, overrides, str(path)) if overrides else found.spec)
    load_state(model, found.state, path)
    model.origin = str(found)
    _log.info("%s is %s", path, found)
    return model.eval()
