"""The NumPy side of pose estimation: crops of boxes, keypoints from heatmaps, and the poses of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from hrnet.inference.processor import BoxPrompts, Processor
from hrnet.io.geometry import Frame, Size
from hrnet.pose.boxes import person_boxes, person_labels
from hrnet.pose.codecs import codec_class, make_codec
from hrnet.pose.spec import PoseSpec
from hrnet.results import Detections, Poses, Source

# Source: the published COCO evaluation (in_vis_thre and oks_thre).
KEYPOINT_THRESHOLD = 0.2
OKS_NMS_THRESHOLD = 0.9
_OKS_EPSILON = np.spacing(1)


class PoseOutput(NamedTuple):
    """Network outputs, as tensors or arrays."""

    heatmaps: Float[Any, "n k h w"]  # one per keypoint, at stride 4


class PoseProcessor(Processor[Poses]):
    """One object per crop; `PoseSpec.box_padding` chooses the crop around a box.

    Raises:
        InputError: the spec names an unknown codec.
    """

    takes_boxes = True

    def __init__(self, spec: PoseSpec) -> None:
        codec_class(spec.codec.kind)  # fails early
        self.spec = spec

    def frames(self, size: Size, prompts: BoxPrompts) -> list[Frame]:
        """Return the crop of each box."""
        return [crop_frame(box, self.spec, size) for box in prompts.boxes]

    def check_detector(self, class_names: tuple[str, ...]) -> None:
        person_labels(class_names)

    def select_prompts(self, detections: Detections, score_threshold: float) -> BoxPrompts:
        """Return the boxes of the people that a detector found."""
        return person_boxes(detections, score_threshold)

    def merge_flip(self, outputs: PoseOutput, flipped: PoseOutput, input_size: Size) -> PoseOutput:
        """Return the mean of the heatmaps and those of the flipped inputs."""
        codec = make_codec(self.spec.codec, input_size, self.spec.skeleton.pairs)
        return PoseOutput(codec.merge_flip(outputs.heatmaps, flipped.heatmaps))

    def decode(self, outputs: PoseOutput, frames: Sequence[Frame]) -> list[Poses]:
        """Return one pose per crop; its box is the crop, its score the mean keypoint score above 0.2."""
        skeleton = self.spec.skeleton
        points, scores = make_codec(self.spec.codec, frames[0].size, skeleton.pairs).decode(outputs.heatmaps)
        means = mean_keypoint_score(scores)
        return [
            Poses(
                keypoints=frame.to_source(points[i].astype(np.float64))[None],
                keypoint_scores=scores[i][None],
                boxes=_bounds(frame)[None],
                scores=means[i][None],
                names=skeleton.names,
                links=skeleton.links,
                pairs=skeleton.pairs,
            )
            for i, frame in enumerate(frames)
        ]

    def join(self, results: Sequence[Poses], prompts: BoxPrompts, source: Source) -> Poses:
        """Return the poses of an image; see `join_poses`."""
        return join_poses(results, prompts.boxes, prompts.scores, self.spec, source)


def crop_frame(
    box: Float[np.ndarray, 4],
    spec: PoseSpec,
    source_size: Size,
    *,
    enlarge: float = 1.0,
    rotation: float = 0.0,
    flip: bool = False,
) -> Frame:
    """Return the crop of a box: extended to the aspect of the input, padded, enlarged by a factor, rotated by degrees.

    The box is x1 y1 x2 y2 in pixels of the image, pixel centers at whole numbers.
    """
    height, width = spec.input_size
    x1, y1, x2, y2 = (float(value) for value in box)
    span = max(x2 - x1, (y2 - y1) * width / height, 1.0) * spec.box_padding * enlarge
    return Frame.around(
        ((x1 + x2) / 2, (y1 + y2) / 2),
        span,
        spec.input_size,
        source_size,
        rotation=rotation,
        flip=flip,
        unbiased=codec_class(spec.codec.kind).unbiased,
    )


def mean_keypoint_score(scores: Float[np.ndarray, "*n k"]) -> Float[np.ndarray, "*n"]:
    """Return the mean of the scores above 0.2; 0 where there is none."""
    above = scores > KEYPOINT_THRESHOLD
    return np.where(above, scores, 0).sum(-1) / np.maximum(above.sum(-1), 1)


def join_poses(
    crops: Sequence[Poses],
    boxes: Float[np.ndarray, "n 4"],
    box_scores: Float[np.ndarray, " n"],
    spec: PoseSpec,
    source: Source = None,
) -> Poses:
    """Return the poses of one image's boxes x1 y1 x2 y2 as one result, duplicates removed, best first.

    The score of a pose is the detector's score of its box times the mean keypoint score.
    """
    skeleton = spec.skeleton
    count, joints = len(crops), len(skeleton)
    keypoints = np.concatenate([crop.keypoints for crop in crops]) if count else np.zeros((0, joints, 2))
    keypoint_scores = np.concatenate([crop.keypoint_scores for crop in crops]) if count else np.zeros((0, joints))
    scores = mean_keypoint_score(keypoint_scores) * box_scores
    # The published areas are those of the padded crops, larger than COCO's, so that fewer poses are removed.
    keep = oks_nms(keypoints, scores, padded_areas(boxes, spec), np.array(skeleton.oks_sigmas))
    return Poses(
        keypoints[keep],
        keypoint_scores[keep],
        np.asarray(boxes, dtype=float).reshape(-1, 4)[keep],
        scores[keep],
        skeleton.names,
        skeleton.links,
        skeleton.pairs,
        source,
    )


def padded_areas(boxes: Float[np.ndarray, "n 4"], spec: PoseSpec) -> Float[np.ndarray, " n"]:
    """Return the area in the image of the crop of each box."""
    height, width = spec.input_size
    sides = boxes[:, 2:] - boxes[:, :2]
    span = np.maximum(sides[:, 0], sides[:, 1] * width / height) * spec.box_padding
    return span**2 * height / width


def oks(
    keypoints: Float[np.ndarray, "k 2"],
    others: Float[np.ndarray, "m k 2"],
    area: float,
    areas: Float[np.ndarray, " m"],
    sigmas: Float[np.ndarray, " k"],
) -> Float[np.ndarray, " m"]:
    """Return the object keypoint similarity of one pose with others; the size is the mean of the two areas."""
    squared = ((others - keypoints) ** 2).sum(-1)
    size = (area + areas) / 2 + _OKS_EPSILON
    return np.exp(-squared / (2 * (2 * sigmas) ** 2) / size[:, None]).mean(-1)


def oks_nms(
    keypoints: Float[np.ndarray, "n k 2"],
    scores: Float[np.ndarray, " n"],
    areas: Float[np.ndarray, " n"],
    sigmas: Float[np.ndarray, " k"],
    threshold: float = OKS_NMS_THRESHOLD,
) -> Int[np.ndarray, " m"]:
    """Return the indices of the poses that stay, best first: none has a higher OKS than the threshold with a better one."""
    order = np.argsort(-scores, kind="stable")
    keep: list[int] = []
    while len(order):
        best, rest = order[0], order[1:]
        keep.append(int(best))
        similar: Bool[np.ndarray, " m"] = (
            oks(keypoints[best], keypoints[rest], float(areas[best]), areas[rest], sigmas) > threshold
        )
        order = rest[~similar]
    return np.array(keep, dtype=int)


def _bounds(frame: Frame) -> Float[np.ndarray, 4]:
    height, width = frame.size
    corners = frame.to_source(np.array([[0, 0], [width, 0], [0, height], [width, height]], dtype=float) - 0.5)
    return np.concatenate([corners.min(0), corners.max(0)])
