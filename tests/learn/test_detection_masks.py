"""The detectors that find masks learn: eight synthetic images by heart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hrnet.detection import spec as detection
from hrnet.detection.masks import crop_mask
from hrnet.detection.model import DetectionModel
from hrnet.detection.spec import DetectionSpec, RCNNSpec
from hrnet.io.geometry import Frame
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.nn.task import Batch, Sample

TINY = HRNetSpec(
    stages=(StageSpec((8, 16), 1), StageSpec((8, 16, 32), 1), StageSpec((8, 16, 32, 64), 1)),
    bottlenecks=1,
    bottleneck_width=8,
    stem_width=16,
)
SIZE = (96, 96)
COLORS = ((220, 60, 40), (40, 120, 230))
# A disc, and a triangle that points upwards, in a box of side 1.
ANGLES = np.arange(60) * 2 * np.pi / 60
OUTLINES = (0.5 + 0.5 * np.column_stack([np.cos(ANGLES), np.sin(ANGLES)]), np.array([[0.5, 0], [1, 1], [0, 1]]))


def images() -> tuple[Batch, list[list[np.ndarray]]]:
    """On gray, with noise, two or three discs and triangles that do not touch; and their masks."""
    rng = np.random.default_rng(0)
    samples, masks = [], []
    for index in range(8):
        image, count = np.full((*SIZE, 3), 110.0), 2 + index % 2
        boxes, labels = np.zeros((3, 4), np.float32), rng.integers(0, 2, 3)
        chips, known = np.zeros((3, 112, 112), np.uint8), []
        for number, (left, top) in enumerate(rng.permutation([(0, 0), (0, 48), (48, 0), (48, 48)])[:count]):
            width, height = rng.integers(24, 40, 2)
            x, y = left + rng.integers(3, 46 - width), top + rng.integers(3, 46 - height)
            boxes[number] = x, y, x + width, y + height
            outline = [OUTLINES[labels[number]] * [width, height] + [x, y]]
            # The whole image in as many cells as it has pixels is the mask itself.
            known.append(crop_mask(outline, np.array([0.0, 0, *SIZE]), SIZE[0]).astype(bool))
            chips[number] = crop_mask(outline, boxes[number])
            image[known[-1]] = COLORS[labels[number]]
        image = np.clip(image + rng.normal(0, 10, image.shape), 0, 255).astype(np.uint8)
        targets = {
            "count": np.array(count),
            "boxes": boxes,
            "labels": labels,
            "crowd": np.zeros(3, bool),
            "masks": chips,
        }
        samples.append(Sample(image, Frame.resize(SIZE, SIZE), targets, index))
        masks.append(known)
    return Batch.stack(samples).to(torch.device("cpu")), masks


def small(published: RCNNSpec) -> RCNNSpec:
    """The same network with few channels and regions, for objects of 24 to 40 pixels."""
    return replace(
        published,
        pyramid_width=16,
        num_levels=3,
        head_width=64,
        train_proposals=(100, 60),
        test_proposals=(100, 30),
        anchor_samples=64,
        region_samples=16,
        semantic_classes=3 if published.semantic_classes else 0,
        score_threshold=0.05,
        num_detections=10,
    )


@pytest.mark.parametrize(
    "published",
    [detection.mask_rcnn(), detection.cascade_mask_rcnn(), detection.hybrid_task_cascade()],
    ids=["mask", "cascade-mask", "htc"],
)
def test_eight_images_are_learned_by_heart(learn, published: RCNNSpec) -> None:
    batch, masks = images()
    spec = DetectionSpec(("disc", "triangle"), small(published), TINY, SIZE, "canvas", frozen_norms=False)
    model = DetectionModel(spec)
    learn(model, batch, 70, 4e-3)
    with torch.inference_mode():
        results = model.predict(batch.images, batch.frames)
    shared = []
    for index, (result, known) in enumerate(zip(results, masks, strict=True)):
        assert result.masks is not None
        assert len(result) >= len(known), index
        labels = batch.targets["labels"][index].tolist()
        for number, ground_truth in enumerate(known):
            found = [result.masks.dense(i) for i in range(len(known))]
            overlaps = [(one & ground_truth).sum() / (one | ground_truth).sum() for one in found]
            shared.append(max(overlaps))
            assert result.labels[int(np.argmax(overlaps))] == labels[number], index
        others = result.scores[len(known) :]
        assert not len(others) or others.max() < result.scores[len(known) - 1] - 0.1, index
    # All of its box would be 0.79 of a disc and half of a triangle.
    assert min(shared) > 0.7, shared
    assert np.mean(shared) > 0.85, shared
