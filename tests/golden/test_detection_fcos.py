"""Oracle: mmdetection 3.3's FCOS over HRNet-W18, run once. Tolerances: as in test_networks for what the network says (3e-6
relative is seen); of the results as far as the reference itself moves with its number of threads (0.2 px, 1e-3).

The reference was trained on images with blue first, and its input is in that order; ours has red first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hrnet.detection.fcos import FCOS
from hrnet.detection.model import DetectionModel
from hrnet.detection.spec import COCO, DetectionSpec, fcos
from hrnet.foreign import recognize
from hrnet.io.checkpoint import load_state
from hrnet.nn.spec import hrnet
from hrnet.tasks import create_model

NAME = "detection-fcos-w18"


@pytest.fixture(scope="module")
def published(golden):
    case = golden(NAME)
    spec, state = recognize(case.state)
    model = create_model(spec)
    load_state(model, state, Path(NAME))
    assert isinstance(model, DetectionModel)
    return case, model.eval()


def test_the_file_says_which_network_it_is(published) -> None:
    case, model = published
    assert model.spec == DetectionSpec(class_names=COCO, detector=fcos(), backbone=hrnet(18))
    assert sum(parameter.numel() for parameter in model.parameters()) == case.params


def test_published_network_says_the_same_at_every_point(published, record_property) -> None:
    case, model = published
    assert isinstance(model.detector, FCOS)
    with torch.inference_mode():
        maps = model.backbone(case.images.flip(1))
        levels, found = model.detector.pyramid(maps), model.detector.forward_maps(maps)
    spelled = {"centerness": "centreness"}  # as the golden file has it
    outputs = {
        f"{spelled.get(name, name)}{level}": x
        for name, values in found._asdict().items()
        for level, x in enumerate(values)
    }
    outputs["pyramid0_corner"] = levels[0][:, :128, :8, :8]
    outputs |= {f"pyramid{level}": levels[level] for level in range(1, 5)}
    expected = {name: value for name, value in case.outputs.items() if not name.startswith("result")}
    assert set(outputs) == set(expected)
    worst = max(np.abs(outputs[name].numpy() - value).max() / np.abs(value).max() for name, value in expected.items())
    record_property("relative_error", float(worst))
    assert worst < 1e-4


def test_published_network_gives_the_published_results(published) -> None:
    case, model = published
    with torch.inference_mode():
        # The golden input is what follows normalization.
        found = model(case.images.flip(1) * model.std + model.mean)
    assert np.array_equal(found.labels[0].numpy(), case.outputs["result_labels"])
    assert np.abs(found.scores[0].numpy() - case.outputs["result_scores"]).max() < 1e-3
    assert np.abs(found.boxes[0].numpy() - case.outputs["result_boxes"]).max() < 0.2
