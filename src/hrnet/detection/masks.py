"""Mask heads, their targets and their loss.

Boxes are x1 y1 x2 y2 and count from the outer edge of the first pixel. A mask head predicts m x m cells that divide the box
of an object; labels are mask crops, which divide the labeled box: see `hrnet.detection.mask_crops`.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional


class MaskHead(nn.Module):
    """3x3 convolutions, a deconvolution and a 1x1 convolution: one map per class, at twice the resolution of the features.

    Source: arXiv 1703.06870, figure 4, and mmdetection's settings; arXiv 1901.07518, section 3.1, for the mask information
    flow.

    Args:
        num_classes: number of maps per region.
        channels: width of the features and of the hidden layers.
        num_convs: 3x3 convolutions before the deconvolution.
        information_flow: True if the head also reads the features of the head before it (the later heads of a Hybrid Task
            Cascade).
    """

    def __init__(
        self, num_classes: int, channels: int = 256, num_convs: int = 4, information_flow: bool = False
    ) -> None:
        super().__init__()
        self.convs: nn.ModuleList = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(num_convs))
        self.upsample: nn.ConvTranspose2d = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.logits: nn.Conv2d = nn.Conv2d(channels, num_classes, 1)
        self.previous: nn.Conv2d | None = nn.Conv2d(channels, channels, 1) if information_flow else None
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                assert layer.bias is not None
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
                nn.init.zeros_(layer.bias)
        # The rule above is for many maps; for a single one the logits of a new head would be several units large.
        nn.init.normal_(self.logits.weight, std=0.01)

    def forward_features(
        self, features: Float[Tensor, "p c h w"], previous: Float[Tensor, "p c h w"] | None = None
    ) -> Float[Tensor, "p c h w"]:
        """Return the input of the deconvolution, which the next head reads too in a mask information flow.

        Args:
            features: region features.
            previous: `forward_features` of the head before for the same regions; None without information flow.
        """
        if self.previous is not None:
            assert previous is not None
            features = features + self.previous(previous).relu()
        for conv in self.convs:
            features = conv(features).relu()
        return features

    def predict(self, hidden: Float[Tensor, "p c h w"]) -> Float[Tensor, "p k H W"]:
        """Return the logits from the outputs of `forward_features`."""
        return self.logits(self.upsample(hidden).relu())

    def forward(
        self, features: Float[Tensor, "p c h w"], previous: Float[Tensor, "p c h w"] | None = None
    ) -> Float[Tensor, "p k H W"]:
        return self.predict(self.forward_features(features, previous))


class MaskHeads(nn.Module):
    """The mask heads of all stages of a cascade.

    Args:
        num_stages: number of heads.
        num_classes: number of maps per region.
        channels: width of the features and of the hidden layers.
        information_flow: True if each head reads the features of the head before it.
        average: True if `ensemble` averages the probabilities of all stages.
    """

    def __init__(
        self,
        num_stages: int,
        num_classes: int,
        channels: int = 256,
        information_flow: bool = False,
        average: bool = True,
    ) -> None:
        super().__init__()
        self.stages: nn.ModuleList = nn.ModuleList(
            MaskHead(num_classes, channels, information_flow=information_flow and stage > 0)
            for stage in range(num_stages)
        )
        self.information_flow = information_flow
        self.average = average

    def forward(self, features: Float[Tensor, "p c h w"], stage: int) -> Float[Tensor, "p k H W"]:
        """Return the logits of one stage; of the heads before it only the features that it reads are computed."""
        previous = None
        for head in self._heads()[:stage] if self.information_flow else ():
            previous = head.forward_features(features, previous)
        return self._heads()[stage](features, previous)

    def forward_stages(self, features: Float[Tensor, "p c h w"]) -> list[Float[Tensor, "p k H W"]]:
        """Return the logits of every stage."""
        logits, previous = [], None
        for head in self._heads():
            previous = head.forward_features(features, previous if self.information_flow else None)
            logits.append(head.predict(previous))
        return logits

    def ensemble(self, features: Float[Tensor, "p c h w"], labels: Int[Tensor, " p"]) -> Float[Tensor, "p m m"]:
        """Return the logits of each region's class: of the mean probability of all stages, or of the last stage alone."""
        if not self.average or len(self.stages) == 1:
            return select_class(self(features, len(self.stages) - 1), labels).float()
        logits = [select_class(one, labels).float() for one in self.forward_stages(features)]
        # eps keeps the logits of probabilities 0 and 1 finite.
        return torch.stack([one.sigmoid() for one in logits]).mean(0).logit(eps=1e-6)

    def _heads(self) -> list[MaskHead]:
        return [cast(MaskHead, head) for head in self.stages]


def mask_targets(
    crops: UInt8[Tensor, "p c c"], boxes: Float[Tensor, "p 4"], regions: Float[Tensor, "p 4"], size: int = 28
) -> Float[Tensor, "p m m"]:
    """Return 1 for the cells of a region that its object covers by at least half, else 0.

    Each cell is the mean of 2 x 2 points, interpolated between the cells of the crop; points outside the box count as 0.

    Args:
        crops: mask crops of the objects that the regions are matched to.
        boxes: boxes of these objects, of nonzero area, pixels of the input.
        regions: boxes in pixels of the input.
        size: cells along each side of a region.
    """
    steps = (torch.arange(2 * size, device=regions.device, dtype=regions.dtype) + 0.5) / (2 * size)
    low, extent = regions[:, :2], regions[:, 2:] - regions[:, :2]
    points = low[:, None] + steps[:, None] * extent[:, None]
    # The coordinates of grid_sample: -1 to 1 across the box of the object.
    grid = 2 * (points - boxes[:, None, :2]) / (boxes[:, None, 2:] - boxes[:, None, :2]) - 1
    x = grid[:, None, :, 0].expand(-1, 2 * size, -1)
    y = grid[:, :, None, 1].expand(-1, -1, 2 * size)
    values = functional.grid_sample(
        crops[:, None].to(regions.dtype), torch.stack([x, y], dim=-1), mode="bilinear", align_corners=False
    )
    return (functional.avg_pool2d(values, 2)[:, 0] >= 0.5).to(regions.dtype)


def mask_loss(
    logits: Float[Tensor, "p k m m"], targets: Float[Tensor, "p m m"], labels: Int[Tensor, " p"]
) -> Float[Tensor, ""]:
    """Return the binary cross entropy of the true class's map, averaged over cells and regions; 0 without regions."""
    if not len(labels):
        return logits.sum() * 0
    return functional.binary_cross_entropy_with_logits(select_class(logits, labels), targets)


def select_class(logits: Float[Tensor, "p k m m"], labels: Int[Tensor, " p"]) -> Float[Tensor, "p m m"]:
    """Return the map of each region's class."""
    return logits[torch.arange(len(labels), device=logits.device), labels]
