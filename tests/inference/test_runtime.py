"""The compiled forwards against the module itself."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tiny import tiny_hrnet

from hrnet.errors import InputError
from hrnet.inference.runtime import choose_runtime, open_runtime
from hrnet.io.zoo import load
from hrnet.nn.backbone import init_kaiming
from hrnet.pose.model import PoseModel
from hrnet.pose.recipes import SMALL_POSE_BACKBONE
from hrnet.pose.skeletons import LSP
from hrnet.pose.spec import PoseSpec
from hrnet.predictor import Predictor


def small() -> PoseModel:
    return PoseModel(PoseSpec(LSP, SMALL_POSE_BACKBONE, input_size=(64, 64))).eval()


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (1, 3, 70, 50)])
def test_openvino_in_fp32_equals_torch(shape: tuple[int, ...], openvino_outputs) -> None:
    model, images = small(), torch.randint(256, shape) / 255
    torch.nn.init.normal_(model.head.weight)  # type: ignore[arg-type]  # a convolution; started too small to compare
    expected = model(images).heatmaps.detach()
    found = openvino_outputs(model, images).heatmaps
    # Single precision through some fifty layers, in another order of sums.
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_openvino_in_its_own_precision_finds_the_same_keypoints() -> None:
    """On the shipped model and image: half of all keypoints within 0.5 %, all within 3 % of the image."""
    from pathlib import Path

    image = str(Path(__file__).parents[2] / "src/hrnet/assets/astronaut.jpg")
    model = load("pose")
    (exact,) = Predictor(model, runtime="torch")(image)
    (fast,) = Predictor(model, runtime="openvino")(image)
    sure = exact.keypoint_scores[0] > 0.3
    moved = np.linalg.norm(exact.keypoints[0] - fast.keypoints[0], axis=1)[sure] / 512
    assert np.median(moved) < 0.005  # bf16 has eight bits of precision
    assert moved.max() < 0.03


def test_a_wrong_runtime_or_device_is_one_sentence() -> None:
    with pytest.raises(InputError, match="unknown runtime 'fast'"):
        choose_runtime("fast")
    with pytest.raises(InputError, match="cannot be used here"):
        choose_runtime("torch", "cuda:77")
    with pytest.raises(InputError, match="cannot be used here"):
        choose_runtime("torch", "toaster")


def test_results_do_not_depend_on_the_batch() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (h, w, 3), dtype=np.uint8) for h, w in ((80, 60), (200, 100), (64, 64))]
    one = list(Predictor(small(), runtime="torch", batch=1)(images))
    all_ = list(Predictor(small(), runtime="torch", batch=8)(images))
    assert len(one) == len(all_) == 3
    for a, b in zip(one, all_, strict=True):
        np.testing.assert_allclose(a.keypoint_scores, b.keypoint_scores, atol=1e-5)  # sums in another order
    assert list(Predictor(small(), runtime="torch")([])) == []


def tiny() -> PoseModel:
    torch.manual_seed(0)
    model = PoseModel(PoseSpec(LSP, tiny_hrnet(high_resolution_only=True), input_size=(64, 64))).eval()
    init_kaiming(model)
    return model


def work_in_threads(work: Callable[[int], None], count: int) -> None:
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))


def random_images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = rng.integers(40, 90, (count, 2))
    return [rng.integers(0, 256, (int(h), int(w), 3), dtype=np.uint8) for h, w in sizes]


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_one_predictor_in_many_threads(runtime: str) -> None:
    """Oracle: the same predictor in one thread; the first images of all threads compile at once."""
    images, predictor = random_images(24), Predictor(tiny(), runtime=runtime)
    found: dict[int, list[np.ndarray]] = {}

    def work(thread: int) -> None:
        order = images[thread:] + images[:thread]
        results = [next(iter(predictor([image]))).keypoints for image in order]
        found[thread] = results[len(images) - thread :] + results[: len(images) - thread]

    work_in_threads(work, 8)
    expected = [next(iter(predictor([image]))).keypoints for image in images]
    for results in found.values():
        for one, other in zip(results, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_many_predictors_at_once(runtime: str) -> None:
    """Oracle: a predictor alone. Each thread makes its own and compiles it."""
    images, model = random_images(3), tiny()
    expected = [result.keypoints for result in Predictor(copy.deepcopy(model), runtime=runtime)(images)]

    def work(_: int) -> None:
        results = Predictor(copy.deepcopy(model), runtime=runtime)(images)
        for one, other in zip(results, expected, strict=True):
            np.testing.assert_allclose(one.keypoints, other, atol=1e-3)

    work_in_threads(work, 3)


@pytest.mark.parametrize(
    ("runtime", "dtype"),
    [("openvino", torch.bfloat16), ("torch", torch.float16), ("torch", torch.bfloat16), ("torch", torch.float64)],
)
def test_a_model_in_another_precision_predicts(runtime: str, dtype: torch.dtype) -> None:
    """Oracle: single precision, to the rounding of the weights through some fifty layers."""
    image, model = random_images(1), tiny()
    outputs = [
        open_runtime(one, name)(np.resize(image[0], (1, 64, 64, 3))).heatmaps
        for one, name in ((model, "torch"), (copy.deepcopy(model).to(dtype), runtime))
    ]
    scale = np.abs(outputs[0]).max()
    assert np.abs(outputs[1] - outputs[0]).max() <= 50 * max(torch.finfo(dtype).eps, 1e-7) * scale


def test_a_default_type_of_double_precision() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert len(list(Predictor(load("pose"), runtime="torch")(random_images(1)))) == 1
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_a_data_parallel_model_predicts(runtime: str) -> None:
    images, model = random_images(2), tiny()
    wrapped = list(Predictor(torch.nn.DataParallel(model), runtime=runtime)(images))  # pyright: ignore[reportArgumentType]  # a wrapper
    for one, other in zip(wrapped, Predictor(model, runtime=runtime)(images), strict=True):
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
