"""Oracles: closed forms of how an image lies in an input, round trips through `decode`, and what a norm keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hrnet.detection.model import DetectionModel
from hrnet.detection.processor import DetectionOutput, boxes_to_input, image_frame
from hrnet.detection.spec import BoxStage, DetectionSpec, RCNNSpec
from hrnet.inference.processor import BoxPrompts
from hrnet.io.geometry import Frame
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.nn.task import Batch, Sample, as_arrays

TINY = HRNetSpec(
    stages=(StageSpec((8, 16), 1), StageSpec((8, 16, 32), 1), StageSpec((8, 16, 32, 64), 1)),
    bottlenecks=1,
    bottleneck_width=8,
    stem_width=8,
)
DETECTOR = RCNNSpec(
    pyramid_width=8,
    head_width=16,
    train_proposals=(60, 30),
    test_proposals=(60, 30),
    anchor_samples=32,
    region_samples=16,
    masks="parallel",
    num_detections=8,
)
SPEC = DetectionSpec(("cat", "dog"), DETECTOR, TINY, (64, 96), "canvas", frozen_norms=True)


@pytest.mark.parametrize(
    ("source", "spec", "shown", "size"),
    [
        # The short side comes to 800, or the long one to 1333.
        ((480, 640), DetectionSpec(), (800, 1067), (800, 1088)),
        ((640, 480), DetectionSpec(), (1067, 800), (1088, 800)),
        ((300, 900), DetectionSpec(), (444, 1333), (448, 1344)),
        ((1, 5000), DetectionSpec(), (1, 1333), (32, 1344)),
        ((480, 640), replace(SPEC, input_size=(96, 96)), (72, 96), (96, 96)),
        ((50, 10), replace(SPEC, input_size=(64, 96)), (64, 13), (64, 96)),
    ],
)
def test_frame_of_an_image(source, spec, shown, size) -> None:
    """Oracle: the rules by hand; the whole image, edges on edges, at the top left."""
    frame = image_frame(source, spec)
    assert (frame.size, frame.source_size) == (size, source)
    whole = boxes_to_input(np.array([[0.0, 0, source[1], source[0]]]), frame)
    assert np.allclose(whole, [[0, 0, shown[1], shown[0]]], atol=1e-9)


def test_results_are_in_pixels_of_the_image() -> None:
    """Oracle: an image shown at half its size at the top left of the canvas, by hand."""
    model = DetectionModel(SPEC)
    frame = image_frame((128, 150), SPEC)
    assert frame.scale == pytest.approx(0.5)
    outputs = DetectionOutput(
        boxes=torch.tensor([[[10.0, 5, 30, 25], [60, 40, 90, 80], [80, 10, 90, 20], [0, 0, 0, 0]]]),
        scores=torch.tensor([[0.9, 0.8, 0.7, 0]]),
        labels=torch.tensor([[1, 0, 1, 0]]),
        # The left half of every box.
        masks=torch.tensor([9.0] * 14 + [-9.0] * 14).expand(1, 4, 28, 28),
    )
    (found,) = model.processor.decode(as_arrays(outputs), [frame])
    # The third lies in what fills the canvas, the second is cut; the fourth fills up the output.
    assert np.allclose(found.boxes, [[20, 10, 60, 50], [120, 80, 150, 128]])
    assert np.allclose(found.scores, [0.9, 0.8])
    assert found.labels.tolist() == [1, 0]
    assert found.names == ("cat", "dog")
    assert found.masks is not None
    first, second = np.zeros((128, 150), bool), np.zeros((128, 150), bool)
    first[10:50, 20:40] = True
    # Half of the box as it was found, 120 to 180, not of what is left of it.
    second[80:128, 120:150] = True
    # At its upper corners the mask fades along both axes: 0.73 * 0.68 is below one half.
    second[80, [120, 149]] = False
    assert np.array_equal(found.masks.dense(0), first)
    assert np.array_equal(found.masks.dense(1), second)


def test_decoding_a_flipped_frame() -> None:
    """Property: a box comes back through the frame of a flipped image."""
    model = DetectionModel(replace(SPEC, detector=replace(DETECTOR, masks="none")))
    frame = Frame.around((30.0, 20.0), 80.0, (64, 96), (40, 60), flip=True)
    box = np.array([[12.0, 8, 31, 33]])
    inside = torch.from_numpy(boxes_to_input(box, frame)).float()[None]
    outputs = DetectionOutput(inside, torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.long), None)
    assert np.allclose(model.processor.decode(as_arrays(outputs), [frame])[0].boxes, box, atol=1e-4)


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_norms_keep_their_statistics_and_learn_their_weights(frozen: bool) -> None:
    rng = np.random.default_rng(0)
    targets = {
        "count": np.array(1),
        "boxes": np.array([[8, 8, 40, 40]], np.float32),
        "labels": np.array([1]),
        "crowd": np.zeros(1, bool),
        "masks": np.ones((1, 112, 112), np.uint8),
    }
    image = rng.integers(0, 256, (64, 96, 3)).astype(np.uint8)
    batch = Batch.stack([Sample(image, Frame.resize((64, 96), (64, 96)), targets, 0)] * 2).to(torch.device("cpu"))
    model = DetectionModel(replace(SPEC, frozen_norms=frozen)).train()
    before = model.backbone.bn1.running_mean.clone()  # type: ignore[union-attr]
    losses = model.loss(batch)
    torch.stack(list(losses.values())).sum().backward()
    assert torch.equal(before, model.backbone.bn1.running_mean) == frozen  # type: ignore[arg-type]
    gradient = model.backbone.bn1.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
    assert model.training
    assert not any(layer.training for layer in model.eval().modules())


def test_results_do_not_depend_on_the_batch() -> None:
    """Property: one image gives the same, alone and beside another; the spec's number of results, scores falling."""
    model = DetectionModel(replace(SPEC, detector=replace(DETECTOR, score_threshold=0.01, stages=(BoxStage(),)))).eval()
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        both, alone = model(images), model(images[1:])
    assert both.boxes.shape == (2, 8, 4)
    assert (both.scores.diff() <= 0).all()
    assert torch.allclose(both.scores[1:], alone.scores, atol=1e-5)
    whole = BoxPrompts.whole((64, 96))
    (frame,) = model.processor.frames((64, 96), whole)
    (result,) = model.processor.decode(as_arrays(both), [frame])
    assert model.processor.join([result], whole, Path("a.jpg")).source == Path("a.jpg")


def test_named_outputs() -> None:
    """Each layer has one name per output."""
    names = DetectionModel(SPEC).named_outputs()
    assert set(names) == {
        "detector.box_heads.0.classify",
        "detector.box_heads.0.regress",
        "detector.mask_heads.stages.0.logits",
    }
    model = DetectionModel(SPEC)
    for layer, words in names.items():
        assert len(set(words)) == len(words) == model.get_submodule(layer).weight.shape[0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "detector", [DETECTOR, replace(DETECTOR, masks="interleaved", semantic_classes=4)], ids=["mask", "htc"]
)
def test_dense_outputs_are_compiled_and_finished_in_torch(detector: RCNNSpec, openvino_outputs) -> None:
    """Oracle: the module itself, in single precision, whose sums OpenVINO makes in another order."""
    torch.manual_seed(0)
    model = DetectionModel(replace(SPEC, detector=replace(detector, score_threshold=0.01, num_detections=40))).eval()
    images = torch.randint(256, (2, 3, 64, 96)) / 255
    with torch.inference_mode():
        expected = model(images)
    found = openvino_outputs(model, images)
    assert (expected.scores > 0).sum() > 20
    assert torch.allclose(found.scores, expected.scores, atol=1e-4)
    gaps = expected.scores - torch.cat([expected.scores[:, 1:], torch.zeros(2, 1)], 1)
    sure = (gaps > 2e-4) & (gaps.roll(1, 1).abs() > 2e-4) & (expected.scores > 0)
    assert sure.sum() > 5
    assert torch.allclose(found.boxes[sure], expected.boxes[sure], atol=0.05)
    assert torch.equal(found.labels[sure], expected.labels[sure])
    assert torch.allclose(found.masks[sure], expected.masks[sure], atol=1e-3)
