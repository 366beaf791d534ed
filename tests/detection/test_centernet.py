"""Oracles: closed forms of the papers, slow references written out here, and properties."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from hrnet.detection.centernet import (
    CascadePooling,
    CenterNet,
    CenterPooling,
    Peaks,
    TripletMaps,
    confirm_centers,
    corner_pool,
    decode_triplets,
    embedding_loss,
    encode_points,
    focal_loss,
    gaussian_radius,
    heatmap_targets,
    pair_corners,
    soft_nms,
    triplet_loss,
)
from hrnet.detection.model import DetectionModel
from hrnet.detection.spec import DetectionSpec, centernet
from hrnet.nn.spec import hrnet

SPEC = centernet()


@pytest.fixture
def small(backbone) -> Callable[..., CenterNet]:
    """Make a narrow detector, given the number of classes and changes of the spec."""

    def made(num_classes: int, **changes: object) -> CenterNet:
        return CenterNet(backbone.widths, num_classes, replace(SPEC, width=16, **changes))

    return made


# ---- the network


@pytest.mark.parametrize("direction", ["left", "right", "up", "down"])
@pytest.mark.parametrize("with_gradient", [True, False])
def test_corner_pooling_is_the_running_maximum(direction, with_gradient) -> None:
    """Oracle: a loop over cells. No rounding: values are only chosen."""
    x = torch.randn(2, 3, 7, 10, requires_grad=with_gradient)
    found = corner_pool(x, direction)
    for row, column in itertools.product(range(7), range(10)):
        seen = {
            "left": x[..., row, : column + 1],
            "right": x[..., row, column:],
            "up": x[..., : row + 1, column],
            "down": x[..., row:, column],
        }[direction]
        assert torch.equal(found[..., row, column], seen.amax(-1))


def test_gradient_of_corner_pooling_goes_to_the_maxima() -> None:
    """Oracle: counting by hand; a value is the maximum of all cells before the next larger one."""
    x = torch.tensor([[[[1.0, 4.0, 2.0, 3.0]]]], requires_grad=True)
    corner_pool(x, "right").sum().backward()
    # Seen to the right: 4 4 3 3.
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0, 2, 0, 2]
    x.grad = None
    corner_pool(x, "left").sum().backward()
    # Seen to the left: 1 4 4 4.
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1, 3, 0, 0]


def _reach(branch: torch.nn.Module, row: int, column: int) -> Tensor:
    """Return the cells of the input that change the output at one cell, over many inputs (one per maximum)."""
    branch.eval()
    x = torch.randn(64, 8, 24, 24, requires_grad=True)
    branch(x)[:, :, row, column].sum().backward()
    assert x.grad is not None
    return x.grad.abs().sum((0, 1)) > 0


def test_receptive_field_of_cascade_corner_pooling() -> None:
    """Property of cascade corner pooling: what lies before the corner does not matter (beyond the reach of the three
    convolutions in a row), what lies diagonally inside does, which corner pooling alone could not see."""
    reach = _reach(CascadePooling(8, ("down", "right")), 10, 10)
    assert not reach[:7].any()
    assert not reach[:, :7].any()
    assert reach[15:, 15:].any()
    reach = _reach(CascadePooling(8, ("up", "left")), 10, 10)
    assert not reach[14:].any()
    assert not reach[:, 14:].any()
    assert reach[:6, :6].any()


def test_receptive_field_of_center_pooling() -> None:
    reach = _reach(CenterPooling(8), 10, 10)
    for before, after in itertools.product((slice(0, 7), slice(14, 24)), repeat=2):
        assert not reach[before, after].any()
    assert reach[10, :6].any()
    assert reach[10, 15:].any()
    assert reach[:6, 10].any()
    assert reach[15:, 10].any()


# ---- targets and losses


@pytest.mark.parametrize("iou", [0.3, 0.7])
def test_gaussian_radius_is_the_largest_valid_shift(iou) -> None:
    """Oracle: all ways to move the two corners by the radius along the axes; the worst has exactly this IoU. Float64:
    rounding below 1e-12."""
    sides = torch.tensor([[10.0, 10.0], [3.0, 40.0], [100.0, 7.0], [1.0, 1.0], [200.0, 150.0]], dtype=torch.float64)
    for (width, height), radius in zip(sides.tolist(), gaussian_radius(sides, iou).tolist(), strict=True):
        worst = 1.0
        for x1, y1, x2, y2 in itertools.product((-radius, 0, radius), repeat=4):
            shared = (min(width, width + x2) - max(0, x1)) * (min(height, height + y2) - max(0, y1))
            union = width * height + (width + x2 - x1) * (height + y2 - y1) - shared
            worst = min(worst, shared / union)
        assert abs(worst - iou) < 1e-12
    assert gaussian_radius(torch.zeros(1, 2), iou).item() == 0


def test_heatmaps_are_gaussians_around_points(random_boxes) -> None:
    """Oracle: the definition, cell by cell. Float32 of exponentials: 1e-6."""
    boxes = torch.cat([random_boxes(12, 96), torch.tensor([[0.0, 0.0, 96.0, 64.0], [9.0, 9.0, 9.0, 9.0]])])
    boxes[:, 1::2] *= 64 / 96
    labels = torch.randint(3, (14,))
    found = heatmap_targets(boxes, labels, 4, (16, 24), 0.3)
    expected = np.zeros((3, 4, 16, 24))
    for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
        sides = torch.tensor([[x2 - x1, y2 - y1]]) / 4
        radius = math.floor(gaussian_radius(sides, 0.3).item())
        for kind, (x, y) in enumerate([(x1, y1), (x2, y2), ((x1 + x2) / 2, (y1 + y2) / 2)]):
            column, row = min(math.floor(x / 4), 23), min(math.floor(y / 4), 15)
            for i, j in itertools.product(range(16), range(24)):
                if max(abs(i - row), abs(j - column)) <= radius:
                    value = math.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * ((2 * radius + 1) / 6) ** 2))
                    expected[kind, label, i, j] = max(expected[kind, label, i, j], value)
    assert np.abs(found.numpy() - expected).max() < 1e-6
    assert not found[:, 3].any()


def test_focal_loss_is_that_of_the_paper() -> None:
    """Oracle: arXiv 1808.01244, equation 1, in float64."""
    logits, targets = torch.randn(200, dtype=torch.float64), torch.rand(200, dtype=torch.float64)
    targets[:20] = 1
    ignored = torch.zeros(200, dtype=torch.bool)
    ignored[10:40] = True
    expected = 0.0
    for index, (logit, target) in enumerate(zip(logits.tolist(), targets.tolist(), strict=True)):
        score = 1 / (1 + math.exp(-logit))
        if target == 1:
            expected -= (1 - score) ** 2 * math.log(score)
        elif not 20 <= index < 40:
            expected -= (1 - target) ** 4 * score**2 * math.log(1 - score)
    assert abs(focal_loss(logits, targets, ignored).item() - expected) < 1e-10
    assert torch.isfinite(focal_loss(torch.tensor([200.0, -200.0]), torch.tensor([0.0, 1.0]), ignored[:2]))


def test_embeddings_are_pulled_and_pushed() -> None:
    """Oracle: arXiv 1808.01244, equations 4 and 5, written out. Float64."""
    embeddings = torch.randn(2, 6, dtype=torch.float64)
    means = [sum(pair) / 2 for pair in zip(*embeddings.tolist(), strict=True)]
    pulls = [
        (a - m) ** 2 + (b - m) ** 2
        for a, b, m in zip(embeddings[0].tolist(), embeddings[1].tolist(), means, strict=True)
    ]
    pushes = [max(0.0, 1 - abs(means[i] - means[j])) for i, j in itertools.permutations(range(6), 2)]
    pull, push = embedding_loss(embeddings)
    assert abs(pull.item() - sum(pulls) / 6) < 1e-12
    assert abs(push.item() - sum(pushes) / 30) < 1e-12
    pull, push = embedding_loss(embeddings[:, :1])
    assert push.item() == 0


def perfect(boxes: Tensor, labels: Tensor, num_classes: int, size: tuple[int, int]) -> TripletMaps:
    """Return ideal outputs for one image: high logits at the points, one embedding per object."""
    points = encode_points(boxes, size)
    heatmaps = torch.full((1, 3, num_classes, *size), -9.0)
    embeddings, offsets = torch.zeros(1, 2, *size), torch.zeros(1, 3, 2, *size)
    for kind in range(3):
        for number, (x, y) in enumerate(points.cells[kind].tolist()):
            heatmaps[0, kind, labels[number], y, x] = 9.0
            offsets[0, kind, :, y, x] = points.offsets[kind, number]
            if kind < 2:
                embeddings[0, kind, y, x] = number
    return TripletMaps(heatmaps, embeddings, offsets)


BOXES = torch.tensor(
    [
        [3.3, 5.1, 77.7, 40.2],
        [10.5, 50.0, 33.0, 200.9],
        [100.0, 60.0, 256.0, 256.0],
        [40.1, 80.2, 95.3, 230.7],
        [200.0, 8.0, 240.5, 33.3],
    ]
)
LABELS = torch.tensor([0, 1, 2, 1, 0])


def test_ideal_outputs_decode_to_the_boxes() -> None:
    """Round trip: points are exact but for float32 (2e-5 at 256). Corners of other objects of the class do not pair:
    their embeddings differ. The third box is one of the large ones, and ends on the edge of the input."""
    found = decode_triplets(perfect(BOXES, LABELS, 3, (64, 64)), SPEC)
    sure = found.scores[0] > 0.9
    assert sure.sum() == 5
    order = found.boxes[0, sure, 0].argsort()
    expected = BOXES[:, 0].argsort()
    assert torch.allclose(found.boxes[0, sure][order], BOXES[expected], atol=1e-4, rtol=0)
    assert torch.equal(found.labels[0, sure][order], LABELS[expected])
    # All three scores are those of a logit of 9.
    assert torch.allclose(found.scores[0, sure], torch.tensor(9.0).sigmoid())
    assert found.boxes.shape == (1, 100, 4)


def test_loss_of_ideal_outputs_is_near_zero(objects_of) -> None:
    outputs = perfect(BOXES, LABELS, 3, (64, 64))
    terms = triplet_loss(outputs, [objects_of(BOXES, LABELS)], SPEC)
    # 36 864 cells, each squared 1e-4 times 1e-4; pull, push and offsets are zero but for rounding.
    assert sum(term.item() for term in terms.values()) < 1e-6
    wrong = TripletMaps(-outputs.heatmaps, outputs.embeddings.mul(0.1), outputs.offsets + 1)
    worse = triplet_loss(wrong, [objects_of(BOXES, LABELS)], SPEC)
    # Oracle for the offsets: smooth L1 of 1 is a half, for two axes of three points.
    assert abs(worse["offsets"].item() - 3) < 1e-4
    # Distances are now 0.1 between neighbors: the mean of 1 - |i - j| / 10 over pairs of five is 0.8.
    assert abs(worse["push"].item() - 0.1 * 0.8) < 1e-6
    assert worse["corners"] > 10
    assert worse["centers"] > 10


def test_crowds_are_ignored(objects_of) -> None:
    heatmaps = torch.zeros(1, 3, 2, 16, 16, requires_grad=True)
    outputs = TripletMaps(heatmaps, torch.zeros(1, 2, 16, 16), torch.zeros(1, 3, 2, 16, 16))
    one = objects_of(torch.tensor([[4.0, 4, 20, 20]]), torch.tensor([1]), torch.tensor([[32.0, 32, 64, 64]]))
    sum(triplet_loss(outputs, [one], SPEC).values(), torch.zeros(())).backward()
    assert heatmaps.grad is not None
    assert not heatmaps.grad[..., 8:, 8:].any()
    assert (heatmaps.grad[:, :, 0, :8] != 0).all()


# ---- detections


def peaks(points: list[list[float]], embeddings: list[float], labels: list[int], scores: list[float]) -> Peaks:
    return Peaks(torch.tensor([scores]), torch.tensor([labels]), torch.tensor([points]), torch.tensor([embeddings]))


def test_corners_pair_by_class_order_and_embedding() -> None:
    first = peaks([[10.0, 10.0], [10.0, 10.0], [50.0, 50.0]], [0.0, 0.0, 0.0], [0, 1, 0], [0.9, 0.8, 0.7])
    second = peaks([[40.0, 40.0], [60.0, 60.0]], [0.4, 0.6], [0, 0], [0.5, 0.9])
    boxes, scores, labels = pair_corners(first, second, 0.5)
    # Only (0, 0): the second start has another class, the third lies beyond, the second end is 0.6 away.
    assert scores[0, 0].item() == pytest.approx(0.7)
    assert not scores[0, 1:].any()
    assert boxes[0, 0].tolist() == [10, 10, 40, 40]
    assert labels[0, 0] == 0


@pytest.mark.parametrize(
    ("side", "shift", "label", "expected"),
    [
        # A third of 90 reaches 15 from the middle; 150 is still small: 25; a fifth of 300 reaches 30.
        (90.0, 14.0, 1, (2 * 0.6 + 0.9) / 3),
        (90.0, 16.0, 1, 0.0),
        (150.0, 24.0, 1, (2 * 0.6 + 0.9) / 3),
        (300.0, 29.0, 1, (2 * 0.6 + 0.9) / 3),
        (300.0, 31.0, 1, 0.0),
        (90.0, 0.0, 0, 0.0),
    ],
)
def test_a_box_needs_a_center_in_its_middle(side, shift, label, expected) -> None:
    """Oracle: arXiv 1904.08189, section 3.2: n = 3 and n = 5; the score is the mean of the three."""
    boxes = torch.tensor([[[20.0, 20.0, 20.0 + side, 20.0 + side]]])
    middle = 20 + side / 2
    centers = peaks([[middle + shift, middle], [500.0, 500.0]], [0.0, 0.0], [label, 1], [0.9, 0.95])
    found = confirm_centers(boxes, torch.tensor([[0.6]]), torch.tensor([[1]]), centers)
    assert found.item() == pytest.approx(expected)


def test_soft_nms_is_that_of_the_paper(random_boxes) -> None:
    """Oracle: the definition as a loop in float64; float32 rounding of some hundred products: 1e-5."""
    boxes = torch.stack([random_boxes(60, 40), random_boxes(60, 40)])
    scores, labels = torch.rand(2, 60), torch.randint(3, (2, 60))
    scores[1, 5:] = 0
    found_boxes, found_scores, found_labels, _ = soft_nms(boxes, scores, labels, 80, 0.5)
    assert found_boxes.shape == (2, 80, 4)
    for image in range(2):
        left = [
            (score, box, label)
            for score, box, label in zip(
                scores[image].double().tolist(), boxes[image].tolist(), labels[image].tolist(), strict=True
            )
            if score > 0
        ]
        position = 0
        while left:
            score, box, label = max(left)
            left.remove((score, box, label))
            assert found_scores[image, position].item() == pytest.approx(score, abs=1e-5)
            assert found_labels[image, position] == label
            assert found_boxes[image, position].tolist() == pytest.approx(box)
            left = [(s * math.exp(-(iou(box, b) ** 2) / 0.5 if k == label else 0), b, k) for s, b, k in left]
            position += 1
        assert not found_scores[image, position:].any()


def iou(box: list[float], other: list[float]) -> float:
    width = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
    height = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return width * height / (areas - width * height)


# ---- as a whole


def test_a_batch_of_one_is_a_row_of_a_batch(small, maps_of) -> None:
    """Convolutions of other batch sizes may add in another order: float32 rounding of values around 1."""
    model = small(3).eval()
    maps = maps_of(3, 16)
    with torch.inference_mode():
        batch, alone = model.forward_maps(maps), model.forward_maps([x[1:2] for x in maps])
    for one, other in zip(batch, alone, strict=True):
        assert torch.allclose(one[1:2], other, atol=1e-5)


def test_class_layers_have_one_output_per_class(small) -> None:
    model = small(7)
    assert [model.get_submodule(name.removeprefix("d.")).out_channels for name in model.class_layers("d.")] == [7] * 3


def test_compiled_forward_equals_torch(backbone, openvino_outputs) -> None:
    """Oracle: torch. OpenVINO adds in another order: scores within 1e-5; boxes, where no other score is as near, within
    0.01 pixels. Two images, though one was traced."""
    model = DetectionModel(
        DetectionSpec(("a", "b"), replace(SPEC, width=16, num_detections=20), backbone, (96, 96), "canvas")
    ).eval()
    assert isinstance(model.detector, CenterNet)
    # Spreads the scores of new heads without saturating the sigmoid: among scores that differ in the last digit, rounding
    # decides which box the soft NMS takes first, and so how far it lowers the others.
    for layers in model.detector.heatmaps:
        torch.nn.init.normal_(layers.get_parameter("2.weight"), std=1.0)
    images = torch.randint(256, (2, 3, 96, 96)) / 255
    with torch.inference_mode():
        expected = model(images)
    found = openvino_outputs(model, images)
    assert (expected.scores > 0).sum() > 20
    assert torch.allclose(found.scores, expected.scores, atol=1e-5)
    gaps = expected.scores - torch.cat([expected.scores[:, 1:], torch.zeros(2, 1)], 1)
    sure = (gaps > 2e-5) & (gaps.roll(1, 1).abs() > 2e-5)
    assert sure.sum() > 10
    assert torch.allclose(found.boxes[sure], expected.boxes[sure], atol=0.01)
    assert torch.equal(found.labels[sure], expected.labels[sure])


@pytest.mark.parametrize(("width", "published"), [(48, 73.6), (64, 127.7)])
def test_number_of_parameters(width, published) -> None:
    """Oracle: arXiv 1908.07919, table of detectors, in millions; the form
    of the heads is not public: within 0.2 %."""
    with torch.device("meta"):
        model = DetectionModel(DetectionSpec(detector=centernet(), backbone=hrnet(width)))
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(published, rel=0.002)
