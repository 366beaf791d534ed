"""The detection network: a backbone, one of three detectors over its maps; and objects in pixels of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from hrnet.backbone import HRNet, set_norm_momentum
from hrnet.detection.boxes import DetectionOutput, Objects, boxes_to_source
from hrnet.detection.masks import paste_masks
from hrnet.detection.spec import CenterNetSpec, DetectionSpec, FCOSSpec, RCNNSpec
from hrnet.geometry import Frame, Size, clip_boxes
from hrnet.results import Boxes, Detections, Source
from hrnet.task import MEAN_COLOUR, Batch, TaskModel

STRIDE = 32


def picture_frame(source_size: Size, spec: DetectionSpec) -> Frame:
    """How a whole picture lies in an input: at the top left, with its aspect kept but for whole pixels.

    Args:
        source_size: height and width of the picture.
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
