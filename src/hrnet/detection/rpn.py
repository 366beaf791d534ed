"""Region proposals: which anchors, at every place of every level, lie on an object, and the boxes that follow.

Source: arXiv 1506.01497; mmdetection's convention of anchors, which are centered on the top left corner of each cell, and
the older one, which `RCNNSpec.legacy` names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import nms

from hrnet.detection.boxes import Objects, box_overlaps, box_shares, clip_to, decode_boxes, encode_boxes
from hrnet.detection.spec import RCNNSpec
from hrnet.io.geometry import Size

# Of the first level; each further one has twice that.
STRIDE = 4
# Source: arXiv 1506.01497, section 3.1.2, and the published settings. What overlaps more than the first is on an object,
# less than the second is background; an object's best anchors are on it from the second on.
NEAR, FAR = 0.7, 0.3
ANCHORS_ON_OBJECTS = 0.5
SMOOTH_BELOW = 1 / 9
# Background of which at least so much lies in a crowd is not learned from.
IN_CROWD = 0.5
# Overlaps that are held at once: 64 MiB.
_TOGETHER = 1 << 24


class RegionMaps(NamedTuple):
    """What the network says of every anchor, level by level, from fine to coarse.

    Attributes:
        logits: that it lies on an object.
        deltas: what makes the object's box of it; four of each anchor, anchor after anchor.
    """

    logits: list[Float[Tensor, "n a _ _"]]
    deltas: list[Float[Tensor, "n 4*a _ _"]]


class Proposals(NamedTuple):
    """Boxes of each input, best first, filled up with boxes of zeros.

    Attributes:
        boxes: in pixels of the input.
        real: which are proposed.
    """

    boxes: Float[Tensor, "n p 4"]
    real: Bool[Tensor, "n p"]


class RegionProposals(nn.Module):
    """The network over the levels of a pyramid, its loss, and the boxes it proposes."""

    def __init__(self, spec: RCNNSpec) -> None:
        super().__init__()
        self.spec = spec
        width, anchors = spec.pyramid_width, len(spec.anchor_ratios)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.classify = nn.Conv2d(width, anchors, 1)
        self.measure = nn.Conv2d(width, 4 * anchors, 1)
        for layer in (self.conv, self.classify, self.measure):
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, levels: Sequence[Float[Tensor, "n c _ _"]]) -> RegionMaps:
        inner = [functional.relu(self.conv(level), inplace=True) for level in levels]
        return RegionMaps([self.classify(x).float() for x in inner], [self.measure(x).float() for x in inner])

    def anchors(self, found: RegionMaps) -> list[Float[Tensor, "m 4"]]:
        """Those of every level: row after row, at each place one of each ratio."""
        return [
            level_anchors((logits.shape[-2], logits.shape[-1]), STRIDE * 2**number, self.spec, logits)
            for number, logits in enumerate(found.logits)
        ]

    def propose(self, found: RegionMaps, size: Size, limits: tuple[int, int]) -> Proposals:
        """The best boxes of each level that overlap no better one of the same level.

        Args:
            found: what the network says.
            size: height and width of the input.
            limits: as `RCNNSpec.train_proposals`.
        """
        logits, deltas = _flat(found)
        anchors = self.anchors(found)
        images = [
            self._propose([x[i] for x in logits], [x[i] for x in deltas], anchors, size, limits)
            for i in range(found.logits[0].shape[0])
        ]
        boxes, real = zip(*images, strict=True)
        return Proposals(torch.stack(boxes), torch.stack(real))

    def _propose(
        self,
        logits: Sequence[Float[Tensor, " m"]],
        deltas: Sequence[Float[Tensor, "m 4"]],
        anchors: Sequence[Float[Tensor, "m 4"]],
        size: Size,
        limits: tuple[int, int],
    ) -> tuple[Float[Tensor, "p 4"], Bool[Tensor, " p"]]:
        """Those of one input."""
        best_boxes, best_scores, shifts = [], [], []
        for number, level in enumerate(zip(logits, deltas, anchors, strict=True)):
            # As published, by probability, though those of what is certain are all alike.
            scores, corrections, places = level[0].sigmoid(), level[1], level[2]
            if len(scores) > limits[0]:
                scores, order = scores.sort(descending=True)
                scores, order = scores[: limits[0]], order[: limits[0]]
                corrections, places = corrections[order], places[order]
            best_boxes.append(clip_to(decode_boxes(corrections, places), size))
            best_scores.append(scores)
            # So that boxes of different levels lie apart.
            shifts.append(torch.full_like(scores, number * (max(size) + 1.0)))
        boxes, scores, shift = torch.cat(best_boxes), torch.cat(best_scores), torch.cat(shifts)
        areas = (boxes[:, 2:] > boxes[:, :2]).all(-1).nonzero()[:, 0]
        kept = areas[nms(boxes[areas] + shift[areas, None], scores[areas], self.spec.proposal_iou)]
        # Filled up and cut, for a number that is always the same.
        real = torch.cat([torch.ones_like(kept, dtype=torch.bool), kept.new_zeros(limits[1], dtype=torch.bool)])
        return torch.cat([boxes[kept], boxes.new_zeros(limits[1], 4)])[: limits[1]], real[: limits[1]]

    def loss(self, found: RegionMaps, objects: Sequence[Objects]) -> dict[str, Float[Tensor, ""]]:
        """Cross entropy of sampled anchors, and smooth L1 of the boxes of those on objects, both per sampled anchor."""
        logits, deltas = (torch.cat(list(levels), 1) for levels in _flat(found))
        anchors = torch.cat(self.anchors(found))
        entropy, distance, count = logits.new_zeros(()), deltas.new_zeros(()), 0
        for one, said, corrections in zip(objects, logits, deltas, strict=True):
            owners = match(anchors, one.boxes, NEAR, FAR, claim=True)
            background = not_in_crowd(anchors, (owners == BACKGROUND).nonzero()[:, 0], one.crowd)
            on, off = sample((owners >= 0).nonzero()[:, 0], background, self.spec.anchor_samples, ANCHORS_ON_OBJECTS)
            chosen = torch.cat([on, off])
            truth = torch.zeros_like(said[chosen])
            truth[: len(on)] = 1
            entropy = entropy + functional.binary_cross_entropy_with_logits(said[chosen], truth, reduction="sum")
            targets = encode_boxes(one.boxes[owners[on]], anchors[on])
            distance = distance + functional.smooth_l1_loss(
                corrections[on], targets, beta=SMOOTH_BELOW, reduction="sum"
            )
            count += len(chosen)
        return {"objectness": entropy / max(count, 1), "proposals": distance / max(count, 1)}


def _flat(found: RegionMaps) -> tuple[list[Float[Tensor, "n m"]], list[Float[Tensor, "n m 4"]]]:
    """In the order of the anchors."""
    logits = [x.permute(0, 2, 3, 1).flatten(1) for x in found.logits]
    deltas = [x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4) for x in found.deltas]
    return logits, deltas


def level_anchors(size: Size, stride: int, spec: RCNNSpec, like: Tensor) -> Float[Tensor, "m 4"]:
    """The anchors of one level of this height and width."""
    ratios = torch.tensor(spec.anchor_ratios, device=like.device, dtype=torch.float32).sqrt()
    side = spec.anchor_scale * stride
    reach = torch.stack([side / ratios, side * ratios], -1) / 2
    shapes = torch.cat([-reach, reach], -1)
    middle = 0.5 if spec.legacy else 0.0
    y, x = ((torch.arange(length, device=like.device, dtype=torch.float32) + middle) * stride for length in size)
    places = torch.stack([x.repeat(size[0]), y.repeat_interleave(size[1])], -1).repeat(1, 2)
    return (places[:, None] + shapes).reshape(-1, 4)


# ---- which regions are learned from

BACKGROUND = -1
NEITHER = -2


def match(
    regions: Float[Tensor, "m 4"], boxes: Float[Tensor, "k 4"], near: float, far: float, *, claim: bool = False
) -> Int[Tensor, " m"]:
    """For each region the object that it overlaps most, -1 for background, -2 for what is neither.

    Args:
        regions: pixels of the input.
        boxes: of the objects.
        near: least IoU with the object.
        far: what overlaps all objects by less is background.
        claim: whether each object also gets the regions that overlap it most of all, from `far` on; where several want
            one, the last gets it.
    """
    best = regions.new_zeros(len(regions))
    owners = torch.zeros(len(regions), dtype=torch.long, device=regions.device)
    claimed = torch.full_like(owners, BACKGROUND)
    step = max(_TOGETHER // max(len(regions), 1), 1)
    for start in range(0, len(boxes) if len(regions) else 0, step):
        overlaps = box_overlaps(boxes[start : start + step], regions)
        most, index = overlaps.max(0)
        owners = torch.where(most > best, index + start, owners)
        best = torch.maximum(best, most)
        if claim:
            peaks = overlaps.amax(1, keepdim=True)
            numbers = torch.arange(start, start + len(peaks), device=regions.device)[:, None]
            wanted = torch.where((overlaps == peaks) & (peaks >= far), numbers, BACKGROUND)
            claimed = torch.maximum(claimed, wanted.amax(0))
    matched = torch.where(best >= near, owners, torch.where(best < far, BACKGROUND, NEITHER))
    return torch.where(claimed >= 0, claimed, matched)


def not_in_crowd(
    regions: Float[Tensor, "m 4"], indices: Int[Tensor, " i"], crowd: Float[Tensor, "c 4"]
) -> Int[Tensor, " j"]:
    """Those of some regions that do not lie in a crowd by half or more."""
    if not len(crowd) or not len(indices):
        return indices
    return indices[box_shares(regions[indices], crowd).amax(1) < IN_CROWD]


def sample(
    on: Int[Tensor, " p"], off: Int[Tensor, " q"], count: int, share: float
) -> tuple[Int[Tensor, " a"], Int[Tensor, " b"]]:
    """At most `count` indices, at most `share` of them on objects.

    Torch's generator on the CPU chooses; the training seeds it by the step, so that resuming changes nothing.
    """
    on = _choose(on, int(count * share))
    return on, _choose(off, count - len(on))


def _choose(indices: Int[Tensor, " p"], count: int) -> Int[Tensor, " a"]:
    if len(indices) <= count:
        return indices
    return indices[torch.randperm(len(indices))[:count].to(indices.device)]
