"""Random augmentation of training crops: scale, rotation, shift, flip, half bodies, portraits, color."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from hrnet.engine.photometric import recolor
from hrnet.io.geometry import Frame, Image, flip_order, warp
from hrnet.pose.boxes import Instance
from hrnet.pose.codecs import Codec
from hrnet.pose.processor import crop_frame
from hrnet.pose.skeletons import Skeleton
from hrnet.pose.spec import PoseSpec

Box = Float[np.ndarray, " 4"]
# Source: the published code enlarges boxes of half bodies by 1.5 in place of the usual 1.25.
_HALF_BODY_PADDING = 1.5
# Margin of a rotated box around the keypoints, as a fraction of their longer side: about that of Leeds Sports Poses.
_ROTATED_MARGIN = 0.1
# A portrait shows at least this many pixels in width and height.
_SMALLEST_PORTRAIT = 16


@dataclass(frozen=True, slots=True)
class Augment:
    """Random augmentation of training crops; the defaults are those of the published COCO training."""

    scale: float = 0.35  # standard deviation of the crop's scale around 1, clipped at one standard deviation
    rotation: float = 45.0  # standard deviation of the rotation in degrees, clipped at two
    rotation_probability: float = 0.6  # probability of a rotation
    upright: float = 0.0  # probability of rotating a person, whose hips are not below the shoulders, upright first
    flip: float = 0.5  # probability of a horizontal flip
    half_body: float = 0.3  # probability of a crop of only the upper or the lower body
    half_body_above: int = 8  # number of labeled keypoints above which `half_body` applies
    shift: float = 0.0  # maximum shift of the crop as a fraction of its longer side, uniform
    portrait: float = 0.0
    """probability of blackening the image below the chest, the hips or the knees, as portraits end there"""
    color: float = 0.0  # standard deviation of the brightness, contrast and saturation factors around 1
    empty_outside: bool = False
    """True to train keypoints known to lie outside the crop towards an empty heatmap. The published training ignores
    them, and its networks then place them somewhere."""
    antialias: bool = False  # see `geometry.warp`


class CropLabels(NamedTuple):
    """Keypoints of one crop."""

    keypoints: Float[np.ndarray, "k 2"]  # pixels of the crop
    visibility: Float[np.ndarray, " k"]  # 0 for unlabeled keypoints, else 1
    absent: Bool[np.ndarray, " k"]  # True for keypoints known to lie outside the crop

    def encode(self, codec: Codec) -> dict[str, np.ndarray]:
        """Return the training targets: heatmaps, empty for absent keypoints, and their weights."""
        heatmaps, weights = codec.encode(self.keypoints[None], self.visibility[None])
        return {
            "heatmaps": np.where(self.absent.reshape(-1, *[1] * (heatmaps.ndim - 2)), np.float32(0), heatmaps[0]),
            "weights": np.where(self.absent, np.float32(1), weights[0]),
        }


def random_crop(
    image: Image, instance: Instance, spec: PoseSpec, augment: Augment, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "_ _ 3"], Frame, Box | None]:
    """Return an augmented crop, its frame, and the part of the image, x1 y1 x2 y2, outside of which it is black."""
    box, enlarge = instance.box, 1.0
    cut = _portrait(instance, spec.skeleton, rng) if rng.random() < augment.portrait else None
    if cut is not None:
        image = _black_outside(image, cut)
        box = cut
    elif (instance.visibility > 0).sum() > augment.half_body_above and rng.random() < augment.half_body:
        half = _half_body(instance, spec.skeleton, rng)
        if half is not None:
            box, enlarge = half, _HALF_BODY_PADDING / spec.box_padding
    enlarge *= _clipped_normal(rng, augment.scale, 1.0) + 1
    rotated = rng.random() < augment.rotation_probability
    rotation = _clipped_normal(rng, augment.rotation, 2.0) if rotated else 0.0
    lean = _lean(instance, spec.skeleton) if augment.upright and rng.random() < augment.upright else 0.0
    if lean:
        rotation += lean
        box = _rotated_bounds(instance, lean) if box is instance.box else _rotated_box(box, lean)
    side = max(box[2:] - box[:2])
    moved = box + np.tile(rng.uniform(-augment.shift, augment.shift, 2) * side, 2)
    flip = bool(rng.random() < augment.flip)
    frame = crop_frame(moved, spec, instance.size, enlarge=enlarge, rotation=rotation, flip=flip)
    return recolor(warp(image, frame, antialias=augment.antialias), augment.color, rng, frame), frame, cut


def crop_labels(
    instance: Instance, frame: Frame, skeleton: Skeleton, cut: Box | None = None, *, empty_outside: bool = False
) -> CropLabels:
    """Return the keypoints of an object in a crop; a flipped crop exchanges left and right.

    The crop is black outside of `cut`, a part x1 y1 x2 y2 of the image; for `empty_outside` see `Augment`.
    """
    points = frame.to_input(instance.keypoints)
    visibility = instance.visibility
    if np.linalg.det(frame.matrix[:, :2]) < 0:
        order = flip_order(len(points), skeleton.pairs)
        points, visibility = points[order], visibility[order]
    seen = np.ones(len(points), dtype=bool)
    if cut is not None:
        place = frame.to_source(points)
        seen = (place >= cut[:2]).all(1) & (place <= cut[2:]).all(1)
        if not empty_outside:
            visibility = visibility * seen  # black pixels teach nothing
    absent = np.zeros(len(points), dtype=bool)
    if empty_outside:
        height, width = frame.size
        inside = (points > -0.5).all(1) & (points < np.array([width, height]) - 0.5).all(1)
        absent = (visibility > 0) & ~(inside & seen)
    return CropLabels(points.astype(np.float32), np.minimum(visibility, 1).astype(np.float32), absent)


def _clipped_normal(rng: np.random.Generator, std: float, limit: float) -> float:
    """Draw from a normal distribution, clipped at `limit` standard deviations."""
    return float(np.clip(rng.standard_normal() * std, -limit * std, limit * std))


def _portrait(instance: Instance, skeleton: Skeleton, rng: np.random.Generator) -> Box | None:
    """Return the part of the image around the upper body, which ends somewhere between the shoulders and the knees."""
    upper = [index for index in skeleton.upper if instance.visibility[index] > 0]
    if len(upper) < 3 or (instance.visibility > 0).sum() < len(upper) + 2:
        return None
    points = instance.keypoints[upper]
    low, high = points.min(0), points.max(0)
    margin = rng.uniform(0.05, 0.4, 4) * max(high - low)
    height, width = instance.size
    box = np.array([*(low - margin[:2]), *(high + margin[2:])])
    box = np.clip(box, 0, [width - 1, height - 1, width - 1, height - 1])
    return box if min(box[2:] - box[:2]) >= _SMALLEST_PORTRAIT else None


def _black_outside(image: Image, box: Box) -> Image:
    x1, y1, x2, y2 = np.round(box).astype(int)
    cut = np.zeros_like(image)
    cut[y1 : y2 + 1, x1 : x2 + 1] = image[y1 : y2 + 1, x1 : x2 + 1]
    return cut


def _half_body(instance: Instance, skeleton: Skeleton, rng: np.random.Generator) -> Box | None:
    """Return a box of the size of the bounds of the upper or the lower keypoints, around their mean.

    The upper body has a probability of 69 %: the published code compares a normal draw with 0.5.
    """
    visible = set(np.flatnonzero(instance.visibility > 0))
    upper = [index for index in skeleton.upper if index in visible]
    lower = [index for index in sorted(visible) if index not in skeleton.upper]
    chosen = upper if rng.standard_normal() < 0.5 and len(upper) > 2 else lower if len(lower) > 2 else upper
    if not skeleton.upper or len(chosen) < 2:
        return None
    points = instance.keypoints[chosen]
    half = (points.max(0) - points.min(0)) / 2
    return np.concatenate([points.mean(0) - half, points.mean(0) + half])


def _lean(instance: Instance, skeleton: Skeleton) -> float:
    """Return the degrees, clockwise, from upright to the line from hips to shoulders; 0 unless all four are labeled."""
    try:
        joints = [skeleton.names.index(name) for name in ("left_hip", "right_hip", "left_shoulder", "right_shoulder")]
    except ValueError:
        return 0.0
    if not (instance.visibility[joints] > 0).all():
        return 0.0
    x, y = instance.keypoints[joints[2:]].mean(0) - instance.keypoints[joints[:2]].mean(0)
    return math.degrees(math.atan2(x, -y))


def _rotated_bounds(instance: Instance, degrees: float) -> Box:
    """Return the box of a rotated object: bounds of its keypoints and a margin if most are labeled, else those of its box."""
    points = instance.keypoints[instance.visibility > 0]
    if len(points) < 0.6 * len(instance.keypoints):
        return _rotated_box(instance.box, degrees)
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    rotated = points @ turn.T
    low, high = rotated.min(0), rotated.max(0)
    middle = turn.T @ ((low + high) / 2)
    half = (high - low) / 2 + _ROTATED_MARGIN * max(high - low)
    return np.concatenate([middle - half, middle + half])


def _rotated_box(box: Box, degrees: float) -> Box:
    """Return the bounds of a box rotated around its center."""
    cosine, sine = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    center, (width, height) = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    half = np.array([width * cosine + height * sine, width * sine + height * cosine]) / 2
    return np.concatenate([center - half, center + half])
