"""Oracles: slow references written out here, torchvision, closed forms, and properties."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torchvision.ops import batched_nms, box_iou

from hrnet.detection.fcos import FCOS, FCOSMaps, Grid, PointTargets, assign, centerness_targets, distance_iou, suppress
from hrnet.detection.model import DetectionModel
from hrnet.detection.spec import DetectionSpec, fcos
from hrnet.nn.spec import hrnet

SPEC = fcos()
STRIDES = (8, 16, 32, 64, 128)


@pytest.fixture
def small(backbone) -> Callable[..., FCOS]:
    """Make a narrow detector, given the number of classes and changes of the spec."""

    def made(num_classes: int, **changes: object) -> FCOS:
        return FCOS(backbone.widths, num_classes, replace(SPEC, pyramid_width=32, **changes))

    return made


def grid_of(size: int) -> Grid:
    """The points of a square input, as the paper has them: in the middle of their cells."""
    points, strides, limits = [], [], []
    for stride, limit in zip(STRIDES, SPEC.ranges, strict=True):
        for row in range(math.ceil(size / stride)):
            for column in range(math.ceil(size / stride)):
                points.append([(column + 0.5) * stride, (row + 0.5) * stride])
                strides.append(float(stride))
                limits.append(limit)
    return Grid(torch.tensor(points), torch.tensor(strides), torch.tensor(limits))


# ---- targets and losses


@pytest.mark.parametrize("radius", [None, 1.5])
def test_points_belong_to_the_smallest_object_that_fits_their_level(random_boxes, objects_of, radius) -> None:
    """Oracle: the rules of arXiv 1904.01355, section 3.1 and its center sampling, point by point."""
    grid = grid_of(256)
    boxes, labels = random_boxes(25, 256), torch.arange(25)
    found = assign(grid, objects_of(boxes, labels), radius)
    owned = 0
    for index, ((x, y), stride, (low, high)) in enumerate(zip(*(value.tolist() for value in grid), strict=True)):
        owners = []
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            edges = [x - x1, y - y1, x2 - x, y2 - y]
            near = radius is None or (
                abs(x - (x1 + x2) / 2) < radius * stride and abs(y - (y1 + y2) / 2) < radius * stride
            )
            if min(edges) > 0 and near and low <= max(edges) <= high:
                owners.append(((x2 - x1) * (y2 - y1), label, edges))
        if owners:
            _, label, edges = min(owners)
            assert found.labels[index] == label
            assert found.distances[index].tolist() == pytest.approx(edges, abs=1e-4)
            owned += 1
        else:
            assert found.labels[index] == -1
    assert owned > 30


def test_points_in_crowds_are_ignored_unless_in_an_object(objects_of) -> None:
    grid = grid_of(128)
    one = objects_of(torch.tensor([[0.0, 0, 60, 60]]), torch.tensor([2]), torch.tensor([[0.0, 0, 128, 40]]))
    found = assign(grid, one, None)
    assert (found.labels == 2).any()
    assert torch.equal(found.ignored, (grid.points[:, 1] < 40) & (found.labels < 0))
    assert found.ignored.any()


def test_centerness_and_iou_of_distances() -> None:
    """Oracles: arXiv 1904.01355, equation 3, by hand; torchvision's IoU of the boxes. Float32: 1e-6."""
    assert centerness_targets(torch.tensor([[5.0, 7, 5, 7]])).item() == 1
    assert centerness_targets(torch.tensor([[1.0, 2, 4, 8]])).item() == pytest.approx(0.25)
    found, ground_truth = torch.rand(20, 4) * 9 + 0.1, torch.rand(20, 4) * 9 + 0.1
    signs = torch.tensor([-1, -1, 1, 1])
    expected = box_iou(found * signs, ground_truth * signs).diagonal()
    assert torch.allclose(distance_iou(found, ground_truth), expected, atol=1e-6)


def random_maps(num_classes: int, images: int, size: int) -> FCOSMaps:
    sides = [math.ceil(size / stride) for stride in STRIDES]
    return FCOSMaps(
        [torch.randn(images, num_classes, side, side) for side in sides],
        [torch.rand(images, 4, side, side) * 50 + 1 for side in sides],
        [torch.randn(images, 1, side, side) for side in sides],
    )


def test_loss_is_that_of_the_paper(small, random_boxes, objects_of) -> None:
    """Oracle: the definition, point by point, in Python's floats; float32 sums over a thousand terms: 1e-5 relative."""
    model, found = small(3), random_maps(3, 2, 256)
    objects = [objects_of(random_boxes(8, 256), torch.randint(3, (8,))) for _ in range(2)]
    grid = grid_of(256)
    assigned = [assign(grid, one, None) for one in objects]
    focal = boxes = center = weight = count = 0.0
    flat = [torch.cat([level.flatten(2) for level in levels], 2).transpose(1, 2).tolist() for levels in found]
    for image, one in enumerate(assigned):
        for index, label in enumerate(one.labels.tolist()):
            for kind, logit in enumerate(flat[0][image][index]):
                score = 1 / (1 + math.exp(-logit))
                if kind == label:
                    focal -= 0.25 * (1 - score) ** 2 * math.log(score)
                else:
                    focal -= 0.75 * score**2 * math.log(1 - score)
            if label >= 0:
                count += 1
                ground_truth, edges = one.distances[index].tolist(), flat[1][image][index]
                across = min(ground_truth[0], ground_truth[2]) / max(ground_truth[0], ground_truth[2])
                central = math.sqrt(
                    across * min(ground_truth[1], ground_truth[3]) / max(ground_truth[1], ground_truth[3])
                )
                low = [min(pair) for pair in zip(ground_truth, edges, strict=True)]
                shared = (low[0] + low[2]) * (low[1] + low[3])
                union = sum((e[0] + e[2]) * (e[1] + e[3]) for e in (ground_truth, edges)) - shared
                boxes -= central * math.log(shared / union)
                weight += central
                logit = flat[2][image][index][0]
                center += math.log(1 + math.exp(-logit)) * central + math.log(1 + math.exp(logit)) * (1 - central)
    terms = model.maps_loss(found, objects)
    assert terms["classes"].item() == pytest.approx(focal / count, rel=1e-5)
    assert terms["boxes"].item() == pytest.approx(boxes / weight, rel=1e-5)
    assert terms["centerness"].item() == pytest.approx(center / count, rel=1e-5)


# ---- detections


def perfect(assigned: PointTargets, num_classes: int, size: int) -> FCOSMaps:
    """Return ideal outputs for one image."""
    sides = [math.ceil(size / stride) for stride in STRIDES]
    logits = torch.full((len(assigned.labels), num_classes), -9.0)
    inside = assigned.labels >= 0
    logits[inside] = torch.where(torch.arange(num_classes) == assigned.labels[inside, None], 9.0, -9.0)
    central = torch.where(inside, torch.logit(centerness_targets(assigned.distances), 1e-4), -9.0)
    parts = [
        value.T.split([side * side for side in sides], 1) for value in (logits, assigned.distances, central[:, None])
    ]
    return FCOSMaps(*([x.reshape(1, -1, side, side) for x, side in zip(part, sides, strict=True)] for part in parts))


def test_ideal_outputs_decode_to_the_boxes(small, objects_of) -> None:
    """Round trip: every point of an object gives the same box, up to float32 (1e-4 at 256)."""
    boxes = torch.tensor(
        [[3.3, 5.1, 77.7, 40.2], [100.0, 60, 256, 256], [90.5, 5.0, 120.0, 30.9], [10.1, 80, 95, 230.7]]
    )
    labels = torch.tensor([0, 1, 2, 1])
    model = small(3)
    found = model.decode(perfect(assign(grid_of(256), objects_of(boxes, labels), None), 3, 256), (256, 256))
    distinct = found.scores[0] > 0
    assert distinct.sum() == 4
    order, expected = found.boxes[0, distinct, 0].argsort(), boxes[:, 0].argsort()
    assert torch.allclose(found.boxes[0, distinct][order], boxes[expected], atol=1e-4, rtol=0)
    assert torch.equal(found.labels[0, distinct][order], labels[expected])
    # Points on their objects' centers are the distinctst; none is farther than half a stride.
    assert (found.scores[0, distinct] > 0.5).all()


@pytest.mark.parametrize("num_classes", [1, 80, 1200])
def test_nms_is_that_of_torchvision(random_boxes, num_classes) -> None:
    """Oracle: torchvision's, image by image. Boxes are only chosen, so all is equal."""
    boxes = torch.stack([random_boxes(400, 300) for _ in range(3)])
    scores, labels = torch.rand(3, 400), torch.randint(num_classes, (3, 400))
    scores[1, 200:], scores[2] = 0, 0
    found = suppress(boxes, scores, labels, 0.5, 100, 300)
    for image in range(3):
        real = scores[image] > 0
        kept = batched_nms(boxes[image, real], scores[image, real], labels[image, real], 0.5)[:100]
        assert torch.equal(found[0][image, : len(kept)], boxes[image][kept])
        assert torch.equal(found[1][image, : len(kept)], scores[image][kept])
        assert torch.equal(found[2][image, : len(kept)], labels[image][kept])
        assert not found[1][image, len(kept) :].any()
    few = suppress(boxes[:, :7], scores[:, :7], labels[:, :7], 0.5, 100, 300)
    assert few[0].shape == (3, 100, 4)
    assert not few[1][:, 7:].any()


def test_distances_keep_their_decimals_in_half_precision(small, maps_of, monkeypatch) -> None:
    """Oracle: the layer in double precision, on what the layers before it made in bf16. Single precision of sums over 288
    values is good to 1e-5; a logarithm of 4.6 in bf16 is off by up to 0.016."""
    model = small(1).eval()
    torch.nn.init.constant_(model.get_parameter("regress.bias"), math.log(100))
    seen = []
    tower = model.box_tower.forward
    monkeypatch.setattr(model.box_tower, "forward", lambda x: seen.append(tower(x)) or seen[-1])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = model.forward_maps(maps_of(1, 16))
    assert {edges.dtype for edges in seen} == {torch.bfloat16}
    exact = copy.deepcopy(model.regress).double()
    for edges, distances, scale in zip(seen, found.distances, model.scales, strict=True):
        expected = (exact(edges.double()) * scale.double()).exp()
        assert torch.allclose(distances.double(), expected, rtol=1e-5)
        assert (expected.max() / expected.min() > 1.001) or edges.shape[-1] == 1


def test_score_threshold_applies_before_centerness(small) -> None:
    """Oracle: the released settings: the threshold is on the class alone, so a score may be lower."""
    maps = random_maps(1, 1, 128)
    for level in range(5):
        maps.logits[level].fill_(-9.0)
        maps.centerness[level].fill_(-4.0)
    maps.logits[0][0, 0, 3, 5] = 0.0
    maps.distances[0][0, :, 3, 5] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    found = small(1).decode(maps, (128, 128))
    assert found.scores[0, 0].item() == pytest.approx(0.5 / (1 + math.exp(4)))
    assert not found.scores[0, 1:].any()
    assert found.boxes[0, 0].tolist() == [44 - 1, 28 - 2, 44 + 3, 28 + 4]


# ---- as a whole


def test_a_batch_of_one_is_a_row_of_a_batch(small, maps_of) -> None:
    """Convolutions of other batch sizes may add in another order: float32 rounding of values around 1."""
    model = small(3, score_threshold=0.0).eval()
    maps = maps_of(3, 32)
    with torch.inference_mode():
        batch, alone = model(maps, (128, 128)), model([x[1:2] for x in maps], (128, 128))
    assert torch.allclose(batch.scores[1:2], alone.scores, atol=1e-6)
    distinct = alone.scores[0] - alone.scores[0].roll(-1) > 1e-6
    assert torch.allclose(batch.boxes[1, distinct], alone.boxes[0, distinct], atol=1e-3)


def test_class_layers_have_one_output_per_class(small) -> None:
    model = small(7)
    assert [model.get_submodule(name.removeprefix("d.")).out_channels for name in model.class_layers("d.")] == [7]


def test_compiled_forward_equals_torch(backbone, openvino_outputs) -> None:
    """Oracle: torch. OpenVINO adds in another order: scores within 1e-5; boxes, where no other score is as near, within
    0.01 pixels. Two images, though one was traced."""
    model = DetectionModel(
        DetectionSpec(("a", "b"), replace(SPEC, pyramid_width=32), backbone, (96, 96), "canvas")
    ).eval()
    assert isinstance(model.detector, FCOS)
    # New heads give the same outputs everywhere.
    torch.nn.init.normal_(model.detector.classify.weight, std=0.3)
    torch.nn.init.normal_(model.detector.regress.weight, std=0.1)
    torch.nn.init.constant_(model.detector.get_parameter("regress.bias"), 2.5)
    images = torch.randint(256, (2, 3, 96, 96)) / 255
    with torch.inference_mode():
        expected = model(images)
    found = openvino_outputs(model, images)
    assert (expected.scores > 0).sum() > 20
    assert torch.allclose(found.scores, expected.scores, atol=1e-5)
    gaps = expected.scores - torch.cat([expected.scores[:, 1:], torch.zeros(2, 1)], 1)
    distinct = (gaps > 2e-5) & (gaps.roll(1, 1).abs() > 2e-5)
    assert distinct.sum() > 10
    assert torch.allclose(found.boxes[distinct], expected.boxes[distinct], atol=0.01)
    assert torch.equal(found.labels[distinct], expected.labels[distinct])


@pytest.mark.parametrize(("width", "published"), [(18, 17.5), (32, 37.3)])
def test_number_of_parameters(width, published) -> None:
    """Oracle: arXiv 1908.07919, table of detectors, in millions, one digit after the point."""
    with torch.device("meta"):
        model = DetectionModel(DetectionSpec(detector=fcos(), backbone=hrnet(width)))
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(published, abs=0.05)


def test_initial_distances_fit_the_range_of_each_level() -> None:
    # Oracle: 24, 64 and 128 pixels, of ranges from nothing, 64 and 128.
    spec = replace(fcos(), pyramid_width=32, ranges=((-1.0, 64.0), (64.0, 128.0), (128.0, 1e8)))
    model = FCOS((8, 16), 1, spec)
    maps = [torch.zeros(1, 8, 32, 32), torch.zeros(1, 16, 16, 16)]
    for distances, expected in zip(model.forward_maps(maps).distances, (24, 64, 128), strict=True):
        assert distances.mean().item() == pytest.approx(expected, rel=0.2)
