"""Joints of people in photographs of daily life, for the shipped pose model: a teacher's, with a weight for each.

python training/person_joints.py TEACHER.xml DATA BOXES LABELS OUT --stanford40 STANFORD40
python training/person_joints.py TEACHER.xml --check TINY/val2017 TINY/annotations/person_keypoints_val2017.json

TEACHER is a network with COCO's seventeen keypoints as OpenVINO IR (input 1 3 256 192, ImageNet statistics, UDP). DATA,
STANFORD40 and BOXES are what `detection_labels.py` read and wrote; LABELS is the folder that `pose_labels.py` wrote.
Each person is looked at in crops of 1.1, 1.25 and 1.45 boxes and their mirror images. OUT/found gets a line a person as
soon as it is done, so that a run that was stopped goes on where it was; OUT gets a COCO json a set, anew with each run
(`--write-only`: of what is found so far). Labelled people come first, then those that only the detectors found. Several
processes may share the work (`--worker 0 2`, `--worker 1 2`). Of `coco_more` and `tiny_coco` the joints are the
labeled ones.

Visibility is 2 for a joint, and 1 for one that is known not to be in sight: the front of a head seen from behind, or
what lies outside the image. `weights` has a number from 0 to 1 for each: the teacher's score and how well its crops
agree.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import tyro
from detection_labels import Options as BoxOptions
from detection_labels import Person, Source, read_lines, sources, trim
from pose_labels import FACE, _other_side, _peak, lean, turn_away
from teachers import Boxes, compile_network

from hrnet.io.geometry import Frame, warp
from hrnet.io.images import read_image
from hrnet.nn.task import IMAGENET_MEAN, IMAGENET_STD
from hrnet.pose.data import open_set, read_ground_truth
from hrnet.pose.metrics import PoseEvaluator
from hrnet.pose.processor import mean_keypoint_score
from hrnet.pose.skeletons import COCO
from hrnet.pose.spec import PoseSpec
from hrnet.results import Poses

SIZE = (256, 192)
PADDINGS = (1.1, 1.25, 1.45)
# A weight rises from 0 to 1 between these scores. Below the second line's score a joint is not seen at all.
LOWEST, FULL = 0.1, 0.4
UNSEEN = 0.15
# Weights from which a joint is kept, and from which it is sure; how many sure ones make a person.
KEPT, SURE, ENOUGH = 0.2, 0.5, 5
# Of the box's side: how near the lower edge of the image a box ends that the image cuts off; how far outside a joint lies.
CUT, OUTSIDE = 0.03, 0.02
# Of the shoulders' distance: how far to the right of the left one the right one lies on a back, where no hip is seen.
BACK = 0.6
LOWER = ("hip", "knee", "ankle")
# Fewer pixels on the longer side say too little.
SMALLEST = 24


@dataclass
class Options:
    teacher: Annotated[Path, tyro.conf.Positional]
    data: Annotated[Path | None, tyro.conf.Positional] = None
    boxes: Annotated[Path | None, tyro.conf.Positional] = None
    labels: Annotated[Path | None, tyro.conf.Positional] = None
    out: Annotated[Path | None, tyro.conf.Positional] = None
    stanford40: Path | None = None
    sets: tuple[str, ...] = field(default_factory=lambda: ("stanford40", "coco128", "ccp"))
    write_only: bool = False
    check: tuple[Path, Path] | None = None
    """images and annotations to score the teacher on, in the labeled boxes; nothing is labeled"""
    worker: tuple[int, int] = (0, 1)
    """number and count of the processes that share the people; each has a file of its own in OUT/found"""


class Teacher:
    """Place, score and the spread of the place between the crops (17 4) of the person in a box."""

    def __init__(self, path: Path) -> None:
        self.network = compile_network(path.parent)
        self.mirrored = [COCO.names.index(_other_side(name)) for name in COCO.names]

    def __call__(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        views = np.stack([self._view(image, box, padding) for padding in PADDINGS])
        weights = np.maximum(views[..., 2:], 1e-3)
        place = (views[..., :2] * weights).sum(0) / weights.sum(0)
        spread = np.sqrt((((views[..., :2] - place) ** 2) * weights).sum((0, 2)) / weights.sum((0, 2)))
        return np.column_stack([place, views[..., 2].mean(0), spread])

    def _view(self, image: np.ndarray, box: np.ndarray, padding: float) -> np.ndarray:
        """Peaks of the mean of the heatmaps of a crop and of its mirror image."""
        center, (width, height) = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        span = padding * max(width, height * SIZE[1] / SIZE[0], 1.0)
        size = (image.shape[0], image.shape[1])
        frame = Frame.around((center[0], center[1]), span, SIZE, size, unbiased=True)
        crop = ((warp(image, frame) / 255 - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32).transpose(2, 0, 1)[None]
        one, other = (self.network(np.ascontiguousarray(values))[0][0] for values in (crop, crop[..., ::-1]))
        heatmaps = (one + other[self.mirrored, :, ::-1]) / 2
        found = np.array([_peak(heatmap) for heatmap in heatmaps])
        stride = np.array([(SIZE[1] - 1) / (heatmaps.shape[2] - 1), (SIZE[0] - 1) / (heatmaps.shape[1] - 1)])
        found[:, :2] = frame.to_source(found[:, :2] * stride)
        return found


@dataclass
class Head:
    """Where neck and head top lie: on the line from between the shoulders to the middle of the face, as shares of it."""

    neck: float
    top: float

    @classmethod
    def fit(cls, content: dict[str, Any]) -> Head:
        """Least squares over labeled people who have all of it."""
        names = content["categories"][0]["keypoints"]
        rows: dict[str, list[np.ndarray]] = {"neck": [], "head_top": []}
        lines = []
        for entry in content["annotations"]:
            points = dict(zip(names, np.array(entry["keypoints"], float).reshape(-1, 3), strict=True))
            face = [points[name][:2] for name in FACE if points[name][2] == 2]
            needed = ("left_shoulder", "right_shoulder", "neck", "head_top")
            if len(face) < 3 or not all(points[name][2] > 0 for name in needed):
                continue
            middle = (points["left_shoulder"] + points["right_shoulder"])[:2] / 2
            lines.append(np.mean(face, 0) - middle)
            for name, row in rows.items():
                row.append(points[name][:2] - middle)
        line = np.stack(lines)
        shares = {name: float((np.stack(row) * line).sum() / (line**2).sum()) for name, row in rows.items()}
        for name, row in rows.items():
            errors = np.linalg.norm(np.stack(row) - shares[name] * line, axis=1) / np.linalg.norm(line, axis=1)
            print(
                f"{name}: {shares[name]:.2f} of the line, median error {np.median(errors):.2f} of it ({len(line)} people)"
            )
        return cls(shares["neck"], shares["head_top"])

    def add(self, points: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Neck and head top (x, y, weight) of a person whose joints have a place and a weight."""
        shoulders = [points["left_shoulder"], points["right_shoulder"]]
        face = [points[name] for name in FACE if points[name][2] > KEPT]
        unknown = np.zeros(3)
        if min(one[2] for one in shoulders) < KEPT or len(face) < 2:
            return {"neck": unknown, "head_top": unknown}
        middle = (shoulders[0] + shoulders[1])[:2] / 2
        line = np.mean([one[:2] for one in face], 0) - middle
        weight = 0.6 * min(one[2] for one in shoulders) * float(np.mean([one[2] for one in face]))
        return {
            "neck": np.array([*(middle + self.neck * line), weight]),
            "head_top": np.array([*(middle + self.top * line), weight]),
        }


def joints_of(
    found: np.ndarray, box: np.ndarray, size: tuple[int, int], head: Head, names: list[str]
) -> np.ndarray | None:
    """Labels x, y, visibility, weight (k 4) from what the teacher found (17 4); None for nobody."""
    side = float(np.sqrt(np.prod(box[2:] - box[:2])))
    agreement = np.exp(-0.5 * (found[:, 3] / (2 * np.array(COCO.oks_sigmas) * side)) ** 2)
    weights = np.clip((found[:, 2] - LOWEST) / (FULL - LOWEST), 0, 1) * agreement
    outside = _outside(found[:, :2], box, size)
    if ((weights >= SURE) & ~outside).sum() < ENOUGH:
        return None
    places = {
        name: np.array([*row[:2], weight])
        for name, row, weight in zip(COCO.names, found, weights * ~outside, strict=True)
    }
    places |= head.add(places)
    labels = np.array([
        [*places[name][:2], 2, places[name][2]] if places[name][2] >= KEPT else np.zeros(4) for name in names
    ])  # fmt: skip
    labels = from_behind(labels, names)
    # Good enough to find the middle of a head by; LSP teaches it better.
    labels[names.index("head_top")] = 0
    cut_below = box[3] > size[0] - CUT * (box[3] - box[1])
    scores = dict(zip(COCO.names, found[:, 2], strict=True))
    for name, gone in zip(COCO.names, outside, strict=True):
        low = cut_below and name.endswith(LOWER) and scores[name] < UNSEEN
        if gone or low:
            labels[names.index(name)] = [*box[:2], 1, 1]
    return labels


def labeled_joints(
    labels: np.ndarray, box: np.ndarray, size: tuple[int, int], head: Head, names: list[str]
) -> np.ndarray:
    """The same from labels (17 3) of COCO."""
    places = {name: np.array([*row[:2], float(row[2] > 0)]) for name, row in zip(COCO.names, labels, strict=True)}
    places |= head.add(places)
    result = np.array([[*places[name][:2], 2, places[name][2]] if places[name][2] else np.zeros(4) for name in names])
    result[names.index("head_top")] = 0
    if box[3] > size[0] - CUT * (box[3] - box[1]) and (labels[:, 2] > 0).sum() >= ENOUGH:
        for name, row in zip(COCO.names, labels, strict=True):
            if name.endswith(LOWER) and row[2] == 0:
                result[names.index(name)] = [*box[:2], 1, 1]
    return result


def from_behind(labels: np.ndarray, names: list[str]) -> np.ndarray:
    """The labels with the front points of a head seen from behind marked as not in sight."""
    kept = labels[:, :3] * (labels[:, 2:3] > 0)
    if lean(kept[:, :2], kept[:, 2] > 0, names) is not None:
        turned = turn_away(kept, names)
    else:
        turned = _away_without_hips(kept, names)
    hidden, lost = (turned[:, 2] == 1), (turned[:, 2] == 0)
    weights = np.where(hidden, 1.0, np.where(lost, 0.0, labels[:, 3]))
    return np.column_stack([turned, weights])


def _away_without_hips(labels: np.ndarray, names: list[str]) -> np.ndarray:
    place = dict(zip(names, labels, strict=True))
    left, right = place["left_shoulder"], place["right_shoulder"]
    across = right[:2] - left[:2]
    if min(left[2], right[2]) == 0 or across[0] < BACK * max(float(np.linalg.norm(across)), 1e-6):
        return labels
    ears = [place[name][0] for name in ("left_ear", "right_ear") if place[name][2] > 0]
    nose = place["nose"]
    aside = nose[2] > 0 and not (len(ears) == 2 and min(ears) < nose[0] < max(ears))
    labels = labels.copy()
    known = place["neck"][2] > 0 and place["head_top"][2] > 0 and not aside
    middle = (place["neck"] + place["head_top"])[:2] / 2
    for name in FACE:
        labels[names.index(name)] = [*middle, 1] if known and not name.endswith("ear") else 0
    return labels


def _outside(points: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    margin = OUTSIDE * (box[2:] - box[:2]).max()
    return ((points < -margin) | (points > np.array([size[1], size[0]]) - 1 + margin)).any(1)


def people(source: Source, boxes: Path, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """Images and boxes of their people: all that are labeled first, then those that only the detectors found."""
    for index in np.random.default_rng(0).permutation(len(source.names)):
        image = source.names[index]
        yield from ((image, person.box) for person in source.labels.get(image, []) if not person.ignored)
    for line in read_lines(boxes / "found", name):
        rows = np.array(line["boxes"], float).reshape(-1, 5)
        labels = source.labels.get(line["image"], [])
        for person in source.rule(Boxes(rows[:, :4], rows[:, 4]), labels) or []:
            if not person.ignored and not _is_labeled(person, labels):
                yield line["image"], person.box


def _is_labeled(person: Person, labels: list[Person]) -> bool:
    """Whether the box is that of a labeled person, or the detectors' for one."""
    shared = [
        np.prod((np.minimum(person.box[2:], one.box[2:]) - np.maximum(person.box[:2], one.box[:2])).clip(0))
        for one in labels
    ]
    area = np.prod(person.box[2:] - person.box[:2])
    return any(
        part > 0.5 * (area + np.prod(one.box[2:] - one.box[:2]) - part)
        for part, one in zip(shared, labels, strict=True)
    )


def find(name: str, source: Source, teacher: Teacher, options: Options) -> None:
    """Append a line to the worker's file for each of its people who has none yet in any file of the set."""
    number, workers = options.worker
    assert options.out is not None
    assert options.boxes is not None
    folder = options.out / "found"
    file = folder / f"{name}.{number}.jsonl"
    trim(file)
    done = {_key(line["image"], line["box"]) for line in read_lines(folder, name)}
    start, count, last, image = time.time(), 0, "", np.zeros((1, 1, 3), np.uint8)
    with file.open("a") as lines:
        for image_name, box in islice(people(source, options.boxes, name), number, None, workers):
            if _key(image_name, box) in done or max(box[2:] - box[:2]) < SMALLEST:
                continue
            if image_name != last:
                image, last = read_image(source.folder / image_name), image_name
            found = teacher(image, box).round(3).tolist()
            line = {"image": image_name, "size": image.shape[:2], "box": box.round(1).tolist(), "found": found}
            lines.write(json.dumps(line) + "\n")
            lines.flush()
            count += 1
            if count % 100 == 0:
                print(f"{name}: {len(done) + count} people, {(time.time() - start) / count:.2f} s each", flush=True)


def _key(image: str, box: Any) -> tuple[Any, ...]:
    return (image, *(round(float(value)) for value in np.round(box, 1)))


class Writer:
    """A COCO json of people in images."""

    def __init__(self, category: dict[str, Any]) -> None:
        self.content: dict[str, Any] = {"images": [], "annotations": [], "categories": [category]}
        self.numbers: dict[str, int] = {}

    def add(self, image: str, size: tuple[int, int], box: np.ndarray, labels: np.ndarray) -> None:
        if image not in self.numbers:
            self.numbers[image] = len(self.numbers) + 1
            self.content["images"].append({
                "id": self.numbers[image], "file_name": image, "width": size[1], "height": size[0]
            })  # fmt: skip
        x1, y1, x2, y2 = (round(float(value), 1) for value in box)
        self.content["annotations"].append({
            "id": len(self.content["annotations"]) + 1, "image_id": self.numbers[image], "category_id": 1,
            "bbox": [x1, y1, round(x2 - x1, 1), round(y2 - y1, 1)], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0,
            "keypoints": labels[:, :3].round(2).ravel().tolist(), "weights": labels[:, 3].round(3).tolist(),
            "num_keypoints": int((labels[:, 2] == 2).sum()),
        })  # fmt: skip


def write(name: str, out: Path, head: Head, category: dict[str, Any]) -> None:
    """Write the labels of what was found."""
    writer, counts = Writer(category), Counter[str]()
    for line in read_lines(out / "found", name):
        box, size = np.array(line["box"]), (line["size"][0], line["size"][1])
        labels = joints_of(np.array(line["found"]), box, size, head, category["keypoints"])
        counts["too few sure joints" if labels is None else "people"] += 1
        if labels is not None:
            counts["from behind"] += bool((labels[[category["keypoints"].index(name) for name in FACE], 2] == 1).any())
            writer.add(line["image"], size, box, labels)
    _save(writer, out / f"{name}.json")
    print(name, dict(counts), flush=True)


def write_labeled(folder: Path, out: Path, head: Head, category: dict[str, Any]) -> None:
    """Write the labeled joints of a COCO set, with the neck."""
    content = json.loads((folder / "annotations/person_keypoints_train2017.json").read_text())
    images = {image["id"]: image for image in content["images"]}
    writer = Writer(category)
    for one in content["annotations"]:
        x, y, width, height = one["bbox"]
        joints = np.array(one["keypoints"], float).reshape(-1, 3)
        if one.get("iscrowd") or (joints[:, 2] > 0).sum() < 3 or max(width, height) < SMALLEST:
            continue
        image, box = images[one["image_id"]], np.array([x, y, x + width, y + height])
        size = (image["height"], image["width"])
        writer.add(image["file_name"], size, box, labeled_joints(joints, box, size, head, category["keypoints"]))
    _save(writer, out)
    print(out.stem, len(writer.content["annotations"]), "people", flush=True)


def _save(writer: Writer, file: Path) -> None:
    """In one step: a training may read it at the same time."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(writer.content))
    part.replace(file)


def check(teacher: Teacher, images: Path, annotations: Path) -> None:
    """Print COCO's keypoint AP in the labeled boxes."""
    data, spec = open_set(images, annotations), PoseSpec()
    evaluator = PoseEvaluator(data.instances, spec, ground_truth=read_ground_truth(data))
    poses = []
    for one in data.instances:
        found = teacher(read_image(one.path), one.box)
        score = mean_keypoint_score(found[None, :, 2])
        poses.append(
            Poses(found[None, :, :2], found[None, :, 2], one.box[None], score, COCO.names, COCO.links, COCO.pairs)
        )
    evaluator.update(range(len(poses)), poses)
    print(f"{len(poses)} people, AP {evaluator.compute()['AP']:.3f}")


def main(options: Options) -> None:
    cv2.setNumThreads(1)
    if options.check is not None:
        check(Teacher(options.teacher), *options.check)
        return
    assert options.data is not None
    assert options.boxes is not None
    assert options.labels is not None
    assert options.out is not None, "name DATA, BOXES, LABELS and OUT"
    (options.out / "found").mkdir(parents=True, exist_ok=True)
    opened = sources(BoxOptions(options.teacher, options.data, None, stanford40=options.stanford40))
    chosen = [name for name in options.sets if name in opened]
    if not options.write_only:
        teacher = Teacher(options.teacher)
        for name in chosen:
            find(name, opened[name], teacher, options)
    if options.worker[0] > 0:
        return
    known = json.loads((options.labels / "lsp_fit.json").read_text())
    head, category = Head.fit(known), known["categories"][0]
    for name in ("coco_more", "tiny_coco"):
        write_labeled(options.data / name, options.out / f"{name}.json", head, category)
    for name in chosen:
        write(name, options.out, head, category)


if __name__ == "__main__":
    main(tyro.cli(Options))
