"""Oracles: slow loops written out here, torchvision's RoIAlign and NMS called plainly, closed forms, and properties."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import nms, roi_align

from hrnet.detection import spec as detection
from hrnet.detection.boxes import GroundTruth, decode_boxes
from hrnet.detection.rcnn import RCNN, SampledRegions, to_regions
from hrnet.detection.regions import pool_regions
from hrnet.detection.spec import CASCADE, RCNNSpec

WIDTHS = (4, 8, 16, 32)
SIZE = (64, 96)
FAMILIES = {
    "faster": detection.faster_rcnn(),
    "cascade": detection.cascade_rcnn(),
    "mask": detection.mask_rcnn(),
    "cascade-mask": detection.cascade_mask_rcnn(),
    "htc": detection.hybrid_task_cascade(),
}


def small(published: RCNNSpec, num_classes: int = 3, **changes: object) -> RCNN:
    spec = replace(
        published,
        pyramid_width=8,
        head_width=16,
        train_proposals=(60, 30),
        test_proposals=(60, 30),
        anchor_samples=32,
        region_samples=16,
        semantic_classes=num_classes + 1 if published.semantic_classes and num_classes < 255 else 0,
        num_detections=12,
    )
    return RCNN(WIDTHS, num_classes, replace(spec, **changes))


def maps_of(batch: int) -> list[Tensor]:
    return [torch.randn(batch, width, SIZE[0] // 4 // 2**i, SIZE[1] // 4 // 2**i) for i, width in enumerate(WIDTHS)]


def objects_of(count: int, num_classes: int = 3) -> GroundTruth:
    points = torch.rand(count, 2, 2) * torch.tensor([SIZE[1] - 12.0, SIZE[0] - 12.0])
    return GroundTruth(
        torch.cat([points.amin(1), points.amax(1) + 12], 1),
        torch.randint(num_classes, (count,)),
        torch.zeros(0, 4),
        torch.ones(count, 112, 112, dtype=torch.uint8),
    )


def test_regions_are_pooled_from_the_level_of_their_size() -> None:
    """Oracle: the published rule, region by region: sides below 112 from stride 4, below 224 from stride 8, and so on."""
    levels = [torch.randn(2, 5, 128 // 2**i, 128 // 2**i) for i in range(5)]
    sides = torch.tensor([3.0, 56, 111, 113, 223, 225, 447, 449, 500, 20])
    boxes = torch.stack([torch.ones(10), torch.ones(10), 1 + sides, 1 + sides], 1)
    regions = torch.cat([torch.tensor([[0.0], [1]] * 5), boxes], 1)
    expected = [
        roi_align(levels[level], regions[i : i + 1], 7, 1 / (4 * 2**level), aligned=True)
        for i, level in enumerate((0, 0, 0, 1, 1, 2, 2, 3, 3, 0))
    ]
    assert torch.equal(pool_regions(levels, regions, 7), torch.cat(expected))
    assert pool_regions(levels, regions[:0], 7).shape == (0, 5, 7, 7)


@pytest.mark.parametrize("name", ["faster", "cascade"])
def test_stages_run_on_the_boxes_of_the_stage_before(name: str) -> None:
    """Oracle: the stages written out; logits are averaged, boxes are the last stage's."""
    model = small(FAMILIES[name])
    regions = to_regions(objects_of(6).boxes[None])
    with torch.inference_mode():
        levels = model.levels(maps_of(1))
        found = model.predict_regions(levels, None, regions, SIZE)
        seen, logits, boxes = regions, [], regions
        for stage, head in zip(CASCADE, model.box_heads, strict=False):
            one, deltas = head(pool_regions(levels, seen, 7))
            logits.append(one)
            boxes = decode_boxes(deltas, seen[:, None, 1:], stage.stds).clamp(min=0)
            boxes = torch.minimum(boxes, torch.tensor([96.0, 64, 96, 64]))
            seen = torch.cat([seen[:, :1], boxes[:, 0]], 1)
    assert torch.allclose(found.logits, torch.stack(logits).mean(0), atol=1e-6)
    assert torch.allclose(found.boxes, boxes, atol=1e-4)
    assert found.boxes.shape[1] == (3 if name == "faster" else 1)


def test_results_are_the_best_of_each_class() -> None:
    """Oracle: torchvision's NMS, class by class, then all in the order of their scores."""
    model = small(FAMILIES["faster"], score_threshold=0.2)
    boxes = objects_of(90).boxes.view(30, 3, 4)
    scores = torch.rand(30, 3)
    found = model._select(boxes, scores)
    expected = []
    for label in range(3):
        indices = (scores[:, label] > 0.2).nonzero()[:, 0]
        kept = indices[nms(boxes[indices, label], scores[indices, label], 0.5)]
        expected += [(scores[i, label].item(), label, boxes[i, label].tolist()) for i in kept.tolist()]
    expected = sorted(expected, reverse=True)[:12]
    assert found[1].tolist() == [score for score, _, _ in expected]
    assert found[2].tolist() == [label for _, label, _ in expected]
    assert found[0].tolist() == [box for _, _, box in expected]


def test_samples_of_a_stage() -> None:
    """Oracle: IoU of each region with each object, by hand: labeled boxes are on their objects, far regions background,
    what lies in a crowd is neither."""
    model = small(FAMILIES["faster"])
    boxes = torch.tensor([[10.0, 10, 30, 30], [40, 10, 80, 50]])
    crowd = torch.tensor([[0.0, 50, 96, 64]])
    one = GroundTruth(boxes, torch.tensor([2, 0]), crowd)
    regions = torch.tensor([[0.0, 12, 10, 30, 30], [0, 0, 52, 20, 62], [0, 82, 2, 95, 20], [0, 42, 12, 78, 48]])
    found = model.sample_regions(regions, [one], CASCADE[0])
    owners = {
        tuple(region[1:].tolist()): owner for region, owner in zip(found.regions, found.matches.tolist(), strict=True)
    }
    assert owners == {
        (10, 10, 30, 30): 0,
        (40, 10, 80, 50): 1,
        (12, 10, 30, 30): 0,
        (42, 12, 78, 48): 1,
        (82, 2, 95, 20): -1,
    }
    assert found.labeled.sum() == 2


def test_losses_of_a_stage() -> None:
    """Oracle: cross entropy and smooth L1, region by region, over the number of regions. Tolerance: single precision."""
    model = small(FAMILIES["faster"])
    objects = [objects_of(2), objects_of(0), objects_of(3)]
    regions = torch.cat([torch.tensor([[0.0], [0], [1], [2], [2]]), torch.rand(5, 4)], 1)
    regions[:, 3:] += 20
    owners = torch.tensor([1, -1, -1, 4, 2])
    labels, boxes = (torch.cat([getattr(one, name) for one in objects]) for name in ("labels", "boxes"))
    logits, deltas = torch.randn(5, 4), torch.randn(5, 3, 4)
    samples = SampledRegions(regions, owners, torch.zeros(5, dtype=torch.bool))
    found = model._box_losses(logits, deltas, samples, objects, CASCADE[0])
    entropy, distance = 0.0, 0.0
    for i, owner in enumerate(owners.tolist()):
        label = 3 if owner < 0 else int(labels[owner])
        entropy -= logits[i].log_softmax(0)[label].item()
        if owner >= 0:
            x1, y1, x2, y2 = boxes[owner].tolist()
            a1, b1, a2, b2 = regions[i, 1:].tolist()
            ground_truth = [
                ((x1 + x2) - (a1 + a2)) / 2 / (a2 - a1) / 0.1,
                ((y1 + y2) - (b1 + b2)) / 2 / (b2 - b1) / 0.1,
                math.log((x2 - x1) / (a2 - a1)) / 0.2,
                math.log((y2 - y1) / (b2 - b1)) / 0.2,
            ]
            for delta, value in zip(deltas[i, label].tolist(), ground_truth, strict=True):
                off = abs(delta - value)
                distance += off - 0.5 if off >= 1 else off**2 / 2
    assert found["classes"].item() == pytest.approx(entropy / 5, rel=1e-5)
    assert found["boxes"].item() == pytest.approx(distance / 5, rel=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_is_its_inputs(name: str) -> None:
    """Property: an input's results do not depend on its neighbors. Tolerance: sums in another order."""
    model, maps = small(FAMILIES[name], score_threshold=0.01).eval(), maps_of(3)
    with torch.inference_mode():
        batch, alone = model(maps, SIZE), model([x[1:2] for x in maps], SIZE)
    assert (batch.scores > 0).any()
    assert torch.equal(batch.labels[1:2], alone.labels)
    assert torch.allclose(batch.scores[1:2], alone.scores, atol=1e-5)
    assert torch.allclose(batch.boxes[1:2], alone.boxes, atol=1e-2)
    assert (batch.masks is None) == (model.mask_heads is None)
    if batch.masks is not None and alone.masks is not None:
        assert batch.masks.shape == (3, 12, 28, 28)
        assert torch.allclose(batch.masks[1:2].sigmoid(), alone.masks.sigmoid(), atol=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("counts", "num_classes"), [((0, 0), 3), ((2, 0), 1), ((150, 1), 300)])
def test_losses_and_gradients_are_finite(name: str, counts: tuple[int, int], num_classes: int) -> None:
    """No objects at all, one class, hundreds of objects and of classes, and a box without an area."""
    model = small(FAMILIES[name], num_classes)
    objects = [objects_of(count, num_classes) for count in counts]
    if counts[0] > 2:
        objects[0].boxes[5, 2] = objects[0].boxes[5, 0]
    losses = model.loss(maps_of(2), SIZE, objects)
    torch.stack(list(losses.values())).sum().backward()
    assert all(math.isfinite(value.item()) for value in losses.values())
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    names = {"objectness", "proposals", "classes", "boxes"}
    assert set(losses) - names == ({"masks"} if model.mask_heads else set()) | (
        {"semantic"} if model.semantic_head else set()
    )
    if not sum(counts):
        assert losses["boxes"] == 0
        assert losses["proposals"] == 0


def test_losses_of_stages_are_weighted() -> None:
    """Oracle: with the same seed, the losses of a cascade are linear in the weights of its stages."""
    objects, maps = [objects_of(3)], maps_of(1)
    model = small(FAMILIES["cascade"])

    def total(*weights: float) -> float:
        stages = tuple(replace(stage, weight=float(weight)) for stage, weight in zip(CASCADE, weights, strict=True))
        model.spec = replace(model.spec, stages=stages)
        torch.manual_seed(5)
        return model.loss(maps, SIZE, objects)["classes"].item()

    each = [total(1, 0, 0), total(0, 1, 0), total(0, 0, 1)]
    assert min(each) > 0
    assert total(1, 0.5, 0.25) == pytest.approx(each[0] + each[1] / 2 + each[2] / 4, rel=1e-5)


def test_the_same_seed_gives_the_same_loss() -> None:
    """Resuming needs this: the engine seeds every step."""
    model, maps, objects = small(FAMILIES["htc"]), maps_of(1), [objects_of(9)]
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(torch.stack(list(model.loss(maps, SIZE, objects).values())).detach())
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


def test_box_heads_of_a_hybrid_cascade_read_the_semantic_features() -> None:
    """Oracle: half as many cells, each the mean of four: those of the features themselves where these do not change."""
    model = small(FAMILIES["htc"])
    levels = [torch.zeros(1, 8, 16 // 2**i, 24 // 2**i) for i in range(5)]
    assert model.semantic_head is not None
    semantic = torch.full_like(model.semantic_head(levels).features, 3.0)
    features = model.box_features(levels, semantic, torch.tensor([[0.0, 20, 20, 60, 50]]))
    assert torch.allclose(features, torch.full((1, 8, 7, 7), 3.0))
    assert torch.allclose(
        functional.avg_pool2d(model.mask_features(levels, semantic, torch.tensor([[0.0, 20, 20, 60, 50]])), 2), features
    )
