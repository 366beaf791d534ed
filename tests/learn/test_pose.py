"""The pose network learns: eight synthetic images to below two pixels of error."""

import numpy as np
import torch

from hrnet.io.geometry import Frame
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.nn.task import Batch, Sample
from hrnet.pose.augment import CropLabels
from hrnet.pose.codecs import make_codec
from hrnet.pose.model import PoseModel
from hrnet.pose.skeletons import Skeleton
from hrnet.pose.spec import CodecSpec, PoseSpec

TINY = HRNetSpec(
    stages=(StageSpec((8, 16), 1), StageSpec((8, 16, 32), 1), StageSpec((8, 16, 32, 64), 1)),
    bottlenecks=1,
    bottleneck_width=8,
    stem_width=16,
    high_resolution_only=True,
)


def test_eight_images_are_learned_by_heart() -> None:
    rng = np.random.default_rng(0)
    size = (64, 64)
    frame = Frame.resize(size, size)
    samples, keypoints = [], []
    for index in range(8):
        points = rng.uniform(8, 56, (3, 2)).astype(np.float32)
        image = np.full((64, 64, 3), 40, np.uint8)
        for color, (x, y) in enumerate(points.astype(int)):
            image[y - 3 : y + 4, x - 3 : x + 4] = 0
            image[y - 3 : y + 4, x - 3 : x + 4, color] = 250
        keypoints.append(points)
        labels = CropLabels(points, np.ones(3, np.float32), np.zeros(3, bool))
        samples.append(Sample(image, frame, labels.encode(make_codec(CodecSpec("udp"), size)), index))
    batch = Batch.stack(samples).to(torch.device("cpu"))
    model = PoseModel(PoseSpec(Skeleton(("r", "g", "b")), TINY, input_size=size, codec=CodecSpec("udp")))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(250):
        loss = model.loss(batch)["heatmaps"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        found = np.concatenate([pose.keypoints for pose in model.predict(batch.images, batch.frames)])
    error = np.linalg.norm(found - np.stack(keypoints), axis=-1)
    # The dots may cover one another, so a few keypoints are off; the median is that of a network that has learned.
    assert np.median(error) < 2


def test_nothing_labeled_gives_no_gradient_and_no_nan() -> None:
    model = PoseModel(PoseSpec(Skeleton(("r", "g")), TINY, input_size=(64, 64)))
    targets = {"heatmaps": torch.zeros(2, 2, 16, 16), "weights": torch.zeros(2, 2)}
    frame = Frame.resize((64, 64), (64, 64))
    loss = model.loss(Batch(torch.rand(2, 3, 64, 64), (frame, frame), targets, (0, 1)))["heatmaps"]
    loss.backward()
    assert loss.item() == 0
    for parameter in model.parameters():
        assert parameter.grad is None or not parameter.grad.any()
