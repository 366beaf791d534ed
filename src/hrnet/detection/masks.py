"""Masks of objects: the head that finds them, what it learns, and how its small maps come into the image.

Boxes are x1 y1 x2 y2 and count from the outer edge of the first pixel. A mask head sees an object as m x m cells that divide
its box; so does a chip, which is what is known of a labeled object: see `hrnet.detection.chips`.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from hrnet.io.geometry import Size
from hrnet.results import Masks


class MaskHead(nn.Module):
    """From the features of regions to a map a class, twice as fine: 3x3 convolutions, a deconvolution, a 1x1 convolution.

    Source: arXiv 1703.06870, figure 4, and mmdetection's settings; of the information flow arXiv 1901.07518, section 3.1.

    Args:
        num_classes: maps of each region.
        channels: of the features, and inside.
        num_convs: 3x3 convolutions before the deconvolution.
        informed: whether it also reads what the head before it has found (the later heads of a Hybrid Task Cascade).
    """

    def __init__(self, num_classes: int, channels: int = 256, num_convs: int = 4, informed: bool = False) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(num_convs))
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.logits = nn.Conv2d(channels, num_classes, 1)
        self.previous = nn.Conv2d(channels, channels, 1) if informed else None
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                assert layer.bias is not None
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
                nn.init.zeros_(layer.bias)
        # The rule above is for many maps: of a single one it makes logits of several units that mean nothing.
        nn.init.normal_(self.logits.weight, std=0.01)

    def inside(
        self, features: Float[Tensor, "p c h w"], previous: Float[Tensor, "p c h w"] | None = None
    ) -> Float[Tensor, "p c h w"]:
        """What the deconvolution reads, and the next head too, where heads are `informed`.

        Args:
            features: of the regions.
            previous: `inside` of the head before, of the same regions; only for one that is `informed`.
        """
        if self.previous is not None:
            assert previous is not None
            features = features + self.previous(previous).relu()
        for conv in self.convs:
            features = conv(features).relu()
        return features

    def outputs(self, inside: Float[Tensor, "p c h w"]) -> Float[Tensor, "p k H W"]:
        """The logits that follow from `inside`."""
        return self.logits(self.upsample(inside).relu())

    def forward(
        self, features: Float[Tensor, "p c h w"], previous: Float[Tensor, "p c h w"] | None = None
    ) -> Float[Tensor, "p k H W"]:
        return self.outputs(self.inside(features, previous))


class MaskHeads(nn.Module):
    """The mask heads of all stages, one after the other in a cascade.

    Args:
        num_stages: how many.
        num_classes: maps of each region.
        channels: of the features, and inside.
        informed: whether each reads what the one before it has found of the same region.
        average: see `together`.
    """

    def __init__(
        self, num_stages: int, num_classes: int, channels: int = 256, informed: bool = False, average: bool = True
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            MaskHead(num_classes, channels, informed=informed and stage > 0) for stage in range(num_stages)
        )
        self.informed = informed
        self.average = average

    def forward(self, features: Float[Tensor, "p c h w"], stage: int) -> Float[Tensor, "p k H W"]:
        """The logits of one stage; of the heads before it only what it reads of them is computed."""
        previous = None
        for head in self._heads()[:stage] if self.informed else ():
            previous = head.inside(features, previous)
        return self._heads()[stage](features, previous)

    def each(self, features: Float[Tensor, "p c h w"]) -> list[Float[Tensor, "p k H W"]]:
        """The logits of every stage."""
        logits, previous = [], None
        for head in self._heads():
            previous = head.inside(features, previous if self.informed else None)
            logits.append(head.outputs(previous))
        return logits

    def together(self, features: Float[Tensor, "p c h w"], labels: Int[Tensor, " p"]) -> Float[Tensor, "p m m"]:
        """Of each region's class the logits of the mean of all stages' probabilities; without `average` the last stage's."""
        if not self.average or len(self.stages) == 1:
            return of_labels(self(features, len(self.stages) - 1), labels).float()
        logits = [of_labels(one, labels).float() for one in self.each(features)]
        # What is certain stays finite.
        return torch.stack([one.sigmoid() for one in logits]).mean(0).logit(eps=1e-6)

    def _heads(self) -> list[MaskHead]:
        return [cast(MaskHead, head) for head in self.stages]


def mask_targets(
    chips: UInt8[Tensor, "p c c"], boxes: Float[Tensor, "p 4"], regions: Float[Tensor, "p 4"], size: int = 28
) -> Float[Tensor, "p m m"]:
    """Which cells of a region its object covers by half or more: 0 or 1.

    Each cell is the mean of 2 x 2 points between the chip's cells; beyond its box nothing belongs to an object.

    Args:
        chips: of the objects that the regions belong to.
        boxes: of these objects, pixels of the input, each with an area.
        regions: pixels of the input.
        size: cells along each side of a region.
    """
    steps = (torch.arange(2 * size, device=regions.device, dtype=regions.dtype) + 0.5) / (2 * size)
    low, extent = regions[:, :2], regions[:, 2:] - regions[:, :2]
    points = low[:, None] + steps[:, None] * extent[:, None]
    # From -1 to 1 across the box of the object, as grid_sample counts.
    inside = 2 * (points - boxes[:, None, :2]) / (boxes[:, None, 2:] - boxes[:, None, :2]) - 1
    across = inside[:, None, :, 0].expand(-1, 2 * size, -1)
    down = inside[:, :, None, 1].expand(-1, -1, 2 * size)
    values = functional.grid_sample(
        chips[:, None].to(regions.dtype), torch.stack([across, down], dim=-1), mode="bilinear", align_corners=False
    )
    return (functional.avg_pool2d(values, 2)[:, 0] >= 0.5).to(regions.dtype)


def mask_loss(
    logits: Float[Tensor, "p k m m"], targets: Float[Tensor, "p m m"], labels: Int[Tensor, " p"]
) -> Float[Tensor, ""]:
    """Binary cross entropy of the true class's map: the mean over cells and regions, 0 where there is no region."""
    if not len(labels):
        return logits.sum() * 0
    return functional.binary_cross_entropy_with_logits(of_labels(logits, labels), targets)


def of_labels(logits: Float[Tensor, "p k m m"], labels: Int[Tensor, " p"]) -> Float[Tensor, "p m m"]:
    """Of each region the map of its class."""
    return logits[torch.arange(len(labels), device=logits.device), labels]


def paste_masks(
    probabilities: Float[np.ndarray, "n m m"], boxes: Float[np.ndarray, "n 4"], size: Size, threshold: float = 0.5
) -> Masks:
    """The masks at the resolution of an image: each is enlarged to its box and cut at a probability.

    What is enlarged is the probability, bilinearly, 0 beyond the box. A side without length shows the middle of the mask in
    the pixels that it touches, as published.

    Args:
        probabilities: of the m x m cells of each box.
        boxes: pixels of the image.
        size: height and width of the image.
        threshold: what is at least as probable belongs to the object.
    """
    height, width = size
    low = np.clip(np.floor(boxes[:, :2]) - 1, 0, [width, height]).astype(int)
    high = np.clip(np.ceil(boxes[:, 2:]) + 1, low, [width, height]).astype(int)
    crops: list[Bool[np.ndarray, "_ _"]] = []
    for cells, box, (left, top), (right, bottom) in zip(probabilities, boxes, low, high, strict=True):
        # Bilinear reading is one weighted sum along each axis: of two small matrices' products, not of a grid of points.
        down = _weights(top, bottom, box[1], box[3], cells.shape[0])
        across = _weights(left, right, box[0], box[2], cells.shape[1])
        crops.append(down @ cells.astype(np.float32) @ across.T >= threshold)
    return Masks(tuple(crops), low, size)


def _weights(start: int, stop: int, low: float, high: float, cells: int) -> Float[np.ndarray, "pixels cells"]:
    """How much of each cell between `low` and `high` the pixels from `start` to `stop` show."""
    centers = np.arange(start, stop) + 0.5
    extent = high - low
    share = (centers - low) / extent if extent > 0 else np.full(len(centers), 0.5)
    distance = share[:, None] * cells - 0.5 - np.arange(cells)
    return np.maximum(1 - np.abs(distance), 0).astype(np.float32)
