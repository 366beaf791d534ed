"""The pose network: a backbone, one convolution, one heatmap a keypoint; and people made of single crops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hrnet.inference.processor import BoxPrompts
from hrnet.io.geometry import Frame, Size
from hrnet.nn.backbone import init_normal, set_norm_momentum
from hrnet.nn.representation import PixelHead
from hrnet.nn.task import Batch, TaskModel
from hrnet.pose.heatmap import HeatmapCodec, Heatmaps
from hrnet.pose.spec import PoseSpec
from hrnet.results import Poses, Source

# Source: the published COCO evaluation (in_vis_thre and oks_thre).
KEYPOINT_THRESHOLD = 0.2
OKS_NMS_THRESHOLD = 0.9
OKS_SOURCE_EPSILON = np.spacing(1)


class PoseOutput(NamedTuple):
    """What the network returns: a heatmap for each keypoint, at stride 4."""

    heatmaps: Heatmaps


class PoseModel(TaskModel[PoseSpec, Poses]):
    """One object a crop; the crop is chosen by `PoseSpec.box_padding` around a box."""

    takes_boxes = True

    def __init__(self, spec: PoseSpec) -> None:
        super().__init__(spec)
        keypoints, widths = len(spec.skeleton), spec.backbone.widths
        if spec.representation == "v1":
            self.head: nn.Module = nn.Conv2d(widths[0], keypoints, spec.head_kernel, padding=spec.head_kernel // 2)
        else:
            self.head = PixelHead(widths, keypoints, spec.head_kernel, spec.backbone.align_corners)
        init_normal(self)
        set_norm_momentum(self, spec.backbone.norm_momentum)

    def forward(self, images: Float[Tensor, "n c h w"]) -> PoseOutput:
        maps = self.backbone(self.normalize(images))
        return PoseOutput(self.head(maps[0] if self.spec.representation == "v1" else maps))

    def codec(self, input_size: Size) -> HeatmapCodec:
        """How heatmaps of inputs of this height and width are written and read."""
        return HeatmapCodec(self.spec.codec, input_size, self.spec.skeleton.pairs)

    def loss(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Half the mean squared error, over batch, keypoints and pixels; unlabeled keypoints count as errors of 0."""
        heatmaps = self(batch.images).heatmaps.float()
        codec = self.codec((batch.images.shape[-2], batch.images.shape[-1]))
        targets, weights = codec.encode(batch.targets["keypoints"], batch.targets["visibility"])
        absent = batch.targets.get("absent")
        if absent is not None:
            # Known to lie outside the crop: the heatmap is to stay empty.
            targets = targets * ~absent[..., None, None]
            weights = torch.where(absent, 1.0, weights)
        return {"heatmaps": 0.5 * (weights[..., None, None] * (heatmaps - targets)).square().mean()}

    def named_outputs(self) -> dict[str, tuple[str, ...]]:
        return {"head" if self.spec.representation == "v1" else "head.classify": self.spec.skeleton.names}

    def merge_flip(self, outputs: PoseOutput, mirrored: PoseOutput, input_size: Size) -> PoseOutput:
        """The mean of the outputs and those of the mirrored images."""
        return PoseOutput(self.codec(input_size).merge_flip(outputs.heatmaps, mirrored.heatmaps))

    def decode(self, outputs: PoseOutput, frames: Sequence[Frame]) -> list[Poses]:
        """One pose a crop; its box is what the crop shows and its score the mean keypoint score above 0.2."""
        points, scores = self.codec(frames[0].size).decode(outputs.heatmaps)
        skeleton = self.spec.skeleton
        return [
            Poses(
                keypoints=frame.to_source(points[i].cpu().double().numpy())[None],
                keypoint_scores=scores[i].cpu().numpy()[None],
                boxes=_bounds(frame)[None],
                scores=mean_keypoint_score(scores[i].cpu().numpy())[None],
                names=skeleton.names,
                links=skeleton.links,
                pairs=skeleton.pairs,
            )
            for i, frame in enumerate(frames)
        ]

    def frames(self, size: Size, boxes: BoxPrompts) -> list[Frame]:
        """The crop of each box."""
        return [crop_frame(box, self.spec, size) for box in boxes.boxes]

    def join(self, results: Sequence[Poses], boxes: BoxPrompts, source: Source) -> Poses:
        """The people of the image; see `people`."""
        return people(results, boxes.boxes, boxes.scores, self.spec, source)


def crop_frame(
    box: Float[np.ndarray, 4],
    spec: PoseSpec,
    source_size: Size,
    *,
    enlarge: float = 1.0,
    rotation: float = 0.0,
    flip: bool = False,
) -> Frame:
    """The crop of a box x1 y1 x2 y2: widened or heightened to the shape of the input, padded, optionally turned."""
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
        unbiased=spec.codec.kind == "udp",
    )


def mean_keypoint_score(scores: Float[np.ndarray, "*n k"]) -> Float[np.ndarray, "*n"]:
    """Mean of the scores above 0.2; 0 where there is none."""
    above = scores > KEYPOINT_THRESHOLD
    return np.where(above, scores, 0).sum(-1) / np.maximum(above.sum(-1), 1)


def people(
    crops: Sequence[Poses],
    boxes: Float[np.ndarray, "n 4"],
    box_scores: Float[np.ndarray, " n"],
    spec: PoseSpec,
    source: Source = None,
) -> Poses:
    """The poses of one image's boxes as one result, duplicates removed, best first.

    Args:
        crops: one pose a box.
        boxes: x1 y1 x2 y2.
        box_scores: how sure the detector was of each; the final score is this times the mean keypoint score.
    """
    skeleton = spec.skeleton
    count, joints = len(crops), len(skeleton)
    keypoints = np.concatenate([crop.keypoints for crop in crops]) if count else np.zeros((0, joints, 2))
    keypoint_scores = np.concatenate([crop.keypoint_scores for crop in crops]) if count else np.zeros((0, joints))
    scores = mean_keypoint_score(keypoint_scores) * box_scores
    # The published areas: of the padded crop, larger than COCO's, so that the suppression is looser.
    areas = padded_areas(boxes, spec)
    keep = oks_nms(keypoints, scores, areas, np.array(skeleton.oks_sigmas))
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
    """Area in the image of the crop of each box."""
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
    """Object keypoint similarity of one pose with others; the size is the mean of the two areas."""
    squared = ((others - keypoints) ** 2).sum(-1)
    size = (area + areas) / 2 + OKS_SOURCE_EPSILON
    return np.exp(-squared / (2 * (2 * sigmas) ** 2) / size[:, None]).mean(-1)


def oks_nms(
    keypoints: Float[np.ndarray, "n k 2"],
    scores: Float[np.ndarray, " n"],
    areas: Float[np.ndarray, " n"],
    sigmas: Float[np.ndarray, " k"],
    threshold: float = OKS_NMS_THRESHOLD,
) -> Int[np.ndarray, " m"]:
    """Indices of the poses that stay, best first: none is more similar than the threshold to a better one."""
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
