"""The detection network: a backbone, one of three detectors over its maps; and objects in pixels of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self, cast

from jaxtyping import Float
from torch import Tensor, nn

from hrnet.detection.boxes import DetectionOutput, Objects, boxes_to_source
from hrnet.detection.centernet import CenterNet
from hrnet.detection.fcos import FCOS
from hrnet.detection.masks import paste_masks
from hrnet.detection.rcnn import RCNN
from hrnet.detection.spec import CenterNetSpec, DetectionSpec, FCOSSpec, RCNNSpec
from hrnet.inference.processor import BoxPrompts
from hrnet.io.geometry import Frame, Size, clip_boxes
from hrnet.nn.backbone import HRNet, set_norm_momentum
from hrnet.nn.task import MEAN_COLOR, Batch, TaskModel
from hrnet.results import Detections, Source

STRIDE = 32


class DetectionModel(TaskModel[Detections]):
    """Objects with boxes, classes, scores and, in some families, masks."""

    fill = MEAN_COLOR

    def __init__(self, spec: DetectionSpec) -> None:
        super().__init__(spec, spec.backbone.in_channels)
        self.spec: DetectionSpec = spec
        widths, classes = spec.backbone.widths, len(spec.class_names)
        self.backbone = HRNet(spec.backbone, recompute=True)
        match spec.detector:
            case RCNNSpec():
                self.detector: RCNN | FCOS | CenterNet = RCNN(widths, classes, spec.detector)
            case FCOSSpec():
                self.detector = FCOS(widths, classes, spec.detector)
            case CenterNetSpec():
                self.detector = CenterNet(widths, classes, spec.detector)
        set_norm_momentum(self, spec.backbone.norm_momentum)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.spec.frozen_norms:
            for layer in self.backbone.modules():
                if isinstance(layer, nn.BatchNorm2d | nn.SyncBatchNorm):
                    layer.eval()
        return self

    def forward(self, images: Float[Tensor, "n c h w"]) -> DetectionOutput:
        return self.detector(self.features(images), (images.shape[-2], images.shape[-1]))

    def dense(self, images: Float[Tensor, "n c h w"]) -> tuple[Tensor | None, ...]:
        """Without what an R-CNN does with regions, of which there are as many as it finds."""
        return self.detector.dense(self.features(images)) if isinstance(self.detector, RCNN) else self(images)

    def finish(self, outputs: Sequence[Tensor | None], size: Size) -> DetectionOutput:
        if isinstance(self.detector, RCNN):
            return self.detector.finish(cast(Sequence[Tensor], outputs), size)
        return cast(DetectionOutput, outputs)

    def loss(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """As the detector's, of the targets that `Objects.of` reads."""
        return self.detector.loss(
            self.features(batch.images), (batch.images.shape[-2], batch.images.shape[-1]), Objects.of(batch)
        )

    def named_outputs(self) -> dict[str, tuple[str, ...]]:
        names = self.spec.class_names
        if not isinstance(self.detector, RCNN):
            return dict.fromkeys(self.detector.class_layers("detector."), names)
        # What corrects boxes has four outputs a class.
        corrections = tuple(f"{name} {part}" for name in names for part in ("across", "down", "width", "height"))
        layers: dict[str, tuple[str, ...]] = {}
        for stage in range(len(self.detector.boxes)):
            layers[f"detector.boxes.{stage}.classify"] = (*names, "no object")
            if not self.detector.spec.class_agnostic:
                layers[f"detector.boxes.{stage}.measure"] = corrections
            if self.detector.masks is not None:
                layers[f"detector.masks.stages.{stage}.logits"] = names
        return layers

    def decode(self, outputs: DetectionOutput, frames: Sequence[Frame]) -> list[Detections]:
        """The objects of each image, best first, cut at its borders."""
        return [self._detections(outputs, index, frame) for index, frame in enumerate(frames)]

    def _detections(self, outputs: DetectionOutput, index: int, frame: Frame) -> Detections:
        kept = outputs.scores[index] > 0
        # Not before they are on the CPU: some devices have no double precision.
        whole = boxes_to_source(outputs.boxes[index][kept].cpu().double().numpy(), frame)
        boxes = clip_boxes(whole, frame.source_size)
        # What lies where the input shows nothing of the image is no object of it.
        seen = ~((whole[:, 2:] > whole[:, :2]).all(1) & (boxes[:, 2:] <= boxes[:, :2]).any(1))
        scores = outputs.scores[index][kept].cpu().double().numpy()[seen]
        labels = outputs.labels[index][kept].long().cpu().numpy()[seen]
        masks = None
        if outputs.masks is not None:
            # Into the box as it was found: the mask divides that one, not what is left of it.
            cells = outputs.masks[index][kept].float().sigmoid().cpu().numpy()
            masks = paste_masks(cells[seen], whole[seen], frame.source_size)
        return Detections(boxes[seen], scores, labels, self.spec.class_names, masks)

    def frames(self, size: Size, boxes: BoxPrompts) -> list[Frame]:
        """The whole image."""
        return [image_frame(size, self.spec)]

    def join(self, results: Sequence[Detections], boxes: BoxPrompts, source: Source) -> Detections:
        """That of the one input."""
        return replace(results[0], source=source)


def image_frame(source_size: Size, spec: DetectionSpec) -> Frame:
    """How a whole image lies in an input: at the top left, with its aspect kept but for whole pixels.

    Args:
        source_size: height and width of the image.
        spec: of the network; see `DetectionSpec.fit`.
    """
    if spec.fit == "sides":
        short, long = spec.input_size
        ratio = min(short / min(source_size), long / max(source_size))
    else:
        ratio = min(side / source for side, source in zip(spec.input_size, source_size, strict=True))
    height, width = (max(1, int(side * ratio + 0.5)) for side in source_size)
    if spec.fit == "canvas":
        height, width = min(height, spec.input_size[0]), min(width, spec.input_size[1])
        size = spec.input_size
    else:
        size = (-(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE)
    return replace(Frame.resize(source_size, (height, width)), size=size)
