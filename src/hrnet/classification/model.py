"""The classification network: a backbone, and a head that joins its four maps into one vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from hrnet.classification.processor import ClassificationOutput, ClassificationProcessor
from hrnet.classification.spec import ClassificationSpec
from hrnet.nn.backbone import Bottleneck, ConvBN, conv_bn, init_kaiming
from hrnet.nn.task import Batch, TaskModel
from hrnet.results import Classification

# The vector's width as a multiple of the first bottleneck's. Source: arXiv 1908.07919, section 3.3 (128, 256, 512, 1024
# channels after the expansion, then 2048), and HRNet-Image-Classification.
VECTOR_WIDTHS = 64


class ClassificationHead(nn.Module):
    """A bottleneck per map; from the highest resolution down, each map is halved and added to the next.

    The sums have no activation. (The paper gives the stride-2 convolutions 256 outputs; only the first has so few.)
    """

    def __init__(self, widths: Sequence[int], spec: ClassificationSpec) -> None:
        super().__init__()
        middles, bias = [spec.head_width << level for level in range(4)], spec.head_bias
        self.widen: nn.ModuleList = nn.ModuleList(
            Bottleneck(width, middle) for width, middle in zip(widths, middles, strict=True)
        )
        wide = [Bottleneck.expansion * middle for middle in middles]
        self.halve: nn.ModuleList = nn.ModuleList(
            conv_bn(wide[level], wide[level + 1], 3, 2, relu=True, bias=bias) for level in range(3)
        )
        vector = VECTOR_WIDTHS * spec.head_width
        self.expand: ConvBN = conv_bn(wide[-1], vector, 1, relu=True, bias=bias)
        self.classifier: nn.Linear = nn.Linear(vector, spec.num_classes)

    def forward(self, maps: Sequence[Float[Tensor, "n _ _ _"]]) -> Float[Tensor, "n k"]:
        first, *others = self.widened(maps)
        x = first
        for halve, wide in zip(self.halve, others, strict=True):
            x = wide + halve(x)
        return self.classifier(self.expand(x).mean(dim=(-2, -1)))

    def widened(self, maps: Sequence[Float[Tensor, "n _ _ _"]]) -> list[Float[Tensor, "n _ _ _"]]:
        """Return each map after its bottleneck, with 128, 256, 512, 1024 channels in the published networks."""
        return [widen(x) for widen, x in zip(self.widen, maps, strict=True)]


class ClassificationModel(TaskModel[ClassificationSpec, Classification]):
    """A classification network."""

    def __init__(self, spec: ClassificationSpec) -> None:
        super().__init__(spec)
        self.processor = ClassificationProcessor(spec)
        self.head: ClassificationHead = ClassificationHead(spec.backbone.widths, spec)
        init_kaiming(self)

    def forward(self, images: Float[Tensor, "n c h w"]) -> ClassificationOutput:
        return ClassificationOutput(self.head(self.backbone(self.normalize(images))))

    def widening(self) -> nn.ModuleList:
        return self.head.widen

    def loss(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Return the cross entropy with the targets `labels` (`n`, integers from 0), mean over the batch.

        Mixed samples have `second_labels`, and `weights` of the first labels.
        """
        logits = self(batch.images).logits.float()
        targets, smoothing = batch.targets, self.spec.label_smoothing
        if "second_labels" not in targets:
            labels = targets["labels"].long()
            return {"classes": functional.cross_entropy(logits, labels, label_smoothing=smoothing)}
        first, second = (
            functional.cross_entropy(logits, targets[name].long(), label_smoothing=smoothing, reduction="none")
            for name in ("labels", "second_labels")
        )
        return {"classes": torch.lerp(second, first, targets["weights"].float()).mean()}

    def named_outputs(self) -> dict[str, tuple[str, ...]]:
        return {"head.classifier": self.spec.class_names}
