"""The models inside the package, as data."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path


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
        metric="LSP test PCK@0.2 85.4",
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
    "detection": Shipped(
        task="detection",
        file="detection.safetensors",
        size=(320, 320),
        metric="Penn-Fudan test AP50 0.959, AP 0.640",
        code_licence="MIT",
        data="people of Penn-Fudan, 50 COCO pictures, Leeds Sports Poses and Clothing Co-Parsing",
        data_licence="none stated, but for Clothing Co-Parsing (Apache-2.0) and COCO's pictures (Creative Commons)",
    ),
}
