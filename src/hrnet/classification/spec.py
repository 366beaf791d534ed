"""A classification network as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from hrnet.io.geometry import Size
from hrnet.nn.spec import HRNetSpec, hrnet


@dataclass(frozen=True, slots=True)
class ClassificationSpec:
    """A classification network and its use, as data."""

    class_names: tuple[str, ...] = ()
    """names of the classes, in the order of the outputs; empty for class_0, class_1 ..."""
    num_classes: int = 0  # number of classes; 0 takes it from the names
    backbone: HRNetSpec = field(default_factory=lambda: hrnet(18))  # backbone that returns all four maps
    input_size: Size = (224, 224)  # height and width of the input
    head_bias: bool = True
    """whether the head's convolutions have biases, which the batch norms after them make redundant: the published
    networks have them, those of Paddle's SSLD and of mmpretrain do not"""
    head_width: int = 32
    """middle channels of the head's bottleneck at stride 4; each lower resolution has twice as many, and the final
    vector 64 times; 32 in the published networks"""
    crop_fraction: float = 224 / 256
    """side of the central crop as a fraction of the largest crop with the input's aspect. As published: the shorter
    side becomes 256 pixels, of which the central 224 are used."""
    label_smoothing: float = 0.0  # fraction of each target that is spread evenly over all classes in the loss

    def __post_init__(self) -> None:
        if not self.num_classes:
            object.__setattr__(self, "num_classes", len(self.class_names))
        if not self.class_names and self.num_classes > 0:
            object.__setattr__(self, "class_names", tuple(f"class_{label}" for label in range(self.num_classes)))
        if self.num_classes < 1 or len(self.class_names) != self.num_classes:
            raise ValueError(
                f"A classifier needs at least one class and a name for each: num_classes is {self.num_classes}, "
                f"and there are {len(self.class_names)} names."
            )
        if len(set(self.class_names)) != self.num_classes:
            raise ValueError("class_names must differ from one another.")
        if min(self.input_size) < 32:
            raise ValueError(f"input_size is at least 32 x 32, not {self.input_size}.")
        if self.head_width < 1 or not 0 < self.crop_fraction <= 1 or not 0 <= self.label_smoothing < 1:
            raise ValueError(
                "head_width starts at 1, crop_fraction lies above 0 up to 1, label_smoothing from 0 to below 1: "
                f"{self.head_width}, {self.crop_fraction}, {self.label_smoothing}."
            )
        if self.backbone.high_resolution_only:
            raise ValueError("Classification reads all four maps; the backbone must not be high_resolution_only.")

    @property
    def outputs(self) -> str:
        """The network's outputs in words."""
        return f"{self.num_classes} classes"
