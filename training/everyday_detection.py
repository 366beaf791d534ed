"""Training of the shipped person detector on photographs of daily life; it stops and goes on at any time.

torchrun --nproc-per-node 2 training/everyday_detection.py DATA STANFORD40 CLOTHES BOXES OUT --samples 300000

BOXES is what `detection_labels.py` wrote; labels that grow meanwhile are read again. OUT gets what `resumable.py` says: run
the same command again to go on. `--fast` trains another, narrow network from new weights, which takes 1.25 times
the time of YOLOX-nano at 416 x 416 where the shipped one takes 3.1 times it (OpenVINO, fp32, one thread).

Sets are drawn from by their shares, not by their sizes. Clothes without people are images with nothing in them. Scored
along the way: every 40th image of Stanford 40 beside the labels made for it; it is not trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from resumable import Run, Schedule

import hrnet
from hrnet.detection.augment import Augment
from hrnet.detection.data import DetectionDataset, match_classes, open_set
from hrnet.detection.metrics import DetectionEvaluator
from hrnet.detection.model import DetectionModel
from hrnet.detection.recipes import RECIPES, SMALL_FCOS
from hrnet.detection.spec import DetectionSpec
from hrnet.engine.evaluate import evaluate
from hrnet.formats.records import ImageRecord
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.nn.task import Batch, SampleKey

# Shares of the samples. Of mosaics, three of the four images are of any set.
SHARES = {
    "stanford40": 0.4, "coco_more": 0.1, "tiny_coco": 0.08, "coco128": 0.12, "pennfudan": 0.08, "clothes": 0.07,
    "ccp": 0.05, "lsp": 0.05, "lspet": 0.05,
}  # fmt: skip
HELD_OUT, SCORED = 40, 150

FAST = DetectionSpec(
    ("person",),
    replace(SMALL_FCOS, pyramid_width=64, tower_convs=1),
    HRNetSpec(
        stages=(StageSpec((16, 40), 1, 1), StageSpec((16, 40, 96), 1, 2), StageSpec((16, 40, 96, 160), 1, 1)),
        bottlenecks=1,
        bottleneck_width=16,
        stem_width=16,
    ),
    (320, 320),
    fit="canvas",
    frozen_norms=False,
)


@dataclass
class Options:
    data: Annotated[Path, tyro.conf.Positional]
    stanford40: Annotated[Path, tyro.conf.Positional]
    clothes: Annotated[Path, tyro.conf.Positional]
    boxes: Annotated[Path, tyro.conf.Positional]
    out: Annotated[Path, tyro.conf.Positional]
    init: str = "detection"
    fast: bool = False
    augment: Augment = field(default_factory=lambda: Augment(scale=(0.3, 1.6), color=0.2, mosaic=0.4, antialias=True))
    schedule: tyro.conf.OmitArgPrefixes[Schedule] = field(
        default_factory=lambda: Schedule(samples=300_000, batch=8, learning_rate=7e-4, gradient_clip=10.0)
    )


class DetectionRun(Run):
    def __init__(self, options: Options) -> None:
        self.options = options
        if options.fast:
            model = DetectionModel(FAST)
        else:
            first = hrnet.load(options.init)
            assert isinstance(first, DetectionModel)
            model = first
        self.spec = model.spec
        super().__init__(options.out, model, RECIPES["detection-person"].train, options.schedule)
        self.stamp: tuple[float, ...] = ()
        self.refresh()

    def refresh(self) -> None:
        """Read labels that are new or have changed."""
        options = self.options
        folders = {
            "stanford40": options.stanford40 / "JPEGImages",
            "coco_more": options.data / "coco_more/train2017",
            "tiny_coco": options.data / "tiny_coco/train2017",
            "coco128": options.data / "coco128_train/images",
            "pennfudan": options.data / "pennfudan/train",
            "clothes": options.clothes / "images",
            "ccp": options.data / "ccp/images/train",
            "lsp": options.data / "lsp/train",
            "lspet": options.data / "lspet/train",
        }
        files = {name: options.boxes / f"{name}.json" for name in folders}
        stamp = tuple(file.stat().st_mtime if file.exists() else 0.0 for file in files.values())
        if stamp == self.stamp:
            return
        self.stamp = stamp
        held = set(sorted(path.name for path in folders["stanford40"].iterdir())[::HELD_OUT])
        images: list[ImageRecord] = []
        self.scored = DetectionDataset([], self.spec, options.augment)
        self.places: dict[str, np.ndarray] = {}
        for name, folder in folders.items():
            if not files[name].exists():
                continue
            found = list(match_classes(open_set(folder, files[name], "train"), ("person",)).images)
            if name == "stanford40":
                scored = [one for one in found if one.path.name in held][:SCORED]
                self.scored = DetectionDataset(scored, self.spec, options.augment)
                found = [one for one in found if one.path.name not in held]
            self.places[name] = np.arange(len(images), len(images) + len(found))
            images += found
        self.dataset = DetectionDataset(images, self.spec, options.augment, self.schedule.seed)
        sizes = {name: len(some) for name, some in self.places.items()}
        self.log(f"images: {sizes}, {len(self.scored)} of stanford40 held out")

    def batches(self) -> Iterator[Batch]:
        for number in range(1_000_000_000):
            rng = np.random.default_rng((self.schedule.seed, self.samples, self.rank, number))
            names = [name for name in SHARES if name in self.places]
            chances = np.array([SHARES[name] for name in names])
            chosen = rng.choice(names, self.schedule.batch, p=chances / chances.sum())
            draws = [SampleKey(int(rng.integers(1 << 30)), int(rng.choice(self.places[name]))) for name in chosen]
            yield Batch.stack([self.dataset[draw] for draw in draws]).to(torch.device("cpu"))

    def loss(self, batch: Batch) -> torch.Tensor:
        return torch.stack(list(self.model.loss(batch).values())).sum()

    def figures(self) -> dict[str, float]:
        if not len(self.scored):
            return {}
        evaluator = DetectionEvaluator(self.scored.images, self.spec)
        metrics = evaluate(self.model, self.scored, evaluator, device=torch.device("cpu"), batch=8)
        return {name: metrics[name] for name in ("AP", "AP50")}


if __name__ == "__main__":
    DetectionRun(tyro.cli(Options)).train()
