"""The models inside the package, as data."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Shipped:
    """A model inside the package.

    Attributes:
        task: task of the model; its file in `assets` has this name.
        size: height and width of its input.
        metric: figure that docs/reproduce.md measures, with its name.
        data: training data.
        data_license: license of the data, as far as known.
        code_license: license of the code that made it.
    """

    task: str
    size: tuple[int, int]
    metric: str
    data: str
    data_license: str
    code_license: str = "MIT"

    @property
    def path(self) -> Path:
        return Path(str(resources.files("hrnet") / "assets" / f"{self.task}.safetensors"))


_MODELS = (
    Shipped(
        "pose",
        (160, 128),
        "LSP test PCK@0.2 85.4",
        "Leeds Sports Poses (train) and its extended set",
        "none stated; its authors ask for citation",
    ),
    Shipped(
        "segmentation",
        (224, 144),
        "CCP val mIoU 46.2",
        "Clothing Co-Parsing (804 images), 12 merged classes",
        "Apache-2.0",
    ),
    Shipped(
        "detection",
        (320, 320),
        "Penn-Fudan test AP50 0.959, AP 0.640",
        "people of Penn-Fudan, 50 COCO images, Leeds Sports Poses and Clothing Co-Parsing",
        "none stated, but for Clothing Co-Parsing (Apache-2.0) and COCO's images (Creative Commons)",
    ),
)
SHIPPED: dict[str, Shipped] = {model.task: model for model in _MODELS}
