"""A classification network as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from hrnet.geometry import Size
from hrnet.spec import HRNetSpec, hrnet


@dataclass(frozen=True, slots=True)
class ClassificationSpec:
    """Everything that fixes a classification network and how it is used.

    Attributes:
        class_names: in the order of the network's outputs; none: they are called class_0, class_1 ...
        num_classes: how many; may be left out (0) where the names say it, and is their number once the spec is made.
        backbone: any that returns all four maps.
        input_size: height and width of the input.
        head_bias: whether the head's convolutions have biases, which the batch norms after them make redundant: the
            published networks have them, those of Paddle's SSLD and of mmpretrain do not.
    """

    class_names: tuple[str, ...] = ()
    num_classes: int = 0
    backbone: HRNetSpec = field(default_factory=lambda: hrnet(18))
    input_size: Size = (224, 224)
    head_bias: bool = True

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
            raise ValueError("Two classes have one name.")
        if min(self.input_size) < 32:
            raise ValueError(f"input_size is at least 32 x 32, not {self.input_size}.")
        if self.backbone.high_resolution_only:
            raise ValueError("Classification reads all four maps; the backbone must not be high_resolution_only.")
