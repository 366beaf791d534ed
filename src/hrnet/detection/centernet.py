"""CenterNet: an object is a triplet of keypoints, two corners that belong together and a center between them.

Source: arXiv 1904.08189 (Duan et al.); corners, their targets and losses from arXiv 1808.01244 (CornerNet). The form
over HRNet (arXiv 1908.07919, table 8) was never published as code. What reads the backbone here is chosen by the
published sums of parameters and work: 73.6M and 127.7M for W48 and W64, 217.1 GFLOPs. A 3x3 convolution of the
concatenated maps at their width, then everything 128 wide, gives 73.7M, 127.7M; no other simple form fits both.

Differences: cells are exactly 4 input pixels wide (the published code has 511 / 128), the last column takes what lies on
the right edge of the input, and what lies in a crowd is not learned as background.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from hrnet.detection.boxes import DetectionOutput, Objects
from hrnet.detection.spec import CenterNetSpec
from hrnet.io.geometry import Size
from hrnet.nn.backbone import conv_bn
from hrnet.nn.representation import concat_conv_bn

STRIDE = 4
# Source: arXiv 1808.01244, section 3.2 and 3.3: exponents of the focal loss; the margin between objects.
FOCUS, NEAR_FOCUS = 2, 4
MARGIN = 1.0
# Source: arXiv 1904.08189, section 3.2: the middle third of a box, or the middle fifth of those of more pixels than this.
LARGE_AREA = 150.0**2
# Source: arXiv 1708.02002: what an untrained network finds anywhere.
PRIOR = 0.1
# Pairs of corners that are compared with the centers.
NUM_PAIRS = 1000
# Of them, the best with a center, which are compared with one another: all others are of very low scores.
NUM_CONFIRMED = 200

Gaze = Literal["left", "right", "up", "down"]


class Triplets(NamedTuple):
    """What the network says at every cell, of top-left corners, bottom-right corners and centers, in this order.

    Attributes:
        heatmaps: logits.
        embeddings: numbers that are alike for the two corners of an object; centers have none.
        offsets: of the point in its cell, x and y, in cells.
    """

    heatmaps: Float[Tensor, "n 3 k h w"]
    embeddings: Float[Tensor, "n 2 h w"]
    offsets: Float[Tensor, "n 3 2 h w"]


class Peaks(NamedTuple):
    """The best cells of heatmaps: scores, labels, points (x, y) in input pixels and embeddings (zero for centers)."""

    scores: Float[Tensor, "n a"]
    labels: Int[Tensor, "n a"]
    points: Float[Tensor, "n a 2"]
    embeddings: Float[Tensor, "n a"]


class CenterNet(nn.Module):
    """The detector over the maps of the backbone.

    Args:
        widths: channels of the maps.
        num_classes: how many kinds of objects there are.
        spec: everything else.
    """

    def __init__(self, widths: Sequence[int], num_classes: int, spec: CenterNetSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.width
        first = concat_conv_bn(widths, sum(widths), spec.reduce_kernel, align_corners=False)
        self.reduce = nn.Sequential(*first, conv_bn(sum(widths), width, 1, relu=True))
        self.branches = nn.ModuleList(
            [CascadePooling(width, ("down", "right")), CascadePooling(width, ("up", "left")), CenterPooling(width)]
        )
        self.heatmaps = nn.ModuleList(_outputs(width, num_classes, math.log(PRIOR / (1 - PRIOR))) for _ in range(3))
        self.embeddings = nn.ModuleList(_outputs(width, 1) for _ in range(2))
        self.offsets = nn.ModuleList(_outputs(width, 2) for _ in range(3))

    def triplets(self, maps: Sequence[Float[Tensor, "n _ _ _"]]) -> Triplets:
        """The outputs of the network, as they are."""
        x = self.reduce(maps)
        points = [branch(x) for branch in self.branches]
        corners = zip(self.embeddings, points[:2], strict=True)
        return Triplets(
            torch.stack([layers(y) for layers, y in zip(self.heatmaps, points, strict=True)], 1),
            torch.cat([layers(y) for layers, y in corners], 1),
            torch.stack([layers(y) for layers, y in zip(self.offsets, points, strict=True)], 1),
        )

    def forward(self, maps: Sequence[Float[Tensor, "n _ _ _"]], size: Size) -> DetectionOutput:
        """The objects of images of this height and width, best first."""
        return decode_triplets(self.triplets(maps), self.spec)

    def loss(
        self, maps: Sequence[Float[Tensor, "n _ _ _"]], size: Size, objects: Sequence[Objects]
    ) -> dict[str, Float[Tensor, ""]]:
        """Focal losses of corners and of centers, pull and push of the embeddings, offsets."""
        return triplet_loss(self.triplets(maps), objects, self.spec)

    def class_layers(self, prefix: str) -> tuple[str, ...]:
        """Names, after the prefix, of the layers with an output for each class."""
        return tuple(f"{prefix}heatmaps.{kind}.2" for kind in range(3))


# ---- the network


def look(x: Float[Tensor, "n c h w"], gaze: Gaze) -> Float[Tensor, "n c h w"]:
    """Corner pooling: at every cell the largest value that is seen from there in one direction, its own included."""
    axis = -1 if gaze in ("left", "right") else -2
    backwards = gaze in ("right", "down")
    if backwards:
        x = x.flip(axis)
    if torch.is_grad_enabled() and x.requires_grad:
        # Keeps one index a cell for the gradient.
        x = x.cummax(axis).values
    else:
        # The same values in a third of the time, and every runtime knows the operations: over 2, 4, 8 ... cells.
        step = 1
        while step < x.shape[axis]:
            start, rest = x.narrow(axis, 0, step), x.narrow(axis, step, x.shape[axis] - step)
            x = torch.cat([start, torch.maximum(rest, x.narrow(axis, 0, x.shape[axis] - step))], axis)
            step *= 2
    return x.flip(axis) if backwards else x


class _Pooling(nn.Module):
    """Pooled features, joined with those of the cell itself (the layers around the pooling of CornerNet)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.merge = conv_bn(width, width, 3, relu=False)
        self.skip = conv_bn(width, width, 1, relu=False)
        self.refine = conv_bn(width, width, 3, relu=True)

    def join(self, pooled: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return self.refine(functional.relu(self.merge(pooled) + self.skip(x)))


class CascadePooling(_Pooling):
    """Features of a corner, which mostly lies outside of its object: it looks along both edges and from there inside.

    Args:
        width: channels.
        gazes: the directions of the two edges, seen from the corner.
    """

    def __init__(self, width: int, gazes: tuple[Gaze, Gaze]) -> None:
        super().__init__(width)
        self.gazes = gazes
        self.edge = nn.ModuleList(conv_bn(width, width, 3, relu=True) for _ in gazes)
        self.inside = nn.ModuleList(conv_bn(width, width, 3, relu=True) for _ in gazes)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        # From an edge that goes down, the object lies where the other edge goes, and the other way round.
        ways = zip(self.gazes, reversed(self.gazes), self.edge, self.inside, strict=True)
        first, second = (look(edge(x) + look(inner(x), across), along) for along, across, edge, inner in ways)
        return self.join(first + second, x)


class CenterPooling(_Pooling):
    """Features of a center: the largest of its whole row and of its whole column, added."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.row = conv_bn(width, width, 3, relu=True)
        self.column = conv_bn(width, width, 3, relu=True)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return self.join(self.row(x).amax(-1, keepdim=True) + self.column(x).amax(-2, keepdim=True), x)


def _outputs(width: int, outputs: int, bias: float = 0.0) -> nn.Sequential:
    last = nn.Conv2d(width, outputs, 1)
    assert last.bias is not None
    nn.init.constant_(last.bias, bias)
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), last)


# ---- what is learned


class Keypoints(NamedTuple):
    """Where the three points of objects lie: cells (x, y), and the rest of the way in cells, from 0 to 1."""

    cells: Int[Tensor, "3 k 2"]
    offsets: Float[Tensor, "3 k 2"]


def encode_points(boxes: Float[Tensor, "k 4"], size: Size) -> Keypoints:
    """Corners and centers of boxes in input pixels.

    Args:
        boxes: x1 y1 x2 y2.
        size: height and width of the heatmaps; a point on their right or lower edge belongs to the last cell.
    """
    first, second = boxes[:, :2], boxes[:, 2:]
    points = torch.stack([first, second, (first + second) / 2]) / STRIDE
    last = boxes.new_tensor([size[1] - 1, size[0] - 1])
    cells = torch.minimum(points.floor().clamp(min=0), last)
    return Keypoints(cells.long(), points - cells)


def gaussian_radius(sides: Float[Tensor, "k 2"], iou: float) -> Float[Tensor, " k"]:
    """How far both corners of a box may be off, along both axes, while it still overlaps the true one by `iou`.

    With sum s = w + h and product p = w h of the sides, the least of three: both corners moved the same way,
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
    """1 at the cells of the points, falling off as a Gaussian of a third of the radius around them.

    Args:
        boxes: x1 y1 x2 y2 in input pixels.
        labels: of the boxes.
        num_classes: how many heatmaps each kind of point has.
        size: height and width of the heatmaps.
        iou: see `gaussian_radius`.
    """
    height, width = size
    targets = boxes.new_zeros(3, num_classes, height, width)
    cells = encode_points(boxes, size).cells
    radius = gaussian_radius((boxes[:, 2:] - boxes[:, :2]).clamp(min=0) / STRIDE, iou).floor()
    columns = _bumps(cells[..., 0], radius, width)
    rows = _bumps(cells[..., 1], radius, height)
    for label in labels.unique().tolist():
        chosen = labels == label
        targets[:, label] = (rows[:, chosen, :, None] * columns[:, chosen, None, :]).amax(1)
    return targets


def _bumps(cells: Int[Tensor, "3 k"], radius: Float[Tensor, " k"], length: int) -> Float[Tensor, "3 k l"]:
    distance = torch.arange(length, device=cells.device) - cells[..., None]
    # Source: arXiv 1808.01244: a third of the radius; the half cell keeps it above zero.
    sigma = (2 * radius[:, None] + 1) / 6
    return torch.exp(-(distance**2) / (2 * sigma**2)) * (distance.abs() <= radius[:, None])


def focal_loss(
    logits: Float[Tensor, "*n"], targets: Float[Tensor, "*n"], ignored: Bool[Tensor, "*n"]
) -> Float[Tensor, ""]:
    """CornerNet's variant, summed: near a point, less is lost for the same mistake.

    Args:
        logits: before the sigmoid.
        targets: 1 at points, lower around them.
        ignored: where nothing is learned, unless there is a point.
    """
    scores = logits.sigmoid()
    points = (1 - scores) ** FOCUS * functional.logsigmoid(logits)
    others = (1 - targets) ** NEAR_FOCUS * scores**FOCUS * functional.logsigmoid(-logits)
    return -torch.where(targets == 1, points, others * ~ignored).sum()


def embedding_loss(embeddings: Float[Tensor, "2 k"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Pull, which brings the two corners of an object together, and push, which parts the objects of an image."""
    count = embeddings.shape[1]
    means = embeddings.mean(0)
    pull = (embeddings - means).square().sum() / max(count, 1)
    near = (MARGIN - (means[:, None] - means).abs()).clamp(min=0)
    push = (near.sum() - near.diagonal().sum()) / max(count * (count - 1), 1)
    return pull, push


def triplet_loss(outputs: Triplets, objects: Sequence[Objects], spec: CenterNetSpec) -> dict[str, Float[Tensor, ""]]:
    """See `CenterNet.loss`; the heatmaps and offsets count per object, the embeddings per image."""
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
    """Cells whose middle lies in one of the regions."""
    y, x = ((torch.arange(length, device=crowd.device) + 0.5) * STRIDE for length in size)
    x1, y1, x2, y2 = crowd[:, :, None].unbind(1)
    rows, columns = (y > y1) & (y < y2), (x > x1) & (x < x2)
    return (rows[:, :, None] & columns[:, None, :]).any(0)


# ---- what is found


def decode_triplets(outputs: Triplets, spec: CenterNetSpec) -> DetectionOutput:
    """Pairs of corners with a center in their middle, overlapping ones of a class made less sure (soft NMS)."""
    first, second, centers = (find_peaks(outputs, kind, spec.num_points) for kind in range(3))
    boxes, scores, labels = pair_corners(first, second, spec.embedding_distance)
    scores = confirm_centers(boxes, scores, labels, centers)
    best = scores.topk(min(max(NUM_CONFIRMED, spec.num_detections), scores.shape[1]), dim=1)
    boxes = boxes.gather(1, best.indices[..., None].expand(-1, -1, 4))
    found = soft_nms(boxes, best.values, labels.gather(1, best.indices), spec.num_detections, spec.nms_sigma)
    return DetectionOutput(*found, None)


def find_peaks(outputs: Triplets, kind: int, count: int) -> Peaks:
    """The `count` best cells that no neighbor exceeds; others, and the scores of what is none, are 0.

    Args:
        outputs: of the network.
        kind: 0 for top-left corners, 1 for bottom-right ones, 2 for centers.
        count: at the most.
    """
    scores = outputs.heatmaps[:, kind].float().sigmoid()
    highest = functional.max_pool2d(scores, 3, 1, padding=1)
    _, num_classes, height, width = scores.shape
    cells = height * width
    best = (scores * (scores == highest)).flatten(1).topk(min(count, num_classes * cells), dim=1)
    labels, places = best.indices // cells, best.indices % cells
    offsets = outputs.offsets[:, kind].float().flatten(2).gather(2, places[:, None].expand(-1, 2, -1))
    points = (torch.stack([places % width, places // width], -1) + offsets.transpose(1, 2)) * STRIDE
    embeddings = torch.zeros_like(best.values)
    if kind < 2:
        embeddings = outputs.embeddings[:, kind].float().flatten(1).gather(1, places)
    return Peaks(best.values, labels, points, embeddings)


def pair_corners(
    first: Peaks, second: Peaks, distance: float
) -> tuple[Float[Tensor, "n p 4"], Float[Tensor, "n p"], Int[Tensor, "n p"]]:
    """Boxes, scores and labels of the best pairs; a pair that does not fit has the score 0.

    It fits where the class is the same, the embeddings differ by less than `distance` and the second point lies not to
    the left of the first, nor above it.
    """
    scores = (first.scores[:, :, None] + second.scores[:, None]) / 2
    # A peak of score 0 is none.
    fit = (first.scores[:, :, None] > 0) & (second.scores[:, None] > 0)
    fit &= first.labels[:, :, None] == second.labels[:, None]
    fit &= (first.embeddings[:, :, None] - second.embeddings[:, None]).abs() < distance
    fit &= (first.points[:, :, None] <= second.points[:, None]).all(-1)
    scores = (scores * fit).flatten(1)
    best = scores.topk(min(NUM_PAIRS, scores.shape[1]), dim=1)
    others = second.scores.shape[1]
    starts, ends = best.indices // others, best.indices % others
    boxes = torch.cat(
        [
            first.points.gather(1, starts[..., None].expand(-1, -1, 2)),
            second.points.gather(1, ends[..., None].expand(-1, -1, 2)),
        ],
        -1,
    )
    return boxes, best.values, first.labels.gather(1, starts)


def confirm_centers(
    boxes: Float[Tensor, "n p 4"], scores: Float[Tensor, "n p"], labels: Int[Tensor, "n p"], centers: Peaks
) -> Float[Tensor, "n p"]:
    """The mean of the three points' scores; 0 where no center of the class lies in the middle of the box.

    Source: arXiv 1904.08189, equation 1: the middle third, the middle fifth of large boxes.
    """
    start, end = boxes[..., None, :2], boxes[..., None, 2:]
    sides = (end - start).clamp(min=0)
    parts = torch.where(sides.prod(-1, keepdim=True) <= LARGE_AREA, 3.0, 5.0)
    center, reach = (start + end) / 2, sides / (2 * parts)
    inside = ((centers.points[:, None] - center).abs() <= reach).all(-1)
    same = labels[..., None] == centers.labels[:, None]
    best = (centers.scores[:, None] * (inside & same)).amax(-1)
    return (2 * scores + best) / 3 * ((scores > 0) & (best > 0))


def soft_nms(
    boxes: Float[Tensor, "n p 4"], scores: Float[Tensor, "n p"], labels: Int[Tensor, "n p"], count: int, sigma: float
) -> tuple[Float[Tensor, "n d 4"], Float[Tensor, "n d"], Int[Tensor, "n d"]]:
    """The best, again and again, each making those of its class that it overlaps less sure by exp(-iou^2 / sigma).

    Source: arXiv 1704.04503, equation 4.
    """
    overlaps = _overlaps(boxes[:, :, None], boxes[:, None])
    factors = torch.exp(-(overlaps**2) / sigma).where(labels[:, :, None] == labels[:, None], 1.0)
    best: list[tuple[Tensor, Tensor]] = []
    for _ in range(count):
        score, index = scores.max(1, keepdim=True)
        best.append((score, index))
        lowered = scores * factors.gather(1, index[..., None].expand(-1, -1, scores.shape[1]))[:, 0]
        # Below zero: taken.
        scores = lowered.scatter(1, index, -1.0)
    sure, indices = (torch.cat(values, 1) for values in zip(*best, strict=True))
    return boxes.gather(1, indices[..., None].expand(-1, -1, 4)), sure.clamp(min=0), labels.gather(1, indices)


def _overlaps(boxes: Float[Tensor, "n p 1 4"], others: Float[Tensor, "n 1 q 4"]) -> Float[Tensor, "n p q"]:
    """IoU of all pairs; 0 for boxes without area."""
    start = torch.maximum(boxes[..., :2], others[..., :2])
    end = torch.minimum(boxes[..., 2:], others[..., 2:])
    shared = (end - start).clamp(min=0).prod(-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1) + (others[..., 2:] - others[..., :2]).prod(-1)
    return shared / (areas - shared).clamp(min=1e-9)
