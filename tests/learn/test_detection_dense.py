"""The detectors without regions learn: eight synthetic images by heart."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from hrnet.detection.model import DetectionModel
from hrnet.detection.spec import CenterNetSpec, DetectionSpec, FCOSSpec
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


def images() -> Batch:
    """On gray, with noise, two or three rectangles of two colors that do not touch."""
    rng = np.random.default_rng(0)
    frame = Frame.resize(SIZE, SIZE)
    samples = []
    for index in range(8):
        image = np.full((*SIZE, 3), 110.0)
        boxes, labels = np.zeros((3, 4), np.float32), rng.integers(0, 2, 3)
        quarters = rng.permutation([(0, 0), (0, 48), (48, 0), (48, 48)])[: 2 + index % 2]
        for number, (left, top) in enumerate(quarters):
            width, height = rng.integers(16, 38, 2)
            x, y = left + rng.integers(4, 46 - width), top + rng.integers(4, 46 - height)
            image[y : y + height, x : x + width] = COLORS[labels[number]]
            boxes[number] = x, y, x + width, y + height
        image = np.clip(image + rng.normal(0, 10, image.shape), 0, 255).astype(np.uint8)
        targets = {
            "count": np.array(len(quarters)),
            "boxes": boxes,
            "labels": labels,
            "crowd": np.zeros(3, bool),
        }
        samples.append(Sample(image, frame, targets, index))
    return Batch.stack(samples).to(torch.device("cpu"))


@pytest.mark.parametrize(
    ("detector", "steps", "rate"),
    [
        # Levels for objects of this size, from stride 4; the published ones begin with sides of up to 64.
        (
            FCOSSpec(
                pyramid_width=32, pyramid_stride=1, tower_convs=1, ranges=((-1.0, 24.0), (24.0, 48.0), (48.0, 1e8))
            ),
            100,
            2e-3,
        ),
        (CenterNetSpec(width=16), 50, 5e-3),
    ],
    ids=["fcos", "centernet"],
)
def test_eight_images_are_learned_by_heart(learn, detector, steps: int, rate: float) -> None:
    batch = images()
    model = DetectionModel(DetectionSpec(("red", "blue"), detector, TINY, SIZE, "canvas", frozen_norms=False))
    learn(model, batch, steps, rate)
    with torch.inference_mode():
        results = model.predict(batch.images, batch.frames)
    for index, result in enumerate(results):
        count = int(batch.targets["count"][index])
        ground_truth = batch.targets["boxes"][index, :count]
        # As many as there are; nothing else is as sure.
        boxes, labels = torch.from_numpy(result.boxes[:count]).float(), torch.from_numpy(result.labels[:count])
        overlaps, found = box_iou(ground_truth, boxes).max(1)
        # A pixel off at each edge of a side of 16 gives 0.78; the networks have points every 4 pixels.
        assert overlaps.min() > 0.7, index
        assert torch.equal(labels[found], batch.targets["labels"][index, :count]), index
        others = result.scores[count:]
        assert not len(others) or others.max() < result.scores[count - 1] - 0.1, index
