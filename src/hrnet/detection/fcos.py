"""FCOS: every point of five maps says whether it lies in an object, how far away the object's edges are, and how near its
center it is itself.

Source: arXiv 1904.01355, in the form of mmdetection's FCOS-HRNet with group norms: center-ness beside the classes,
distances as exponentials, no square root over the score. Deliberate differences: background in crowds is not learned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import nms, sigmoid_focal_loss

from hrnet.detection.boxes import DetectionOutput, Objects, apart, clip_to
from hrnet.detection.spec import FCOSSpec
from hrnet.io.geometry import Size
from hrnet.nn.representation import Pyramid

# Source: arXiv 1904.01355 and the released settings; mmdetection has the same.
NORM_GROUPS, LEAST_GROUP = 32, 8
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
PRIOR = 0.01
LEAST_IOU = 1e-6
# Of a new network, pixels: a distance that a level without a lower limit begins with; its logarithm, about, which makes the
# factors of all levels about one. No distance is larger than the exponential of the last, which no image reaches.
_FIRST_DISTANCE, _FIRST_LOG, _MOST_LOG = 24.0, 4.0, 11.0


class DenseMaps(NamedTuple):
    """What the network says at every point, level by level, from fine to coarse.

    Attributes:
        logits: of the classes.
        distances: in input pixels to the left, upper, right and lower edge of the object.
        centerness: logit of how near the point is to the object's center.
    """

    logits: list[Float[Tensor, "n k _ _"]]
    distances: list[Float[Tensor, "n 4 _ _"]]
    centerness: list[Float[Tensor, "n 1 _ _"]]


class FCOS(nn.Module):
    """The detector over the maps of the backbone.

    Args:
        widths: channels of the maps.
        num_classes: how many kinds of objects there are.
        spec: everything else.
    """

    def __init__(self, widths: Sequence[int], num_classes: int, spec: FCOSSpec) -> None:
        super().__init__()
        self.spec = spec
        width, num_levels = spec.pyramid_width, len(spec.ranges)
        self.pyramid = Pyramid(widths, width, num_levels, spec.pooling, spec.pyramid_stride)
        self.class_tower = _tower(width, spec.tower_convs)
        self.box_tower = _tower(width, spec.tower_convs)
        self.classify = _conv(width, num_classes, bias=-math.log((1 - PRIOR) / PRIOR))
        self.measure = _conv(width, 4, bias=_FIRST_LOG)
        self.center = _conv(width, 1)
        # Each level begins with distances of the size that it is there for, not with one pixel.
        self.scales = nn.ParameterList(
            nn.Parameter(torch.tensor(math.log(low if low > 0 else min(high / 2, _FIRST_DISTANCE)) / _FIRST_LOG))
            for low, high in spec.ranges
        )

    def dense(self, maps: Sequence[Float[Tensor, "n _ _ _"]]) -> DenseMaps:
        """The outputs of the network, as they are."""
        found = DenseMaps([], [], [])
        for level, scale in zip(self.pyramid(maps), self.scales, strict=True):
            classes, edges = self.class_tower(level), self.box_tower(level)
            found.logits.append(self.classify(classes))
            found.centerness.append(self.center(classes))
            found.distances.append((self._measure(edges).float() * scale).clamp(max=_MOST_LOG).exp())
        return found

    def _measure(self, edges: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 4 h w"]:
        """Logarithms of distances, in single precision: one step of bf16 is 3 % of a distance beyond 55 pixels."""
        if not torch.is_autocast_enabled(edges.device.type):
            return self.measure(edges)
        with torch.autocast(edges.device.type, enabled=False):
            return self.measure(edges.float())

    def forward(self, maps: Sequence[Float[Tensor, "n _ _ _"]], size: Size) -> DetectionOutput:
        """The objects of images of this height and width, best first."""
        return self.select(self.dense(maps), size)

    def select(self, found: DenseMaps, size: Size) -> DetectionOutput:
        """The best candidates of every level as boxes, those that overlap better ones of their class left out."""
        levels = zip(*found, self.strides, strict=True)
        parts = [self._candidates(classes, edges, central, stride) for classes, edges, central, stride in levels]
        boxes, scores, labels = (torch.cat(values, 1) for values in zip(*parts, strict=True))
        boxes = clip_to(boxes, size)
        return DetectionOutput(
            *suppress(boxes, scores, labels, self.spec.nms_iou, self.spec.num_detections, max(size)), None
        )

    def class_layers(self, prefix: str) -> tuple[str, ...]:
        """Names, after the prefix, of the layers with an output for each class."""
        return (f"{prefix}classify",)

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels between the points of each level."""
        return tuple(4 * self.spec.pyramid_stride * 2**level for level in range(len(self.spec.ranges)))

    def _candidates(
        self,
        logits: Float[Tensor, "n k h w"],
        distances: Float[Tensor, "n 4 h w"],
        centerness: Float[Tensor, "n 1 h w"],
        stride: int,
    ) -> tuple[Float[Tensor, "n c 4"], Float[Tensor, "n c"], Int[Tensor, "n c"]]:
        """The best pairs of a point and a class: boxes, scores, labels; the score is 0 where the class is too unsure."""
        num_classes, height, width = logits.shape[1:]
        cells = height * width
        best = logits.float().flatten(1).topk(min(self.spec.candidates, num_classes * cells), dim=1)
        labels, places = best.indices // cells, best.indices % cells
        scores = best.values.sigmoid()
        central = centerness.float().flatten(1).gather(1, places).sigmoid()
        scores = scores * central * (scores > self.spec.score_threshold)
        edges = distances.flatten(2).gather(2, places[:, None].expand(-1, 4, -1)).transpose(1, 2)
        points = (torch.stack([places % width, places // width], -1) + 0.5) * stride
        return torch.cat([points - edges[..., :2], points + edges[..., 2:]], -1), scores, labels

    def loss(
        self, maps: Sequence[Float[Tensor, "n _ _ _"]], size: Size, objects: Sequence[Objects]
    ) -> dict[str, Float[Tensor, ""]]:
        """See `dense_loss`."""
        return self.dense_loss(self.dense(maps), objects)

    def dense_loss(self, found: DenseMaps, objects: Sequence[Objects]) -> dict[str, Float[Tensor, ""]]:
        """Focal loss of the classes, -ln IoU of the boxes and cross entropy of the center-ness.

        The first and the last count per point in an object, the second is weighted by the true center-ness.
        """
        grid = self._grid([(level.shape[-2], level.shape[-1]) for level in found.logits], found.distances[0])
        assigned = [assign(grid, one, self.spec.center_radius) for one in objects]
        labels = torch.stack([one.labels for one in assigned])
        inside = labels >= 0
        count = inside.sum().clamp(min=1)

        logits = _joined(found.logits)
        truth = functional.one_hot(labels.clamp(min=0), logits.shape[-1]).to(logits) * inside[..., None]
        focal = sigmoid_focal_loss(logits, truth, FOCAL_ALPHA, FOCAL_GAMMA)
        learned = torch.stack([~one.ignored for one in assigned])
        edges = torch.stack([one.distances for one in assigned])[inside]
        central = true_centerness(edges)
        overlaps = distance_iou(_joined(found.distances)[inside], edges).clamp(min=LEAST_IOU)
        centerness = _joined(found.centerness)[..., 0][inside]
        return {
            "classes": (focal * learned[..., None]).sum() / count,
            "boxes": -(central * overlaps.log()).sum() / central.sum().clamp(min=LEAST_IOU),
            "centerness": functional.binary_cross_entropy_with_logits(centerness, central, reduction="sum") / count,
        }

    def _grid(self, sizes: Sequence[Size], like: Tensor) -> Grid:
        parts = [_points(size, stride, like) for size, stride in zip(sizes, self.strides, strict=True)]
        counts = torch.tensor([len(part) for part in parts], device=like.device)
        limits = like.new_tensor(self.spec.ranges).repeat_interleave(counts, 0)
        return Grid(torch.cat(parts), like.new_tensor(self.strides).repeat_interleave(counts), limits)


def _joined(levels: Sequence[Float[Tensor, "n c _ _"]]) -> Float[Tensor, "n p c"]:
    """All points of all levels, one after another."""
    return torch.cat([level.flatten(2) for level in levels], 2).transpose(1, 2).float()


def _conv(inputs: int, outputs: int, *, bias: float = 0.0) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    assert conv.bias is not None
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, bias)
    return conv


def _tower(width: int, num_convs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    # The published 256 channels have groups of 8; so have less, since one channel of one point has no spread.
    most = min(NORM_GROUPS, max(width // LEAST_GROUP, 1))
    groups = next(count for count in range(most, 0, -1) if width % count == 0)
    for _ in range(num_convs):
        conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        nn.init.normal_(conv.weight, std=0.01)
        layers.append(nn.Sequential(conv, nn.GroupNorm(groups, width), nn.ReLU(inplace=True)))
    return nn.Sequential(*layers)


def _points(size: Size, stride: int, like: Tensor) -> Float[Tensor, "p 2"]:
    """The points (x, y) of a level of this height and width in input pixels, row by row."""
    y, x = ((torch.arange(length, device=like.device, dtype=like.dtype) + 0.5) * stride for length in size)
    return torch.stack([x.repeat(size[0]), y.repeat_interleave(size[1])], 1)


# ---- what is learned


class Grid(NamedTuple):
    """The points of all levels, one after another.

    Attributes:
        points: (x, y) in input pixels.
        strides: of each point's level.
        limits: smallest and largest distance that each point's level is for.
    """

    points: Float[Tensor, "p 2"]
    strides: Float[Tensor, " p"]
    limits: Float[Tensor, "p 2"]


class Assigned(NamedTuple):
    """What the points of an image are to say.

    Attributes:
        labels: of the object at the point, -1 where there is none.
        distances: to its left, upper, right and lower edge; anything where there is none.
        ignored: outside of all objects and inside of a crowd.
    """

    labels: Int[Tensor, " p"]
    distances: Float[Tensor, "p 4"]
    ignored: Bool[Tensor, " p"]


def assign(grid: Grid, objects: Objects, radius: float | None) -> Assigned:
    """To every point the smallest object that it lies in and whose farthest edge is within the limits of its level.

    Args:
        grid: the points.
        objects: of one image.
        radius: a point lies in an object only where it is also nearer to its center, along both axes, than so many
            strides; None for no such limit.
    """
    boxes = objects.boxes
    if len(boxes) == 0:
        labels = torch.full_like(grid.strides, -1, dtype=torch.long)
        return Assigned(labels, grid.points.new_ones(len(labels), 4), in_any(grid.points, objects.crowd))
    x, y = grid.points.unsqueeze(1).unbind(-1)
    x1, y1, x2, y2 = boxes.unbind(1)
    # One map of points and objects at a time: there may be 20 000 of the first and 500 of the second.
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
    owners = boxes[index]
    distances = torch.cat([grid.points - owners[:, :2], owners[:, 2:] - grid.points], 1)
    labels = torch.where(smallest < math.inf, objects.labels[index], -1)
    return Assigned(labels, distances, (labels < 0) & in_any(grid.points, objects.crowd))


def in_any(points: Float[Tensor, "p 2"], regions: Float[Tensor, "c 4"]) -> Bool[Tensor, " p"]:
    """Whether a point lies in one of the regions x1 y1 x2 y2."""
    inside = (points[:, None] > regions[:, :2]) & (points[:, None] < regions[:, 2:])
    return inside.all(-1).any(1)


def true_centerness(distances: Float[Tensor, "m 4"]) -> Float[Tensor, " m"]:
    """1 in the center, 0 at the edges: the root of the product of least by largest distance, along both axes."""
    left, upper, right, lower = distances.unbind(-1)
    across = torch.minimum(left, right) / torch.maximum(left, right)
    along = torch.minimum(upper, lower) / torch.maximum(upper, lower)
    return (across * along).sqrt()


def distance_iou(found: Float[Tensor, "m 4"], truth: Float[Tensor, "m 4"]) -> Float[Tensor, " m"]:
    """IoU of boxes around the same points."""
    sides = torch.minimum(found, truth)
    shared = (sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3])
    areas = [(one[:, 0] + one[:, 2]) * (one[:, 1] + one[:, 3]) for one in (found, truth)]
    return shared / (areas[0] + areas[1] - shared)


# ---- what is found


def suppress(
    boxes: Float[Tensor, "n c 4"],
    scores: Float[Tensor, "n c"],
    labels: Int[Tensor, "n c"],
    iou: float,
    count: int,
    extent: int,
) -> tuple[Float[Tensor, "n d 4"], Float[Tensor, "n d"], Int[Tensor, "n d"]]:
    """The best boxes of every image that overlap no better one of their class, by one call for all images and classes;
    filled up with the score 0.

    Args:
        boxes: x1 y1 x2 y2, all inside of the image.
        scores: 0 for what is none.
        labels: of the boxes.
        iou: more overlap than this is too much.
        count: how many boxes are returned for each image.
        extent: the longer side of the images.
    """
    images = torch.arange(scores.shape[0], device=scores.device)[:, None]
    moved = apart(boxes, labels * scores.shape[0] + images, extent).flatten(0, 1)
    flat = scores.flatten()
    real = flat.nonzero()[:, 0]
    kept = real[nms(moved[real], flat[real], iou)]
    survived = torch.zeros_like(flat).scatter(0, kept, flat[kept]).view_as(scores)
    # Never fewer than asked for, though there may be fewer candidates.
    missing = max(count - scores.shape[1], 0)
    best = functional.pad(survived, (0, missing)).topk(count, dim=1)
    index = best.indices.clamp(max=scores.shape[1] - 1)
    return boxes.gather(1, index[..., None].expand(-1, -1, 4)), best.values, labels.gather(1, index)
