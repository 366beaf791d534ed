"""Oracles: mmdetection's rules of anchors, matching and proposals as slow loops written out here, and closed forms."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from hrnet.detection import rpn
from hrnet.detection.boxes import GroundTruth, encode_boxes
from hrnet.detection.rpn import BACKGROUND, IGNORED, RPN, RPNMaps, level_anchors, match, sample
from hrnet.detection.spec import RCNNSpec

SPEC = RCNNSpec(pyramid_width=8, num_levels=2)


def random_boxes(count: int, extent: float = 64.0) -> Tensor:
    points = torch.rand(count, 2, 2) * extent
    return torch.cat([points.amin(1), points.amax(1) + 1], 1)


def objects_of(boxes: Tensor, crowd: Tensor | None = None) -> GroundTruth:
    return GroundTruth(boxes, torch.zeros(len(boxes), dtype=torch.long), torch.zeros(0, 4) if crowd is None else crowd)


def test_anchors() -> None:
    """Oracle: cell by cell: centered on its corner, an area of (8 strides) squared, height by width 1/2, 1, 2."""
    found = level_anchors((2, 3), 16, RCNNSpec(), torch.zeros(()))
    expected = []
    for row, column, ratio in itertools.product(range(2), range(3), (0.5, 1, 2)):
        height, width = 128 * math.sqrt(ratio), 128 / math.sqrt(ratio)
        x, y = column * 16, row * 16
        expected.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    assert torch.allclose(found, torch.tensor(expected))


@pytest.mark.parametrize("chunk", [1 << 24, 700])
def test_matching(chunk: int, monkeypatch) -> None:
    """Oracle: the rules, anchor by anchor and then object by object; all at once or a few objects at a time."""
    monkeypatch.setattr(rpn, "IOU_CHUNK_ELEMENTS", chunk)
    regions, boxes = random_boxes(300), random_boxes(12)
    overlaps = box_iou(regions, boxes)
    expected = []
    for row in overlaps:
        best = int(row.argmax())
        expected.append(best if row[best] >= 0.7 else BACKGROUND if row[best] < 0.3 else IGNORED)
    plain = list(expected)
    for number in range(len(boxes)):
        most = overlaps[:, number].max()
        if most >= 0.3:
            for place in (overlaps[:, number] == most).nonzero()[:, 0].tolist():
                expected[place] = number
    assert match(regions, boxes, 0.7, 0.3).tolist() == plain
    assert match(regions, boxes, 0.7, 0.3, best_of_objects=True).tolist() == expected
    assert {BACKGROUND, IGNORED} < set(expected)
    assert plain != expected


def test_all_regions_are_background_without_objects() -> None:
    assert match(random_boxes(5), torch.zeros(0, 4), 0.7, 0.3, best_of_objects=True).tolist() == [BACKGROUND] * 5
    assert match(torch.zeros(0, 4), random_boxes(5), 0.7, 0.3, best_of_objects=True).tolist() == []


def test_samples_are_counted_not_consumed() -> None:
    """The same seed gives the same; at most the fraction is positive; negatives fill up the rest."""
    on, off = torch.arange(100), torch.arange(100, 1000)
    torch.manual_seed(3)
    first = sample(on, off, 64, 0.25)
    torch.rand(7)
    torch.manual_seed(3)
    again = sample(on, off, 64, 0.25)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert [len(part) for part in first] == [16, 48]
    assert len(set(first[1].tolist())) == 48
    assert [len(part) for part in sample(on[:3], off, 64, 0.25)] == [3, 61]
    assert [len(part) for part in sample(on, off[:5], 64, 0.25)] == [16, 5]


def maps_of(batch: int, size: int = 16) -> RPNMaps:
    sizes = (size, size // 2)
    return RPNMaps(
        [torch.randn(batch, 3, side, side) for side in sizes],
        [torch.randn(batch, 12, side, side) * 0.3 for side in sizes],
    )


def test_proposals() -> None:
    """Oracle: candidates one by one: decoded by the formulas, cut, compared level by level in the order of their scores.
    Tolerance: single precision at coordinates of up to 300."""
    found, size, limits = maps_of(2), (56, 64), (60, 40)
    proposals = RPN(SPEC).propose(found, size, limits)
    for image in range(2):
        survivors: list[tuple[float, list[float]]] = []
        for level, stride in enumerate((4, 8)):
            logits, deltas = found.logits[level][image], found.deltas[level][image].double()
            candidates = []
            for anchor, row, column in itertools.product(range(3), range(logits.shape[1]), range(logits.shape[2])):
                ratio = (0.5, 1, 2)[anchor]
                width, height = 8 * stride / math.sqrt(ratio), 8 * stride * math.sqrt(ratio)
                dx, dy, dw, dh = deltas[4 * anchor : 4 * anchor + 4, row, column].tolist()
                x, y = column * stride + dx * width, row * stride + dy * height
                width, height = width * math.exp(dw), height * math.exp(dh)
                corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
                box = [min(max(value, 0), limit) for value, limit in zip(corners, (64, 56, 64, 56), strict=True)]
                candidates.append((torch.sigmoid(logits[anchor, row, column]).item(), box))
            kept: list[tuple[float, list[float]]] = []
            for score, box in sorted(candidates, reverse=True)[:60]:
                if box[2] > box[0] and box[3] > box[1]:
                    others = torch.tensor([other for _, other in kept]).reshape(-1, 4)
                    if not (box_iou(torch.tensor([box]), others) > 0.7).any():
                        kept.append((score, box))
            survivors += kept
        expected = torch.tensor([box for _, box in sorted(survivors, reverse=True)[:40]])
        assert int(proposals.valid[image].sum()) == len(expected)
        assert torch.allclose(proposals.boxes[image, : len(expected)], expected, atol=1e-3)
        assert not proposals.boxes[image, len(expected) :].any()


def test_ideal_maps_have_no_loss_and_propose_the_objects() -> None:
    """Oracle: encoding and decoding are inverse: where every anchor on an object says so, and where it is, the loss is that
    of saturated logits (exp(-20) each), and the objects are proposed, up to single precision."""
    boxes = torch.tensor([[3.0, 5, 39, 37], [20, 22, 60, 58]])
    head = RPN(SPEC)
    found = maps_of(1)
    anchors = head.anchors(found)
    for level, values in enumerate(anchors):
        owners = match(values, boxes, 0.7, 0.3, best_of_objects=True)
        side = found.logits[level].shape[-1]
        ground_truth = encode_boxes(boxes[owners.clamp(min=0)], values)
        found.logits[level][0] = torch.where(owners >= 0, 20.0, -20.0).view(side, side, 3).permute(2, 0, 1)
        found.deltas[level][0] = ground_truth.view(side, side, 12).permute(2, 0, 1)
    # An anchor that lies best in one level alone is an object's best of all; none but these matter here.
    losses = head.loss(found, [objects_of(boxes)])
    assert losses["proposals"] < 1e-6
    proposals = head.propose(found, (64, 64), (100, 20))
    assert box_iou(boxes, proposals.boxes[0][:20]).amax(1).min() > 0.999


def test_background_in_a_crowd_is_ignored() -> None:
    """Oracle: with a crowd over everything only anchors on objects are left, so logits of 30 there cost nothing."""
    found = maps_of(1)
    found.logits[0][:], found.logits[1][:] = 30.0, 30.0
    boxes, everything = torch.tensor([[10.0, 10, 42, 42]]), torch.tensor([[-999.0, -999, 999, 999]])
    assert RPN(SPEC).loss(found, [objects_of(boxes, everything)])["objectness"] < 1e-6
    assert RPN(SPEC).loss(found, [objects_of(boxes)])["objectness"] > 1


@pytest.mark.parametrize("count", [0, 1, 500])
def test_losses_and_gradients_are_finite(count: int) -> None:
    head = RPN(SPEC)
    levels = [torch.randn(2, 8, 16, 16), torch.randn(2, 8, 8, 8)]
    boxes = random_boxes(count)
    # Some without an area.
    boxes[::3, 2] = boxes[::3, 0]
    losses = head.loss(head(levels), [objects_of(boxes), objects_of(boxes[:0])])
    torch.stack(list(losses.values())).sum().backward()
    assert all(math.isfinite(value.item()) for value in losses.values())
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters())
