"""A detection network, and how it is trained and read, as data: one of three families over a backbone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from hrnet.io.geometry import Size
from hrnet.nn.spec import HRNetSpec, hrnet

# Source: COCO's 80 classes of objects, in the order of their category ids.
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
Deviations = tuple[float, float, float, float]
# Maps of pixels' classes are bytes, of which 255 says that nothing is known.
MOST_PIXEL_CLASSES = 255


@dataclass(frozen=True, slots=True)
class BoxStage:
    """One stage of the heads that look into regions.

    Attributes:
        iou: least overlap of a region with an object that it is to find.
        deviations: of the four numbers that correct a box, by which they are divided; from stage to stage less is to be
            corrected.
        weight: of the stage's losses.
    """

    iou: float = 0.5
    deviations: Deviations = (0.1, 0.1, 0.2, 0.2)
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.iou < 1 or min(self.deviations) <= 0 or self.weight < 0:
            raise ValueError(
                f"A stage has an IoU between 0 and 1, deviations above 0 and a weight of at least 0: {self}."
            )


# Source: arXiv 1712.00726 and mmdetection's settings.
CASCADE = (
    BoxStage(),
    BoxStage(0.6, (0.05, 0.05, 0.1, 0.1), 0.5),
    BoxStage(0.7, (0.033, 0.033, 0.067, 0.067), 0.25),
)


@dataclass(frozen=True, slots=True)
class RCNNSpec:
    """A network that proposes regions and then looks into each: five published ones, from Faster R-CNN to HTC.

    Source of the values: mmdetection's configurations.

    Attributes:
        family: tells it from the other families.
        pyramid_width: channels of all levels.
        num_levels: of the pyramid, at strides 4, 8 and so on.
        pooling: what makes the coarser levels.
        anchor_scale: side of a square anchor, in strides of its level.
        anchor_ratios: height by width of the anchors at every place.
        train_proposals: in training, how many candidates of each level are compared, and how many are left of an image.
        test_proposals: the same, afterwards.
        proposal_iou: of two proposals that overlap more, the less sure one goes.
        anchor_samples: anchors of an image that are learned from, half of them on objects where there are so many.
        region_samples: regions of an image that are learned from, a quarter on objects where there are so many.
        stages: one, or several that correct one another's boxes.
        class_agnostic: whether a stage corrects boxes in the same way whatever the class.
        head_width: of the two fully connected layers of a stage.
        masks: ``none``; ``parallel``: from the same regions as the boxes; ``interleaved``: from boxes that the stage has
            corrected, each head reading what the one before it has found.
        average_masks: whether a mask is the mean of what the heads of all stages say, or what the last one says.
        semantic_classes: of the branch that classifies all pixels; 0 for none. The objects' classes come first.
        semantic_weight: of the branch's loss.
        score_threshold: what is less sure is no result.
        nms_iou: of two results of one class that overlap more, the less sure one goes.
        num_detections: results of an image at the most.
        legacy: whether anchors and regions are those of the code before mmdetection 2 (and of maskrcnn-benchmark):
            anchors in the middle of each cell, not on its corner; regions read without the shift by half a cell, at 2 x 2
            points of each of their own cells. Its pixel that was added to widths is only another way of counting.
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
            raise ValueError(f"Numbers of stages, levels, channels, anchors, samples and results start at 1: {self}.")
        if self.anchor_scale <= 0 or min(self.anchor_ratios) <= 0:
            raise ValueError(f"Anchors have a scale and ratios above 0: {self.anchor_scale}, {self.anchor_ratios}.")
        _check_thresholds(self.proposal_iou, self.nms_iou, self.score_threshold)
        if self.semantic_classes and (self.masks == "none" or self.num_levels < 2):
            raise ValueError("The semantic branch belongs to networks with masks and at least two levels.")
        if self.semantic_classes > MOST_PIXEL_CLASSES:
            raise ValueError(
                f"At most {MOST_PIXEL_CLASSES} classes of pixels are possible, not {self.semantic_classes}."
            )


@dataclass(frozen=True, slots=True)
class FCOSSpec:
    """FCOS: every point of the pyramid's maps says which object it lies in and how far the edges are.

    Source of the values: mmdetection's FCOS-HRNet with group norms.

    Attributes:
        family: tells it from the other families.
        pyramid_width: channels of all levels.
        pooling: what makes the coarser levels.
        pyramid_stride: of the pyramid's last convolutions: 2 for levels from stride 8, 1 for levels from stride 4.
        tower_convs: convolutions of each of the two towers.
        ranges: for each level the smallest and largest distance, in input pixels, from a point to the farthest edge of
            its object.
        center_radius: a point is learned as inside of an object only if it is so many strides near its center; None for
            anywhere in its box, as published.
        score_threshold: a class that is less probable at a point is no candidate.
        candidates: of each level, at the most.
        nms_iou: of two results of one class that overlap more, the less sure one goes.
        num_detections: results of an image at the most.
    """

    family: Literal["fcos"] = "fcos"
    pyramid_width: int = 256
    pooling: Pooling = "average"
    pyramid_stride: Literal[1, 2] = 2
    tower_convs: int = 4
    ranges: tuple[tuple[float, float], ...] = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, 1e8))
    center_radius: float | None = None
    score_threshold: float = 0.05
    candidates: int = 1000
    nms_iou: float = 0.5
    num_detections: int = 100

    def __post_init__(self) -> None:
        if min(self.pyramid_width, len(self.ranges), self.candidates, self.num_detections) < 1 or self.tower_convs < 0:
            raise ValueError(f"Numbers of channels, levels, candidates and results start at 1: {self}.")
        if self.center_radius is not None and self.center_radius <= 0:
            raise ValueError(f"center_radius is above 0, not {self.center_radius}.")
        _check_thresholds(self.nms_iou, self.score_threshold)


@dataclass(frozen=True, slots=True)
class CenterNetSpec:
    """CenterNet: an object is two corners that belong together and a center between them.

    Source of the values: arXiv 1904.08189 and 1808.01244.

    Attributes:
        family: tells it from the other families.
        width: channels of the heads.
        reduce_kernel: of the convolution that reads the concatenation of all maps, 3 or 1; at 1 it costs next to nothing.
        num_points: corners of each kind, and centers, that are looked at.
        embedding_distance: corners whose embeddings differ by more do not belong together.
        nms_sigma: of the Gaussian by which overlapping results get less sure.
        radius_iou: overlap that corners around a true corner must still give; what lies nearer is punished less.
        pull_weight: of the loss that brings embeddings of one object together.
        push_weight: of the loss that parts those of different objects.
        num_detections: results of an image at the most.
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
            raise ValueError(f"Numbers of channels, points and results start at 1: {self}.")
        if self.embedding_distance <= 0 or self.nms_sigma <= 0 or min(self.pull_weight, self.push_weight) < 0:
            raise ValueError(f"Distances and deviations are above 0, weights not negative: {self}.")
        if not 0 < self.radius_iou < 1:
            raise ValueError(f"radius_iou lies between 0 and 1: {self.radius_iou}.")


def _check_thresholds(*values: float) -> None:
    if not all(0 <= value <= 1 for value in values):
        raise ValueError(f"Overlaps and scores lie from 0 to 1, not {values}.")


DetectorSpec = RCNNSpec | FCOSSpec | CenterNetSpec


def faster_rcnn() -> RCNNSpec:
    """Faster R-CNN: one stage."""
    return RCNNSpec()


def mask_rcnn() -> RCNNSpec:
    """Mask R-CNN: the same, with masks."""
    return RCNNSpec(masks="parallel")


def cascade_rcnn() -> RCNNSpec:
    """Cascade R-CNN: three stages, boxes corrected in the same way for all classes."""
    return RCNNSpec(stages=CASCADE, class_agnostic=True, train_proposals=(2000, 2000))


def cascade_mask_rcnn() -> RCNNSpec:
    """Cascade Mask R-CNN: a mask head at each of the three stages."""
    return replace(cascade_rcnn(), masks="parallel")


def hybrid_task_cascade() -> RCNNSpec:
    """HTC: masks from corrected boxes, heads that inform one another, and a semantic branch.

    Source: mmdetection, whose authors ran the published rows: 183 classes of pixels (COCO's objects and stuff). Masks are the
    last head's alone in its version 3.3, whose outputs these are; its version 2 took the mean.
    """
    return replace(
        cascade_rcnn(), masks="interleaved", average_masks=False, semantic_classes=183, score_threshold=0.001
    )


def fcos() -> FCOSSpec:
    """FCOS with five levels from stride 8."""
    return FCOSSpec()


def centernet() -> CenterNetSpec:
    """CenterNet with keypoint triplets."""
    return CenterNetSpec()


@dataclass(frozen=True, slots=True)
class DetectionSpec:
    """Everything that fixes a detection network and how it is used.

    Attributes:
        class_names: in the order of the labels.
        detector: the family, and all that it needs.
        backbone: any that returns all four maps.
        input_size: see `fit`.
        fit: how an image comes into an input: ``sides``: `input_size` is a short and a long side, and the image is
            scaled until one of them is reached, the input being just as large (in multiples of 32 pixels); ``canvas``:
            `input_size` is the height and width of all inputs, and the image as large as fits, at the top left.
        frozen_norms: whether training keeps the statistics of the backbone's batch norms, as published, where a batch
            is small and the backbone was trained before.
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
            raise ValueError("There is at least one class, and each has its own name.")
        if min(self.input_size) < 32:
            raise ValueError(f"input_size is at least 32 x 32, not {self.input_size}.")
        if self.fit == "sides" and self.input_size[0] > self.input_size[1]:
            raise ValueError(f"With fit='sides' the short side comes first in input_size, not {self.input_size}.")
        if self.backbone.high_resolution_only:
            raise ValueError("Detection reads all four maps; the backbone must not be high_resolution_only.")
        if 0 < self.pixel_classes <= count:
            raise ValueError(f"{count} classes of objects, and what is none, need more semantic_classes.")

    @property
    def outputs(self) -> str:
        """The network's outputs in words."""
        return f"{len(self.class_names)} classes"

    @property
    def pixel_classes(self) -> int:
        """Classes of the semantic branch; 0 without one."""
        return self.detector.semantic_classes if isinstance(self.detector, RCNNSpec) else 0

    @property
    def has_masks(self) -> bool:
        """Whether the network finds masks, and needs them to learn."""
        return isinstance(self.detector, RCNNSpec) and self.detector.masks != "none"
