"""The models inside the package, as data."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Shipped:
    """A model inside the package.

    Attributes:
        task: task of the model.
        file: name of its file in `assets`.
        size: height and width of its input.
        metric: figure that docs/reproduce.md measures, with its name.
        code_license: license of the code that made it.
        data: training data.
        data_license: license of the data, as far as known.
    """

    task: str
    file: str
    size: tuple[int, int]
    metric: str
    code_license: str
    data: str
    data_license: str

    @property
    def path(self) -> Path:
        return Path(str(resources.files("hrnet") / "assets" / self.file))


SHIPPED: dict[str, Shipped] = {
    "pose": Shipped(
        task="pose",
        file="pose.safetensors",
        size=(160, 128),
        metric="LSP test PCK@0.2 85.4",
        code_license="MIT",
        data="Leeds Sports Poses (train) and its extended set",
        data_license="none stated; its authors ask for citation",
    ),
    "segmentation": Shipped(
        task="segmentation",
        file="segmentation.safetensors",
        size=(224, 144),
        metric="CCP val mIoU 46.2",
        code_license="MIT",
        data="Clothing Co-Parsing (804 images), 12 merged classes",
        data_license="Apache-2.0",
    ),
    "detection": Shipped(
        task="detection",
        file="detection.safetensors",
        size=(320, 320),
        metric="Penn-Fudan test AP50 0.959, AP 0.640",
        code_license="MIT",
        data="people of Penn-Fudan, 50 COCO images, Leeds Sports Poses and Clothing Co-Parsing",
        data_license="none stated, but for Clothing Co-Parsing (Apache-2.0) and COCO's images (Creative Commons)",
    ),
}
