"""Person boxes for the shipped detector: three detectors fused, beside the labels that the data sets have.

python training/detection_labels.py TEACHERS DATA OUT --stanford40 STANFORD40 --clothes CLOTHES
python training/detection_labels.py TEACHERS --check TINY/val2017 TINY/annotations/instances_val2017.json

TEACHERS holds the folders of the three detectors as OpenVINO IR (`teachers.py`). DATA holds `lsp`, `lspet`, `ccp`,
`pennfudan`, `tiny_coco`, `coco_more` and `coco128_train`; STANFORD40 `JPEGImages` and `XMLAnnotations`; CLOTHES
`images` of clothes without people. OUT/found gets one line an image as soon as it is done, so that a run that was
stopped goes on where it was; OUT gets a COCO json a set, anew with each run (`--write-only`: of what is found so far).
The images of a set are taken in a random but fixed order: a part of them is a fair sample. Several processes may share
the work (`--worker 0 2`, `--worker 1 2`).

A fused score above 0.4 is a person. From 0.15 to 0.4 a box becomes a crowd, which training ignores. Labels of a data
set stay; what the teachers see beside them is ignored.
"""

from __future__ import annotations

import json
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import cv2
import numpy as np
import tyro
from teachers import Boxes, Fused, iou

from hrnet.detection.data import match_classes, open_set
from hrnet.detection.metrics import DetectionEvaluator
from hrnet.detection.spec import DetectionSpec
from hrnet.io.images import read_image
from hrnet.results import Detections

SURE, DOUBTFUL = 0.4, 0.15
# IoU from which a teacher's box is taken for a labeled person, and from which it is the better box of an actor.
SAME, AGREES = 0.3, 0.6
# Of the joints' extent, what a body has beyond them on each side.
MARGIN = 0.08
# Every so-manieth image is left to score on, by name.
CLOTHES_HELD_OUT = 11


@dataclass
class Options:
    teachers: Annotated[Path, tyro.conf.Positional]
    data: Annotated[Path | None, tyro.conf.Positional] = None
    out: Annotated[Path | None, tyro.conf.Positional] = None
    stanford40: Path | None = None
    clothes: Path | None = None
    sets: tuple[str, ...] = field(default_factory=tuple)
    """some of the sets, by name; all of them without"""
    write_only: bool = False
    worker: tuple[int, int] = (0, 1)
    """number and count of the processes that share the images; each has a file of its own in OUT/found"""
    check: tuple[Path, Path] | None = None
    """images and annotations to score the fused teachers on; nothing is labeled"""


class Person(NamedTuple):
    """A box x1 y1 x2 y2, and whether it counts for nothing."""

    box: np.ndarray
    ignored: bool


Rule = Callable[[Boxes, list[Person]], list[Person] | None]


class Source(NamedTuple):
    """A set of images, the labels that it has (by file name), and how these and the teachers' boxes become one."""

    folder: Path
    names: list[str]
    labels: dict[str, list[Person]]
    rule: Rule


def from_teachers(found: Boxes, _: list[Person]) -> list[Person]:
    return [
        Person(box, bool(score <= SURE))
        for box, score in zip(found.boxes, found.scores, strict=True)
        if score > DOUBTFUL
    ]


def beside_labels(found: Boxes, labels: list[Person]) -> list[Person]:
    """All labels are right; what else the teachers are sure of may be a person that nobody labeled."""
    sure = [person for person in from_teachers(found, []) if not person.ignored]
    return labels + [Person(person.box, True) for person in sure if _overlap(person.box, labels) < SAME]


def beside_actors(found: Boxes, labels: list[Person]) -> list[Person] | None:
    """Labelled people have the teachers' boxes where those agree; everybody else is the teachers' alone."""
    if not labels:
        return None
    mended = []
    for label in labels:
        overlap = iou(label.box, found.boxes)
        agrees = len(overlap) > 0 and overlap.max() > AGREES
        mended.append(Person(found.boxes[overlap.argmax()], False) if agrees else label)
    others = [
        # Half of an actor, or an actor with something in the hand: not a person more, but nothing to unlearn either.
        Person(person.box, person.ignored or _overlap(person.box, labels) > SAME)
        for person in from_teachers(found, [])
        if _overlap(person.box, mended) < AGREES
    ]
    return mended + others


def nobody(_: Boxes, __: list[Person]) -> list[Person]:
    return []


def sources(options: Options) -> dict[str, Source]:
    data = options.data
    assert data is not None
    found = {
        "coco_more": _coco(data / "coco_more", "train2017"),
        "tiny_coco": _coco(data / "tiny_coco", "train2017"),
        "coco128": _yolo(data / "coco128_train"),
        "pennfudan": _penn(data / "pennfudan"),
    }
    if options.stanford40 is not None:
        found["stanford40"] = _stanford40(options.stanford40)
    found["lsp"] = _joints(data / "lsp", 1)
    found["ccp"] = Source(data / "ccp/images/train", _names(data / "ccp/images/train"), {}, from_teachers)
    if options.clothes is not None:
        names = _names(options.clothes / "images")
        kept = [name for number, name in enumerate(names) if number % CLOTHES_HELD_OUT][::4]
        found["clothes"] = Source(options.clothes / "images", kept, {}, nobody)
    found["lspet"] = _joints(data / "lspet", 5)
    return found


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))


def _coco(folder: Path, part: str) -> Source:
    content = json.loads((folder / f"annotations/instances_{part}.json").read_text())
    person = next(one["id"] for one in content["categories"] if one["name"] == "person")
    names = {image["id"]: image["file_name"] for image in content["images"]}
    labels: dict[str, list[Person]] = {name: [] for name in names.values()}
    for one in content["annotations"]:
        if one["category_id"] == person:
            x, y, width, height = one["bbox"]
            labels[names[one["image_id"]]].append(
                Person(np.array([x, y, x + width, y + height]), bool(one.get("iscrowd")))
            )
    return Source(folder / part, sorted(labels), labels, beside_labels)


def _penn(folder: Path) -> Source:
    content = json.loads((folder / "annotations/train.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    labels: dict[str, list[Person]] = {name: [] for name in names.values()}
    for one in content["annotations"]:
        x, y, width, height = one["bbox"]
        labels[names[one["image_id"]]].append(Person(np.array([x, y, x + width, y + height]), False))
    return Source(folder / "train", sorted(labels), labels, beside_labels)


def _yolo(folder: Path) -> Source:
    labels: dict[str, list[Person]] = {}
    for name in _names(folder / "images"):
        height, width = read_image(folder / "images" / name).shape[:2]
        file = (folder / "labels" / name).with_suffix(".txt")
        rows = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        labels[name] = []
        for _, *numbers in (row for row in rows if row and row[0] == "0"):
            x, y, w, h = (float(number) for number in numbers[:4])
            box = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * [width, height, width, height]
            labels[name].append(Person(box, False))
    return Source(folder / "images", sorted(labels), labels, beside_labels)


def _stanford40(folder: Path) -> Source:
    labels: dict[str, list[Person]] = {}
    for file in sorted((folder / "XMLAnnotations").glob("*.xml")):
        root = ElementTree.parse(file).getroot()
        boxes = [
            [float(one.findtext(f"bndbox/{side}") or 0) for side in ("xmin", "ymin", "xmax", "ymax")]
            for one in root.iter("object")
        ]
        # From pixel to pixel: it ends after its last one.
        labels[f"{file.stem}.jpg"] = [Person(np.array(box) - np.array([1, 1, 0, 0]), False) for box in boxes]
    return Source(folder / "JPEGImages", sorted(labels), labels, beside_actors)


def _joints(folder: Path, every: int) -> Source:
    content = json.loads((folder / "annotations/train.json").read_text())
    images = {image["id"]: image for image in content["images"]}
    labels: dict[str, list[Person]] = {}
    for one in content["annotations"]:
        image = images[one["image_id"]]
        points = np.array(one["keypoints"], float).reshape(-1, 3)
        points = points[points[:, 2] > 0, :2]
        people = labels.setdefault(image["file_name"], [])
        if len(points) >= 10:
            margin = MARGIN * (points.max(0) - points.min(0)).max()
            box = np.concatenate([points.min(0) - margin, points.max(0) + margin])
            people.append(Person(box.clip(0, [image["width"], image["height"]] * 2), False))
    names = sorted(labels)[::every]
    return Source(folder / "train", names, labels, beside_actors)


def _overlap(box: np.ndarray, people: list[Person]) -> float:
    return float(iou(box, np.stack([person.box for person in people])).max()) if people else 0.0


def find(name: str, source: Source, teacher: Fused, folder: Path, worker: tuple[int, int]) -> None:
    """Append a line to the worker's file for each of its images that has none yet in any file of the set."""
    file = folder / f"{name}.{worker[0]}.jsonl"
    trim(file)
    done = {line["image"] for line in read_lines(folder, name)}
    order = np.random.default_rng(0).permutation(len(source.names))[worker[0] :: worker[1]]
    start, count = time.time(), 0
    with file.open("a") as lines:
        for image_name in (source.names[index] for index in order):
            if image_name in done:
                continue
            image = read_image(source.folder / image_name)
            found = teacher(image).above(0.05)
            rows = [[*box.round(1).tolist(), round(float(score), 4)] for box, score in zip(*found, strict=True)]
            lines.write(json.dumps({"image": image_name, "size": image.shape[:2], "boxes": rows}) + "\n")
            lines.flush()
            count += 1
            if count % 100 == 0:
                seconds = (time.time() - start) / count
                print(f"{name}: {len(done) + count} of {len(source.names)}, {seconds:.2f} s an image", flush=True)


def read_lines(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """What was found in a set so far, by any worker; a last line that is not whole is left out."""
    for file in sorted(folder.glob(f"{name}.*.jsonl")):
        text = file.read_text()
        for line in text[: text.rfind("\n") + 1].splitlines():
            yield json.loads(line)


def trim(file: Path) -> None:
    """Take away a last line that a stop cut off."""
    if file.exists():
        whole = file.read_bytes().rfind(b"\n") + 1
        with file.open("r+b") as content:
            content.truncate(whole)


def write(name: str, source: Source, out: Path) -> None:
    """Write the COCO json of what was found."""
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    counts: Counter[str] = Counter()
    for line in sorted(read_lines(out / "found", name), key=lambda line: line["image"]):
        rows = np.array(line["boxes"], float).reshape(-1, 5)
        people = source.rule(Boxes(rows[:, :4], rows[:, 4]), source.labels.get(line["image"], []))
        if people is None:
            counts["left out"] += 1
            continue
        number = len(content["images"]) + 1
        height, width = line["size"]
        content["images"].append({"id": number, "file_name": line["image"], "width": width, "height": height})
        counts["images"] += 1
        for box, ignored in people:
            counts["ignored" if ignored else "people"] += 1
            x1, y1, x2, y2 = (round(float(value), 1) for value in box)
            content["annotations"].append({
                "id": len(content["annotations"]) + 1, "image_id": number, "category_id": 1,
                "bbox": [x1, y1, round(x2 - x1, 1), round(y2 - y1, 1)], "area": (x2 - x1) * (y2 - y1),
                "iscrowd": int(ignored),
            })  # fmt: skip
    print(name, dict(counts))
    if content["images"]:
        # In one step: a training may read it at the same time.
        part = out / f"{name}.part"
        part.write_text(json.dumps(content))
        part.replace(out / f"{name}.json")


def check(teacher: Fused, images: Path, annotations: Path) -> None:
    """Print COCO's AP of the fused teachers, and seconds an image."""
    data = match_classes(open_set(images, annotations, "val"), ("person",))
    evaluator = DetectionEvaluator(data.images, DetectionSpec(("person",)))
    start = time.time()
    found = [teacher(read_image(image.path), tiles=True) for image in data.images]
    seconds = (time.time() - start) / len(found)
    evaluator.update(
        range(len(found)),
        [Detections(boxes, scores.astype(float), np.zeros(len(boxes), int), ("person",)) for boxes, scores in found],
    )
    figures = evaluator.compute()
    print(f"AP {figures['AP']:.3f}, AP50 {figures['AP50']:.3f}, {seconds:.2f} s an image")


def main(options: Options) -> None:
    cv2.setNumThreads(1)
    if options.check is not None:
        check(Fused(options.teachers), *options.check)
        return
    assert options.out is not None, "name DATA and OUT"
    (options.out / "found").mkdir(parents=True, exist_ok=True)
    chosen = {name: source for name, source in sources(options).items() if not options.sets or name in options.sets}
    teacher = None if options.write_only else Fused(options.teachers)
    for name, source in chosen.items():
        if teacher is not None:
            find(name, source, teacher, options.out / "found", options.worker)
        if options.worker[0] == 0:
            write(name, source, options.out)


if __name__ == "__main__":
    main(tyro.cli(Options))
