"""Images without objects or with hundreds of them, boxes without an area, one class or more than a thousand: each kind of
detector takes a step of training on them and predicts. Oracles: properties of losses, gradients and results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hrnet.detection.model import DetectionModel
from hrnet.detection.processor import image_frame
from hrnet.detection.spec import BoxStage, CenterNetSpec, DetectionSpec, FCOSSpec, RCNNSpec
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.nn.task import Batch, Sample

TINY = HRNetSpec(
    stages=(StageSpec((4, 8), 1), StageSpec((4, 8, 16), 1), StageSpec((4, 8, 16, 32), 1)),
    bottlenecks=1,
    bottleneck_width=4,
    stem_width=8,
)
SIZE = (64, 96)
IMAGE = (50, 80)
RCNN = RCNNSpec(
    pyramid_width=8,
    head_width=16,
    train_proposals=(60, 30),
    test_proposals=(60, 10),
    anchor_samples=32,
    region_samples=16,
    # So that with a thousand classes too there is something to choose from.
    score_threshold=0.0,
    num_detections=12,
)
DETECTORS = {
    "rcnn": RCNN,
    "rcnn with masks in stages": replace(
        RCNN, stages=(BoxStage(), BoxStage(0.6)), class_agnostic=True, masks="interleaved"
    ),
    "fcos": FCOSSpec(pyramid_width=16, tower_convs=1, score_threshold=0.0, candidates=50),
    "fcos of centers": FCOSSpec(pyramid_width=16, tower_convs=1, score_threshold=0.0, candidates=50, center_radius=1.5),
    "centernet": CenterNetSpec(width=8),
}
TERMS = {
    "rcnn": {"objectness", "proposals", "classes", "boxes"},
    "rcnn with masks in stages": {"objectness", "proposals", "classes", "boxes", "masks"},
    "fcos": {"classes", "boxes", "centerness"},
    "fcos of centers": {"classes", "boxes", "centerness"},
    "centernet": {"corners", "centers", "pull", "push", "offsets"},
}
# What is lost only where there is an object.
OF_OBJECTS = {"proposals", "boxes", "masks", "centerness", "pull", "push", "offsets"}


def sample(num_objects: int, num_classes: int, flat: bool, masks: bool, index: int) -> Sample:
    """An image of noise and its objects; flat ones have no width or no height."""
    rng = np.random.default_rng(index)
    frame = image_frame(IMAGE, DetectionSpec(input_size=SIZE, fit="canvas"))
    low = rng.uniform(0, [SIZE[1] - 12, SIZE[0] - 12], (num_objects, 2))
    sides = rng.uniform(2, 12, (num_objects, 2))
    if flat:
        sides[np.arange(num_objects), np.arange(num_objects) % 2] = 0
    targets = {
        "count": np.array(num_objects),
        "boxes": np.concatenate([low, low + sides], 1).astype(np.float32),
        "labels": rng.integers(0, num_classes, num_objects),
        "crowd": np.zeros(num_objects, bool),
    }
    if masks:
        targets["masks"] = np.ones((num_objects, 112, 112), np.uint8)
    return Sample(rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8), frame, targets, index)


@pytest.mark.parametrize(
    ("num_objects", "num_classes", "flat"),
    [(0, 3, False), (5, 3, True), (500, 3, False), (5, 1, False), (5, 1200, False)],
    ids=["no objects", "zero size", "500 objects", "one class", "1200 classes"],
)
@pytest.mark.parametrize("name", DETECTORS)
def test_trains_and_predicts(name, num_objects, num_classes, flat) -> None:
    classes = tuple(f"class {number}" for number in range(num_classes))
    model = DetectionModel(DetectionSpec(classes, DETECTORS[name], TINY, SIZE, "canvas", frozen_norms=False)).train()
    masks = model.spec.has_masks
    samples = [sample(num_objects, num_classes, flat, masks, 0), sample(0, num_classes, False, masks, 1)]
    batch = Batch.stack(samples).to(torch.device("cpu"))

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = model.loss(batch)
    torch.stack(list(losses.values())).sum().backward()
    assert set(losses) == TERMS[name]
    for term, value in losses.items():
        nothing = term in OF_OBJECTS and (not num_objects or flat)
        assert (value == 0) if nothing else torch.isfinite(value), term
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    optimizer.step()

    model.eval()
    with torch.inference_mode():
        results = model.predict(batch.images, batch.frames)
    height, width = IMAGE
    for found in results:
        assert len(found) <= model.spec.detector.num_detections
        assert np.isfinite(found.boxes).all()
        assert ((found.boxes >= 0) & (found.boxes <= [width, height, width, height])).all()
        assert ((found.scores > 0) & (found.scores <= 1)).all()
        assert ((found.labels >= 0) & (found.labels < num_classes)).all()
        assert (found.masks is not None) == masks
    if name != "centernet":  # whose corners seldom pair before they were trained
        assert any(len(found) for found in results)
