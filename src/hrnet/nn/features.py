"""A network's maps alone, for those who put a head of their own on them."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from hrnet.classification.model import ClassificationModel
from hrnet.nn.backbone import Bottleneck
from hrnet.nn.task import TaskModel


class Features(nn.Module):
    """A model without its head: RGB images in [0, 1] in, a list of maps out.

    Args:
        model: whose weights these are; they are shared, not copied.
        widened: see `features_only`.

    Attributes:
        channels: of each map.
        reductions: the stride of each map, in pixels of the image.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: TaskModel[Any], widened: bool) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.widen: nn.ModuleList | None = None
        self.channels = model.backbone.spec.widths
        if widened:
            if not isinstance(model, ClassificationModel):
                raise ValueError("Only a classification model has a head that widens the maps; leave out widened=True.")
            self.widen = model.head.widen
            self.channels = tuple(
                Bottleneck.expansion * model.spec.head_width << level for level in range(len(self.channels))
            )
        self.reductions = tuple(4 << level for level in range(len(self.channels)))
        self.register_buffer("mean", model.mean.clone(), persistent=False)
        self.register_buffer("std", model.std.clone(), persistent=False)

    def forward(self, images: Float[Tensor, "n c h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        maps = self.backbone((images - self.mean) / self.std)
        if self.widen is None:
            return maps
        return [widen(x) for widen, x in zip(self.widen, maps, strict=True)]


def features_only(model: TaskModel[Any], *, widened: bool = False) -> Features:
    """A module that returns the list of a model's maps, the finest first, and knows its `channels` and `reductions`.

    Args:
        model: of any task, from `load` or `create_model`; what is trained in one is trained in the other.
        widened: of a classification model, the maps after the head's bottlenecks. timm's ``features_only`` gives these,
            and before them one of the stem at stride 2; it wants images that are normalized already.

    Raises:
        ValueError: `widened` of a model that does not classify.
    """
    return Features(model, widened)
