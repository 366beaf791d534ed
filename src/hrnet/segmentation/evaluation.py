"""The options of `hrnet evaluate` for segmentation models, and their labeled images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hrnet.engine.scoring import EvaluationOptions, ScoringSet
from hrnet.errors import InputError
from hrnet.inference.processor import Input
from hrnet.io.images import read_labeled
from hrnet.nn.task import TaskModel
from hrnet.segmentation.data import match_classes, open_set
from hrnet.segmentation.metrics import SegmentationEvaluator
from hrnet.segmentation.processor import SegmentationProcessor
from hrnet.segmentation.spec import SegmentationSpec
from hrnet.segmentation.windows import InferenceMode, Windowed, published_mode


@dataclass(frozen=True)
class SegmentationEvaluation(EvaluationOptions):
    """Score label maps: mean IoU, accuracy, boundaries."""

    annotations: Path | None = None
    """folder of the label maps; not needed where --images is a whole data set"""
    flip: bool = False
    """flip test: average with the flipped image"""
    scales: tuple[float, ...] = (1.0,)
    """multi-scale: predict each image at each of these sizes and average"""
    windows: bool = False
    """sliding windows at the image's own scale instead of the whole image resized into the input"""
    protocol: Literal["plain", "published"] = "plain"
    """published: scores fused and windows laid as in the released evaluation of the model's data set"""

    def open(self, name: str, model: TaskModel[Any, Any]) -> ScoringSet:
        mode = self._mode(model.spec)
        match = partial(match_classes, class_names=model.spec.class_names)
        data = open_set(self.images, self.annotations, hold_out=self.hold_out, match=match, data_format=self.format)
        images = data.images
        return ScoringSet(
            inputs=[Input(one.path, read=partial(read_labeled, one.path, one.size)) for one in images],
            evaluator=SegmentationEvaluator(images, model.spec),
            counts=lambda scored: {"images": len(scored)},
            messages=[*data.notes, *data.problems],
            incomplete=bool(data.problems),
            settings={"windows": Windowed(SegmentationProcessor(model.spec), mode, self.batch)},
            facts=_mode_facts(mode),
        )

    def _mode(self, spec: SegmentationSpec) -> InferenceMode:
        if self.protocol == "published" and self.windows:
            raise InputError("The published protocol chooses the windows itself; leave out --windows.")
        try:
            if self.protocol == "published":
                return published_mode(spec, self.scales, self.flip)
            windows = "sliding" if self.windows else "whole"
            return InferenceMode(self.scales, self.flip, windows, native=self.windows)
        except ValueError as error:
            raise InputError(f"{error} Fix --scales.") from None

    def facts(self) -> dict[str, str]:
        labels = {"labels": str(self.annotations)} if self.annotations else {}
        return super().facts() | labels | {"flip test": "yes" if self.flip else "no"}


def _mode_facts(mode: InferenceMode) -> dict[str, str]:
    how = {"whole": "whole image", "sliding": "sliding windows", "tiles": "whole image, tiles above scale 1"}
    return {
        "inference": how[mode.windows] + (" at the image's own scale" if mode.native else ""),
        "scales": ", ".join(f"{scale:g}" for scale in mode.scales),
        "protocol": "published" if mode.published else "plain",
    }
