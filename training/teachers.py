"""The person detectors that label photographs, alone and fused; OpenVINO on the CPU.

Boxes are x1 y1 x2 y2 in pixels of the image. A teacher is a folder with one .xml, told apart by the folder's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import openvino
import torch
from torchvision.ops import nms

from hrnet.nn.task import IMAGENET_MEAN, IMAGENET_STD

PICODET, YOLOX, NANODET = "picodet_v2_s_320_pedestrian", "yolox_nano_416", "nanodet_g_416"
LETTERBOX = 416
NANODET_MEAN, NANODET_STD = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
# Scores below are not worth fusing; IoU of NMS in one detector, of the fusion, and of NMS after it.
LOWEST, NMS_IOU, FUSION_IOU, LAST_IOU = 0.03, 0.6, 0.6, 0.7
# Of a tile: its share of each side, what its scores count, and (of its side) how near its inner edge a box is cut by it.
TILE, TILE_WEIGHT, CUT = 0.6, 0.95, 0.01
# Tiles of images whose shorter side is less (pixels) show nothing that the image does not.
SMALLEST_TILED = 240


class Boxes(NamedTuple):
    """Boxes (n 4) and their scores (n)."""

    boxes: np.ndarray
    scores: np.ndarray

    @classmethod
    def join(cls, parts: Sequence[Boxes]) -> Boxes:
        return cls(np.concatenate([part.boxes for part in parts]), np.concatenate([part.scores for part in parts]))

    def suppressed(self, iou: float) -> Boxes:
        kept = nms(torch.from_numpy(self.boxes).float(), torch.from_numpy(self.scores).float(), iou).numpy()
        return Boxes(self.boxes[kept], self.scores[kept])

    def above(self, score: float) -> Boxes:
        some = self.scores > score
        return Boxes(self.boxes[some], self.scores[some])


class Detector(Protocol):
    def __call__(self, image: np.ndarray) -> Boxes: ...


def compile_network(folder: Path, threads: int = 1) -> openvino.CompiledModel:
    (path,) = folder.glob("*.xml")
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(str(path), "CPU", settings)


class PicoDet:
    """Stretches the image; boxes come in pixels of the input."""

    def __init__(self, folder: Path) -> None:
        self.network = compile_network(folder)

    def __call__(self, image: np.ndarray) -> Boxes:
        small = cv2.resize(image, (320, 320), interpolation=_interpolation(image, 320))
        values = ((small.astype(np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32)
        boxes, scores = (output[0] for output in self.network(values.transpose(2, 0, 1)[None]).values())
        some = scores[0] > LOWEST
        height, width = image.shape[:2]
        return Boxes(boxes[some] * np.array([width, height] * 2) / 320, scores[0][some])


class YoloxNano:
    """Cells of strides 8, 16, 32: offset of the center, logarithm of the size, objectness, classes."""

    def __init__(self, folder: Path) -> None:
        self.network = compile_network(folder)
        self.cells, self.strides = _cells(LETTERBOX)

    def __call__(self, image: np.ndarray) -> Boxes:
        small, scale = _letterbox(image)
        rows = self.network(small.astype(np.float32).transpose(2, 0, 1)[None])[0][0]
        scores = rows[:, 4] * rows[:, 5]
        some = scores > LOWEST
        strides = self.strides[some, None]
        centers, sizes = (rows[some, :2] + self.cells[some]) * strides, np.exp(rows[some, 2:4]) * strides
        return Boxes(np.concatenate([centers - sizes / 2, centers + sizes / 2], 1) / scale, scores[some])


class NanoDet:
    """Cells of strides 8, 16, 32: distances from their centers to the four sides as distributions over eleven bins."""

    def __init__(self, folder: Path) -> None:
        self.network = compile_network(folder)
        self.cells, self.strides = _cells(LETTERBOX)

    def __call__(self, image: np.ndarray) -> Boxes:
        small, scale = _letterbox(image)
        values = ((small - NANODET_MEAN) / NANODET_STD).astype(np.float32).transpose(2, 0, 1)[None]
        outputs = [output[0] for output in self.network(values).values()]
        scores, bins = (
            np.concatenate(sorted((one for one in outputs if one.shape[1] == width), key=len, reverse=True))
            for width in (80, 44)
        )
        some = scores[:, 0] > LOWEST
        chances = np.exp(bins[some] - bins[some].max(1, keepdims=True)).reshape(-1, 4, 11)
        distances = (chances @ np.arange(11)) / chances.sum(-1) * self.strides[some, None]
        centers = (self.cells[some] + 0.5) * self.strides[some, None]
        boxes = np.concatenate([centers - distances[:, :2], centers + distances[:, 2:]], 1)
        return Boxes(boxes / scale, scores[some, 0])


class Fused:
    """All detectors on the image and on four overlapping tiles of it, joined by weighted boxes fusion."""

    def __init__(self, folder: Path) -> None:
        self.detectors: tuple[Detector, ...] = (
            PicoDet(folder / PICODET),
            YoloxNano(folder / YOLOX),
            NanoDet(folder / NANODET),
        )

    def __call__(self, image: np.ndarray, tiles: bool | None = None) -> Boxes:
        """Find people.

        Args:
            image: RGB.
            tiles: whether to look into the tiles too; None for images that are large enough.
        """
        if tiles is None:
            tiles = min(image.shape[:2]) >= SMALLEST_TILED
        found = [_on_tiles(detector, image) if tiles else detector(image) for detector in self.detectors]
        height, width = image.shape[:2]
        cut = [Boxes(one.boxes.clip(0, [width, height] * 2), one.scores).suppressed(NMS_IOU) for one in found]
        return fuse(cut).suppressed(LAST_IOU)


def fuse(found: Sequence[Boxes]) -> Boxes:
    """Weighted boxes fusion: clusters of boxes of several detectors.

    A cluster's box is the mean of its boxes weighted by their scores. Its score is the sum of the best score of each
    detector divided by the number of detectors.
    """
    together = Boxes.join(found)
    detector = np.repeat(np.arange(len(found)), [len(one.scores) for one in found])
    boxes, weights = np.zeros((0, 4)), np.zeros(0)
    best: list[np.ndarray] = []
    for index in np.argsort(-together.scores, kind="stable"):
        box, score = together.boxes[index].astype(float), float(together.scores[index])
        overlap = iou(box, boxes)
        if len(boxes) and overlap.max() > FUSION_IOU:
            cluster = int(overlap.argmax())
            boxes[cluster] = (boxes[cluster] * weights[cluster] + box * score) / (weights[cluster] + score)
            weights[cluster] += score
        else:
            cluster = len(boxes)
            boxes, weights = np.vstack([boxes, box]), np.append(weights, score)
            best.append(np.zeros(len(found)))
        best[cluster][detector[index]] = max(best[cluster][detector[index]], score)
    return Boxes(boxes, np.array([one.mean() for one in best]))


def iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Of one box with others (n)."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = sides.clip(0).prod(1)
    return shared / np.maximum((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(1) - shared, 1e-9)


def _on_tiles(detector: Detector, image: np.ndarray) -> Boxes:
    height, width = image.shape[:2]
    tall, wide = round(TILE * height), round(TILE * width)
    found = [detector(image)]
    for top in (0, height - tall):
        for left in (0, width - wide):
            boxes, scores = detector(np.ascontiguousarray(image[top : top + tall, left : left + wide]))
            edges = np.array([left > 0, top > 0, left == 0, top == 0])
            depth = np.stack(
                [boxes[:, 0] / wide, boxes[:, 1] / tall, 1 - boxes[:, 2] / wide, 1 - boxes[:, 3] / tall], 1
            )
            whole = ~((depth < CUT) & edges).any(1)
            found.append(Boxes(boxes[whole] + np.array([left, top] * 2), scores[whole] * TILE_WEIGHT))
    return Boxes.join(found)


def _letterbox(image: np.ndarray) -> tuple[np.ndarray, float]:
    """BGR at the top left of a gray square, and pixels of the square per pixel of the image."""
    scale = LETTERBOX / max(image.shape[:2])
    height, width = (min(LETTERBOX, max(1, round(side * scale))) for side in image.shape[:2])
    square = np.full((LETTERBOX, LETTERBOX, 3), 114, np.uint8)
    small = cv2.resize(image, (width, height), interpolation=_interpolation(image, LETTERBOX))
    square[:height, :width] = small[..., ::-1]
    return square, scale


def _interpolation(image: np.ndarray, side: int) -> int:
    return cv2.INTER_AREA if max(image.shape[:2]) > 2 * side else cv2.INTER_LINEAR


def _cells(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Column and row (n 2) of all cells, and their strides (n)."""
    cells, strides = [], []
    for stride in (8, 16, 32):
        rows, columns = np.mgrid[: side // stride, : side // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel()], 1))
        strides.append(np.full(rows.size, stride))
    return np.concatenate(cells), np.concatenate(strides)
