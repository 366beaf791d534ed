"""The classification network learns eight synthetic images by heart, plain and mixed."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hrnet.classification.data import cutmix
from hrnet.classification.model import ClassificationModel
from hrnet.classification.spec import ClassificationSpec
from hrnet.io.geometry import Frame
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.nn.task import Batch, Sample, TaskModel

TINY = HRNetSpec(
    stages=(StageSpec((8, 16), 1), StageSpec((8, 16, 32), 1), StageSpec((8, 16, 32, 64), 1)),
    bottlenecks=1,
    bottleneck_width=8,
    stem_width=16,
)
SIZE = (64, 64)


def images(mixed: bool) -> Batch:
    """Noise, of a seed for each image; every image is its own class but two that share one."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 16, 16, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    labels = [0, 0, 1, 2, 3, 4, 5, 6]
    samples = []
    for index, label in enumerate(labels):
        image, targets = images[index], {"labels": np.array(label)}
        if mixed:
            other = (index + 3) % 8
            image, share = cutmix(image, images[other], 0.8, (0.3, 0.6))
            targets |= {"second_labels": np.array(labels[other]), "weights": np.array(share, np.float32)}
        samples.append(Sample(image, Frame.resize(SIZE, SIZE), targets, index))
    return Batch.stack(samples).to(torch.device("cpu"))


@pytest.mark.parametrize(("mixed", "smoothing"), [(False, 0.0), (True, 0.1)], ids=["plain", "mixed and smoothed"])
def test_eight_images_are_learned_by_heart(
    learn: Callable[[TaskModel, Batch, int, float], None], mixed: bool, smoothing: float
) -> None:
    batch = images(mixed)
    spec = ClassificationSpec(num_classes=7, backbone=TINY, input_size=SIZE, head_width=4, label_smoothing=smoothing)
    model = ClassificationModel(spec)
    learn(model, batch, 60, 5e-3)
    with torch.inference_mode():
        results = model.predict(batch.images, batch.frames)
    labels = batch.targets["labels"].tolist()
    assert [result.label for result in results] == labels
    scores = np.array([result.scores[label] for result, label in zip(results, labels, strict=True)])
    # The best answer gives the first label its share of the target: all of it, or 0.9 of 0.8 and what is spread.
    expected = 1.0 if not mixed else 0.9 * batch.targets["weights"].numpy() + 0.1 / 7
    np.testing.assert_allclose(scores, expected, atol=0.1)
