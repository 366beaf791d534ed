"""Oracles: closed forms, torchvision's IoU, and round trips. Tolerances are those of single precision (1e-7 of the largest
coordinate, times a few operations) unless a test says otherwise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from hrnet.detection.boxes import (
    MAX_LOG_SCALE,
    GroundTruth,
    covered_fractions,
    decode_boxes,
    encode_boxes,
    pairwise_iou,
    separate,
)
from hrnet.detection.processor import boxes_to_input, boxes_to_source
from hrnet.io.geometry import Frame
from hrnet.nn.task import Batch


def test_boxes_of_different_groups_do_not_overlap(random_boxes) -> None:
    """Oracle: torchvision's IoU within a group, 0 between groups. Coordinates of some 7000 are rounded to 2^-11, sides
    are 10 or more."""
    boxes = random_boxes(90) + torch.tensor([0.0, 0, 10, 10])
    groups = torch.randint(4000, (30,)).repeat(3)
    moved = separate(boxes, groups, 110)
    same = groups[:, None] == groups
    assert torch.allclose(box_iou(moved, moved)[same], box_iou(boxes, boxes)[same], atol=1e-3)
    assert not box_iou(moved, moved)[~same].any()


def test_a_box_that_fills_the_image_fills_the_scaled_image() -> None:
    """Oracle: edges lie on edges at any scale."""
    frame = Frame.resize((40, 60), (100, 240))
    assert np.allclose(boxes_to_input(np.array([[0.0, 0, 60, 40]]), frame), [[0, 0, 240, 100]], atol=1e-9)
    assert np.allclose(boxes_to_input(np.array([[15.0, 10, 30, 20]]), frame), [[60, 25, 120, 50]], atol=1e-9)


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_round_trip(random_boxes, flip: bool) -> None:
    """Oracle: the round trip; left and right stay in order in a flipped image."""
    frame = Frame.around((30.0, 20.0), 80.0, (64, 96), (40, 60), flip=flip)
    boxes = random_boxes(50, 40.0).double().numpy()
    there = boxes_to_input(boxes, frame)
    assert (there[:, 2:] > there[:, :2]).all()
    assert np.allclose(boxes_to_source(there, frame), boxes, atol=1e-9)
    sides = (boxes[:, 2:] - boxes[:, :2]) * frame.scale
    assert np.allclose(there[:, 2:] - there[:, :2], sides, atol=1e-9)


def test_iou(random_boxes) -> None:
    boxes, others = random_boxes(20), random_boxes(30)
    assert torch.allclose(pairwise_iou(boxes, others), box_iou(boxes, others), atol=1e-5)
    line = torch.tensor([[5.0, 5, 5, 9]])
    assert pairwise_iou(line, line).item() == 0.0
    assert covered_fractions(torch.tensor([[0.0, 0, 4, 2]]), torch.tensor([[3.0, 1, 9, 9], [8, 8, 9, 9]])).tolist() == [
        [1 / 8, 0]
    ]


def test_deltas_round_trip(random_boxes) -> None:
    """Oracle: the round trip; sides of up to 100 times one another, so 1e-3 of 100 pixels is single precision."""
    boxes, regions, stds = random_boxes(200), random_boxes(200), (0.1, 0.1, 0.2, 0.2)
    mild = (boxes[:, 2:] - boxes[:, :2]) / (regions[:, 2:] - regions[:, :2])
    near = (mild.log().abs() < MAX_LOG_SCALE).all(1)
    deltas = encode_boxes(boxes, regions, stds)
    assert torch.allclose(decode_boxes(deltas, regions, stds)[near], boxes[near], atol=1e-3)


def test_deltas_are_the_published_ones() -> None:
    """Oracle: arXiv 1311.2524, equations of box regression, by hand: center (14, 22) of 8 x 12 to (18, 16) of 16 x 6."""
    region, box = torch.tensor([[10.0, 16, 18, 28]]), torch.tensor([[10.0, 13, 26, 19]])
    expected = torch.tensor([[4 / 8, -6 / 12, math.log(2), math.log(0.5)]])
    assert torch.allclose(encode_boxes(box, region), expected)
    assert torch.allclose(
        encode_boxes(box, region, (0.1, 0.1, 0.2, 0.2)), expected / torch.tensor([0.1, 0.1, 0.2, 0.2])
    )


def test_scales_are_limited() -> None:
    found = decode_boxes(torch.tensor([[0.0, 0, 500, -500]]), torch.tensor([[0.0, 0, 16, 1000]]))
    assert torch.allclose(found, torch.tensor([[8 - 500.0, 500 - 8.0, 8 + 500.0, 500 + 8.0]]))


def test_ground_truth_of_a_batch() -> None:
    """Padding, crowds and boxes of zero area are no objects."""
    batch = Batch(
        images=torch.zeros(2, 3, 32, 32),
        frames=(),
        targets={
            "count": torch.tensor([4, 0]),
            "boxes": torch.tensor([[[0, 0, 9, 9], [1, 1, 8, 8], [5, 5, 5, 9], [2, 2, 4, 4.0], [9, 9, 20, 20]]] * 2),
            "labels": torch.tensor([[3, 1, 2, 0, 7]] * 2),
            "crowd": torch.tensor([[False, True, False, False, False]] * 2),
            "masks": torch.arange(10, dtype=torch.uint8).view(2, 5, 1, 1).expand(2, 5, 4, 4),
        },
        indices=(0, 1),
    )
    first, second = GroundTruth.from_batch(batch)
    assert first.boxes.tolist() == [[0, 0, 9, 9], [2, 2, 4, 4]]
    assert first.labels.tolist() == [3, 0]
    assert first.crowd.tolist() == [[1, 1, 8, 8]]
    assert first.masks is not None
    assert first.masks[:, 0, 0].tolist() == [0, 3]
    assert first.stuff is None
    assert (len(first), len(second), len(second.crowd)) == (2, 0, 0)
