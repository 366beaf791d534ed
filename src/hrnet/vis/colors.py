"""Deterministic colors for classes, far from one another however many there are."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float, UInt8

# Source: the colors in which Cityscapes shows its evaluated classes.
_CITYSCAPES = {
    "road": (128, 64, 128), "sidewalk": (244, 35, 232), "building": (70, 70, 70), "wall": (102, 102, 156),
    "fence": (190, 153, 153), "pole": (153, 153, 153), "traffic light": (250, 170, 30), "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35), "terrain": (152, 251, 152), "sky": (70, 130, 180), "person": (220, 20, 60),
    "rider": (255, 0, 0), "car": (0, 0, 142), "truck": (0, 0, 70), "bus": (0, 60, 100), "train": (0, 80, 100),
    "motorcycle": (0, 0, 230), "bicycle": (119, 11, 32),
}  # fmt: skip
# Names of classes that mean nothing in particular, which stay as they are in an image.
BACKGROUND = ("background", "void", "unlabeled", "unlabelled", "none", "null")  # words: allow  # names in data sets
# The first ones are distinct for the color-blind too. Source: Okabe and Ito 2008.
_FIRST = ((230, 120, 0), (30, 136, 229), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 60, 0))
# The candidates: this many steps of each primary, neither dark nor pale nor gray, in units of OKLab.
_STEPS, _LIGHT, _CHROMA = 16, (0.42, 0.93), 0.07


def class_colors(names: tuple[str, ...]) -> UInt8[np.ndarray, "k 3"]:
    """Return a color per class: those of Cityscapes if all are its classes; black for the background."""
    if all(name in _CITYSCAPES for name in names):
        return np.array([_CITYSCAPES[name] for name in names], np.uint8)
    painted = [index for index, name in enumerate(names) if name.lower() not in BACKGROUND]
    colors = np.zeros((len(names), 3), np.uint8)
    colors[painted] = distinct(len(painted))
    return colors


@cache
def distinct(count: int) -> UInt8[np.ndarray, "n 3"]:
    """Return some well-known colors, then always the one that is farthest from all before it."""
    steps = np.linspace(0, 255, _STEPS).round().astype(np.uint8)
    offered = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    places = oklab(offered)
    fit = (places[:, 0] > _LIGHT[0]) & (places[:, 0] < _LIGHT[1]) & (np.hypot(places[:, 1], places[:, 2]) > _CHROMA)
    offered, places = offered[fit], places[fit]
    chosen = [np.array(color, np.uint8) for color in _FIRST[:count]]
    distance = np.full(len(offered), np.inf)
    for color in chosen:
        distance = np.minimum(distance, np.linalg.norm(places - oklab(color[None]), axis=1))
    while len(chosen) < count:
        best = int(distance.argmax())
        chosen.append(offered[best])
        distance = np.minimum(distance, np.linalg.norm(places - places[best], axis=1))
    return np.array(chosen, np.uint8).reshape(-1, 3)


def oklab(colors: UInt8[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Return lightness from 0 to 1 and two opponent axes, in which equal distances look about equal.

    Source: B. Ottosson, "A perceptual color space for image processing", 2020.
    """
    values = colors.astype(float) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(linear @ _TO_CONES.T)
    return cones @ _FROM_CONES.T


_TO_CONES = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
_FROM_CONES = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip
