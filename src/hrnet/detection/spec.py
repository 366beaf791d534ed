"""Specs of detection networks: one of three families of detectors over a backbone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from hrnet.io.geometry import Size
from hrnet.nn.spec import HRNetSpec, hrnet

# Source: COCO's 80 object classes, in the order of their category ids.
COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot",
    "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop",
    "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock",
    "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip

Pooling = Literal["average", "max"]
Masks = Literal["none", "parallel", "interleaved"]
Stds = tuple[float, float, float, float]
# Label maps are bytes, of which 255 is ignored.
MAX_SEMANTIC_CLASSES = 255


@dataclass(frozen=True, slots=True)
class BoxStage:
    """One stage of box heads.

    Attributes:
        iou: minimum IoU of a positive region with its object.
        stds: standard deviations that normalize the box deltas; they shrink from stage to stage.
        weight: weight of the stage's losses.
    """

    iou: float = 0.5
    stds: Stds = (0.1, 0.1, 0.2, 0.2)
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.iou < 1 or min(self.stds) <= 0 or self.weight < 0:
            raise ValueError(
                f"A stage needs an IoU between 0 and 1, stds above 0 and a weight of at least 0, not {self}."
            )


# Source: arXiv 1712.00726 and mmdetection's settings.
CASCADE = (BoxStage(), BoxStage(0.6, (0.05, 0.05, 0.1, 0.1), 0.5), BoxStage(0.7, (0.033, 0.033, 0.067, 0.067), 0.25))


@dataclass(frozen=True, slots=True)
class RCNNSpec:
    """An R-CNN: five published networks, from Faster R-CNN to HTC.

    Source of the values: mmdetection's configurations.

    Attributes:
        family: name of the family.
        pyramid_width: channels of the pyramid levels.
        num_levels: pyramid levels, at strides 4, 8 and so on.
        pooling: pooling that makes the coarser levels.
        anchor_scale: side of a square anchor, in strides of its level.
        anchor_ratios: ratios height / width of the anchors of a cell.
        train_proposals: number of candidates per level before the NMS, and of proposals per image after it, in training.
        test_proposals: the same in inference.
        proposal_iou: IoU threshold of the NMS of proposals.
        anchor_samples: anchors per image in the loss, at most half of them positive.
        region_samples: regions per image in the loss, at most a quarter of them positive.
        stages: stages of the cascade, one for none.
        class_agnostic: True if a stage regresses one box for all classes.
        head_width: width of the two fully connected layers of a stage.
        masks: ``none``; ``parallel``: masks from the regions of the box head; ``interleaved``: masks from the boxes of the
            box head, with an information flow between the mask heads of the stages.
        average_masks: True to average the masks of all stages, False to use those of the last one.
        semantic_classes: classes of the semantic branch, object classes first; 0 for no branch.
        semantic_weight: weight of the semantic loss.
        score_threshold: minimum score of a detection.
        nms_iou: IoU threshold of the per-class NMS.
        num_detections: maximum number of detections per image.
        legacy: True for the anchors and regions of the code before mmdetection 2 (and of maskrcnn-benchmark): anchors in
            the middle of each cell, not on its corner; RoIAlign without the half-pixel shift and with 2 x 2 sampling points
            per cell. The pixel that it added to widths is only another way of counting.
    """

    family: Literal["rcnn"] = "rcnn"
    pyramid_width: int = 256
    num_levels: int = 5
    pooling: Pooling = "average"
    anchor_scale: float = 8.0
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    train_proposals: tuple[int, int] = (2000, 1000)
    test_proposals: tuple[int, int] = (1000, 1000)
    proposal_iou: float = 0.7
    anchor_samples: int = 256
    region_samples: int = 512
    stages: tuple[BoxStage, ...] = (BoxStage(),)
    class_agnostic: bool = False
    head_width: int = 1024
    masks: Masks = "none"
    average_masks: bool = True
    semantic_classes: int = 0
    semantic_weight: float = 0.2
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    num_detections: int = 100
    legacy: bool = False

    def __post_init__(self) -> None:
        counts = (*self.train_proposals, *self.test_proposals, self.anchor_samples, self.region_samples)
        sizes = (self.pyramid_width, self.num_levels, self.head_width, self.num_detections, len(self.stages))
        if min(*counts, *sizes) < 1 or not self.anchor_ratios:
            raise ValueError(f"All counts and widths must be at least 1: {self}.")
        if self.anchor_scale <= 0 or min(self.anchor_ratios) <= 0:
            raise ValueError(f"anchor_scale and anchor_ratios must be above 0: {self}.")
        _check_thresholds(self.proposal_iou, self.nms_iou, self.score_threshold)
        if self.semantic_classes and (self.masks == "none" or self.num_levels < 2):
            raise ValueError("A semantic branch needs a network with masks and at least two levels.")
        if self.semantic_classes > MAX_SEMANTIC_CLASSES:
            raise ValueError(f"semantic_classes must be at most {MAX_SEMANTIC_CLASSES}, not {self.semantic_classes}.")


@dataclass(frozen=True, slots=True)
class FCOSSpec:
    """FCOS: anchor-free, with a class and distances to the edges at every point of the pyramid.

    Source of the values: mmdetection's FCOS-HRNet with group norms.

    Attributes:
        family: name of the family.
        pyramid_width: channels of the pyramid levels.
        pooling: pooling that makes the coarser levels.
        pyramid_stride: stride of the last convolutions: 2 for levels from stride 8, 1 for levels from stride 4.
        tower_convs: convolutions of each of the two towers.
        ranges: per level, minimum and maximum distance from a point to the farthest edge of its object, pixels of the input.
        center_radius: center sampling: maximum distance of a positive point from the center of its object, in strides; None
            for the whole box, as published.
        score_threshold: minimum class probability of a candidate.
        candidates: maximum number of candidates per level before the NMS.
        nms_iou: IoU threshold of the per-class NMS.
        num_detections: maximum number of detections per image.
    """

    family: Literal["fcos"] = "fcos"
    pyramid_width: int = 256
    pooling: Pooling = "average"
    pyramid_stride: Literal[1, 2] = 2
    tower_convs: int = 4
    ranges: tuple[tuple[float, float], ...] = (
        (-1.0, 64.0),
        (64.0, 128.0),
        (128.0, 256.0),
        (256.0, 512.0),
        (512.0, 1e8),
    )
    center_radius: float | None = None
    score_threshold: float = 0.05
    candidates: int = 1000
    nms_iou: float = 0.5
    num_detections: int = 100

    def __post_init__(self) -> None:
        if min(self.pyramid_width, len(self.ranges), self.candidates, self.num_detections) < 1 or self.tower_convs < 0:
            raise ValueError(f"All counts and widths must be at least 1: {self}.")
        if self.center_radius is not None and self.center_radius <= 0:
            raise ValueError(f"center_radius must be above 0, not {self.center_radius}.")
        _check_thresholds(self.nms_iou, self.score_threshold)


@dataclass(frozen=True, slots=True)
class CenterNetSpec:
    """CenterNet: keypoint triplets of two corners and a center.

    Source of the values: arXiv 1904.08189 and 1808.01244.

    Attributes:
        family: name of the family.
        width: channels of the heads.
        reduce_kernel: kernel size of the convolution over the concatenated maps; 1 is nearly free.
        num_points: peaks of each of the three kinds of heatmaps that are used.
        embedding_distance: maximum difference of the embeddings of the two corners of an object.
        nms_sigma: sigma of the Gaussian soft NMS.
        radius_iou: minimum IoU of boxes whose corners lie within the Gaussian of a target.
        pull_weight: weight of the pull loss between the embeddings of an object.
        push_weight: weight of the push loss between those of different objects.
        num_detections: maximum number of detections per image.
    """

    family: Literal["centernet"] = "centernet"
    width: int = 128
    reduce_kernel: Literal[1, 3] = 3
    num_points: int = 70
    embedding_distance: float = 0.5
    nms_sigma: float = 0.5
    radius_iou: float = 0.3
    pull_weight: float = 0.1
    push_weight: float = 0.1
    num_detections: int = 100

    def __post_init__(self) -> None:
        if min(self.width, self.num_points, self.num_detections) < 1:
            raise ValueError(f"All counts and widths must be at least 1: {self}.")
        if self.embedding_distance <= 0 or self.nms_sigma <= 0 or min(self.pull_weight, self.push_weight) < 0:
            raise ValueError(f"Distances and sigmas must be above 0, weights at least 0: {self}.")
        if not 0 < self.radius_iou < 1:
            raise ValueError(f"radius_iou must lie between 0 and 1, not {self.radius_iou}.")


def _check_thresholds(*values: float) -> None:
    if not all(0 <= value <= 1 for value in values):
        raise ValueError(f"IoU and score thresholds must lie from 0 to 1, not {values}.")


DetectorSpec = RCNNSpec | FCOSSpec | CenterNetSpec


def faster_rcnn() -> RCNNSpec:
    """Return the spec of Faster R-CNN: one stage."""
    return RCNNSpec()


def mask_rcnn() -> RCNNSpec:
    """Return the spec of Mask R-CNN: Faster R-CNN with a mask head."""
    return RCNNSpec(masks="parallel")


def cascade_rcnn() -> RCNNSpec:
    """Return the spec of Cascade R-CNN: three class-agnostic stages."""
    return RCNNSpec(stages=CASCADE, class_agnostic=True, train_proposals=(2000, 2000))


def cascade_mask_rcnn() -> RCNNSpec:
    """Return the spec of Cascade Mask R-CNN: a mask head at each of the three stages."""
    return replace(cascade_rcnn(), masks="parallel")


def hybrid_task_cascade() -> RCNNSpec:
    """Return the spec of HTC: interleaved masks, mask information flow, and a semantic branch.

    Source: mmdetection, whose authors ran the published rows: 183 semantic classes (COCO's things and stuff). Masks are those
    of the last head, as in version 3.3; version 2 averaged them.
    """
    return replace(
        cascade_rcnn(), masks="interleaved", average_masks=False, semantic_classes=183, score_threshold=0.001
    )


def fcos() -> FCOSSpec:
    """Return the spec of FCOS with five levels from stride 8."""
    return FCOSSpec()


def centernet() -> CenterNetSpec:
    """Return the spec of CenterNet with keypoint triplets."""
    return CenterNetSpec()


@dataclass(frozen=True, slots=True)
class DetectionSpec:
    """Spec of a detection network: classes, detector, backbone and input.

    Attributes:
        class_names: names of the classes, in the order of the labels.
        detector: spec of the detector, of one of three families.
        backbone: spec of a backbone that returns all four maps.
        input_size: two numbers, whose meaning `fit` gives.
        fit: ``sides``: `input_size` is a short and a long side; the image is resized to the first that it reaches, and the
            input is as large as the image, rounded up to multiples of 32 pixels. ``canvas``: `input_size` is the height and
            width of every input; the image is letterboxed at the top left.
        frozen_norms: True to keep the statistics of the backbone's batch norms in training, as published for small batches
            and pretrained backbones.
    """

    class_names: tuple[str, ...] = COCO
    detector: DetectorSpec = field(default_factory=faster_rcnn)
    backbone: HRNetSpec = field(default_factory=lambda: hrnet(18))
    input_size: Size = (800, 1333)
    fit: Literal["sides", "canvas"] = "sides"
    frozen_norms: bool = True

    def __post_init__(self) -> None:
        count = len(self.class_names)
        if not count or len(set(self.class_names)) != count:
            raise ValueError("class_names must hold at least one name, each once.")
        if min(self.input_size) < 32:
            raise ValueError(f"input_size must be at least 32 x 32, not {self.input_size}.")
        if self.fit == "sides" and self.input_size[0] > self.input_size[1]:
            raise ValueError(f"input_size must be (short side, long side) with fit='sides', not {self.input_size}.")
        if self.backbone.high_resolution_only:
            raise ValueError("Detection needs all four maps; the backbone must not be high_resolution_only.")
        if 0 < self.semantic_classes <= count:
            raise ValueError(
                f"semantic_classes must be at least {count + 1}: {count} object classes and the background."
            )

    @property
    def outputs(self) -> str:
        """The network's outputs in words."""
        return f"{len(self.class_names)} classes"

    @property
    def semantic_classes(self) -> int:
        """Classes of the semantic branch; 0 without one."""
        return self.detector.semantic_classes if isinstance(self.detector, RCNNSpec) else 0

    @property
    def has_masks(self) -> bool:
        """True if the network predicts masks, and needs them for training."""
        return isinstance(self.detector, RCNNSpec) and self.detector.masks != "none"
