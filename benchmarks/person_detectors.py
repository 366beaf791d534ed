"""Person detectors on the same images: COCO's AP of the people, and milliseconds per image.

python benchmarks/person_detectors.py detection runs/htc/last.safetensors OTHER.xml --images PENN/test \\
    --annotations PENN/annotations/test.json

OTHER.xml is OpenVINO IR with the input 1 3 h w (ImageNet statistics), boxes 1 n 4 in pixels of it and scores 1 1 n before
suppression. One image at a time, from decoded pixels to boxes, in turns.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import openvino
import torch
import tyro
from torchvision.ops import nms

import hrnet
from hrnet.detection.data import match_classes, open_set
from hrnet.detection.metrics import DetectionEvaluator
from hrnet.detection.model import DetectionModel
from hrnet.detection.recipes import RECIPES
from hrnet.detection.spec import DetectionSpec
from hrnet.formats.splits import Split
from hrnet.io.images import read_image
from hrnet.nn.task import IMAGENET_MEAN, IMAGENET_STD
from hrnet.results import Detections

# Of the other, as its authors have them.
LEAST, OVERLAP, MOST = 0.025, 0.6, 100


@dataclass
class Options:
    detectors: Annotated[tuple[str, ...], tyro.conf.Positional]
    """ours by anything that `hrnet.load` takes, others by their .xml"""
    images: Path
    annotations: Path | None = None
    split: Split = "test"
    rounds: int = 3


class Other:
    def __init__(self, path: Path) -> None:
        self.network = openvino.Core().compile_model(str(path), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
        self.height, self.width = list(self.network.inputs[0].shape)[2:]

    def __call__(self, image: np.ndarray) -> Detections:
        small = cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_AREA)
        values = ((small / 255 - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)[None].astype(np.float32)
        boxes, scores = (torch.from_numpy(output[0].copy()) for output in self.network(values).values())
        some = scores[0] > LEAST
        boxes, scores = boxes[some], scores[0, some]
        kept = nms(boxes, scores, OVERLAP)[:MOST]
        height, width = image.shape[:2]
        scale = torch.tensor([width / self.width, height / self.height] * 2)
        found = (boxes[kept] * scale).numpy().astype(float).clip(0, [width, height] * 2)
        return Detections(found, scores[kept].numpy().astype(float), np.zeros(len(kept), int), ("person",))


class Ours:
    def __init__(self, name: str) -> None:
        model = hrnet.load(name)
        assert isinstance(model, DetectionModel)
        assert "person" in model.spec.class_names
        self.parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        self.person = model.spec.class_names.index("person")
        self.predictor = hrnet.Predictor(model, batch=1)

    def __call__(self, image: np.ndarray) -> Detections:
        (found,) = self.predictor([image])
        found = found[found.labels == self.person]
        return Detections(found.boxes, found.scores, np.zeros(len(found), int), ("person",), found.masks)


def main(options: Options) -> None:
    aliases = RECIPES["detection-person"].data.aliases
    data = match_classes(open_set(options.images, options.annotations, options.split), ("person",), aliases)
    sides = {name: Other(Path(name)) if name.endswith(".xml") else Ours(name) for name in options.detectors}
    records = [read_image(record.path) for record in data.images]
    # It compiles, too.
    found = {name: [side(image) for image in records] for name, side in sides.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for image in records:
            for name, side in sides.items():
                start = time.perf_counter()
                side(image)
                times[name].append(1000 * (time.perf_counter() - start))
    print(f"{len(records)} images, {torch.get_num_threads()} threads, median of {options.rounds} rounds")
    shown = ("AP", "AP50", "AP75", "mask-AP", "mask-AP50")
    width = max(map(len, sides)) + 2
    print(f"{'detector':<{width}}{'M':>8}" + "".join(f"{figure:>10}" for figure in shown) + f"{'ms':>8}")
    for name, side in sides.items():
        evaluator = DetectionEvaluator(data.images, DetectionSpec(("person",)))
        evaluator.update(range(len(records)), found[name])
        figures = evaluator.compute()
        columns = "".join(f"{figures[figure]:10.3f}" if figure in figures else f"{'':10}" for figure in shown)
        size = f"{side.parameters:8.2f}" if isinstance(side, Ours) else f"{'':8}"
        print(f"{name:<{width}}{size}{columns}{statistics.median(times[name]):8.1f}")


if __name__ == "__main__":
    main(tyro.cli(Options))
