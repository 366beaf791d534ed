"""Oracle: mmdetection 3.3's R-CNNs over HRNet-W18, run once on random weights. Tolerances: as in test_networks for what the
network says (2e-6 relative is seen); HTC's semantic logits are stored in half precision (2.5e-4 of the largest). Of the
results, as far as the reference itself moves with its number of threads: 0.2 px and 1e-3; boxes there are corrected many
times by exponentials of large numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hrnet.detection import spec as detection
from hrnet.detection.model import DetectionModel
from hrnet.detection.processor import paste_masks
from hrnet.detection.rcnn import RCNN, to_regions
from hrnet.detection.spec import COCO, DetectionSpec
from hrnet.foreign import recognize
from hrnet.io.checkpoint import load_state
from hrnet.io.geometry import Frame
from hrnet.nn.spec import hrnet
from hrnet.nn.task import as_arrays
from hrnet.tasks import create_model

TOLERANCE = 1e-4
HALF_PRECISION = 5e-4
NETWORKS = {
    "faster": detection.faster_rcnn(),
    "cascade": detection.cascade_rcnn(),
    "mask": detection.mask_rcnn(),
    "cascade-mask": detection.cascade_mask_rcnn(),
    "htc": detection.hybrid_task_cascade(),
}


@pytest.fixture(scope="module", params=NETWORKS)
def published(request, golden):
    name = f"detection-{request.param}-w18"
    case = golden(name)
    spec, state = recognize(case.state)
    assert spec == DetectionSpec(class_names=COCO, detector=NETWORKS[request.param], backbone=hrnet(18))
    model = create_model(spec)
    load_state(model, state, Path(name))
    assert isinstance(model, DetectionModel)
    assert sum(parameter.numel() for parameter in model.parameters()) == case.params
    return case, model.eval()


def test_published_network_says_the_same_everywhere(published, record_property) -> None:
    case, model = published
    detector = model.detector
    assert isinstance(detector, RCNN)
    with torch.inference_mode():
        levels = detector.levels(model.backbone(case.images))
        outputs = {f"pyramid{number}_corner": level[:, :128, :8, :8] for number, level in enumerate(levels[:3])}
        outputs |= {f"pyramid{number}": levels[number] for number in (3, 4)}
        proposals = detector.rpn(levels)
        for number, (logits, deltas) in enumerate(zip(*proposals, strict=True)):
            outputs |= {f"rpn_logits{number}": logits, f"rpn_deltas{number}": deltas}
        semantic = detector.semantic_head(levels) if detector.semantic_head is not None else None
        if semantic is not None:
            outputs["semantic_feature_corner"] = semantic.features[:, :128, :8, :8]
            found = semantic.logits.numpy() - case.outputs["semantic_logits"].astype(np.float32)
            assert np.abs(found).max() / np.abs(semantic.logits.numpy()).max() < HALF_PRECISION
        regions = torch.from_numpy(case.outputs["rois"])
        surroundings = None if semantic is None else semantic.features
        features = detector.box_features(levels, surroundings, regions)
        ends = [f"_stage{stage}" for stage in range(3)] if len(detector.box_heads) > 1 else [""]
        for end, head in zip(ends, detector.box_heads, strict=True):
            logits, deltas = head(features)
            outputs |= {f"box_logits{end}": logits, f"box_deltas{end}": deltas.flatten(1)}
        if detector.mask_heads is not None:
            masks = detector.mask_heads.forward_stages(detector.mask_features(levels, surroundings, regions))
            outputs |= {f"mask_logits_4classes{end}": x[:, :4] for end, x in zip(ends, masks, strict=True)}
    others = {"rois", "semantic_logits", "result_boxes", "result_scores", "result_labels", "result_mask_areas"}
    expected = {name: value for name, value in case.outputs.items() if name not in others}
    assert set(outputs) == set(expected)
    worst = {
        name: np.abs(outputs[name].numpy() - value).max() / np.abs(value).max() for name, value in expected.items()
    }
    record_property("relative_error", float(max(worst.values())))
    assert max(worst.values()) < TOLERANCE, worst


def test_published_network_gives_the_published_results(published) -> None:
    case, model = published
    size = (case.images.shape[-2], case.images.shape[-1])
    with torch.inference_mode():
        # The golden input is what follows normalization.
        outputs = model(case.images * model.std + model.mean)
    found = model.processor.decode(as_arrays(outputs), [Frame.resize(size, size)])[0]
    # HTC's threshold was raised for the reference.
    found = found[found.scores > 0.05]
    assert np.array_equal(found.labels, case.outputs["result_labels"])
    assert np.abs(found.scores - case.outputs["result_scores"]).max() < 5e-3
    assert np.abs(found.boxes - case.outputs["result_boxes"]).max() < 0.5
    assert (found.masks is None) == ("result_mask_areas" not in case.outputs)
    if found.masks is not None:
        # A box that lies 0.01 px elsewhere has a few other pixels at its object's border: see the next test.
        areas = case.outputs["result_mask_areas"]
        assert (np.abs(found.masks.areas() - areas) <= 2 + 0.002 * areas).all()


def test_masks_of_the_published_boxes_are_the_published_masks(published) -> None:
    """In just these boxes not a pixel may differ but where the last digit of a probability decides: one of a mask."""
    case, model = published
    detector = model.detector
    if detector.mask_heads is None:
        pytest.skip("finds no masks")
    size = (case.images.shape[-2], case.images.shape[-1])
    boxes, labels = case.outputs["result_boxes"], torch.from_numpy(case.outputs["result_labels"])
    with torch.inference_mode():
        levels = detector.levels(model.backbone(case.images))
        semantic = detector.semantic_head(levels).features if detector.semantic_head is not None else None
        regions = to_regions(torch.from_numpy(boxes)[None])
        logits = detector.mask_heads.ensemble(detector.mask_features(levels, semantic, regions), labels)
    found = paste_masks(logits.sigmoid().numpy(), boxes, size).areas()
    assert np.abs(found - case.outputs["result_mask_areas"]).max() <= 1
