"""Labels of the shipped pose model: Leeds Sports Poses, mended where a teacher is sure, with five face points added.

python training/pose_labels.py LSP LSPET TEACHER.xml OUT

LSP and LSPET hold ``annotations/train.json`` and ``train/``. TEACHER is a network with COCO's seventeen keypoints as
OpenVINO IR (input 1 3 256 192, ImageNet statistics; output heatmaps). OUT gets ``lsp_fit.json`` and ``lsp_val.json`` (800 and
200 images of LSP), and ``lspet.json``; OUT/found a line a person as soon as the teacher has seen it, so that a run that was
stopped goes on where it was. Of LSP only the face points are the teacher's; its own labels stay. A nose or an eye
with visibility 1 is known not to be in sight: the teacher puts a face on heads seen from behind.
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
import tyro

from hrnet.io.geometry import Frame, warp
from hrnet.io.images import read_image
from hrnet.nn.task import IMAGENET_MEAN, IMAGENET_STD
from hrnet.pose.skeletons import COCO

SIZE = (256, 192)
FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
FACE_LINKS = [[14, 15], [15, 16], [15, 17], [16, 18], [17, 19]]  # head top, nose, eyes, ears; counted from 1
# Scores and spreads (in torsos) from which the teacher is believed, and distances (in torsos) at which it disagrees.
SURE, SURE_SPREAD, FAR = 0.45, 0.15, 0.35
# Of a torso seen from behind: how far, in torsos, the right shoulder and hip lie to the right of the left ones.
BACK_SHOULDERS, BACK_HIPS = 0.25, 0.08
FILL, REPLACE, FILL_SPREAD, FACE_SURE = 0.5, 0.65, 0.12, 0.35


@dataclass
class Options:
    lsp: Annotated[Path, tyro.conf.Positional]
    lspet: Annotated[Path, tyro.conf.Positional]
    teacher: Annotated[Path, tyro.conf.Positional]
    out: Annotated[Path, tyro.conf.Positional]
    held_out: int = 200
    every: int = 1
    """of LSPET each so many-th image only"""
    seed: int = 0


class Teacher:
    """Keypoints x, y, score (17 3) in pixels of the image, and the spread of the views that gave them."""

    def __init__(self, path: Path) -> None:
        self.network = openvino.Core().compile_model(str(path), "CPU")
        self.flipped = [COCO.names.index(_other_side(name)) for name in COCO.names]

    def __call__(
        self, image: np.ndarray, points: np.ndarray, lean: float | None, around: tuple[float, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        if lean is None:
            lean = max(range(0, 360, 45), key=lambda turn: self._view(image, points, turn, False)[5:, 2].mean())
        turns = [lean + turn for turn in around]
        views = np.stack([self._view(image, points, turn, mirror) for turn in turns for mirror in (False, True)])
        weights = np.maximum(views[..., 2:], 1e-3)
        place = (views[..., :2] * weights).sum(0) / weights.sum(0)
        spread = np.sqrt((((views[..., :2] - place) ** 2).sum(-1) * weights[..., 0]).sum(0) / weights[..., 0].sum(0))
        return np.column_stack([place, views[..., 2].mean(0)]), spread

    def _view(self, image: np.ndarray, points: np.ndarray, turn: float, mirror: bool) -> np.ndarray:
        frame = _frame_around(points, turn, mirror, (image.shape[0], image.shape[1]))
        crop = (warp(image, frame) / 255 - IMAGENET_MEAN) / IMAGENET_STD
        heatmaps = self.network(crop.transpose(2, 0, 1)[None].astype(np.float32))[0][0]
        found = np.array([_peak(heatmap) for heatmap in heatmaps])
        height, width = heatmaps.shape[1:]
        stride = np.array([(SIZE[1] - 1) / (width - 1), (SIZE[0] - 1) / (height - 1)])
        found[:, :2] = frame.to_source(found[:, :2] * stride)
        return found[self.flipped] if mirror else found


def _other_side(name: str) -> str:
    side, _, rest = name.partition("_")
    return {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)


def _frame_around(points: np.ndarray, turn: float, mirror: bool, size: tuple[int, int]) -> Frame:
    """The crop that shows all points after a turn by `turn` degrees, with a margin of a quarter."""
    angle = np.radians(turn)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned = points @ rotation.T
    low, high = turned.min(0), turned.max(0)
    width, height = high - low
    span = 1.25 * max(width, height * SIZE[1] / SIZE[0], 8.0)
    center = rotation.T @ ((low + high) / 2)
    return Frame.around((center[0], center[1]), span, SIZE, size, rotation=turn, flip=mirror, unbiased=True)


def _peak(heatmap: np.ndarray) -> tuple[float, float, float]:
    """Column, row and height of the peak, refined by a Taylor step on the smoothed logarithm."""
    row, column = divmod(int(heatmap.argmax()), heatmap.shape[1])
    score = float(heatmap[row, column])
    if not (1 <= row < heatmap.shape[0] - 1 and 1 <= column < heatmap.shape[1] - 1):
        return column, row, score
    smooth = np.log(np.maximum(cv2.GaussianBlur(heatmap, (7, 7), 0)[row - 1 : row + 2, column - 1 : column + 2], 1e-6))
    slope = np.array([smooth[1, 2] - smooth[1, 0], smooth[2, 1] - smooth[0, 1]]) / 2
    mixed = (smooth[2, 2] - smooth[2, 0] - smooth[0, 2] + smooth[0, 0]) / 4
    bend = np.array([[smooth[1, 2] + smooth[1, 0], mixed], [mixed, smooth[2, 1] + smooth[0, 1]]])
    bend -= 2 * smooth[1, 1] * np.eye(2)
    step = np.clip(-np.linalg.solve(bend, slope), -1.5, 1.5) if abs(np.linalg.det(bend)) > 1e-6 else np.zeros(2)
    return column + step[0], row + step[1], score


def lean(points: np.ndarray, labeled: np.ndarray, names: list[str]) -> float | None:
    """Degrees from upright to the line from the hips to the shoulders; None where one of the four is not labeled."""
    hips, shoulders = ([names.index(f"{side}_{joint}") for side in ("left", "right")] for joint in ("hip", "shoulder"))
    if not labeled[hips + shoulders].all():
        return None
    x, y = points[shoulders].mean(0) - points[hips].mean(0)
    return float(np.degrees(np.arctan2(x, -y)))


def mend(labels: np.ndarray, found: np.ndarray, spread: np.ndarray, size: float, names: list[str]) -> str | None:
    """Correct the limbs of one person (14 3) in place; what was done to all of them, or None for nothing.

    Args:
        labels: x, y, visibility.
        found: of the teacher, x, y, score, in the same order; a score of 0 for what it does not know.
        spread: of its views.
        size: of the torso, pixels.
    """
    sure = (found[:, 2] > SURE) & (spread < SURE_SPREAD * size)
    checked = sure & (labels[:, 2] > 0)
    exchanged = labels[[names.index(_other_side(name)) for name in names]]
    as_is, swapped = (np.linalg.norm(found[:, :2] - one[:, :2], axis=1) / size for one in (labels, exchanged))
    swapped[exchanged[:, 2] == 0] = 9
    done = None
    fits = checked.sum() >= 6 and (checked & (swapped < 0.3)).sum() > 0.6 * checked.sum()
    if fits and as_is[checked].mean() > 2 * np.minimum(swapped, 2)[checked].mean():
        labels[:], as_is, done = exchanged, swapped, "left and right exchanged"
    far = sure & (labels[:, 2] > 0) & (as_is > FAR)
    if far.sum() > 0.5 * max(checked.sum(), 1) and checked.sum() >= 5:
        return "left out"
    fill = (labels[:, 2] == 0) & (found[:, 2] > FILL) & (spread < FILL_SPREAD * size)
    replaced = fill | (far & (found[:, 2] > REPLACE))
    between = sure & (labels[:, 2] > 0) & ~far
    labels[between, :2] = (labels[between, :2] + found[between, :2]) / 2
    labels[far] = 0
    labels[replaced] = np.column_stack([found[replaced, :2], np.full(replaced.sum(), 2)])
    return done


def turn_away(labels: np.ndarray, names: list[str]) -> np.ndarray:
    """The labels with the face points of a person seen from behind taken away (k 3).

    The ears are not labeled then. Nose and eyes get visibility 1, at the middle of the head, unless the nose lies beyond the
    ears: that is a head turned aside, of which nothing is said.
    """
    turned = lean(labels[:, :2], labels[:, 2] > 0, names)
    if turned is None:
        return labels
    angle, place = np.radians(turned), dict(zip(names, labels, strict=True))
    right = np.array([np.cos(angle), np.sin(angle)])
    across, up = {name: float(row[:2] @ right) for name, row in place.items()}, np.array([right[1], -right[0]])
    middles = [(place[f"left_{part}"] + place[f"right_{part}"])[:2] / 2 for part in ("shoulder", "hip")]
    torso = float((middles[0] - middles[1]) @ up)
    shoulders, hips = (across[f"right_{part}"] - across[f"left_{part}"] for part in ("shoulder", "hip"))
    if shoulders < BACK_SHOULDERS * torso or hips < BACK_HIPS * torso:
        return labels
    labels, seen = labels.copy(), {name: place[name][2] > 0 for name in FACE}
    ears = [across[name] for name in ("left_ear", "right_ear") if seen[name]]
    aside = seen["nose"] and not (len(ears) == 2 and min(ears) < across["nose"] < max(ears))
    head = (place["neck"] + place["head_top"])[:2] / 2
    known = place["neck"][2] > 0 and place["head_top"][2] > 0 and not aside
    for name in FACE:
        labels[names.index(name)] = [*head, 1] if known and not name.endswith("ear") else 0
    return labels


class Memory:
    """What the teacher found of each person, in a file."""

    def __init__(self, file: Path) -> None:
        self.file, self.found = file, dict[int, tuple[np.ndarray, np.ndarray]]()
        file.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text() if file.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            file.write_text(whole)
        for line in map(json.loads, whole.splitlines()):
            self.found[line["id"]] = np.array(line["found"]), np.array(line["spread"])

    def add(self, number: int, found: np.ndarray, spread: np.ndarray) -> None:
        self.found[number] = found, spread
        with self.file.open("a") as lines:
            lines.write(json.dumps({"id": number, "found": found.tolist(), "spread": spread.tolist()}) + "\n")


def relabel(folder: Path, teacher: Teacher, memory: Memory, ids: set[int] | None, mending: bool) -> dict[str, Any]:
    """The content of a set's training json with mended labels and face points."""
    content = json.loads((folder / "annotations/train.json").read_text())
    category = content["categories"][0]
    names: list[str] = category["keypoints"]
    place = [COCO.names.index(name) if name in COCO.names else -1 for name in names]
    images = {image["id"]: image for image in content["images"]}
    kept, counts = [], Counter[str]()
    for entry in content["annotations"]:
        if ids is not None and entry["image_id"] not in ids:
            continue
        labels = np.array(entry["keypoints"], dtype=float).reshape(-1, 3)
        labeled = labels[:, 2] > 0
        x, y, width, height = entry["bbox"]
        corners = np.array([[x, y], [x + width, y], [x, y + height], [x + width, y + height]])
        inside = labels[labeled, :2] if labeled.sum() >= 12 else corners
        turned = lean(labels[:, :2], labeled, names)
        if entry["id"] not in memory.found:
            image = read_image(folder / "train" / images[entry["image_id"]]["file_name"])
            memory.add(entry["id"], *teacher(image, inside, turned, (0,) if mending else (-25, 0, 25)))
        found, spread = memory.found[entry["id"]]
        size = _torso(labels, names, max(width, height))
        if mending:
            limbs = np.where(np.array(place)[:, None] >= 0, found[place], 0)
            done = mend(labels, limbs, spread[place], size, names)
            counts[done or "kept"] += 1
            if done == "left out":
                continue
        faces = np.array([COCO.names.index(name) for name in FACE])
        seen = (found[faces, 2] > FACE_SURE) & (spread[faces] < FILL_SPREAD * size)
        face = np.where(seen[:, None], np.column_stack([found[faces, :2], np.full(len(FACE), 2)]), 0)
        values = turn_away(np.vstack([labels, face]), [*names, *FACE]).round(2)
        kept.append({**entry, "keypoints": values.ravel().tolist(), "num_keypoints": int((values[:, 2] > 0).sum())})
    print(folder.name, dict(counts))
    used = {entry["image_id"] for entry in kept}
    category = {**category, "keypoints": [*names, *FACE], "skeleton": category["skeleton"] + FACE_LINKS}
    images = [image for image in content["images"] if image["id"] in used]
    return {"images": images, "annotations": kept, "categories": [category]}


def _torso(labels: np.ndarray, names: list[str], side: float) -> float:
    ends = labels[[names.index("left_shoulder"), names.index("right_hip")]]
    length = float(np.linalg.norm(ends[0, :2] - ends[1, :2])) if (ends[:, 2] > 0).all() else 0.3 * side
    return max(length, 0.18 * side)


def main(options: Options) -> None:
    teacher = Teacher(options.teacher)
    options.out.mkdir(parents=True, exist_ok=True)
    ids = [image["id"] for image in json.loads((options.lsp / "annotations/train.json").read_text())["images"]]
    order = np.random.default_rng(options.seed).permutation(ids).tolist()
    parts = {"lsp_val": order[: options.held_out], "lsp_fit": order[options.held_out :]}
    memory = Memory(options.out / "found/lsp.jsonl")
    for name, part in parts.items():
        content = relabel(options.lsp, teacher, memory, set(part), mending=False)
        _save(options.out / f"{name}.json", content)
    ids = [image["id"] for image in json.loads((options.lspet / "annotations/train.json").read_text())["images"]]
    memory = Memory(options.out / "found/lspet.jsonl")
    content = relabel(options.lspet, teacher, memory, set(ids[:: options.every]), mending=True)
    _save(options.out / "lspet.json", content)


def _save(file: Path, content: dict[str, Any]) -> None:
    """In one step: a training may read it at the same time."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content))
    part.replace(file)


if __name__ == "__main__":
    main(tyro.cli(Options))
