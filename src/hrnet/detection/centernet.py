"""CenterNet: an object is a triplet of keypoints, two paired corners and a center between them.

Source: arXiv 1904.08189 (Duan et al.); corners, their targets and losses from arXiv 1808.01244 (CornerNet). The form
over HRNet (arXiv 1908.07919, table 8) was never published as code. The layers between backbone and heads are chosen by
the published numbers of parameters and operations: 73.6M and 127.7M for W48 and W64, 217.1 GFLOPs. A 3x3 convolution of the
concatenated maps at their width, then everything 128 wide, gives 73.7M, 127.7M; no other simple form fits both.

Differences: cells are exactly 4 input pixels wide (the published code has 511 / 128), points on the right edge of the input
belong to the last column, and background in crowds is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from hrnet.detection.boxes import GroundTruth, pairwise_iou, take_rows
from hrnet.detection.processor import DetectionOutput
from hrnet.detection.spec import CenterNetSpec
from hrnet.io.geometry import Size
from hrnet.nn.backbone import ConvBN, Maps, conv_bn
from hrnet.nn.representation import MapsSequential, concat_conv_bn
from hrnet.nn.task import Losses

STRIDE = 4
# Source: arXiv 1808.01244, section 3.2 and 3.3: exponents of the focal loss; margin of the push loss.
FOCAL_ALPHA, FOCAL_BETA = 2, 4
PUSH_MARGIN = 1.0
# Source: arXiv 1904.08189, section 3.2: the middle third of a box, or the middle fifth of boxes of a larger area.
LARGE_AREA = 150.0**2
# Source: arXiv 1708.02002: initial foreground probability.
PRIOR = 0.1
# Pairs of corners that are confirmed by centers.
NUM_PAIRS = 1000
# Confirmed boxes that enter the soft NMS; all others have very low scores.
NUM_CONFIRMED = 200

Direction = Literal["left", "right", "up", "down"]


class TripletMaps(NamedTuple):
    """Outputs of the network at every cell, for top-left corners, bottom-right corners and centers, in this order: logits;
    embeddings, similar for the two corners of an object; offsets (x, y) of the point in its cell, in cells."""

    heatmaps: Float[Tensor, "n 3 k h w"]
    embeddings: Float[Tensor, "n 2 h w"]
    offsets: Float[Tensor, "n 3 2 h w"]


class Peaks(NamedTuple):
    """Peaks of heatmaps: scores, labels, points (x, y) in pixels of the input, and embeddings (zero for centers)."""

    scores: Float[Tensor, "n a"]
    labels: Int[Tensor, "n a"]
    points: Float[Tensor, "n a 2"]
    embeddings: Float[Tensor, "n a"]


class CenterNet(nn.Module):
    """The detector over the maps of the backbone, whose channels are `widths`."""

    def __init__(self, widths: Sequence[int], num_classes: int, spec: CenterNetSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.width
        first = concat_conv_bn(widths, sum(widths), spec.reduce_kernel, align_corners=False)
        self.reduce: MapsSequential = MapsSequential(*first, conv_bn(sum(widths), width, 1, relu=True))
        self.branches: nn.ModuleList = nn.ModuleList(
            [CascadePooling(width, ("down", "right")), CascadePooling(width, ("up", "left")), CenterPooling(width)]
        )
        self.heatmaps: nn.ModuleList = nn.ModuleList(
            _outputs(width, num_classes, math.log(PRIOR / (1 - PRIOR))) for _ in range(3)
        )
        self.embeddings: nn.ModuleList = nn.ModuleList(_outputs(width, 1) for _ in range(2))
        self.offsets: nn.ModuleList = nn.ModuleList(_outputs(width, 2) for _ in range(3))

    def forward_maps(self, maps: Maps) -> TripletMaps:
        """Return the outputs at every cell."""
        x = self.reduce(maps)
        points = [branch(x) for branch in self.branches]
        corners = zip(self.embeddings, points[:2], strict=True)
        return TripletMaps(
            torch.stack([layers(y) for layers, y in zip(self.heatmaps, points, strict=True)], 1),
            torch.cat([layers(y) for layers, y in corners], 1),
            torch.stack([layers(y) for layers, y in zip(self.offsets, points, strict=True)], 1),
        )

    def forward(self, maps: Maps, size: Size) -> DetectionOutput:
        """Return the detections of inputs of this height and width, best first."""
        return decode_triplets(self.forward_maps(maps), self.spec)

    def loss(self, maps: Maps, size: Size, objects: Sequence[GroundTruth]) -> Losses:
        """Return the focal losses of corners and of centers, the pull and push losses, and the offset loss."""
        return triplet_loss(self.forward_maps(maps), objects, self.spec)

    def class_layers(self, prefix: str) -> tuple[str, ...]:
        """Return the names, after the prefix, of the layers with one output per class."""
        return tuple(f"{prefix}heatmaps.{kind}.2" for kind in range(3))


# ---- the network


def corner_pool(x: Float[Tensor, "n c h w"], direction: Direction) -> Float[Tensor, "n c h w"]:
    """Return the running maximum from every cell in one direction (corner pooling)."""
    axis = -1 if direction in ("left", "right") else -2
    backwards = direction in ("right", "down")
    if backwards:
        x = x.flip(axis)
    if torch.is_grad_enabled() and x.requires_grad:
        # Keeps one index per cell for the gradient.
        x = x.cummax(axis).values
    else:
        # The same values in a third of the time, in operations that every runtime has: maxima over 2, 4, 8 ... cells.
        step = 1
        while step < x.shape[axis]:
            start, rest = x.narrow(axis, 0, step), x.narrow(axis, step, x.shape[axis] - step)
            x = torch.cat([start, torch.maximum(rest, x.narrow(axis, 0, x.shape[axis] - step))], axis)
            step *= 2
    return x.flip(axis) if backwards else x


class _Pooling(nn.Module):
    """The layers around the pooling of CornerNet: pooled features plus a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.merge: ConvBN = conv_bn(width, width, 3, relu=False)
        self.skip: ConvBN = conv_bn(width, width, 1, relu=False)
        self.refine: ConvBN = conv_bn(width, width, 3, relu=True)

    def combine(self, pooled: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return self.refine(functional.relu(self.merge(pooled) + self.skip(x)))


class CascadePooling(_Pooling):
    """Cascade corner pooling: maxima along the two edges from the corner, to which those of the object's inside are added."""

    def __init__(self, width: int, directions: tuple[Direction, Direction]) -> None:
        super().__init__(width)
        self.directions = directions
        self.edge: nn.ModuleList = nn.ModuleList(conv_bn(width, width, 3, relu=True) for _ in directions)
        self.inner: nn.ModuleList = nn.ModuleList(conv_bn(width, width, 3, relu=True) for _ in directions)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        # Seen from one edge, the inside of the object lies in the direction of the other edge.
        edges = zip(self.directions, reversed(self.directions), self.edge, self.inner, strict=True)
        first, second = (
            corner_pool(edge(x) + corner_pool(inner(x), inwards), along) for along, inwards, edge, inner in edges
        )
        return self.combine(first + second, x)


class CenterPooling(_Pooling):
    """Center pooling: the maximum of the row plus the maximum of the column."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.row: ConvBN = conv_bn(width, width, 3, relu=True)
        self.column: ConvBN = conv_bn(width, width, 3, relu=True)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return self.combine(self.row(x).amax(-1, keepdim=True) + self.column(x).amax(-2, keepdim=True), x)


def _outputs(width: int, outputs: int, bias: float = 0.0) -> nn.Sequential:
    last = nn.Conv2d(width, outputs, 1)
    assert last.bias is not None
    nn.init.constant_(last.bias, bias)
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), last)


# ---- targets and losses


class Keypoints(NamedTuple):
    """The three points of each object: cells (x, y) and offsets in the cell, 0 to 1."""

    cells: Int[Tensor, "3 k 2"]
    offsets: Float[Tensor, "3 k 2"]


def encode_points(boxes: Float[Tensor, "k 4"], size: Size) -> Keypoints:
    """Return the corners and centers of boxes in heatmaps of this size; points on the right or bottom edge belong to the
    last cell."""
    first, second = boxes[:, :2], boxes[:, 2:]
    points = torch.stack([first, second, (first + second) / 2]) / STRIDE
    last = boxes.new_tensor([size[1] - 1, size[0] - 1])
    cells = torch.minimum(points.floor().clamp(min=0), last)
    return Keypoints(cells.long(), points - cells)


def gaussian_radius(sides: Float[Tensor, "k 2"], iou: float) -> Float[Tensor, " k"]:
    """Return the largest shift of both corners, along both axes, at which the IoU with the true box is at least `iou`.

    With sum s = w + h and product p = w h of the sides, the minimum of three cases: both corners shifted the same way,
    (w - r)(h - r) = p 2 iou / (1 + iou); both inwards, (w - 2r)(h - 2r) = p iou; both outwards,
    (w + 2r)(h + 2r) = p / iou. (The published code divides the roots by 2 instead of twice the leading coefficient.)
    """
    total, product = sides.sum(-1), sides.prod(-1)
    same = (total - (total**2 - 4 * product * (1 - iou) / (1 + iou)).clamp(min=0).sqrt()) / 2
    inwards = (total - (total**2 - 4 * product * (1 - iou)).clamp(min=0).sqrt()) / 4
    outwards = ((total**2 + 4 * product * (1 - iou) / iou).sqrt() - total) / 4
    return torch.minimum(torch.minimum(same, inwards), outwards)


def heatmap_targets(
    boxes: Float[Tensor, "k 4"], labels: Int[Tensor, " k"], num_classes: int, size: Size, iou: float
) -> Float[Tensor, "3 c h w"]:
    """Return heatmaps of this size with 1 at the cells of the points and a Gaussian of a third of the `gaussian_radius`
    around them."""
    height, width = size
    targets = boxes.new_zeros(3, num_classes, height, width)
    cells = encode_points(boxes, size).cells
    radius = gaussian_radius((boxes[:, 2:] - boxes[:, :2]).clamp(min=0) / STRIDE, iou).floor()
    columns = _gaussians(cells[..., 0], radius, width)
    rows = _gaussians(cells[..., 1], radius, height)
    for label in labels.unique().tolist():
        chosen = labels == label
        targets[:, label] = (rows[:, chosen, :, None] * columns[:, chosen, None, :]).amax(1)
    return targets


def _gaussians(cells: Int[Tensor, "3 k"], radius: Float[Tensor, " k"], length: int) -> Float[Tensor, "3 k l"]:
    distance = torch.arange(length, device=cells.device) - cells[..., None]
    # Source: arXiv 1808.01244: a third of the radius; the half cell keeps it above zero.
    sigma = (2 * radius[:, None] + 1) / 6
    return torch.exp(-(distance**2) / (2 * sigma**2)) * (distance.abs() <= radius[:, None])


def focal_loss(
    logits: Float[Tensor, "*n"], targets: Float[Tensor, "*n"], ignored: Bool[Tensor, "*#n"]
) -> Float[Tensor, ""]:
    """Return the sum of CornerNet's focal loss, which penalizes false positives near a point less.

    Targets are 1 at points and lower around them. Ignored cells have no loss, unless they hold a point.
    """
    scores = logits.sigmoid()
    points = (1 - scores) ** FOCAL_ALPHA * functional.logsigmoid(logits)
    others = (1 - targets) ** FOCAL_BETA * scores**FOCAL_ALPHA * functional.logsigmoid(-logits)
    return -torch.where(targets == 1, points, others * ~ignored).sum()


def embedding_loss(embeddings: Float[Tensor, "2 k"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the pull loss between the two corners of an object and the push loss between the objects of an image."""
    count = embeddings.shape[1]
    means = embeddings.mean(0)
    pull = (embeddings - means).square().sum() / max(count, 1)
    near = (PUSH_MARGIN - (means[:, None] - means).abs()).clamp(min=0)
    push = (near.sum() - near.diagonal().sum()) / max(count * (count - 1), 1)
    return pull, push


def triplet_loss(outputs: TripletMaps, objects: Sequence[GroundTruth], spec: CenterNetSpec) -> Losses:
    """Return the losses of `CenterNet.loss`; heatmaps and offsets are per object, embeddings per image."""
    heatmaps, embeddings, offsets = (value.float() for value in outputs)
    num_classes, size = heatmaps.shape[2], (heatmaps.shape[-2], heatmaps.shape[-1])
    total = max(sum(len(one.boxes) for one in objects), 1)
    terms: dict[str, list[Tensor]] = {name: [] for name in ("corners", "centers", "pull", "push", "offsets")}
    for index, one in enumerate(objects):
        targets = heatmap_targets(one.boxes, one.labels, num_classes, size, spec.radius_iou)
        ignored = _crowd_cells(one.crowd, size)
        terms["corners"].append(focal_loss(heatmaps[index, :2], targets[:2], ignored) / total)
        terms["centers"].append(focal_loss(heatmaps[index, 2], targets[2], ignored) / total)
        points = encode_points(one.boxes, size)
        x, y = points.cells.unbind(-1)
        kind = torch.arange(3, device=x.device)[:, None]
        pull, push = embedding_loss(embeddings[index][kind[:2], y[:2], x[:2]])
        terms["pull"].append(spec.pull_weight * pull / len(objects))
        terms["push"].append(spec.push_weight * push / len(objects))
        found = offsets[index].permute(0, 2, 3, 1)[kind, y, x]
        terms["offsets"].append(functional.smooth_l1_loss(found, points.offsets, reduction="sum") / total)
    return {name: torch.stack(values).sum() for name, values in terms.items()}


def _crowd_cells(crowd: Float[Tensor, "c 4"], size: Size) -> Bool[Tensor, "h w"]:
    """Return the cells whose center lies in one of the regions."""
    y, x = ((torch.arange(length, device=crowd.device) + 0.5) * STRIDE for length in size)
    x1, y1, x2, y2 = crowd[:, :, None].unbind(1)
    rows, columns = (y > y1) & (y < y2), (x > x1) & (x < x2)
    return (rows[:, :, None] & columns[:, None, :]).any(0)


# ---- detections


def decode_triplets(outputs: TripletMaps, spec: CenterNetSpec) -> DetectionOutput:
    """Return the pairs of corners with a center between them, after the soft NMS of each class."""
    first, second, centers = (find_peaks(outputs, kind, spec.num_points) for kind in range(3))
    boxes, scores, labels = pair_corners(first, second, spec.embedding_distance)
    scores = confirm_centers(boxes, scores, labels, centers)
    best = scores.topk(min(max(NUM_CONFIRMED, spec.num_detections), scores.shape[1]), dim=1)
    boxes, labels = take_rows(boxes, best.indices), labels.gather(1, best.indices)
    return soft_nms(boxes, best.values, labels, spec.num_detections, spec.nms_sigma)


def find_peaks(outputs: TripletMaps, kind: int, count: int) -> Peaks:
    """Return the `count` highest local maxima, padded with the score 0, of one kind of point, in the order of the maps."""
    scores = outputs.heatmaps[:, kind].float().sigmoid()
    highest = functional.max_pool2d(scores, 3, 1, padding=1)
    _, num_classes, height, width = scores.shape
    cells = height * width
    best = (scores * (scores == highest)).flatten(1).topk(min(count, num_classes * cells), dim=1)
    labels, indices = best.indices // cells, best.indices % cells
    offsets = take_rows(outputs.offsets[:, kind].float().flatten(2).transpose(1, 2), indices)
    points = (torch.stack([indices % width, indices // width], -1) + offsets) * STRIDE
    embeddings = torch.zeros_like(best.values)
    if kind < 2:
        embeddings = outputs.embeddings[:, kind].float().flatten(1).gather(1, indices)
    return Peaks(best.values, labels, points, embeddings)


def pair_corners(
    first: Peaks, second: Peaks, distance: float
) -> tuple[Float[Tensor, "n p 4"], Float[Tensor, "n p"], Int[Tensor, "n p"]]:
    """Return boxes, scores and labels of the best pairs of corners; 0 for the scores of invalid pairs.

    A pair is valid if the classes are equal, the embeddings differ by less than `distance` and the second point lies neither
    to the left of the first nor above it.
    """
    scores = (first.scores[:, :, None] + second.scores[:, None]) / 2
    # The score 0 is padding.
    valid = (first.scores[:, :, None] > 0) & (second.scores[:, None] > 0)
    valid &= first.labels[:, :, None] == second.labels[:, None]
    valid &= (first.embeddings[:, :, None] - second.embeddings[:, None]).abs() < distance
    valid &= (first.points[:, :, None] <= second.points[:, None]).all(-1)
    scores = (scores * valid).flatten(1)
    best = scores.topk(min(NUM_PAIRS, scores.shape[1]), dim=1)
    others = second.scores.shape[1]
    starts, ends = best.indices // others, best.indices % others
    boxes = torch.cat([take_rows(first.points, starts), take_rows(second.points, ends)], -1)
    return boxes, best.values, first.labels.gather(1, starts)


def confirm_centers(
    boxes: Float[Tensor, "n p 4"], scores: Float[Tensor, "n p"], labels: Int[Tensor, "n p"], centers: Peaks
) -> Float[Tensor, "n p"]:
    """Return the mean scores of the three points; 0 for boxes without a center of their class in the middle.

    Source: arXiv 1904.08189, equation 1: the middle third, the middle fifth of large boxes.
    """
    start, end = boxes[..., None, :2], boxes[..., None, 2:]
    sides = (end - start).clamp(min=0)
    divisors = torch.where(sides.prod(-1, keepdim=True) <= LARGE_AREA, 3.0, 5.0)
    center, reach = (start + end) / 2, sides / (2 * divisors)
    inside = ((centers.points[:, None] - center).abs() <= reach).all(-1)
    same = labels[..., None] == centers.labels[:, None]
    best = (centers.scores[:, None] * (inside & same)).amax(-1)
    return (2 * scores + best) / 3 * ((scores > 0) & (best > 0))


def soft_nms(
    boxes: Float[Tensor, "n p 4"], scores: Float[Tensor, "n p"], labels: Int[Tensor, "n p"], count: int, sigma: float
) -> DetectionOutput:
    """Select the best box again and again, and multiply the scores of its class by exp(-IoU^2 / sigma) each time.

    Source: arXiv 1704.04503, equation 4.
    """
    factors = torch.exp(-(pairwise_iou(boxes, boxes) ** 2) / sigma).where(labels[:, :, None] == labels[:, None], 1.0)
    best: list[tuple[Tensor, Tensor]] = []
    for _ in range(count):
        score, index = scores.max(1, keepdim=True)
        best.append((score, index))
        lowered = scores * take_rows(factors, index)[:, 0]
        # Selected.
        scores = lowered.scatter(1, index, -1.0)
    kept, indices = (torch.cat(values, 1) for values in zip(*best, strict=True))
    return DetectionOutput(take_rows(boxes, indices), kept.clamp(min=0), labels.gather(1, indices))
