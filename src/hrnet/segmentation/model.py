"""The segmentation network: a backbone, the concatenation of its maps, a head."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from hrnet.nn.backbone import init_normal, set_norm_momentum
from hrnet.nn.representation import PixelHead
from hrnet.nn.task import Batch, TaskModel, traceable
from hrnet.results import SemanticMap
from hrnet.segmentation.loss import segmentation_losses
from hrnet.segmentation.ocr import OCRHead
from hrnet.segmentation.processor import SegmentationOutput, SegmentationProcessor
from hrnet.segmentation.spec import SegmentationSpec


class SegmentationModel(TaskModel[SegmentationSpec, SemanticMap]):
    """Network for semantic segmentation: a label for every pixel of an image."""

    def __init__(self, spec: SegmentationSpec) -> None:
        super().__init__(spec, recompute=True)
        self.processor = SegmentationProcessor(spec)
        backbone, classes = spec.backbone, len(spec.class_names)
        if spec.ocr is None:
            self.head: nn.Module = PixelHead(backbone.widths, classes, spec.head_kernel, backbone.align_corners)
        else:
            self.head = OCRHead(backbone.widths, classes, spec.ocr, backbone.align_corners)
        # Source: the released training, which leaves the OCR head as PyTorch starts it.
        init_normal(self if spec.ocr is None else self.backbone, zero_bias=False)
        set_norm_momentum(self, backbone.norm_momentum)

    def forward(self, images: Float[Tensor, "n c h w"]) -> SegmentationOutput:
        output = self.head(self.backbone(self.normalize(images)))
        return traceable(SegmentationOutput(output) if self.spec.ocr is None else output)

    def loss(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Return the terms of `spec.loss` for the target `labels` (`n h w`; 255 is ignored)."""
        logits, auxiliary = self(batch.images)
        align = self.spec.backbone.align_corners
        return segmentation_losses(logits, auxiliary, batch.targets["labels"], self.spec.loss, align)

    def named_outputs(self) -> dict[str, tuple[str, ...]]:
        layers = ("head.classify",) if self.spec.ocr is None else ("head.auxiliary.classify", "head.classify")
        return dict.fromkeys(layers, self.spec.class_names)
