"""The OCR head: pixels attend to the object regions of the classes.

An auxiliary classifier predicts the region of each class; a region is the mean of their features; the
context of a pixel is a mean of the regions, weighted by their similarity to it.

Source: arXiv 1909.11065 and the released network, which works at stride 4.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from hrnet.nn.kernels import conv_norm
from hrnet.nn.representation import ConcatConv2d, MapsSequential, PixelHead
from hrnet.segmentation.processor import SegmentationOutput
from hrnet.segmentation.spec import OCRSpec


class OCRHead(nn.Module):
    """Head from the maps of the backbone to logits and auxiliary logits; new weights are PyTorch's defaults."""

    def __init__(self, widths: Sequence[int], outputs: int, spec: OCRSpec, align_corners: bool) -> None:
        super().__init__()
        channels, keys = spec.channels, spec.key_channels
        self.auxiliary: PixelHead = PixelHead(widths, outputs, align_corners=align_corners)
        self.features: MapsSequential = MapsSequential(
            OrderedDict(
                conv=ConcatConv2d(widths, channels, 3, align_corners),
                norm=nn.BatchNorm2d(channels),
                relu=nn.ReLU(inplace=True),
            )
        )
        self.query: nn.Sequential = _reduce(channels, keys)
        self.key: nn.Sequential = _reduce(channels, keys)
        self.value: _Layer = _Layer(channels, keys)
        self.expand: _Layer = _Layer(keys, channels)
        self.merge: _Layer = _Layer(2 * channels, channels)
        self.dropout: nn.Dropout2d = nn.Dropout2d(spec.dropout)
        self.classify: nn.Conv2d = nn.Conv2d(channels, outputs, 1)

    def forward(self, maps: Sequence[Float[Tensor, "n _ _ _"]]) -> SegmentationOutput:
        auxiliary = self.auxiliary(maps)
        features = self.features(maps)
        context = self.attend(features, region_features(auxiliary, features))
        merged = self.dropout(self.merge(torch.cat([context, features], dim=1)))
        return SegmentationOutput(self.classify(merged), auxiliary)

    def attend(self, features: Float[Tensor, "n c h w"], regions: Float[Tensor, "n c k 1"]) -> Float[Tensor, "n c h w"]:
        """Return for every pixel the mean of the regions, weighted by similarity (softmax over the classes)."""
        query = self.query(features)
        key, value = self.key(regions).flatten(2), self.value(regions).flatten(2)
        similarity = query.flatten(2).transpose(1, 2) @ key * key.shape[1] ** -0.5
        mean = value @ similarity.softmax(dim=-1).transpose(1, 2)
        return self.expand(mean.view(query.shape))


class _Layer(nn.Module):
    """1x1 convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv: nn.Conv2d = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm: nn.BatchNorm2d = nn.BatchNorm2d(outputs)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        return functional.relu(conv_norm(self.conv, self.norm, x), inplace=True)


def _reduce(channels: int, keys: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(reduce=_Layer(channels, keys), refine=_Layer(keys, keys)))


def region_features(logits: Float[Tensor, "n k h w"], features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c k 1"]:
    """Return for every class the mean of the features, weighted by its logits (softmax over the pixels)."""
    weights = logits.flatten(2).softmax(dim=-1)
    return (features.flatten(2) @ weights.transpose(1, 2).to(features.dtype))[..., None]
