"""A backbone without a head as a model: what files of ImageNet's backbones hold. It gives maps, and decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from jaxtyping import Float
from torch import Tensor

from hrnet.errors import InputError
from hrnet.inference.processor import BoxPrompts
from hrnet.io.geometry import Frame, Size
from hrnet.nn.backbone import HRNet
from hrnet.nn.spec import BackboneSpec
from hrnet.nn.task import Batch, TaskModel
from hrnet.results import Source


class BackboneMaps(NamedTuple):
    """What the network returns: its maps by their strides. V1 has the finest alone."""

    stride_4: Float[Tensor, "n _ _ _"]
    stride_8: Float[Tensor, "n _ _ _"] | None = None
    stride_16: Float[Tensor, "n _ _ _"] | None = None
    stride_32: Float[Tensor, "n _ _ _"] | None = None


class BackboneModel(TaskModel[Any]):
    """Maps of an image, for a head of one's own (`hrnet.features_only`) or as a start of a training (``--init``)."""

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__(spec, spec.backbone.in_channels)
        self.spec: BackboneSpec = spec
        self.backbone = HRNet(spec.backbone)

    def forward(self, images: Float[Tensor, "n c h w"]) -> BackboneMaps:
        return BackboneMaps(*self.features(images))

    def loss(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """There is none; raises InputError, as all that follows."""
        refuse_headless()

    def decode(self, outputs: Any, frames: Sequence[Frame]) -> list[Any]:
        refuse_headless()

    def frames(self, size: Size, boxes: BoxPrompts) -> list[Frame]:
        refuse_headless()

    def join(self, results: Sequence[Any], boxes: BoxPrompts, source: Source) -> Any:
        refuse_headless()


def refuse_headless() -> NoReturn:
    """Raises InputError, which says what a backbone alone is good for."""
    raise InputError(
        "This model is a backbone without a head, which finds nothing by itself; start a training from it with "
        "`hrnet train RECIPE --init`, or take its maps with hrnet.features_only(model)."
    )
