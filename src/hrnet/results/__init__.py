"""Predictions as frozen dataclasses, in pixels of the original image.

Boxes are x1 y1 x2 y2, points (x, y), labels 0..K-1, scores in [0, 1].
"""

from hrnet.results.classification import Classification
from hrnet.results.detections import Detections, Masks
from hrnet.results.poses import Poses
from hrnet.results.result import IGNORE_INDEX, Result, Source
from hrnet.results.semantic import SemanticMap

__all__ = ["IGNORE_INDEX", "Classification", "Detections", "Masks", "Poses", "Result", "SemanticMap", "Source"]
