"""FCOS: classes, distances to the edges of the object and center-ness at every point of the pyramid.

Source: arXiv 1904.01355, in the form of mmdetection's FCOS-HRNet with group norms: center-ness beside the classes,
distances as exponentials, no square root over the score. Deliberate difference: background in crowds is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import clip_boxes_to_image, nms, sigmoid_focal_loss

from hrnet.detection.boxes import GroundTruth, cell_points, separate, take_rows
from hrnet.detection.processor import DetectionOutput
from hrnet.detection.spec import FCOSSpec
from hrnet.io.geometry import Size
from hrnet.nn.backbone import Maps
from hrnet.nn.representation import Pyramid
from hrnet.nn.task import Losses

# Source: arXiv 1904.01355 and the released settings; mmdetection has the same.
NORM_GROUPS, MIN_GROUP_WIDTH = 32, 8
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
PRIOR = 0.01
MIN_IOU = 1e-6
# Initial distance, in pixels, of a level without a lower limit; initial bias, about its logarithm, so that the scales of all
# levels start near one; upper limit of the logarithm of a distance, beyond every image.
_INITIAL_DISTANCE, _INITIAL_LOG, _MAX_LOG = 24.0, 4.0, 11.0


class FCOSMaps(NamedTuple):
    """Outputs of the network at every point, level by level, from fine to coarse: class logits, distances to the left, top,
    right and bottom edge of the object in pixels of the input, center-ness logits."""

    logits: list[Float[Tensor, "n k _ _"]]
    distances: list[Float[Tensor, "n 4 _ _"]]
    centerness: list[Float[Tensor, "n 1 _ _"]]


class FCOS(nn.Module):
    """The detector over the maps of the backbone, whose channels are `widths`."""

    def __init__(self, widths: Sequence[int], num_classes: int, spec: FCOSSpec) -> None:
        super().__init__()
        self.spec = spec
        width, num_levels = spec.pyramid_width, len(spec.ranges)
        self.pyramid: Pyramid = Pyramid(widths, width, num_levels, spec.pooling, spec.pyramid_stride)
        self.class_tower: nn.Sequential = _tower(width, spec.tower_convs)
        self.box_tower: nn.Sequential = _tower(width, spec.tower_convs)
        self.classify: nn.Conv2d = _conv(width, num_classes, bias=-math.log((1 - PRIOR) / PRIOR))
        self.regress: nn.Conv2d = _conv(width, 4, bias=_INITIAL_LOG)
        self.center: nn.Conv2d = _conv(width, 1)
        # The distances of a new network fit the range of each level.
        self.scales: nn.ParameterList = nn.ParameterList(
            nn.Parameter(torch.tensor(math.log(low if low > 0 else min(high / 2, _INITIAL_DISTANCE)) / _INITIAL_LOG))
            for low, high in spec.ranges
        )

    def forward_maps(self, maps: Maps) -> FCOSMaps:
        """Return the outputs at every point."""
        outputs = FCOSMaps([], [], [])
        for level, scale in zip(self.pyramid(maps), self.scales, strict=True):
            classes, edges = self.class_tower(level), self.box_tower(level)
            outputs.logits.append(self.classify(classes))
            outputs.centerness.append(self.center(classes))
            outputs.distances.append((self._regress(edges).float() * scale).clamp(max=_MAX_LOG).exp())
        return outputs

    def _regress(self, edges: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 4 h w"]:
        """Return log distances in single precision: one step of bf16 is 3 % of a distance beyond 55 pixels."""
        if not torch.is_autocast_enabled(edges.device.type):
            return self.regress(edges)
        with torch.autocast(edges.device.type, enabled=False):
            return self.regress(edges.float())

    def forward(self, maps: Maps, size: Size) -> DetectionOutput:
        """Return the detections of inputs of this height and width, best first."""
        return self.decode(self.forward_maps(maps), size)

    def decode(self, outputs: FCOSMaps, size: Size) -> DetectionOutput:
        """Return the best candidates of all levels after the per-class NMS."""
        levels = zip(*outputs, self.strides, strict=True)
        parts = [self._candidates(logits, edges, center, stride) for logits, edges, center, stride in levels]
        boxes, scores, labels = (torch.cat(values, 1) for values in zip(*parts, strict=True))
        boxes = clip_boxes_to_image(boxes, size)
        return suppress(boxes, scores, labels, self.spec.nms_iou, self.spec.num_detections, max(size))

    def class_layers(self, prefix: str) -> tuple[str, ...]:
        """Return the names, after the prefix, of the layers with one output per class."""
        return (f"{prefix}classify",)

    @property
    def strides(self) -> tuple[int, ...]:
        """Distance between the points of each level, in pixels of the input."""
        return tuple(4 * self.spec.pyramid_stride * 2**level for level in range(len(self.spec.ranges)))

    def _candidates(
        self,
        logits: Float[Tensor, "n k h w"],
        distances: Float[Tensor, "n 4 h w"],
        centerness: Float[Tensor, "n 1 h w"],
        stride: int,
    ) -> tuple[Float[Tensor, "n c 4"], Float[Tensor, "n c"], Int[Tensor, "n c"]]:
        """Return boxes, scores and labels of the best pairs of point and class; 0 for scores below the threshold."""
        num_classes, height, width = logits.shape[1:]
        cells = height * width
        best = logits.float().flatten(1).topk(min(self.spec.candidates, num_classes * cells), dim=1)
        labels, points = best.indices // cells, best.indices % cells
        scores = best.values.sigmoid()
        weights = centerness.float().flatten(1).gather(1, points).sigmoid()
        scores = scores * weights * (scores > self.spec.score_threshold)
        edges = take_rows(distances.flatten(2).transpose(1, 2), points)
        centers = (torch.stack([points % width, points // width], -1) + 0.5) * stride
        return torch.cat([centers - edges[..., :2], centers + edges[..., 2:]], -1), scores, labels

    def loss(self, maps: Maps, size: Size, objects: Sequence[GroundTruth]) -> Losses:
        """Return the losses; see `maps_loss`."""
        return self.maps_loss(self.forward_maps(maps), objects)

    def maps_loss(self, outputs: FCOSMaps, objects: Sequence[GroundTruth]) -> Losses:
        """Return the focal loss of the classes, -ln IoU of the boxes and the cross entropy of the center-ness.

        The first and the last are per positive point, the second is weighted by the target center-ness.
        """
        grid = self._grid([(level.shape[-2], level.shape[-1]) for level in outputs.logits], outputs.distances[0])
        assigned = [assign(grid, one, self.spec.center_radius) for one in objects]
        labels = torch.stack([one.labels for one in assigned])
        positive = labels >= 0
        count = positive.sum().clamp(min=1)

        logits = _concatenate(outputs.logits)
        classes = functional.one_hot(labels.clamp(min=0), logits.shape[-1]).to(logits) * positive[..., None]
        focal = sigmoid_focal_loss(logits, classes, FOCAL_ALPHA, FOCAL_GAMMA)
        counted = torch.stack([~one.ignored for one in assigned])
        edges = torch.stack([one.distances for one in assigned])[positive]
        targets = centerness_targets(edges)
        iou = distance_iou(_concatenate(outputs.distances)[positive], edges).clamp(min=MIN_IOU)
        centerness = _concatenate(outputs.centerness)[..., 0][positive]
        return {
            "classes": (focal * counted[..., None]).sum() / count,
            "boxes": -(targets * iou.log()).sum() / targets.sum().clamp(min=MIN_IOU),
            "centerness": functional.binary_cross_entropy_with_logits(centerness, targets, reduction="sum") / count,
        }

    def _grid(self, sizes: Sequence[Size], like: Tensor) -> Grid:
        parts = [cell_points(size, stride, like) for size, stride in zip(sizes, self.strides, strict=True)]
        counts = torch.tensor([len(part) for part in parts], device=like.device)
        limits = like.new_tensor(self.spec.ranges).repeat_interleave(counts, 0)
        return Grid(torch.cat(parts), like.new_tensor(self.strides).repeat_interleave(counts), limits)


def _concatenate(levels: Sequence[Float[Tensor, "n c _ _"]]) -> Float[Tensor, "n p c"]:
    """Return the points of all levels, one after another, in single precision."""
    return torch.cat([level.flatten(2) for level in levels], 2).transpose(1, 2).float()


def _conv(inputs: int, outputs: int, *, bias: float = 0.0) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    assert conv.bias is not None
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, bias)
    return conv


def _tower(width: int, num_convs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    # The published 256 channels have groups of 8; narrower towers keep that size, as one channel has no variance at a point.
    most = min(NORM_GROUPS, max(width // MIN_GROUP_WIDTH, 1))
    groups = next(count for count in range(most, 0, -1) if width % count == 0)
    for _ in range(num_convs):
        conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        nn.init.normal_(conv.weight, std=0.01)
        layers.append(nn.Sequential(conv, nn.GroupNorm(groups, width), nn.ReLU(inplace=True)))
    return nn.Sequential(*layers)


# ---- targets


class Grid(NamedTuple):
    """The points (x, y) of all levels in pixels of the input, with the stride and the range of distances of their level."""

    points: Float[Tensor, "p 2"]
    strides: Float[Tensor, " p"]
    limits: Float[Tensor, "p 2"]


class PointTargets(NamedTuple):
    """Targets of the points of an image: labels, -1 for background; distances to the left, top, right and bottom edge of
    the object, arbitrary for background; `ignored`: True for background inside a crowd."""

    labels: Int[Tensor, " p"]
    distances: Float[Tensor, "p 4"]
    ignored: Bool[Tensor, " p"]


def assign(grid: Grid, objects: GroundTruth, radius: float | None) -> PointTargets:
    """Assign to every point the smallest object around it whose farthest edge is within the limits of its level.

    With a `radius`, in strides, only points that near to the center of the object, along both axes (center sampling).
    """
    boxes = objects.boxes
    if len(boxes) == 0:
        labels = torch.full_like(grid.strides, -1, dtype=torch.long)
        return PointTargets(labels, grid.points.new_ones(len(labels), 4), in_any(grid.points, objects.crowd))
    x, y = grid.points.unsqueeze(1).unbind(-1)
    x1, y1, x2, y2 = boxes.unbind(1)
    # Two-dimensional maps only: there may be 20 000 points and 500 objects.
    farthest = torch.maximum(torch.maximum(x - x1, x2 - x), torch.maximum(y - y1, y2 - y))
    if radius is None:
        nearest = torch.minimum(torch.minimum(x - x1, x2 - x), torch.minimum(y - y1, y2 - y))
    else:
        reach = (grid.strides * radius)[:, None]
        middle, across = (x1 + x2) / 2, (y1 + y2) / 2
        left, right = torch.maximum(x1, middle - reach), torch.minimum(x2, middle + reach)
        upper, lower = torch.maximum(y1, across - reach), torch.minimum(y2, across + reach)
        nearest = torch.minimum(torch.minimum(x - left, right - x), torch.minimum(y - upper, lower - y))
    fits = (nearest > 0) & (farthest >= grid.limits[:, :1]) & (farthest <= grid.limits[:, 1:])
    areas = (x2 - x1) * (y2 - y1)
    smallest, index = torch.where(fits, areas, math.inf).min(1)
    chosen = boxes[index]
    distances = torch.cat([grid.points - chosen[:, :2], chosen[:, 2:] - grid.points], 1)
    labels = torch.where(smallest < math.inf, objects.labels[index], -1)
    return PointTargets(labels, distances, (labels < 0) & in_any(grid.points, objects.crowd))


def in_any(points: Float[Tensor, "p 2"], regions: Float[Tensor, "c 4"]) -> Bool[Tensor, " p"]:
    """Return which points lie in one of the regions x1 y1 x2 y2."""
    inside = (points[:, None] > regions[:, :2]) & (points[:, None] < regions[:, 2:])
    return inside.all(-1).any(1)


def centerness_targets(distances: Float[Tensor, "m 4"]) -> Float[Tensor, " m"]:
    """Return the center-ness, 1 in the center, 0 at the edges: sqrt of the product over both axes of min / max distance."""
    left, upper, right, lower = distances.unbind(-1)
    x = torch.minimum(left, right) / torch.maximum(left, right)
    y = torch.minimum(upper, lower) / torch.maximum(upper, lower)
    return (x * y).sqrt()


def distance_iou(distances: Float[Tensor, "m 4"], targets: Float[Tensor, "m 4"]) -> Float[Tensor, " m"]:
    """Return the IoU of boxes around the same points, pair by pair (torchvision's box_iou compares all pairs)."""
    sides = torch.minimum(distances, targets)
    intersection = (sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3])
    areas = [(one[:, 0] + one[:, 2]) * (one[:, 1] + one[:, 3]) for one in (distances, targets)]
    return intersection / (areas[0] + areas[1] - intersection)


# ---- detections


def suppress(
    boxes: Float[Tensor, "n c 4"],
    scores: Float[Tensor, "n c"],
    labels: Int[Tensor, "n c"],
    iou: float,
    count: int,
    extent: int,
) -> DetectionOutput:
    """Return the best `count` boxes of every image after the per-class NMS, padded with the score 0.

    Boxes lie in the image, whose longer side is `extent`; the score 0 drops a box.
    """
    images = torch.arange(scores.shape[0], device=scores.device)[:, None]
    moved = separate(boxes, labels * scores.shape[0] + images, extent).flatten(0, 1)
    flat = scores.flatten()
    valid = flat.nonzero()[:, 0]
    kept = valid[nms(moved[valid], flat[valid], iou)]
    remaining = torch.zeros_like(flat).scatter(0, kept, flat[kept]).view_as(scores)
    # A fixed number, though there may be fewer candidates.
    missing = max(count - scores.shape[1], 0)
    best = functional.pad(remaining, (0, missing)).topk(count, dim=1)
    index = best.indices.clamp(max=scores.shape[1] - 1)
    return DetectionOutput(take_rows(boxes, index), best.values, labels.gather(1, index))
