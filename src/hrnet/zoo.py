"""Models by name: those that ship inside the package, run folders, and files of every known origin."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hrnet.checkpoint import is_model, load_model, load_state
from hrnet.errors import InputError
from hrnet.foreign import identify
from hrnet.recipe import BEST
from hrnet.task import TaskModel
from hrnet.tasks import build_model

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
        model: ``pose`` or ``segmentation``; a .safetensors file of this program; the folder of a training run (its best
            model); or a checkpoint of another HRNet code base (.pth), recognised by its keys and shapes.

    Raises:
        InputError: there is no such model, or the file cannot be used.
    """
    if str(model) in SHIPPED and not Path(model).exists():
        return load_model(SHIPPED[str(model)].path)
    path = Path(model)
    if path.is_dir():
        if not (path / BEST).is_file():
            raise InputError(
                f"{path} is a folder without {BEST}; name a run folder whose training has been evaluated once."
            )
        return load_model(path / BEST)
    if not path.is_file():
        raise InputError(f"There is no model {str(model)!r}; name one of {', '.join(SHIPPED)} or an existing file.")
    if path.suffix == ".safetensors" and is_model(path):
        return load_model(path)
    if path.suffix in (".safetensors", *_FOREIGN_SUFFIXES):
        found = identify(path)
        built = build_model(found.spec)
        load_state(built, found.state, path)
        built.origin = str(found)
        _log.info("%s is %s", path, found)
        return built.eval()
    raise InputError(f"{path} is no model file; models end in .safetensors or {', '.join(_FOREIGN_SUFFIXES)}.")
