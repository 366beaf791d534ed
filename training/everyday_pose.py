"""Training of the shipped pose model on photographs of daily life; it stops and goes on at any time.

torchrun --nproc-per-node 2 training/everyday_pose.py DATA STANFORD40 POSE_LABELS JOINTS OUT --samples 400000

POSE_LABELS is what `pose_labels.py` wrote, JOINTS what `person_joints.py` wrote; labels that grow meanwhile are read
again. OUT gets `state.pt` (to go on: run the same command again, with any number of processes), `last.safetensors` with
averaged weights, and `log.jsonl`. The learning rate falls as a cosine of the samples seen. Sets are drawn from by their
shares, not by their sizes. The optimizer is the recipe `pose-lsp`'s; processes average their weights every few steps,
as in `pose.py`.

Crops of photographs are changed more than those of sports figures: people are cut off by the edge of the image or of
their box, shrunk to a few dozen pixels, covered, turned. What is known to lie outside teaches an empty heatmap. Scored
along the way: 200 training images of LSP, and people of every 40th image of Stanford 40 beside the teacher's joints;
neither is trained on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import numpy as np
import torch
import tyro
from pose import Kept  # pyright: ignore[reportAttributeAccessIssue]  # pose.py beside this file
from resumable import Run, Schedule

import hrnet
from hrnet.engine.evaluate import evaluate
from hrnet.engine.photometric import recolor
from hrnet.engine.transfer import transfer
from hrnet.io.geometry import Frame, flip_order, warp
from hrnet.io.images import read_image
from hrnet.nn.task import Batch, Sample, SampleKey
from hrnet.pose.codecs import make_codec
from hrnet.pose.data import open_set, rename_keypoints
from hrnet.pose.metrics import PoseEvaluator
from hrnet.pose.model import PoseModel
from hrnet.pose.processor import crop_frame
from hrnet.pose.recipes import RECIPES
from hrnet.pose.spec import PoseSpec

SPORTS = RECIPES["pose-lsp"].data.augment
# Shares of the crops.
SHARES = {"stanford40": 0.5, "coco": 0.2, "ccp": 0.04, "lsp": 0.16, "lspet": 0.1}
COCO_SETS = ("coco_more", "tiny_coco", "coco128")
SPORTS_LABELS = ("lsp_fit", "lspet", "lsp_val")
HELD_OUT = 40


@dataclass
class Options:
    data: Annotated[Path, tyro.conf.Positional]
    stanford40: Annotated[Path, tyro.conf.Positional]
    pose_labels: Annotated[Path, tyro.conf.Positional]
    joints: Annotated[Path, tyro.conf.Positional]
    out: Annotated[Path, tyro.conf.Positional]
    init: str = "pose"
    size: tuple[int, int] = (160, 128)
    padding: float = 1.05
    schedule: tyro.conf.OmitArgPrefixes[Schedule] = field(
        default_factory=lambda: Schedule(samples=400_000, batch=32, learning_rate=8e-4)
    )


class Person(NamedTuple):
    """One labeled person.

    Attributes:
        path: of the image.
        box: x1 y1 x2 y2.
        points: places (k 2).
        weights: 0 where nothing is known (k).
        absent: known not to be in sight (k).
    """

    path: Path
    box: np.ndarray
    points: np.ndarray
    weights: np.ndarray
    absent: np.ndarray


def read_people(images: Path, labels: Path, names: tuple[str, ...]) -> list[Person]:
    """People of a json that `person_joints.py` wrote; none where there is none yet."""
    if not labels.exists():
        return []
    content = json.loads(labels.read_text())
    order = [content["categories"][0]["keypoints"].index(name) for name in names]
    files = {image["id"]: images / image["file_name"] for image in content["images"]}
    people = []
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        rows = np.array(entry["keypoints"], float).reshape(-1, 3)[order]
        weights = np.array(entry["weights"], float)[order]
        box = np.array([x, y, x + width - 1, y + height - 1])
        people.append(Person(files[entry["image_id"]], box, rows[:, :2], weights, rows[:, 2] == 1))
    return people


class Everyday:
    """Training crops of people in photographs."""

    def __init__(self, people: Sequence[Person], spec: PoseSpec) -> None:
        self.people = people
        self.spec = spec
        self.last: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.people)

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        person = self.people[index]
        image = read_image(person.path)
        size = (image.shape[0], image.shape[1])
        box, edge = self._cut(person, size, rng)
        if edge is not None:
            x1, y1, x2, y2 = edge
            black = np.zeros_like(image)
            black[y1:y2, x1:x2] = image[y1:y2, x1:x2]
            image = black
        # A detector's box is not the labeled one.
        side = (box[2:] - box[:2]).max()
        box = box + np.tile(rng.normal(0, 0.03, 2), 2) * side
        enlarge = float(np.exp(np.clip(rng.normal(0.04, 0.16), -0.25, 0.4)))
        rotation = float(np.clip(rng.normal(0, 22), -60, 60)) if rng.random() < 0.5 else 0.0
        flip = bool(rng.random() < 0.5)
        frame = crop_frame(box, self.spec, size, enlarge=enlarge, rotation=rotation, flip=flip)
        crop = recolor(warp(image, frame, antialias=True), 0.22, rng)
        crop = self._cover(_shrink(crop, rng), rng)
        points, weights, absent = frame.to_input(person.points), person.weights.copy(), person.absent.copy()
        if edge is not None:
            x1, y1, x2, y2 = edge
            absent |= (weights > 0) & ((person.points < [x1, y1]) | (person.points > [x2 - 1, y2 - 1])).any(1)
        height, width = frame.size
        absent |= (weights > 0) & ((points < -0.5) | (points > np.array([width, height]) - 0.5)).any(1)
        if flip:
            order = flip_order(len(points), self.spec.skeleton.pairs)
            points, weights, absent = points[order], weights[order], absent[order]
        return Sample(crop, frame, self._targets(frame, points, weights, absent), index)

    def _targets(
        self, frame: Frame, points: np.ndarray, weights: np.ndarray, absent: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return heatmaps, empty for absent keypoints, and a weight per keypoint."""
        codec = make_codec(self.spec.codec, frame.size)
        heatmaps, inside = codec.encode(points[None], (weights > 0)[None].astype(float))
        weights = np.where(absent, np.maximum(weights, 0.5), weights * (inside[0] > 0)).astype(np.float32)
        return {"heatmaps": heatmaps[0] * ~absent[:, None, None], "weights": weights}

    def _cut(
        self, person: Person, size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[np.ndarray, tuple[int, int, int, int] | None]:
        """A part of the box, and the part of the image that is left, as edges of an image cut people off."""
        kind = rng.random()
        if kind > 0.5:
            return person.box, None
        x1, y1, x2, y2 = person.box
        width, height = x2 - x1, y2 - y1
        part = np.array([x1, y1, x2, y2])
        if rng.random() < 0.8:
            part[3] = y1 + height * rng.uniform(0.3, 0.9)
        else:
            part[1] = y1 + height * rng.uniform(0.1, 0.5)
        if rng.random() < 0.3:
            side = int(rng.integers(2))
            part[2 * side] += (1 - 2 * side) * width * rng.uniform(0.1, 0.4)
        inside = (
            ((person.points >= part[:2]) & (person.points <= part[2:])).all(1) & (person.weights > 0) & ~person.absent
        )
        if inside.sum() < 5 or min(part[2:] - part[:2]) < 12:
            return person.box, None
        if kind > 0.32:
            return part, None
        # What the box kept stays as far as the image reaches; what it lost is gone.
        low = np.where(part[:2] > person.box[:2], part[:2], 0).round().astype(int)
        high = np.where(part[2:] < person.box[2:], part[2:], np.array([size[1], size[0]])).round().astype(int)
        return part, (max(int(low[0]), 0), max(int(low[1]), 0), int(high[0]), int(high[1]))

    def _cover(self, crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A rectangle of another crop in a quarter of them."""
        other, self.last = self.last, crop
        if other is None or rng.random() > 0.25:
            return crop
        height, width = (int(side * rng.uniform(0.1, 0.45)) for side in crop.shape[:2])
        top, left = (int(rng.integers(0, side - part)) for side, part in zip(crop.shape, (height, width), strict=False))
        covered = crop.copy()
        covered[top : top + height, left : left + width] = other[top : top + height, left : left + width]
        return covered


def _shrink(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In a third of them as coarse as people of 30 to 90 pixels are; in some as JPEG leaves it."""
    if rng.random() < 0.33:
        height, width = crop.shape[:2]
        factor = math.exp(rng.uniform(math.log(30), math.log(90))) / height
        small = cv2.resize(crop, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)
        crop = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.15:
        _, coded = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))])
        decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        assert decoded is not None
        crop = decoded
    return crop


class PoseRun(Run):
    def __init__(self, options: Options) -> None:
        self.options = options
        first = hrnet.load(options.init)
        assert isinstance(first, PoseModel)
        self.spec = replace(first.spec, input_size=options.size, box_padding=options.padding)
        model = PoseModel(self.spec)
        transfer(model, first.state_dict(), first.named_outputs(), options.init)
        super().__init__(options.out, model, RECIPES["pose-lsp"].train, options.schedule)
        self.stamp: tuple[float, ...] = ()
        self.refresh()

    def _read_sports(self) -> None:
        labels, data = self.options.pose_labels, self.options.data
        sets = {"lsp": ("lsp", "lsp_fit"), "lspet": ("lspet", "lspet"), "held_out": ("lsp", "lsp_val")}
        self.sports: dict[str, Kept] = {}
        for name, (folder, file) in sets.items():
            if (labels / f"{file}.json").exists():
                found = open_set(data / folder / "train", labels / f"{file}.json", "train")
                instances = list(rename_keypoints(found, self.spec.skeleton).instances)
                augment = replace(SPORTS, scale=0.22, rotation=35, color=0.22, portrait=0.08)
                self.sports[name] = Kept(instances, self.spec, augment, self.schedule.seed, cover=0.25)

    def refresh(self) -> None:
        """Read labels that are new or have changed."""
        folder, names = self.options.joints, self.spec.skeleton.names
        files = {
            "stanford40": self.options.stanford40 / "JPEGImages",
            "ccp": self.options.data / "ccp/images/train",
            "coco_more": self.options.data / "coco_more/train2017",
            "tiny_coco": self.options.data / "tiny_coco/train2017",
            "coco128": self.options.data / "coco128_train/images",
        }
        labels = [folder / f"{name}.json" for name in files] + [
            self.options.pose_labels / f"{name}.json" for name in SPORTS_LABELS
        ]
        stamp = tuple(file.stat().st_mtime if file.exists() else 0.0 for file in labels)
        if stamp == self.stamp:
            return
        self.stamp = stamp
        self._read_sports()
        people = {name: read_people(images, folder / f"{name}.json", names) for name, images in files.items()}
        held = set(sorted(path.name for path in files["stanford40"].iterdir())[::HELD_OUT])
        self.held_out = [one for one in people["stanford40"] if one.path.name in held][:300]
        found = {
            "stanford40": [one for one in people["stanford40"] if one.path.name not in held],
            "coco": [one for name in COCO_SETS for one in people[name]],
            "ccp": people["ccp"],
        }
        self.everyday = {name: Everyday(some, self.spec) for name, some in found.items() if some}
        sizes = {name: len(some) for name, some in (self.everyday | self.sports).items()}
        self.log(f"people: {sizes}, {len(self.held_out)} of stanford40 held out")

    def batches(self) -> Iterator[Batch]:
        for number in range(1_000_000_000):
            rng = np.random.default_rng((self.schedule.seed, self.samples, self.rank, number))
            shares = {name: SHARES[name] for name in (*self.everyday, *self.sports) if name in SHARES}
            chances = np.array(list(shares.values())) / sum(shares.values())
            samples = []
            for name in rng.choice(list(shares), self.schedule.batch, p=chances):
                if name in self.everyday:
                    some = self.everyday[name]
                    samples.append(some.sample(int(rng.integers(len(some))), rng))
                else:
                    sports = self.sports[name]
                    draw = SampleKey(int(rng.integers(1 << 30)), int(rng.integers(len(sports))))
                    samples.append(sports[draw])
            yield Batch.stack(samples).to(torch.device("cpu"))

    def loss(self, batch: Batch) -> torch.Tensor:
        assert isinstance(self.model, PoseModel)
        return self.model.loss(batch)["heatmaps"]

    def figures(self) -> dict[str, float]:
        assert isinstance(self.model, PoseModel)
        figures = {"OKS": similarity(self.model, self.held_out)}
        if "held_out" in self.sports:
            lsp, device = self.sports["held_out"], torch.device("cpu")
            metrics = evaluate(self.model, lsp, PoseEvaluator(lsp.instances, self.spec), device=device, flip=True)
            figures["PCK@0.2/limbs"] = metrics["PCK@0.2/limbs"]
        return figures


def similarity(model: PoseModel, people: Sequence[Person]) -> float:
    """Mean object keypoint similarity with the labels that are sure."""
    values = []
    sigmas = 2 * np.array(model.spec.skeleton.oks_sigmas)
    for person in people:
        image = read_image(person.path)
        frame = crop_frame(person.box, model.spec, (image.shape[0], image.shape[1]))
        crop = torch.from_numpy(warp(image, frame)).permute(2, 0, 1)[None].float() / 255
        (found,) = model.predict(crop, [frame])
        sure = (person.weights >= 0.5) & ~person.absent
        area = float(np.prod(person.box[2:] - person.box[:2] + 1))
        squared = ((found.keypoints[0] - person.points) ** 2).sum(1)
        values.append(float(np.exp(-squared / (2 * sigmas**2) / area)[sure].mean()))
    return float(np.mean(values))


if __name__ == "__main__":
    PoseRun(tyro.cli(Options)).train()
