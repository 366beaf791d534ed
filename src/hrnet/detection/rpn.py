"""Region proposal network: anchors, objectness and box deltas at every cell of every level, matching and sampling.

Source: arXiv 1506.01497; mmdetection's anchors, which are centered on the top left corner of each cell, or the older ones of
`RCNNSpec.legacy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss
from torchvision.ops import clip_boxes_to_image, nms

from hrnet.detection.boxes import GroundTruth, cell_points, covered_fractions, decode_boxes, encode_boxes, pairwise_iou
from hrnet.detection.spec import RCNNSpec
from hrnet.io.geometry import Size
from hrnet.nn.representation import Levels
from hrnet.nn.task import Losses

# Stride of the first level; it doubles from level to level.
STRIDE = 4
# Source: arXiv 1506.01497, section 3.1.2, and the published settings. Anchors with IoU >= 0.7 are positive, below 0.3
# negative; the best anchors of an object are positive from 0.3 on.
POSITIVE_IOU, NEGATIVE_IOU = 0.7, 0.3
POSITIVE_FRACTION = 0.5
SMOOTH_L1_BETA = 1 / 9
# Negatives with at least this fraction of their area in a crowd are ignored.
CROWD_FRACTION = 0.5
# Elements of an IoU matrix that is held at once: 64 MiB.
IOU_CHUNK_ELEMENTS = 1 << 24


class RPNMaps(NamedTuple):
    """Outputs of the network, level by level, from fine to coarse: objectness and four box deltas of each anchor in turn."""

    logits: list[Float[Tensor, "n a _ _"]]
    deltas: list[Float[Tensor, "n _ _ _"]]


class Proposals(NamedTuple):
    """Proposed boxes of each input, best first, in its pixels; padded with zeros, which are not valid."""

    boxes: Float[Tensor, "n p 4"]
    valid: Bool[Tensor, "n p"]


class RPN(nn.Module):
    """The network over the levels of a pyramid, its loss and its proposals."""

    def __init__(self, spec: RCNNSpec) -> None:
        super().__init__()
        self.spec = spec
        width, anchors = spec.pyramid_width, len(spec.anchor_ratios)
        self.conv: nn.Conv2d = nn.Conv2d(width, width, 3, padding=1)
        self.classify: nn.Conv2d = nn.Conv2d(width, anchors, 1)
        self.regress: nn.Conv2d = nn.Conv2d(width, 4 * anchors, 1)
        for layer in (self.conv, self.classify, self.regress):
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, levels: Levels) -> RPNMaps:
        inner = [functional.relu(self.conv(level), inplace=True) for level in levels]
        return RPNMaps([self.classify(x).float() for x in inner], [self.regress(x).float() for x in inner])

    def anchors(self, maps: RPNMaps) -> list[Float[Tensor, "_ 4"]]:
        """Return the anchors of every level: row after row, one per ratio at each cell."""
        return [
            level_anchors((logits.shape[-2], logits.shape[-1]), STRIDE * 2**number, self.spec, logits)
            for number, logits in enumerate(maps.logits)
        ]

    def propose(self, maps: RPNMaps, size: Size, limits: tuple[int, int]) -> Proposals:
        """Return the best boxes of each input after the NMS, which runs level by level.

        The limits are the number of candidates per level, and of proposals per input.
        """
        logits, deltas = _flat(maps)
        anchors = self.anchors(maps)
        found = [
            self._propose([x[i] for x in logits], [x[i] for x in deltas], anchors, size, limits)
            for i in range(logits[0].shape[0])
        ]
        return Proposals(*map(torch.stack, zip(*found, strict=True)))

    def _propose(
        self,
        logits: Sequence[Float[Tensor, " _"]],
        deltas: Sequence[Float[Tensor, "_ 4"]],
        anchors: Sequence[Float[Tensor, "_ 4"]],
        size: Size,
        limits: tuple[int, int],
    ) -> tuple[Float[Tensor, "p 4"], Bool[Tensor, " p"]]:
        """Return the boxes of one input and which of them are no padding."""
        best_boxes, best_scores, shifts = [], [], []
        for index, (level_logits, level_deltas, level_boxes) in enumerate(zip(logits, deltas, anchors, strict=True)):
            # By probability, as published, though large logits are all rounded to 1.
            scores = level_logits.sigmoid()
            if len(scores) > limits[0]:
                scores, order = scores.sort(descending=True)
                scores, order = scores[: limits[0]], order[: limits[0]]
                level_deltas, level_boxes = level_deltas[order], level_boxes[order]
            best_boxes.append(clip_boxes_to_image(decode_boxes(level_deltas, level_boxes), size))
            best_scores.append(scores)
            # Boxes of different levels must not overlap in the NMS.
            shifts.append(torch.full_like(scores, index * (max(size) + 1.0)))
        boxes, scores, shift = torch.cat(best_boxes), torch.cat(best_scores), torch.cat(shifts)
        nonempty = (boxes[:, 2:] > boxes[:, :2]).all(-1).nonzero()[:, 0]
        kept = nonempty[nms(boxes[nonempty] + shift[nonempty, None], scores[nonempty], self.spec.proposal_iou)]
        # Padded and cut to a fixed number.
        valid = torch.cat([torch.ones_like(kept, dtype=torch.bool), kept.new_zeros(limits[1], dtype=torch.bool)])
        return torch.cat([boxes[kept], boxes.new_zeros(limits[1], 4)])[: limits[1]], valid[: limits[1]]

    def loss(self, maps: RPNMaps, objects: Sequence[GroundTruth]) -> Losses:
        """Return the cross entropy of sampled anchors and the smooth L1 loss of positive boxes, both per sampled anchor."""
        logits, deltas = (torch.cat(list(levels), 1) for levels in _flat(maps))
        anchors = torch.cat(self.anchors(maps))
        entropy, distance, count = logits.new_zeros(()), deltas.new_zeros(()), 0
        for one, image_logits, image_deltas in zip(objects, logits, deltas, strict=True):
            matches = match(anchors, one.boxes, POSITIVE_IOU, NEGATIVE_IOU, best_of_objects=True)
            negatives = exclude_crowd(anchors, (matches == BACKGROUND).nonzero()[:, 0], one.crowd)
            positives = (matches >= 0).nonzero()[:, 0]
            positives, negatives = sample(positives, negatives, self.spec.anchor_samples, POSITIVE_FRACTION)
            chosen = torch.cat([positives, negatives])
            labels = torch.zeros_like(image_logits[chosen])
            labels[: len(positives)] = 1
            entropy = entropy + binary_cross_entropy_with_logits(image_logits[chosen], labels, reduction="sum")
            targets, found = encode_boxes(one.boxes[matches[positives]], anchors[positives]), image_deltas[positives]
            distance = distance + smooth_l1_loss(found, targets, beta=SMOOTH_L1_BETA, reduction="sum")
            count += len(chosen)
        return {"objectness": entropy / max(count, 1), "proposals": distance / max(count, 1)}


def _flat(maps: RPNMaps) -> tuple[list[Float[Tensor, "n _"]], list[Float[Tensor, "n _ 4"]]]:
    """Return logits and deltas in the order of the anchors."""
    logits = [x.permute(0, 2, 3, 1).flatten(1) for x in maps.logits]
    deltas = [x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4) for x in maps.deltas]
    return logits, deltas


def level_anchors(size: Size, stride: int, spec: RCNNSpec, like: Tensor) -> Float[Tensor, "m 4"]:
    """Return the anchors of one level of this height and width."""
    ratios = torch.tensor(spec.anchor_ratios, device=like.device, dtype=torch.float32).sqrt()
    side = spec.anchor_scale * stride
    reach = torch.stack([side / ratios, side * ratios], -1) / 2
    shapes = torch.cat([-reach, reach], -1)
    middle = 0.5 if spec.legacy else 0.0
    centers = cell_points(size, stride, like.float(), middle).repeat(1, 2)
    return (centers[:, None] + shapes).reshape(-1, 4)


# ---- matching and sampling

BACKGROUND = -1
IGNORED = -2


def match(
    regions: Float[Tensor, "m 4"],
    boxes: Float[Tensor, "k 4"],
    positive_iou: float,
    negative_iou: float,
    *,
    best_of_objects: bool = False,
) -> Int[Tensor, " m"]:
    """Return the index of the object that each region overlaps most, -1 for background, -2 for ignored regions.

    Regions of at least `positive_iou` are positive; those below `negative_iou` with all objects are background. With
    `best_of_objects` the regions with the highest IoU of each object are matched too, if it is at least `negative_iou`; a
    region that is the best of several objects is matched to the last one.
    """
    best = regions.new_zeros(len(regions))
    matches = torch.zeros(len(regions), dtype=torch.long, device=regions.device)
    forced = torch.full_like(matches, BACKGROUND)
    step = max(IOU_CHUNK_ELEMENTS // max(len(regions), 1), 1)
    for start in range(0, len(boxes) if len(regions) else 0, step):
        iou = pairwise_iou(boxes[start : start + step], regions)
        highest, index = iou.max(0)
        matches = torch.where(highest > best, index + start, matches)
        best = torch.maximum(best, highest)
        if best_of_objects:
            peaks = iou.amax(1, keepdim=True)
            indices = torch.arange(start, start + len(peaks), device=regions.device)[:, None]
            at_peak = torch.where((iou == peaks) & (peaks >= negative_iou), indices, BACKGROUND)
            forced = torch.maximum(forced, at_peak.amax(0))
    matches = torch.where(best >= positive_iou, matches, torch.where(best < negative_iou, BACKGROUND, IGNORED))
    return torch.where(forced >= 0, forced, matches)


def exclude_crowd(
    regions: Float[Tensor, "m 4"], indices: Int[Tensor, " i"], crowd: Float[Tensor, "c 4"]
) -> Int[Tensor, " j"]:
    """Return the indices of those regions of which less than `CROWD_FRACTION` lies in a crowd."""
    if not len(crowd) or not len(indices):
        return indices
    return indices[covered_fractions(regions[indices], crowd).amax(1) < CROWD_FRACTION]


def sample(
    positives: Int[Tensor, " p"], negatives: Int[Tensor, " q"], count: int, fraction: float
) -> tuple[Int[Tensor, " a"], Int[Tensor, " b"]]:
    """Sample at most `count` indices, at most a `fraction` of them positives.

    Torch's CPU generator decides; training seeds it at every step, so that resuming changes nothing.
    """
    positives = _choose(positives, int(count * fraction))
    return positives, _choose(negatives, count - len(positives))


def _choose(indices: Int[Tensor, " p"], count: int) -> Int[Tensor, " a"]:
    if len(indices) <= count:
        return indices
    return indices[torch.randperm(len(indices))[:count].to(indices.device)]
