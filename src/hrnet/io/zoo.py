"""Models by name: those inside the package, published ones, run folders, and files of every known origin."""

from __future__ import annotations

import logging
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hrnet.engine.recipe import BEST
from hrnet.errors import InputError
from hrnet.foreign import identify
from hrnet.io.checkpoint import is_model, load_model, load_state, save_model
from hrnet.io.download import locked
from hrnet.io.published import Published, cache_folder, published, published_file
from hrnet.io.shipped import SHIPPED
from hrnet.nn.spec import ModelSpec
from hrnet.nn.task import TaskModel
from hrnet.pose.spec import PoseSpec
from hrnet.tasks import build_model

_log = logging.getLogger(__name__)

_FOREIGN_SUFFIXES = (".pth", ".pt", ".tar", ".ckpt", ".bin")


def load(model: str | Path) -> TaskModel[Any]:
    """A model by name or path, in evaluation mode, on the CPU.

    Args:
        model: ``pose`` or ``segmentation``, which are inside; the name of a published checkpoint (`hrnet models` lists
            them), downloaded and converted when first asked for; a .safetensors file of this program; the folder of a
            training run (its best model); or a checkpoint of another HRNet code base (.pth), recognized by its keys and
            shapes.

    Raises:
        InputError: there is no such model, or the file cannot be used.
    """
    name, path = str(model), Path(model)
    if (path / BEST).is_file():
        return load_model(path / BEST)
    if not path.is_file():
        # Before other folders: images may lie in one that is called pose.
        if name in SHIPPED:
            return load_model(SHIPPED[name].path)
        if name in published():
            return _load_published(published()[name])
        if path.is_dir():
            raise InputError(
                f"{path} is a folder without {BEST}; name a run folder whose training has been evaluated once."
            )
        near = get_close_matches(name, (*SHIPPED, *published()), 1)
        raise InputError(
            f"There is no model {name!r}; name an existing file, {' or '.join(SHIPPED)}, or one that `hrnet models` lists"
            f"{f', perhaps {near[0]}' if near else ''}."
        )
    if path.suffix == ".safetensors" and is_model(path):
        return load_model(path)
    if path.suffix in (".safetensors", *_FOREIGN_SUFFIXES):
        return _load_foreign(path)
    raise InputError(f"{path} is no model file; models end in .safetensors or {', '.join(_FOREIGN_SUFFIXES)}.")


def _load_published(entry: Published) -> TaskModel[Any]:
    if not entry.loadable:
        raise InputError(f"{entry.name} is listed only ({entry.note}); choose another of `hrnet models`.")
    converted = cache_folder() / entry.name / "model.hrnet.safetensors"
    if not converted.is_file():
        source = published_file(entry)
        with locked(converted.parent / ".lock"):
            if not converted.is_file():
                model = _load_foreign(source, entry)
                save_model(converted, model, note=f"{entry.name}; {model.origin}")
    return load_model(converted)


def _load_foreign(path: Path, entry: Published | None = None) -> TaskModel[Any]:
    found = identify(path)
    built = build_model(_as_published(found.spec, entry) if entry else found.spec)
    load_state(built, found.state, path)
    built.origin = str(found)
    _log.info("%s is %s", path, found)
    return built.eval()


def _as_published(spec: ModelSpec, entry: Published) -> ModelSpec:
    """With what the entry knows and weights do not tell: the input, and how heatmaps are read."""
    if entry.input:
        spec = replace(spec, input_size=entry.input)
    if isinstance(spec, PoseSpec) and entry.codec in ("dark", "udp"):
        spec = replace(spec, codec=replace(spec.codec, kind=entry.codec))
    if isinstance(spec, PoseSpec) and entry.input == (384, 288):
        # Source: the published configurations; the heatmap is half as large again, and so is all that is drawn on it.
        spec = replace(spec, codec=replace(spec.codec, heatmap_sigma=3.0, blur=17))
    return spec
