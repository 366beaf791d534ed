"""The compiled forwards against the module itself."""

import numpy as np
import pytest
import torch

from hrnet.errors import InputError
from hrnet.inference.runtime import choose_runtime
from hrnet.io.zoo import load
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
