"""The segmentation networks learn: eight synthetic images by heart, with the plain head and with that of OCR."""

import numpy as np
import pytest
import torch

from hrnet.io.geometry import Frame
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.nn.task import Batch, Sample
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.spec import LossSpec, OCRSpec, SegmentationSpec

TINY = HRNetSpec(
    stages=(StageSpec((8, 16), 1), StageSpec((8, 16, 32), 1), StageSpec((8, 16, 32, 64), 1)),
    bottlenecks=1,
    bottleneck_width=8,
    stem_width=16,
    fusion_upsample="bilinear",
)
SIZE = (64, 64)
COLORS = np.array([[90, 90, 90], [200, 120, 60], [60, 120, 200]])


def images() -> Batch:
    """On gray, a square and a disc of other colors, with noise; a strip is ignored."""
    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[:64, :64]
    samples = []
    for index in range(8):
        labels = np.zeros(SIZE, np.uint8)
        x, y = rng.integers(12, 24, 2)
        labels[(abs(xs - x) <= 10) & (abs(ys - y) <= 10)] = 1
        x, y = rng.integers(40, 52, 2)
        labels[(xs - x) ** 2 + (ys - y) ** 2 <= 121] = 2
        image = COLORS[labels] + rng.normal(0, 20, (*SIZE, 3))
        labels[:, 31:33] = 255
        frame = Frame.resize(SIZE, SIZE)
        samples.append(Sample(np.clip(image, 0, 255).astype(np.uint8), frame, {"labels": labels}, index))
    return Batch.stack(samples).to(torch.device("cpu"))


@pytest.mark.parametrize(
    ("ocr", "loss"),
    [(None, LossSpec()), (OCRSpec(32, 16), LossSpec()), (None, LossSpec((1.0, 1.5, 1.5), hard_pixels=2000))],
    ids=["plain", "ocr", "hard pixels"],
)
def test_eight_images_are_learned_by_heart(ocr: OCRSpec | None, loss: LossSpec) -> None:
    batch = images()
    spec = SegmentationSpec(("ground", "square", "disc"), (), TINY, SIZE, ocr=ocr, loss=loss)
    model = SegmentationModel(spec)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.02, 130)
    model.train()
    for _ in range(130):
        total = torch.stack(list(model.loss(batch).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        falling.step()
    model.eval()
    with torch.inference_mode():
        found = np.stack([result.labels for result in model.predict(batch.images, batch.frames)])
    ground_truth = batch.targets["labels"].numpy()
    for label in range(3):
        both = ((found == label) & (ground_truth == label)).sum()
        either = ((found == label) & (ground_truth != 255) | (ground_truth == label)).sum()
        # Outlines are drawn at a stride of 4: half a pixel of it along a square of 21 pixels is 10 % of its area.
        assert both / either > 0.85, label
