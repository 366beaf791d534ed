"""The classification network: a backbone, and four maps that join on the way down to one vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from hrnet.classification.spec import ClassificationSpec
from hrnet.inference.processor import BoxPrompts
from hrnet.io.geometry import Frame, Size
from hrnet.nn.backbone import Bottleneck, conv_bn, init_kaiming
from hrnet.nn.task import Batch, TaskModel
from hrnet.results import Classification, Source

# The vector's width as a multiple of the first bottleneck's. Source: arXiv 1908.07919, section 3.3 (128, 256, 512, 1024
# channels after the expansion, then 2048), and HRNet-Image-Classification.
VECTOR_WIDTHS = 64


class ClassificationOutput(NamedTuple):
    """What the network returns: one score a class, before the softmax."""

    logits: Float[Tensor, "n k"]


class ClassificationHead(nn.Module):
    """Each map widened by a bottleneck; from the highest resolution downwards, halved and added to the next.

    The sums have no activation. (The paper gives the stride-2 convolutions 256 outputs; only the first has so few.)
    """

    def __init__(self, widths: Sequence[int], spec: ClassificationSpec) -> None:
        super().__init__()
        middles, bias = [spec.head_width << level for level in range(4)], spec.head_bias
        self.widen = nn.ModuleList(Bottleneck(width, middle) for width, middle in zip(widths, middles, strict=True))
        wide = [Bottleneck.expansion * middle for middle in middles]
        self.halve = nn.ModuleList(
            conv_bn(wide[level], wide[level + 1], 3, 2, relu=True, bias=bias) for level in range(3)
        )
        vector = VECTOR_WIDTHS * spec.head_width
        self.expand = conv_bn(wide[-1], vector, 1, relu=True, bias=bias)
        self.classifier = nn.Linear(vector, spec.num_classes)

    def forward(self, maps: Sequence[Float[Tensor, "n _ _ _"]]) -> Float[Tensor, "n k"]:
        first, *others = self.widened(maps)
        x = first
        for halve, wide in zip(self.halve, others, strict=True):
            x = wide + halve(x)
        return self.classifier(self.expand(x).mean(dim=(-2, -1)))

    def widened(self, maps: Sequence[Float[Tensor, "n _ _ _"]]) -> list[Float[Tensor, "n _ _ _"]]:
        """Each map after its bottleneck, with 128, 256, 512, 1024 channels in the published networks."""
        return [widen(x) for widen, x in zip(self.widen, maps, strict=True)]


class ClassificationModel(TaskModel[ClassificationSpec, Classification]):
    """One class an image."""

    def __init__(self, spec: ClassificationSpec) -> None:
        super().__init__(spec)
        self.head = ClassificationHead(spec.backbone.widths, spec)
        init_kaiming(self)

    def forward(self, images: Float[Tensor, "n c h w"]) -> ClassificationOutput:
        return ClassificationOutput(self.head(self.backbone(self.normalize(images))))

    def widening(self) -> nn.ModuleList:
        return self.head.widen

    def loss(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Cross entropy with the targets `labels` (`n`, whole numbers from 0), mean over the batch.

        Where samples are mixed there are `others`, their second labels, and `share`, the weight of the first ones.
        """
        logits = self(batch.images).logits.float()
        targets, smoothing = batch.targets, self.spec.label_smoothing
        if "others" not in targets:
            labels = targets["labels"].long()
            return {"classes": functional.cross_entropy(logits, labels, label_smoothing=smoothing)}
        first, second = (
            functional.cross_entropy(logits, targets[name].long(), label_smoothing=smoothing, reduction="none")
            for name in ("labels", "others")
        )
        return {"classes": torch.lerp(second, first, targets["share"].float()).mean()}

    def named_outputs(self) -> dict[str, tuple[str, ...]]:
        return {"head.classifier": self.spec.class_names}

    def merge_flip(
        self, outputs: ClassificationOutput, mirrored: ClassificationOutput, input_size: Size
    ) -> ClassificationOutput:
        """The mean of the logits (so the geometric mean of the odds), not of the probabilities."""
        return ClassificationOutput((outputs.logits + mirrored.logits) / 2)

    def decode(self, outputs: ClassificationOutput, frames: Sequence[Frame]) -> list[Classification]:
        """One result an image: the probability of each class."""
        scores = torch.softmax(outputs.logits.float(), dim=-1).cpu().numpy()
        return [Classification(row, self.spec.class_names) for row, _ in zip(scores, frames, strict=True)]

    def frames(self, size: Size, boxes: BoxPrompts) -> list[Frame]:
        """The middle of the image, as published."""
        return [middle_frame(size, self.spec)]

    def join(self, results: Sequence[Classification], boxes: BoxPrompts, source: Source) -> Classification:
        """That of the one input."""
        return replace(results[0], source=source)


def middle_frame(size: Size, spec: ClassificationSpec) -> Frame:
    """The middle of an image of this height and width in the network's input."""
    height, width = size
    rows, columns = spec.input_size
    span = spec.crop_share * min(width, height * columns / rows)
    # `around` brings its center half a pixel to the right and below the middle of the input.
    shift = 0.5 * span / columns
    center = ((width - 1) / 2 + shift, (height - 1) / 2 + shift)
    return Frame.around(center, span, spec.input_size, size)
