"""Images that a run shows. Oracle: the drawings of the results themselves."""

from __future__ import annotations

import numpy as np
import torch

from hrnet.engine.journal import example_sheet
from hrnet.io.geometry import Frame
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.nn.task import Sample, SampleKey, as_arrays
from hrnet.results import SemanticMap
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.processor import SegmentationOutput
from hrnet.segmentation.spec import SegmentationSpec

STAGES = (StageSpec((4, 8), 1), StageSpec((4, 8, 8), 1), StageSpec((4, 8, 8, 8), 1))
NAMES = tuple(f"a class with a long name {label}" for label in range(8))


class Samples:
    """Gray images, of which the second is half as bright."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, key: SampleKey | int) -> Sample:
        assert isinstance(key, int)
        image = np.full((64, 96, 3), 200 // (1 + key), np.uint8)
        return Sample(image, Frame.resize((64, 96), (64, 96)), {}, key)


class Bright(SegmentationModel):
    """Finds one class in dark images and all of them in bright ones."""

    def forward(self, images: torch.Tensor) -> SegmentationOutput:
        logits = torch.zeros(len(images), len(NAMES), 16, 24)
        for column in range(len(NAMES)):
            logits[:, column, :, 3 * column : 3 * column + 3] = (images.mean((1, 2, 3)) > 0.5).float()[:, None, None]
        return SegmentationOutput(logits)


def test_examples_with_legends_of_different_heights_stand_side_by_side() -> None:
    backbone = HRNetSpec(STAGES, bottlenecks=1, bottleneck_width=4, stem_width=4, fusion_upsample="bilinear")
    model = Bright(SegmentationSpec(NAMES, backbone=backbone, input_size=(64, 96))).eval()
    sheet = example_sheet(model, Samples(), [0, 1], torch.device("cpu"))
    assert sheet is not None
    drawings = []
    for key in range(2):
        image = Samples()[key].image
        outputs = as_arrays(model(torch.from_numpy(image[None]).permute(0, 3, 1, 2) / 255))
        (labels,) = model.processor.decode(outputs, [Samples()[key].frame])
        drawing = SemanticMap(labels.labels, NAMES, image).plot()
        drawing.thumbnail((256, 256))
        drawings.append(np.array(drawing))
    first, second = drawings
    assert len(first) != len(second)
    assert sheet.shape[0] == max(len(first), len(second))
    np.testing.assert_array_equal(sheet[: len(first), : first.shape[1]], first)
    np.testing.assert_array_equal(sheet[: len(second), first.shape[1] :], second)
