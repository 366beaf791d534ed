"""Masks: the head, its targets, crops of labels, and pasting into the image."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_masks
from torch import Tensor
from torch.nn import functional
from torchvision.ops import roi_align

from hrnet.detection.masks import CROP_CELLS, MaskHead, MaskHeads, crop_mask, mask_loss, mask_targets, select_class
from hrnet.detection.processor import paste_masks
from hrnet.detection.semantic import SemanticHead, semantic_loss, semantic_targets
from hrnet.formats.records import Runs
from hrnet.io.geometry import Frame, Size


def ellipse(size: Size, box: np.ndarray) -> np.ndarray:
    """The pixels whose centers lie in the ellipse that fills a box."""
    y, x = np.ogrid[: size[0], : size[1]]
    center, radius = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    distance = ((x + 0.5 - center[0]) / radius[0]) ** 2 + ((y + 0.5 - center[1]) / radius[1]) ** 2
    return (distance <= 1).astype(np.uint8)


def ellipse_polygon(box: np.ndarray, corners: int = 400) -> np.ndarray:
    angles = np.arange(corners) * 2 * np.pi / corners
    return (box[:2] + box[2:]) / 2 + (box[2:] - box[:2]) / 2 * np.column_stack([np.cos(angles), np.sin(angles)])


def as_runs(mask: np.ndarray) -> Runs:
    values = mask.T.ravel()
    edges = np.flatnonzero(np.diff(values, prepend=0))
    return Runs((mask.shape[0], mask.shape[1]), np.diff(np.concatenate([[0], edges, [values.size]])))


def test_head_is_the_published_order_of_layers() -> None:
    # Oracle: the layers of mmdetection's head, one after the other. Tolerance: single precision, sums in one order.
    head = MaskHead(3, 8, information_flow=True)
    features, before = torch.randn(2, 8, 14, 14), torch.randn(2, 8, 14, 14)
    assert head.previous is not None
    x = features + functional.relu(functional.conv2d(before, head.previous.weight, head.previous.bias))
    for conv in head.convs:
        x = functional.relu(functional.conv2d(x, conv.get_parameter("weight"), conv.get_parameter("bias"), padding=1))
    x = functional.relu(functional.conv_transpose2d(x, head.upsample.weight, head.upsample.bias, stride=2))
    expected = functional.conv2d(x, head.logits.weight, head.logits.bias)
    assert expected.shape == (2, 3, 28, 28)
    torch.testing.assert_close(head(features, before), expected)


@pytest.mark.parametrize("information_flow", [False, True])
def test_heads_of_a_cascade(information_flow: bool) -> None:
    """Oracle: the heads called one after the other. Tolerance: single precision, the same sums."""
    heads = MaskHeads(3, 4, 8, information_flow=information_flow).requires_grad_(False)
    features, labels = torch.randn(5, 8, 7, 7), torch.tensor([0, 3, 2, 1, 3])
    first, second, third = cast(list[MaskHead], list(heads.stages))
    before = (first.forward_features(features), None) if information_flow else (None, None)
    before = (before[0], second.forward_features(features, before[0]) if information_flow else None)
    expected = [first(features), second(features, before[0]), third(features, before[1])]
    for stage, logits in enumerate(expected):
        torch.testing.assert_close(heads(features, stage), logits)
        torch.testing.assert_close(heads.forward_stages(features)[stage], logits)
    for heads.average in (True, False):
        chosen = expected if heads.average else expected[-1:]
        mean = torch.stack([select_class(one, labels).sigmoid() for one in chosen]).mean(0)
        torch.testing.assert_close(heads.ensemble(features, labels).sigmoid(), mean, rtol=1e-5, atol=1e-5)
    assert any("previous" in name for name, _ in heads.named_parameters()) == information_flow


def test_no_region_gives_a_loss_of_0_and_finite_gradients() -> None:
    head = MaskHead(3, 8)
    none = torch.zeros(0, dtype=torch.int64)
    loss = mask_loss(head(torch.zeros(0, 8, 14, 14)), torch.zeros(0, 28, 28), none)
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in head.parameters())


def test_loss_is_of_the_true_class_alone() -> None:
    # Oracle: -log of the probability of what is true, cell after cell. Tolerance: single precision.
    logits, labels = torch.randn(3, 4, 5, 5), torch.tensor([2, 0, 3])
    targets = (torch.rand(3, 5, 5) < 0.5).float()
    chosen = torch.stack([logits[0, 2], logits[1, 0], logits[2, 3]])
    assert torch.equal(select_class(logits, labels), chosen)
    probability = 1 / (1 + np.exp(-chosen.double().numpy()))
    ground_truth = targets.numpy()
    expected = -np.log(np.where(ground_truth == 1, probability, 1 - probability)).mean()
    assert mask_loss(logits, targets, labels).item() == pytest.approx(expected, rel=1e-6)


def test_targets_are_what_roialign_reads_from_the_whole_mask() -> None:
    """Oracle: RoIAlign of the mask at the image's size, averaged over many points of each cell.

    A crop's cell is 1/112 of its box and the mask's pixel one pixel: the border of what a crop holds is off by half a cell
    and half a pixel at the most. Regions that overlap by half with their box are 0.7 to 1.4 times as large, so that the
    share that a 28th covers changes by (0.5 * box / 112 + 0.5) / (region / 28) along each axis: below 0.25 at 150 pixels.
    Where RoIAlign says less than 0.25 or more than 0.75, targets may not differ.
    """
    size = (220, 260)
    box = np.array([35.3, 20.7, 215.6, 190.2])
    mask = ellipse(size, box)
    crop = torch.from_numpy(crop_mask(mask, box))
    generator = torch.Generator().manual_seed(1)
    regions = torch.from_numpy(box).float() + 30 * (torch.rand(40, 4, generator=generator) - 0.5)
    indexed = torch.cat([torch.zeros(40, 1), regions], dim=1)
    shares = roi_align(
        torch.from_numpy(mask)[None, None].float(), indexed, 28, sampling_ratio=8, aligned=True
    )[:, 0]  # fmt: skip
    boxes = torch.from_numpy(box).float().expand(40, 4)
    targets = mask_targets(crop.expand(40, -1, -1), boxes, regions)
    assert set(targets.unique().tolist()) == {0.0, 1.0}
    sure = (shares - 0.5).abs() > 0.25
    assert sure.float().mean() > 0.9
    assert torch.equal(targets[sure], (shares[sure] > 0.5).float())
    # And no shift: among the cells on the border as many are too many as too few, but for the one in seven of which
    # exactly 8 of 16 of the crop's cells are covered, which count.
    assert abs(float((targets - shares)[~sure].mean())) < 0.1


def test_targets_of_the_box_itself_are_the_means_of_the_crop() -> None:
    # Oracle: each of 28 cells is 4 x 4 of 112, in both axes apart (closed form).
    generator = torch.Generator().manual_seed(2)
    crops = (torch.rand(2, 112, 112, generator=generator) < torch.rand(2, 112, 112, generator=generator)).byte()
    boxes = torch.tensor([[3.0, 4.0, 40.0, 90.0], [100.0, 10.0, 101.5, 11.0]])
    shares = functional.avg_pool2d(crops[:, None].float(), 4)[:, 0]
    found = mask_targets(crops, boxes, boxes)
    # Half is exactly half only to rounding.
    clear = (shares - 0.5).abs() > 1e-3
    assert torch.equal(found[clear], (shares > 0.5).float()[clear])


def test_targets_outside_the_box_are_empty_and_flip_with_it() -> None:
    generator = torch.Generator().manual_seed(3)
    crop = (functional.interpolate(torch.rand(1, 1, 7, 7, generator=generator), (112, 112)) > 0.5)[0].byte()
    box, region = torch.tensor([[10.0, 10.0, 50.0, 30.0]]), torch.tensor([[-30.0, 5.0, 33.0, 30.0]])
    target = mask_targets(crop, box, region)
    centers = -30 + 63 * (torch.arange(28) + 0.5) / 28
    assert not target[0][:, centers < 10 - 63 / 28].any()
    assert target.any()
    mirror = torch.tensor([-1.0, 1.0, -1.0, 1.0])
    flipped = mask_targets(crop.flip(2), (box * mirror)[:, [2, 1, 0, 3]], (region * mirror)[:, [2, 1, 0, 3]])
    torch.testing.assert_close(flipped, target.flip(2))


def published_pasting(probabilities: np.ndarray, boxes: np.ndarray, size: Size) -> np.ndarray:
    """Return probabilities of all pixels of the image, one bilinear sample per pixel (as mmdetection pastes)."""
    height, width = size
    pasted = []
    for cells, (x1, y1, x2, y2) in zip(probabilities, boxes, strict=True):
        y, x = (np.arange(height) + 0.5 - y1) / (y2 - y1) * 2 - 1, (np.arange(width) + 0.5 - x1) / (x2 - x1) * 2 - 1
        grid = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=-1)[None]
        image = torch.from_numpy(cells)[None, None].double()
        pasted.append(functional.grid_sample(image, torch.from_numpy(grid), align_corners=False)[0, 0].numpy())
    return np.array(pasted)


def test_pasting_is_bilinear_interpolation() -> None:
    # Oracle: one point of every pixel in double precision. Where that is within 1e-4 of the threshold single precision
    # may decide otherwise.
    size = (70, 90)
    probabilities = np.random.default_rng(4).random((6, 28, 28)).astype(np.float32)
    boxes = np.array([
        [10.2, 5.7, 60.1, 66.6], [-20, -10, 30.5, 200], [0, 0, 90, 70],
        [40, 40, 41.2, 43], [88.6, 3, 89.9, 60], [5, 69.5, 80, 70],
    ])  # fmt: skip
    masks = paste_masks(probabilities, boxes, size)
    expected = published_pasting(probabilities, boxes, size)
    for index in range(len(boxes)):
        full = masks.dense(index)
        clear = np.abs(expected[index] - 0.5) > 1e-4
        assert clear.mean() > 0.99
        assert full.any() == (expected[index] >= 0.5).any()
        assert np.array_equal(full[clear], (expected[index] >= 0.5)[clear])
        assert masks.crops[index].size <= np.prod(np.ceil(boxes[index, 2:]) - np.floor(boxes[index, :2]) + 2)


def test_pasted_masks_take_the_memory_of_their_boxes() -> None:
    """A hundred objects in an image of 12 megapixels take the bytes of their boxes, not 1.2 gigabytes."""
    low = np.random.default_rng(5).uniform(0, 2900, (100, 2))
    masks = paste_masks(np.ones((100, 28, 28), np.float32), np.hstack([low, low + 100]), (3000, 4000))
    assert sum(crop.nbytes for crop in masks.crops) < 100 * 104**2
    # Of ones all pixels whose center lies in the box; at a corner, where two sides fade out, up to three are left out.
    inside = np.prod([np.ceil(edge + 99.5) - np.ceil(edge - 0.5) for edge in low.T], axis=0)
    assert (inside - 12 <= masks.areas()).all()
    assert (masks.areas() <= inside).all()


def test_nothing_to_paste() -> None:
    assert len(paste_masks(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4)), (20, 30))) == 0
    beyond = paste_masks(np.ones((2, 28, 28), np.float32), np.array([[50.0, 5, 60, 9], [-9, -9, -3, -3]]), (20, 30))
    assert beyond.areas().tolist() == [0, 0]


@pytest.mark.parametrize("how", ["polygons", "runs", "pixels"])
def test_crop_of_a_box_is_its_object(how: str) -> None:
    """Oracle: which centers of cells lie in the ellipse. Polygons are exact but for a border that 400 straight edges cut
    off by 3e-5 of the radius; of pixels the border is where pixels end, at most 0.71 pixels off it: 0.7 cells here."""
    box = np.array([20.0, 10.0, 132.0, 122.0])
    mask = ellipse((140, 150), box)
    outline = {"polygons": [ellipse_polygon(box)], "runs": as_runs(mask), "pixels": mask}[how]
    crop = crop_mask(outline, box)
    assert (crop.dtype, crop.shape) == (np.uint8, (CROP_CELLS, CROP_CELLS))
    away = np.hypot(*(np.ogrid[:112, :112][axis] + 0.5 - 56 for axis in (0, 1))) - 56
    clear = np.abs(away) > (0.01 if how == "polygons" else 0.75)
    np.testing.assert_array_equal(crop[clear], (away <= 0)[clear])
    assert abs(int(crop.sum()) - np.pi * 56**2) < 0.003 * crop.size


@pytest.mark.parametrize("how", ["polygons", "pixels"])
@pytest.mark.parametrize("flip", [False, True])
def test_crop_of_a_cut_box_is_rasterized_after_the_transform(how: str, flip: bool) -> None:
    """Oracle: the outline moved into the input first, and every cell of what is left of the box asked there.

    Of pixels half of one is half a pixel of the image; its cell is 40 / 112 of one, so that cells within 2 of the border
    may differ.
    """
    box, source_size, size = np.array([30.0, 20.0, 130.0, 100.0]), (140, 160), (96, 128)
    scale, shift = 1.6, np.array([-90.0, -40.0])
    matrix = np.column_stack([np.diag([scale, scale]), shift + 0.5 * (scale - 1)])
    if flip:
        matrix = np.array([[-1, 0, size[1] - 1], [0, 1, 0]]) @ np.vstack([matrix, [0, 0, 1]])
    frame = Frame(matrix, size, source_size)

    def move(points: np.ndarray) -> np.ndarray:
        return frame.to_input(points - 0.5) + 0.5

    corners = move(box.reshape(2, 2))
    cut = np.clip(np.concatenate([corners.min(0), corners.max(0)]), 0, [size[1], size[0], size[1], size[0]])
    assert (cut[2:] - cut[:2] < corners.max(0) - corners.min(0)).any()
    back = frame.to_source(cut.reshape(2, 2) - 0.5) + 0.5
    region = np.concatenate([back.min(0), back.max(0)])
    outline = [ellipse_polygon(box)] if how == "polygons" else ellipse(source_size, box)
    crop = crop_mask(outline, region, flip=flip)
    steps = (np.arange(112) + 0.5) / 112
    points = cut[:2] + np.stack(np.broadcast_arrays(steps[None, :], steps[:, None]), axis=-1) * (cut[2:] - cut[:2])
    center, radius = move((box[:2] + box[2:])[None] / 2)[0], scale * (box[2:] - box[:2]) / 2
    away = np.hypot(*np.moveaxis((points - center) / radius, -1, 0)) - 1
    clear = np.abs(away) * radius.min() > (0.05 if how == "polygons" else 1.2)
    assert 0.9 < clear.mean() < 1
    np.testing.assert_array_equal(crop[clear], (away <= 0)[clear])


def test_crop_of_several_parts_is_their_union_and_of_a_loop_its_rim() -> None:
    def square(low: float, high: float) -> np.ndarray:
        return np.array([[low, low], [high, low], [high, high], [low, high]], float)

    box = np.array([0.0, 0.0, 112.0, 112.0])
    both = crop_mask([square(0, 60), square(40, 112)], box)
    assert both.sum() == 60**2 + 72**2 - 20**2
    ring = np.concatenate([square(0, 112), square(0, 112)[:1], square(20, 92), square(20, 92)[:1]])
    assert crop_mask([ring], box).sum() == 112**2 - 72**2
    assert not crop_mask([], box).any()
    assert not crop_mask([square(0, 60)], np.array([60.0, 60, 112, 112])).any()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_crop_of_polygons_is_that_of_coco() -> None:
    """Oracle: pycocotools' rasterizer, which rounds corners to a fifth of a pixel and follows edges in such steps: it may
    decide otherwise of a few pixels at a border, and of no other."""
    rng = np.random.default_rng(6)
    for _ in range(20):
        # A star, some of whose edges cross, and some of whose corners lie outside.
        angles, radii = np.sort(rng.uniform(0, 2 * np.pi, 12)), rng.uniform(10, 80, 12)
        star = 56 + radii[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
        star[[2, 3]] = star[[3, 2]]
        runs = coco_masks.frPyObjects([star.ravel().tolist()], 112, 112)  # pyright: ignore[reportCallIssue, reportArgumentType]  # a polygon
        expected = coco_masks.decode(runs)[..., 0]
        found = crop_mask([star], np.array([0.0, 0, 112, 112]))
        both = np.pad(np.stack([expected, found]), ((0, 0), (1, 1), (1, 1)), mode="edge")
        around = np.lib.stride_tricks.sliding_window_view(both, (3, 3), axis=(1, 2))
        border = (around.min((3, 4)) != around.max((3, 4))).any(0)
        assert np.array_equal(found[~border], expected[~border])
        assert (found != expected).sum() < 0.05 * border.sum()


def test_crop_of_few_pixels_is_these_pixels() -> None:
    # Oracle: 4 x 2 pixels, each 28 x 56 cells (closed form).
    mask = np.zeros((9, 9), np.uint8)
    mask[3:5, 2:6] = [[1, 0, 1, 1], [0, 1, 0, 1]]
    expected = np.kron(mask[3:5, 2:6], np.ones((56, 28), np.uint8))
    np.testing.assert_array_equal(crop_mask(mask, np.array([2.0, 3, 6, 5])), expected)
    np.testing.assert_array_equal(crop_mask(mask, np.array([2.0, 3, 6, 5]), flip=True), expected[:, ::-1])


def test_whole_round_trip_of_a_label() -> None:
    """Codec: label -> crop -> target -> pasted mask. What cells of 1/28 of the box can hold is its border to half a cell, so
    that pixels further than 0.75 cells from it come back."""
    size, box = (200, 240), np.array([20.0, 30.0, 220.0, 180.0])
    crop = torch.from_numpy(crop_mask([ellipse_polygon(box)], box))
    boxes = torch.from_numpy(box)[None].float()
    target: Tensor = mask_targets(crop[None], boxes, boxes)
    found = paste_masks(target.numpy(), box[None], size).dense(0)
    y, x = np.ogrid[: size[0], : size[1]]
    away = np.hypot((x + 0.5 - 120) / 100, (y + 0.5 - 105) / 75) - 1
    clear = np.abs(away) * 75 > 0.75 * 200 / 28
    np.testing.assert_array_equal(found[clear], (away <= 0)[clear])


def test_pixels_have_the_class_of_the_smallest_object() -> None:
    """Oracle: the ellipses themselves, asked at the middle of every pixel of stride 8; where that lies within a cell of the
    crop (at most 200 / 112 pixels) of a border, either side is right."""
    size = (18, 30)
    boxes = np.array([[10.0, 10, 210, 130], [60, 30, 120, 110], [200, 5, 238, 40], [80, 60, 90, 75]])
    labels = torch.tensor([2, 0, 1, 1])
    crops = torch.from_numpy(np.stack([crop_mask([ellipse_polygon(box)], box) for box in boxes]))
    crowds = torch.tensor([[0.0, 100.0, 50.0, 144.0]])
    found = semantic_targets(torch.from_numpy(boxes).float(), labels, crops, crowds, size, other=3)
    border = 0
    for row, column in np.ndindex(*size):
        x, y = (column + 0.5) * 8, (row + 0.5) * 8
        expected, certain = (255 if x < 50 and y >= 100 else 3), True
        # From the largest to the smallest.
        for index in (0, 1, 2, 3):
            center, radius = (boxes[index, :2] + boxes[index, 2:]) / 2, (boxes[index, 2:] - boxes[index, :2]) / 2
            away = (np.hypot(*((np.array([x, y]) - center) / radius)) - 1) * radius.min()
            certain &= bool(abs(away) > radius.max() * 2 / 112)
            expected = int(labels[index]) if away <= 0 else expected
        border += not certain
        assert not certain or found[row, column] == expected
    assert border < 0.1 * found.numel()
    assert found.unique().tolist() == [0, 1, 2, 3, 255]


def test_pixels_without_objects_are_background() -> None:
    none = torch.zeros(0, 4)
    crops = torch.zeros(0, 112, 112, dtype=torch.uint8)
    found = semantic_targets(none, torch.zeros(0, dtype=torch.int64), crops, none, (3, 4), other=7)
    assert torch.equal(found, torch.full((3, 4), 7))


def test_semantic_loss_is_the_mean_over_labeled_pixels() -> None:
    # Oracle: PyTorch's cross entropy of the marked pixels alone. Tolerance: single precision.
    logits = torch.randn(2, 4, 5, 6, requires_grad=True)
    targets = torch.randint(0, 4, (2, 5, 6))
    targets[:, 3:] = 255
    expected = functional.cross_entropy(logits[:, :, :3], targets[:, :3])
    torch.testing.assert_close(semantic_loss(logits, targets), expected)
    loss = semantic_loss(logits, torch.full_like(targets, 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_semantic_head_is_the_published_order_of_layers() -> None:
    # Oracle: mmdetection's semantic head, layer by layer; the order of the sum is another, so single precision is left.
    head = SemanticHead(5, 8, num_levels=3)
    levels = [torch.randn(2, 8, 16, 24), torch.randn(2, 8, 8, 12), torch.randn(2, 8, 4, 6)]
    x = head.laterals[1](levels[1]).relu()
    for index in (0, 2):
        resized = functional.interpolate(levels[index], (8, 12), mode="bilinear", align_corners=True)
        x = x + head.laterals[index](resized).relu()
    for conv in head.convs:
        x = conv(x).relu()
    found = head(levels)
    torch.testing.assert_close(found.logits, head.logits(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.features, head.embedding(x).relu(), rtol=1e-5, atol=1e-5)
