"""A backbone without a head as a model: the checkpoints of ImageNet's backbones, and `hrnet.features_only`."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hrnet.errors import InputError
from hrnet.nn.backbone import Bottleneck
from hrnet.nn.spec import BackboneSpec
from hrnet.nn.task import HRNetModel


class BackboneModel(HRNetModel[BackboneSpec]):
    """RGB images in [0, 1] in, a list of maps out, for a head of one's own or as a start of a training (``--init``).

    Attributes:
        widen: layers after the maps; None for the maps themselves.
        channels: channels of each map, the finest first.
        reductions: stride of each map, in pixels of the image.
    """

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__(spec)
        self.widen: nn.ModuleList | None = None
        self.channels: tuple[int, ...] = spec.backbone.widths
        self.reductions: tuple[int, ...] = tuple(4 << level for level in range(len(self.channels)))

    def forward(self, images: Float[Tensor, "n c h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        maps = self.features(images)
        return maps if self.widen is None else [layer(x) for layer, x in zip(self.widen, maps, strict=True)]


def features_only(model: HRNetModel[Any], *, widened: bool = False) -> BackboneModel:
    """Return a module that gives a list of a model's maps, the finest first, and knows its `channels` and `reductions`.

    Args:
        model: model of any task, from `load` or `create_model`; its weights are shared, not copied.
        widened: True for the maps after the bottlenecks of a classification head, as timm's ``features_only`` gives
            them (and before them one of the stem at stride 2, of images that are normalized already).

    Raises:
        ValueError: the model has no head that widens its maps.
    """
    with torch.device("meta"):
        features = BackboneModel(BackboneSpec(model.backbone.spec))
    features.backbone, features.mean, features.std = model.backbone, model.mean.clone(), model.std.clone()
    if widened:
        features.widen = model.widening()
        if features.widen is None:
            raise ValueError("Only a classification model has a head that widens the maps; leave out widened=True.")
        features.channels = tuple(
            Bottleneck.expansion * layer.bn1.num_features for layer in features.widen if isinstance(layer, Bottleneck)
        )
    return features.train(model.training)


def refuse_headless() -> NoReturn:
    """Raise InputError, which says what a backbone alone is good for."""
    raise InputError(
        "This model is a backbone without a head, which predicts nothing by itself; start a training from it with "
        "`hrnet train RECIPE --init`, or take its maps with hrnet.features_only(model)."
    )
