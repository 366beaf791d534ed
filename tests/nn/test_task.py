"""Batches. Oracles: numpy's stacking, and what was put in."""

import numpy as np
import pytest
import torch

from hrnet.inference.processor import MEAN_COLOR
from hrnet.io.geometry import Frame, warp
from hrnet.nn.task import IMAGENET_MEAN, IMAGENET_STD, Batch, Sample


def sample(height: int, width: int, count: int, index: int = 0, channels: int = 3) -> Sample:
    rng = np.random.default_rng(index)
    targets = {
        "count": np.array(count),
        "boxes": rng.random((count, 4), np.float32),
        "crowd": np.ones(count, bool),
        "map": rng.integers(0, 255, (5, 4), np.uint8),
    }
    image = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Sample(image, Frame.resize((40, 60), (height, width)), targets, index)


def test_equal_samples_are_stacked_as_they_are() -> None:
    """What the other tasks rely on: the same bytes, the same frames."""
    samples = [sample(32, 64, 2, index) for index in range(3)]
    batch = Batch.stack(samples)
    np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1).numpy(), np.stack([one.image for one in samples]))
    assert batch.images.stride()[1] == 1  # channels innermost, as they were read
    assert all(mine is one.frame for mine, one in zip(batch.frames, samples, strict=True))
    for name, value in batch.targets.items():
        np.testing.assert_array_equal(value.numpy(), np.stack([one.targets[name] for one in samples]))


@pytest.mark.parametrize("channels", [3, 6])
def test_what_differs_is_filled_up(channels: int) -> None:
    samples = [sample(32, 64, 2, 0, channels), sample(64, 32, 0, 1, channels), sample(32, 32, 5, 2, channels)]
    batch = Batch.stack(samples)
    assert batch.images.shape == (3, channels, 64, 64)
    assert batch.targets["boxes"].shape == (3, 5, 4)
    assert batch.targets["count"].tolist() == [2, 0, 5]
    for row, one in enumerate(samples):
        height, width = one.image.shape[:2]
        image = batch.images[row].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(image[:height, :width], one.image)
        outside = np.ones((64, 64), bool)
        outside[:height, :width] = False
        assert (image[outside] == np.tile(MEAN_COLOR, channels // 3)).all()
        # The frame is that of the image; what is in it has not moved.
        assert batch.frames[row].size == (64, 64)
        np.testing.assert_array_equal(batch.frames[row].matrix, one.frame.matrix)
        count = len(one.targets["boxes"])
        for name in ("boxes", "crowd"):
            np.testing.assert_array_equal(batch.targets[name][row, :count].numpy(), one.targets[name])
            assert not batch.targets[name][row, count:].any()


def test_the_mean_color_is_almost_0_after_normalization() -> None:
    """Half a byte is what rounding can leave, 0.5 / 255 / 0.225 at the most."""
    color = torch.tensor(MEAN_COLOR) / 255
    normalized = (color - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    assert normalized.abs().max() <= 0.5 / 255 / min(IMAGENET_STD)


def test_warp_fills_with_a_color() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    frame = Frame(np.array([[1.0, 0, 4], [0, 1, 0]]), (24, 40), (20, 30))
    found = warp(image, frame, fill=MEAN_COLOR)
    np.testing.assert_array_equal(found[:20, 4:34], image)
    outside = np.ones((24, 40), bool)
    outside[:20, 4:34] = False
    assert (found[outside] == MEAN_COLOR).all()
