"""Images in, results out, for every task. Oracles: the model called by hand on the same inputs, the order of the inputs."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import hrnet
from hrnet import predictor as module
from hrnet.classification.model import ClassificationModel
from hrnet.classification.spec import ClassificationSpec
from hrnet.detection.model import DetectionModel
from hrnet.detection.processor import image_frame
from hrnet.detection.spec import DetectionSpec, FCOSSpec
from hrnet.errors import InputError
from hrnet.inference.processor import BoxPrompts, Processor
from hrnet.inference.runtime import open_runtime
from hrnet.io.geometry import Frame, Size, warp
from hrnet.io.images import read_image
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.nn.task import Batch, TaskModel, as_arrays, scale_images
from hrnet.pose.model import PoseModel
from hrnet.pose.skeletons import Skeleton
from hrnet.pose.spec import PoseSpec
from hrnet.results import Classification, Detections, Poses, SemanticMap, Source
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.processor import SegmentationProcessor
from hrnet.segmentation.spec import SegmentationSpec
from hrnet.segmentation.windows import InferenceMode, Windowed

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


def lively(model: TaskModel[Any, Any]) -> None:
    """Weights with which outputs depend on the image."""
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
        model.get_parameter("head.classify.bias").sub_(logits.mean((0, 2, 3)))
    return model


def classification() -> ClassificationModel:
    spec = ClassificationSpec(("cat", "dog", "ox"), backbone=backbone(), input_size=(64, 64))
    model = ClassificationModel(spec)
    lively(model)
    return model


def random_images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, (rng.integers(40, 120), rng.integers(40, 120), 3), dtype=np.uint8) for _ in range(count)
    ]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("make", [pose, segmentation, classification])
def test_batches_change_nothing(make: Callable[[], TaskModel[Any, Any]], batch: int | None, flip: bool) -> None:
    """Each image on its own, its inputs warped and its outputs decoded here. Rounding of the network's sums depends on
    the batch: 1e-4 relative to scores of about 1; of label maps a few pixels where two classes are level."""
    model = make()
    images = random_images(5)
    found = list(hrnet.Predictor(model, runtime="torch", device="cpu", batch=batch, flip=flip)(images))
    assert len(found) == len(images)
    for image, result in zip(images, found, strict=True):
        assert result.source is image
        size = (image.shape[0], image.shape[1])
        boxes = BoxPrompts.whole(size)
        processor = model.processor
        (frame,) = processor.frames(size, boxes)
        inputs = scale_images(torch.from_numpy(warp(image, frame)[None]).permute(0, 3, 1, 2))
        with torch.inference_mode():
            outputs = as_arrays(model(inputs))
            if flip:
                outputs = processor.merge_flip(outputs, as_arrays(model(inputs.flip(-1))), frame.size)
        expected = processor.join(processor.decode(outputs, [frame]), boxes, None)
        if isinstance(result, SemanticMap):
            assert (result.labels == expected.labels).mean() > 0.999
            assert len(np.unique(result.labels)) > 1
        elif isinstance(result, Classification):
            np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-4, atol=1e-6)
        else:
            assert isinstance(result, Poses)
            np.testing.assert_allclose(result.keypoint_scores, expected.keypoint_scores, rtol=1e-4, atol=1e-4)


def test_windows_predict_whole_images() -> None:
    model, images = segmentation(), random_images(3)
    windows = Windowed(SegmentationProcessor(model.spec), InferenceMode((0.75, 1.5), True, "sliding", native=True))
    forward = open_runtime(model, "torch", device="cpu")
    found = list(hrnet.Predictor(model, runtime="torch", device="cpu", windows=windows)(images))
    for image, result in zip(images, found, strict=True):
        np.testing.assert_array_equal(result.labels, windows.segment(image, forward))
        assert result.source is image


def test_boxes_for_a_model_that_is_not_top_down_are_refused() -> None:
    predictor = hrnet.Predictor(segmentation(), runtime="torch", device="cpu")
    with pytest.raises(InputError, match="leave them out"):
        predictor(random_images(1), boxes=lambda _: None)


def test_broken_images_are_left_out_in_order(tmp_path: Path) -> None:
    paths = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        if number in (0, 3, 5):
            path.write_bytes(b"nothing")
        else:
            Image.new("RGB", (30, 40), (number * 40, 90, 90)).save(path)
        paths.append(path)
    told: list[str] = []
    model = segmentation()
    for windows in (None, Windowed(SegmentationProcessor(model.spec), InferenceMode())):
        told.clear()
        predictor = hrnet.Predictor(model, runtime="torch", device="cpu", windows=windows)
        found = list(predictor(paths, on_error=lambda image, _: told.append(Path(str(image)).name)))
        assert [Path(str(result.source)).name for result in found] == ["1.png", "2.png", "4.png"]
        assert told == ["0.png", "3.png", "5.png"]
        with pytest.raises(InputError, match=r"0\.png"):
            list(predictor(paths))


def test_reading_ahead_stops_at_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for three images: so many wait to be used, one is handed out, and one more is on its way."""
    read: list[int] = []
    enough = threading.Event()
    images = [np.zeros((100, 100, 3), np.uint8) for _ in range(20)]

    def check(image: np.ndarray) -> np.ndarray:
        read.append(1)
        if len(read) >= 3:
            enough.set()
        return image

    monkeypatch.setattr(module, "check_image", check)
    monkeypatch.setattr(module, "_READ_AHEAD_BYTES", 3 * 30_000)
    monkeypatch.setattr(module, "_READ_AHEAD", 10)
    results = hrnet.Predictor(segmentation(), runtime="torch", device="cpu", batch=1)(images)
    next(results)
    assert enough.wait(10)
    assert len(read) <= 5
    assert len(list(results)) == 19
    assert len(read) == 20


def test_stopping_early_leaves_no_thread() -> None:
    before = threading.active_count()
    results = hrnet.Predictor(segmentation(), runtime="torch", device="cpu", batch=1)(random_images(50))
    next(results)
    results.close()  # a generator
    assert threading.active_count() == before


class Seen(NamedTuple):
    images: Any


class RectangleProcessor(Processor[Detections]):
    """Detects the one bright rectangle of an image, exactly: white is a person, red a cat."""

    def __init__(self, spec: DetectionSpec) -> None:
        self.spec = spec

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.spec.class_names

    def decode(self, outputs: Seen, frames: Sequence[Frame]) -> list[Detections]:
        return [self._detect(image) for image, _ in zip(outputs.images, frames, strict=True)]

    def _detect(self, image: np.ndarray) -> Detections:
        rows, columns = np.nonzero(image[0] > 0.99)
        if not len(rows):
            return Detections.none(self.class_names)
        box = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], float)
        label = int(image[1, rows[0], columns[0]] > 0.99)
        return Detections(box, np.array([0.9]), np.array([label]), self.class_names)

    def frames(self, size: Size, prompts: BoxPrompts) -> list[Frame]:
        return [image_frame(size, self.spec)]

    def join(self, results: Sequence[Detections], prompts: BoxPrompts, source: Source) -> Detections:
        return results[0]


class Rectangles(TaskModel[DetectionSpec, Detections]):
    """Passes its input on."""

    def __init__(self) -> None:
        super().__init__(DetectionSpec(("cat", "person"), FCOSSpec(), backbone(), (64, 96)))
        self.processor = RectangleProcessor(self.spec)
        self.batches: list[tuple[int, ...]] = []

    def forward(self, images: torch.Tensor) -> Seen:
        self.batches.append(tuple(images.shape))
        return Seen(images)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        raise NotImplementedError


def scenes(count: int) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """Images of three sizes that go into an input as they are, each with a rectangle or none, and where it is."""
    rng = np.random.default_rng(0)
    images, boxes = [], []
    for number in range(count):
        size = ((64, 96), (96, 64), (64, 64))[rng.integers(3)]
        image = rng.integers(0, 100, (*size, 3), dtype=np.uint8)
        x, y, width, height = (int(value) for value in rng.integers(5, 30, 4))
        box = None if number % 5 == 2 else np.array([x, y, x + width, y + height], float)
        if box is not None:
            image[y : y + height, x : x + width] = 255 if number % 3 else (255, 0, 0)
        images.append(image)
        boxes.append(box)
    return images, boxes


@pytest.mark.parametrize("batch", [None, 1, 4, 100])
def test_inputs_of_different_sizes_keep_their_order(batch: int | None) -> None:
    """Closed form: the rectangles are found to the pixel, whatever waits for whatever."""
    model, (images, boxes) = Rectangles(), scenes(30)
    found = list(hrnet.Predictor(model, runtime="torch", device="cpu", batch=batch)(images))
    for box, result in zip(boxes, found, strict=True):
        np.testing.assert_array_equal(result.boxes, np.zeros((0, 4)) if box is None else box[None])
    assert sum(shape[0] for shape in model.batches) == 30
    assert max(shape[0] for shape in model.batches) <= (batch or 16)
    if batch == 4:
        assert sum(shape[0] == 4 for shape in model.batches) >= 5


def test_a_rare_size_does_not_hold_up_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PENDING_IMAGES", 4)
    monkeypatch.setattr(module, "_READ_AHEAD", 1)
    taken: list[int] = []

    def given() -> Iterator[np.ndarray]:
        for number in range(40):
            taken.append(number)
            yield np.zeros((64, 96, 3) if number else (96, 64, 3), np.uint8)

    results = hrnet.Predictor(Rectangles(), runtime="torch", device="cpu", batch=100)(given())
    next(results)
    # Four that wait, the one too many, and those that are read ahead.
    assert len(taken) <= 4 + 1 + 3
    assert len(list(results)) == 39


def test_people_are_found_first() -> None:
    """Oracle: the same model told by hand where to look. A cat is not looked at; where there is nobody there is no pose."""
    images, boxes = scenes(20)
    model, detector = pose(), Rectangles()
    predictor = hrnet.Predictor(model, runtime="torch", device="cpu", detector=detector)
    people = [box if number % 3 else None for number, box in enumerate(boxes)]
    for image, box, result in zip(images, people, predictor(images), strict=True):
        assert result.source is image
        assert len(result) == (box is not None)
        if box is not None:
            told = BoxPrompts(box[None], np.array([0.9]))
            alone = hrnet.Predictor(model, runtime="torch", device="cpu")
            (expected,) = alone(image, boxes=lambda _, told=told: told)
            np.testing.assert_array_equal(result.boxes, expected.boxes)
            # Rounding of the network's sums depends on the batch.
            np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-4, atol=1e-5)
    assert predictor.seconds.detect > 0
    sure = hrnet.Predictor(model, runtime="torch", device="cpu", detector=detector, detector_score=0.95)
    assert [len(result) for result in sure(images)] == [0] * 20


def test_detectors_and_flips_that_mean_nothing_are_refused() -> None:
    spec = DetectionSpec(("cat", "dog"), FCOSSpec(pyramid_width=32), backbone(), (64, 96))
    animals = DetectionModel(spec).eval()
    with pytest.raises(InputError, match="no person"):
        hrnet.Predictor(pose(), runtime="torch", device="cpu", detector=animals)
    with pytest.raises(InputError, match="leave it out"):
        hrnet.Predictor(segmentation(), runtime="torch", device="cpu", detector=Rectangles())
    with pytest.raises(InputError, match="leave out flip"):
        hrnet.Predictor(animals, runtime="torch", device="cpu", flip=True)


def forms(path: Path) -> dict[str, Any]:
    """Return an image in every form that a predictor takes; a PNG, which keeps each value."""
    array = read_image(path)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    return {
        "path": path,
        "text": str(path),
        "array": array,
        "PIL": Image.open(path),
        "PIL with a palette": Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=256),
        "bytes": path.read_bytes(),
        "tensor": tensor,
        "float tensor": tensor.float() / 255,
        "tensor that needs gradients": (tensor.float() / 255).requires_grad_(),
    }


@pytest.fixture
def sample_image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    colors = np.random.default_rng(0).integers(0, 256, (8, 3), dtype=np.uint8)
    Image.fromarray(np.repeat(np.repeat(colors.reshape(2, 4, 3), 20, 0), 15, 1)).save(path)
    return path


def test_every_form_of_an_image_gives_the_same(sample_image: Path) -> None:
    """Oracle: the path. One image, a list of it, and an iterator."""
    predictor = hrnet.Predictor("pose", runtime="torch")
    expected = predictor(sample_image)[0].keypoints
    for name, image in forms(sample_image).items():
        for given in (image, [image], iter([image])):
            (result,) = predictor(given)
            np.testing.assert_array_equal(result.keypoints, expected, err_msg=name)
    batch = np.stack([read_image(sample_image)] * 3)
    assert len(predictor(batch)) == 3
    assert len(predictor(torch.from_numpy(batch).permute(0, 3, 1, 2))) == 3


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (None, "None is no image"),
        (3.5, "float 3.5 is no image"),
        ([None], "None is no image"),
        (np.zeros((5, 6), np.uint8), "float|uint8 of shape"),
        (np.zeros((5, 6, 4), np.uint8), "uint8 RGB of shape"),
        (np.zeros((5, 6, 3)), "float64 of shape"),
        (torch.zeros(5, 6, 3), "permute"),
        (torch.full((3, 5, 6), 200.0), "from 0 to 1"),
        (b"", "image bytes"),
        (b"GIF89a?", "image bytes"),
    ],
)
def test_what_is_no_image_is_one_sentence(image: Any, words: str) -> None:
    predictor = hrnet.Predictor("pose", runtime="torch")
    with pytest.raises(InputError, match=words):
        list(predictor(image))


def test_results_have_indices_and_slices(sample_image: Path) -> None:
    predictor = hrnet.Predictor("pose", runtime="torch")
    results = predictor([sample_image] * 5)
    assert len(results) == 5
    assert len(results[1:3]) == 2
    assert results[-1] is list(results)[-1]
    with pytest.raises(IndexError):
        results[5]
    begun = predictor([sample_image] * 2)
    next(begun)
    with pytest.raises(TypeError, match="index a list"):
        begun[0]
    endless = predictor(itertools.repeat(sample_image))
    assert len(list(itertools.islice(endless, 3))) == 3


def test_a_score_threshold_and_a_short_text() -> None:
    path = Path(__file__).parents[1] / "src/hrnet/assets/astronaut.jpg"
    predictor = hrnet.Predictor("detection", runtime="torch")
    everything, some = predictor(path)[0], predictor(path, score_threshold=0.3)[0]
    np.testing.assert_array_equal(some.scores, everything.scores[everything.scores >= 0.3])
    assert 0 < len(some) < len(everything)
    assert len(some[0]) == 1
    np.testing.assert_array_equal(some[0].boxes[0], some.boxes[0])
    assert len(repr(everything)) < 120
    assert "astronaut.jpg" in repr(everything)
