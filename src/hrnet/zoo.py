"""Models by name: those inside the package, published ones, run folders, and files of every known origin."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from hrnet.checkpoint import is_model, load_model, load_state, save_model
from hrnet.download import DeadLinkError, UnreachableError, fetch, file_hash, locked
from hrnet.errors import InputError
from hrnet.foreign import identify
from hrnet.pose.spec import PoseSpec
from hrnet.published import Published, published
from hrnet.recipe import BEST
from hrnet.task import TaskModel
from hrnet.tasks import ModelSpec, build_model

_log = logging.getLogger(__name__)

_FOREIGN_SUFFIXES = (".pth", ".pt", ".tar", ".ckpt", ".bin")


@dataclass(frozen=True, slots=True)
class Shipped:
    """A model inside the package.

    Attributes:
        task: what it does.
        file: its name in `assets`.
        size: height and width of its input.
        metric: the figure that docs/reproduce.md measures, with its name.
        code_licence: of the code that made it.
        data: what it was trained on.
        data_licence: what is known of that data's licence.
    """

    task: str
    file: str
    size: tuple[int, int]
    metric: str
    code_licence: str
    data: str
    data_licence: str

    @property
    def path(self) -> Path:
        return Path(str(resources.files("hrnet") / "assets" / self.file))


SHIPPED: dict[str, Shipped] = {
    "pose": Shipped(
        task="pose",
        file="pose.safetensors",
        size=(160, 128),
        metric="LSP test PCK@0.2 83.3",
        code_licence="MIT",
        data="Leeds Sports Poses (train) and its extended set",
        data_licence="none stated; its authors ask for citation",
    ),
    "segmentation": Shipped(
        task="segmentation",
        file="segmentation.safetensors",
        size=(224, 144),
        metric="CCP val mIoU 46.2",
        code_licence="MIT",
        data="Clothing Co-Parsing (804 pictures), 12 merged classes",
        data_licence="Apache-2.0",
    ),
}


def load(model: str | Path) -> TaskModel[Any]:
    """A model by name or path, in evaluation mode, on the CPU.

    Args:
        model: ``pose`` or ``segmentation``, which are inside; the name of a published checkpoint (`hrnet models` lists
            them), downloaded and converted when first asked for; a .safetensors file of this program; the folder of a
            training run (its best model); or a checkpoint of another HRNet code base (.pth), recognised by its keys and
            shapes.

    Raises:
        InputError: there is no such model, or the file cannot be used.
    """
    if str(model) in SHIPPED and not Path(model).exists():
        return load_model(SHIPPED[str(model)].path)
    path = Path(model)
    if str(model) in published() and not path.exists():
        return _load_published(published()[str(model)])
    if path.is_dir():
        if not (path / BEST).is_file():
            raise InputError(
                f"{path} is a folder without {BEST}; name a run folder whose training has been evaluated once."
            )
        return load_model(path / BEST)
    if not path.is_file():
        raise InputError(
            f"There is no model {str(model)!r}; name an existing file, {' or '.join(SHIPPED)}, or one that `hrnet models` "
            "lists."
        )
    if path.suffix == ".safetensors" and is_model(path):
        return load_model(path)
    if path.suffix in (".safetensors", *_FOREIGN_SUFFIXES):
        return _load_foreign(path)
    raise InputError(f"{path} is no model file; models end in .safetensors or {', '.join(_FOREIGN_SUFFIXES)}.")


def cache_folder() -> Path:
    """Where published models are kept: ``HRNET_HOME``, else ``hrnet`` in the user's folder for what can be had again."""
    home = os.environ.get("HRNET_HOME")
    return (
        Path(home).expanduser() if home else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hrnet"
    )


def published_file(entry: Published) -> Path:
    """The file of a published checkpoint as it was published, downloaded when it is not there.

    Raises:
        InputError: it cannot be had (the message says where else it may be), or its hash is not the published one.
    """
    target = cache_folder() / entry.name / (entry.file or "checkpoint.pth")
    with locked(target.parent / ".lock"):
        if not target.is_file():
            _download(entry, target)
        elif not file_hash(target).startswith(entry.sha256):
            raise InputError(
                f"{target} has not the published SHA-256 {entry.sha256[:16]}...; delete it or copy it again."
            )
    return target


def _download(entry: Published, target: Path) -> None:
    place = f"put {entry.file or 'the file'} at {target}, or pass the path of the file instead of the name"
    if not entry.urls:
        raise InputError(f"{entry.name} can only be had by hand: {'; '.join(entry.sources)}; {place}.")
    if os.environ.get("HRNET_OFFLINE", "0") not in ("", "0"):
        raise InputError(
            f"{entry.name} is not in the cache and HRNET_OFFLINE is set; get {entry.urls[0]} elsewhere and {place}."
        )
    failed, dead = [], False
    for url in entry.urls:
        try:
            return fetch(url, target, entry.sha256)
        except DeadLinkError as error:
            failed.append(f"{url}: {error}")
            dead = True
        except UnreachableError as error:
            failed.append(f"{url}: {error}")
    if dead:
        others = "; ".join(entry.sources) or f"none is known; the code base is {entry.origin}"
        raise InputError(f"{entry.name} is no longer there ({'; '.join(failed)}); other sources: {others}; {place}.")
    raise InputError(f"{entry.name} cannot be reached ({'; '.join(failed)}); get it elsewhere and {place}.")


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
