"""The detection network: a backbone and one of three detectors over its maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from hrnet.detection.boxes import GroundTruth
from hrnet.detection.centernet import CenterNet
from hrnet.detection.fcos import FCOS
from hrnet.detection.processor import DetectionOutput, DetectionProcessor
from hrnet.detection.rcnn import RCNN
from hrnet.detection.spec import CenterNetSpec, DetectionSpec, FCOSSpec, RCNNSpec
from hrnet.io.geometry import Size
from hrnet.nn.backbone import set_norm_momentum
from hrnet.nn.task import Batch, Losses, TaskModel, traceable
from hrnet.results import Detections


class DetectionModel(TaskModel[DetectionSpec, Detections]):
    """Boxes with classes, scores and, in some families, masks."""

    def __init__(self, spec: DetectionSpec) -> None:
        super().__init__(spec, recompute=True)
        self.processor = DetectionProcessor(spec)
        widths, classes = spec.backbone.widths, len(spec.class_names)
        match spec.detector:
            case RCNNSpec():
                self.detector: RCNN | FCOS | CenterNet = RCNN(widths, classes, spec.detector)
            case FCOSSpec():
                self.detector = FCOS(widths, classes, spec.detector)
            case CenterNetSpec():
                self.detector = CenterNet(widths, classes, spec.detector)
        set_norm_momentum(self, spec.backbone.norm_momentum)

    def train(self, mode: bool = True) -> DetectionModel:
        super().train(mode)
        if self.spec.frozen_norms:
            for layer in self.backbone.modules():
                if isinstance(layer, nn.BatchNorm2d | nn.SyncBatchNorm):
                    layer.eval()
        return self

    def forward(self, images: Float[Tensor, "n c h w"]) -> DetectionOutput:
        # A traced graph has a fixed size, but shapes are tensors while it is traced.
        return traceable(self.detector(self.features(images), (int(images.shape[-2]), int(images.shape[-1]))))

    def dense(self, images: Float[Tensor, "n c h w"]) -> tuple[Tensor | None, ...]:
        """Return the outputs without the second stage of an R-CNN, whose number of regions depends on the image."""
        return self.detector.dense(self.features(images)) if isinstance(self.detector, RCNN) else self(images)

    def finish(self, outputs: tuple[Tensor | None, ...], size: Size) -> DetectionOutput:
        if isinstance(self.detector, RCNN):
            return self.detector.finish(cast(Sequence[Tensor], outputs), size)
        return cast(DetectionOutput, outputs)

    def loss(self, batch: Batch) -> Losses:
        """Return the detector's losses; `augment.targets_of` makes the targets."""
        return self.detector.loss(
            self.features(batch.images), (batch.images.shape[-2], batch.images.shape[-1]), GroundTruth.from_batch(batch)
        )

    def named_outputs(self) -> dict[str, tuple[str, ...]]:
        names = self.spec.class_names
        if not isinstance(self.detector, RCNN):
            return dict.fromkeys(self.detector.class_layers("detector."), names)
        deltas = tuple(f"{name} {part}" for name in names for part in ("dx", "dy", "dw", "dh"))
        layers: dict[str, tuple[str, ...]] = {}
        for stage in range(len(self.detector.box_heads)):
            layers[f"detector.box_heads.{stage}.classify"] = (*names, "background")
            if not self.detector.spec.class_agnostic:
                layers[f"detector.box_heads.{stage}.regress"] = deltas
            if self.detector.mask_heads is not None:
                layers[f"detector.mask_heads.stages.{stage}.logits"] = names
        return layers
