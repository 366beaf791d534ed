"""Boxes of the shipped person detector: people in images of sports and streets, where a teacher sees them.

python training/person_boxes.py LSP LSPET CCP TEACHER.xml OUT [--every 5]

LSP and LSPET hold ``annotations/train.json`` and ``train/``, CCP ``images/train``. TEACHER is a pedestrian detector as
OpenVINO IR (input 1 3 320 320, ImageNet statistics; output boxes 1 n 4 in pixels of the input and scores 1 1 n). OUT gets
``lsp.json``, ``lspet.json`` and ``ccp.json``. Who has labeled joints has the teacher's box where that agrees with them, and
the one around the joints where not; others are the teacher's alone, and those it is not sure of become crowds, which training
leaves out.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import openvino
import torch
import tyro
from torchvision.ops import box_iou, nms

from hrnet.io.images import read_image
from hrnet.nn.task import IMAGENET_MEAN, IMAGENET_STD

SIZE = 320
# Scores from which a box is a person, and from which it may be one; the overlap that makes two boxes one.
SURE, DOUBTFUL, SAME = 0.5, 0.2, 0.6
# Of the joints' extent, what a body has beyond them on each side; the overlap from which the teacher's box is taken for it.
MARGIN, AGREES = 0.08, 0.6


@dataclass
class Options:
    lsp: Annotated[Path, tyro.conf.Positional]
    lspet: Annotated[Path, tyro.conf.Positional]
    ccp: Annotated[Path, tyro.conf.Positional]
    teacher: Annotated[Path, tyro.conf.Positional]
    out: Annotated[Path, tyro.conf.Positional]
    every: int = 1
    """of LSPET each so many-th image only: its people are all alike, one in the middle"""


class Teacher:
    def __init__(self, path: Path) -> None:
        self.network = openvino.Core().compile_model(str(path), "CPU")

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes left, top, right, bottom in pixels (n 4) and scores (n), of the image and its mirror image."""
        height, width = image.shape[:2]
        found = []
        for mirrored in (False, True):
            small = cv2.resize(image[:, ::-1] if mirrored else image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
            values = ((small / 255 - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)[None].astype(np.float32)
            boxes, scores = (output[0] for output in self.network(values).values())
            boxes = boxes * np.array([width, height] * 2) / SIZE
            if mirrored:
                boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
            found.append((boxes, scores[0]))
        boxes, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        boxes = boxes.clip(0, [width, height] * 2)
        some = scores > DOUBTFUL
        boxes, scores = boxes[some], scores[some]
        kept = nms(torch.from_numpy(boxes).float(), torch.from_numpy(scores).float(), SAME).numpy()
        return boxes[kept], scores[kept]


def around(labels: np.ndarray, width: int, height: int) -> np.ndarray | None:
    """The box of a body with these joints (k 3), left, top, right, bottom; None where too few are labeled to say."""
    points = labels[labels[:, 2] > 0, :2]
    if len(points) < 10:
        return None
    margin = MARGIN * (points.max(0) - points.min(0)).max()
    return np.concatenate([points.min(0) - margin, points.max(0) + margin]).clip(0, [width, height] * 2)


def boxes_of(
    image: np.ndarray, joints: np.ndarray | None, teacher: Teacher, counts: Counter[str]
) -> list[tuple[np.ndarray, bool]] | None:
    """Boxes of one image, and which are doubtful; None where nobody is found."""
    boxes, scores = teacher(image)
    own = around(joints, image.shape[1], image.shape[0]) if joints is not None else None
    if joints is not None and own is None:
        counts["too few joints"] += 1
        return None
    people = [(box, bool(score < SURE)) for box, score in zip(boxes, scores, strict=True)]
    if own is not None:
        overlap = (
            box_iou(torch.from_numpy(own)[None], torch.from_numpy(boxes))[0].numpy() if len(boxes) else np.zeros(0)
        )
        # The best of those that overlap is the same person, however badly seen: one box of it is enough. Others may be
        # somebody else in front or behind.
        same = overlap.argmax() if len(boxes) and overlap.max() >= 0.3 else -1
        people = [
            (box, bool(doubtful or share >= 0.3))
            for index, ((box, doubtful), share) in enumerate(zip(people, overlap, strict=True))
            if index != same
        ]
        agrees = len(boxes) > 0 and overlap.max() > AGREES
        counts["teacher agrees" if agrees else "joints alone"] += 1
        people.append((boxes[overlap.argmax()] if agrees else own, False))
    return people if any(not doubtful for _, doubtful in people) else None


def labeled(folder: Path, joints: dict[str, np.ndarray] | None, teacher: Teacher) -> dict[str, Any]:
    """COCO's json of the images of a folder: all, or those with joints (k 3)."""
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    counts: Counter[str] = Counter()
    for name in sorted(joints) if joints is not None else sorted(path.name for path in folder.iterdir()):
        image = read_image(folder / name)
        people = boxes_of(image, joints[name] if joints is not None else None, teacher, counts)
        if people is None:
            counts["left out"] += 1
            continue
        number = len(content["images"]) + 1
        content["images"].append({"id": number, "file_name": name, "width": image.shape[1], "height": image.shape[0]})
        for (left, top, right, bottom), doubtful in people:
            counts["doubtful" if doubtful else "people"] += 1
            box = [round(float(value), 1) for value in (left, top, right - left, bottom - top)]
            content["annotations"].append({
                "id": len(content["annotations"]) + 1, "image_id": number, "category_id": 1, "bbox": box,
                "area": box[2] * box[3], "iscrowd": int(doubtful),
            })  # fmt: skip
    print(folder, dict(counts))
    return content


def joints_of(file: Path) -> dict[str, np.ndarray]:
    content = json.loads(file.read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    return {names[one["image_id"]]: np.array(one["keypoints"], float).reshape(-1, 3) for one in content["annotations"]}


def main(options: Options) -> None:
    teacher = Teacher(options.teacher)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, folder in (("lsp", options.lsp), ("lspet", options.lspet)):
        joints = joints_of(folder / "annotations/train.json")
        if name == "lspet":
            joints = dict(sorted(joints.items())[:: options.every])
        content = labeled(folder / "train", joints, teacher)
        (options.out / f"{name}.json").write_text(json.dumps(content))
    (options.out / "ccp.json").write_text(json.dumps(labeled(options.ccp / "images/train", None, teacher)))


if __name__ == "__main__":
    main(tyro.cli(Options))
