"""Pictures in, results out, for every task. Oracles: the model called by hand on the same inputs, the order of the inputs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hrnet
from hrnet import predictor as module
from hrnet.classification.model import ClassificationModel
from hrnet.classification.spec import ClassificationSpec
from hrnet.errors import InputError
from hrnet.geometry import warp
from hrnet.pose.model import PoseModel
from hrnet.pose.skeletons import Skeleton
from hrnet.pose.spec import PoseSpec
from hrnet.results import Boxes, Classification, Poses, SemanticMap
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.spec import SegmentationSpec
from hrnet.segmentation.windows import Protocol, segment
from hrnet.spec import HRNetSpec, StageSpec
from hrnet.task import TaskModel, scale_images

STAGES = (StageSpec((4, 8), 1), StageSpec((4, 8, 8), 1), StageSpec((4, 8, 8, 8), 1))


def backbone(high: bool = False) -> HRNetSpec:
    return HRNetSpec(
        STAGES,
        bottlenecks=1,
        bottleneck_width=4,
        stem_width=4,
        fusion_upsample="nearest" if high else "bilinear",
        high_resolution_only=high,
    )


def lively(model: TaskModel[Any]) -> None:
    """Weights with which outputs depend on the picture."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    model.eval()


def pose() -> PoseModel:
    model = PoseModel(PoseSpec(Skeleton(("a", "b", "c")), backbone(True), input_size=(64, 64)))
    lively(model)
    return model


def segmentation() -> SegmentationModel:
    names = tuple(f"class {label}" for label in range(5))
    model = SegmentationModel(SegmentationSpec(names, backbone=backbone(), input_size=(64, 96)))
    lively(model)
    with torch.no_grad():
        # On average no class is ahead, so that each is somewhere.
        logits = model(torch.rand(1, 3, 64, 96)).logits
        model.get_parameter("head.3.bias").sub_(logits.mean((0, 2, 3)))
    return model


def classification() -> ClassificationModel:
    spec = ClassificationSpec(("cat", "dog", "ox"), backbone=backbone(), input_size=(64, 64))
    model = ClassificationModel(spec)
    lively(model)
    return model


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, (rng.integers(40, 120), rng.integers(40, 120), 3), dtype=np.uint8) for _ in range(count)
    ]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("make", [pose, segmentation, classification])
def test_batches_change_nothing(make: Callable[[], TaskModel[Any]], batch: int | None, flip: bool) -> None:
    """Each picture on its own, its inputs warped and its outputs decoded here. Rounding of the network's sums depends on
    the batch: 1e-4 relative to scores of about 1; of label maps a few pixels where two classes are level."""
    model = make()
    images = pictures(5)
    found = list(hrnet.Predictor(model, runtime="torch", device="cpu", batch=batch, flip=flip)(images))
    assert len(found) == len(images)
    for image, result in zip(images, found, strict=True):
        assert result.source is image
        size = (image.shape[0], image.shape[1])
        boxes = Boxes.whole(size)
        (frame,) = model.frames(size, boxes)
        inputs = scale_images(torch.from_numpy(warp(image, frame)[None]).permute(0, 3, 1, 2))
        with torch.inference_mode():
            outputs = model(inputs)
            if flip:
                outputs = model.merge_flip(outputs, model(inputs.flip(-1)), frame.size)
        expected = model.join(model.decode(outputs, [frame]), boxes, None)
        if isinstance(result, SemanticMap):
            assert (result.labels == expected.labels).mean() > 0.999
            assert len(np.unique(result.labels)) > 1
        elif isinstance(result, Classification):
            np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-4, atol=1e-6)
        else:
            assert isinstance(result, Poses)
            np.testing.assert_allclose(result.keypoint_scores, expected.keypoint_scores, rtol=1e-4, atol=1e-4)


def test_a_protocol_is_followed() -> None:
    model, images = segmentation(), pictures(3)
    protocol = Protocol((0.75, 1.5), True, "sliding", native=True)
    found = list(hrnet.Predictor(model, runtime="torch", device="cpu", protocol=protocol)(images))
    for image, result in zip(images, found, strict=True):
        np.testing.assert_array_equal(result.labels, segment(image, model, model, protocol))


def test_what_does_not_fit_the_model_is_refused() -> None:
    with pytest.raises(InputError, match="for segmentation models"):
        hrnet.Predictor(pose(), runtime="torch", device="cpu", protocol=Protocol())
    predictor = hrnet.Predictor(segmentation(), runtime="torch", device="cpu")
    with pytest.raises(InputError, match="leave out the boxes"):
        predictor(pictures(1), boxes=lambda _: None)


def test_broken_pictures_are_left_out_in_order(tmp_path: Path) -> None:
    paths = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        if number in (0, 3, 5):
            path.write_bytes(b"nothing")
        else:
            Image.new("RGB", (30, 40), (number * 40, 90, 90)).save(path)
        paths.append(path)
    told: list[str] = []
    for protocol in (None, Protocol()):
        told.clear()
        predictor = hrnet.Predictor(segmentation(), runtime="torch", device="cpu", protocol=protocol)
        found = list(predictor(paths, on_error=lambda picture, _: told.append(Path(str(picture)).name)))
        assert [result.source.name for result in found] == ["1.png", "2.png", "4.png"]
        assert told == ["0.png", "3.png", "5.png"]
        with pytest.raises(InputError, match=r"0\.png"):
            list(predictor(paths))


def test_reading_ahead_stops_at_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for three pictures: so many wait to be used, one is handed out, and one more is on its way."""
    read: list[int] = []
    enough = threading.Event()
    images = [np.zeros((100, 100, 3), np.uint8) for _ in range(20)]

    def check(image: np.ndarray) -> np.ndarray:
        read.append(1)
        if len(read) >= 3:
            enough.set()
        return image

    monkeypatch.setattr(module, "check_image", check)
    monkeypatch.setattr(module, "_AHEAD_BYTES", 3 * 30_000)
    monkeypatch.setattr(module, "_AHEAD", 10)
    results = hrnet.Predictor(segmentation(), runtime="torch", device="cpu", batch=1)(images)
    next(results)
    assert enough.wait(10)
    assert len(read) <= 5
    assert len(list(results)) == 19
    assert len(read) == 20


def test_stopping_early_leaves_no_thread() -> None:
    before = threading.active_count()
    results = hrnet.Predictor(segmentation(), runtime="torch", device="cpu", batch=1)(pictures(50))
    next(results)
    results.close()  # type: ignore[attr-defined]  # a generator
    assert threading.active_count() == before
