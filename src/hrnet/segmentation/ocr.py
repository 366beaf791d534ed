"""The OCR head: every pixel looks at the regions of the classes.

A first guess of the classes (the auxiliary output) says which pixels make up the region of each class; a region is the mean
of their features; a pixel's context is a mean of the regions that it resembles.

Source: arXiv 1909.11065 and the released network, which works at stride 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hrnet.nn.backbone import conv_bn
from hrnet.nn.representation import PixelHead, concat_conv_bn
from hrnet.segmentation.processor import SegmentationOutput
from hrnet.segmentation.spec import ContextSpec


class ContextHead(nn.Module):
    """From the maps of the backbone to logits and the first guess; starts with the weights that PyTorch draws.

    Args:
        widths: channels of the maps.
        outputs: number of classes.
        spec: widths inside.
        align_corners: of the enlargement of the maps.
    """

    def __init__(self, widths: Sequence[int], outputs: int, spec: ContextSpec, align_corners: bool) -> None:
        super().__init__()
        channels, keys = spec.channels, spec.key_channels
        self.guess = PixelHead(widths, outputs, align_corners=align_corners)
        self.features = concat_conv_bn(widths, channels, 3, align_corners)
        self.query = nn.Sequential(conv_bn(channels, keys, 1, relu=True), conv_bn(keys, keys, 1, relu=True))
        self.key = nn.Sequential(conv_bn(channels, keys, 1, relu=True), conv_bn(keys, keys, 1, relu=True))
        self.value = conv_bn(channels, keys, 1, relu=True)
        self.expand = conv_bn(keys, channels, 1, relu=True)
        self.merge = conv_bn(2 * channels, channels, 1, relu=True)
        self.dropout = nn.Dropout2d(spec.dropout)
        self.classify = nn.Conv2d(channels, outputs, 1)

    def forward(self, maps: Sequence[Float[Tensor, "n _ _ _"]]) -> SegmentationOutput:
        guess = self.guess(maps)
        features = self.features(maps)
        context = self.context(features, gather_regions(guess, features))
        merged = self.dropout(self.merge(torch.cat([context, features], dim=1)))
        return SegmentationOutput(self.classify(merged), guess)

    def context(
        self, features: Float[Tensor, "n c h w"], regions: Float[Tensor, "n c k 1"]
    ) -> Float[Tensor, "n c h w"]:
        """For every pixel the mean of the regions, each weighted by how alike they are (softmax over the classes)."""
        query = self.query(features)
        key, value = self.key(regions).flatten(2), self.value(regions).flatten(2)
        likeness = query.flatten(2).transpose(1, 2) @ key * key.shape[1] ** -0.5
        mean = value @ likeness.softmax(dim=-1).transpose(1, 2)
        return self.expand(mean.view(query.shape))


def gather_regions(guess: Float[Tensor, "n k h w"], features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c k 1"]:
    """For every class the mean of the features, weighted by how much each pixel is of it (softmax over the pixels)."""
    shares = guess.flatten(2).softmax(dim=-1)
    return (features.flatten(2) @ shares.transpose(1, 2).to(features.dtype))[..., None]
