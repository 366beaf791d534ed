"""R-CNNs: region proposals, RoI pooling from the pyramid, one or several stages of box heads, and optional mask heads and
semantic branch. Five published networks are this one, as data.

Source: arXiv 1506.01497 (Faster), 1703.06870 (Mask), 1712.00726 (Cascade), 1901.07518 (Hybrid Task Cascade), in the form
of mmdetection 2 and 3: no pixel is added to widths, aligned RoIAlign, background as the last class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import clip_boxes_to_image, nms

from hrnet.detection.boxes import GroundTruth, decode_boxes, encode_boxes, separate
from hrnet.detection.masks import MaskHeads, mask_loss, mask_targets, select_class
from hrnet.detection.processor import DetectionOutput
from hrnet.detection.regions import pool, pool_regions
from hrnet.detection.rpn import BACKGROUND, RPN, RPNMaps, exclude_crowd, match, sample
from hrnet.detection.semantic import STRIDE as SEMANTIC_STRIDE
from hrnet.detection.semantic import SemanticHead, semantic_loss, semantic_targets
from hrnet.detection.spec import BoxStage, RCNNSpec
from hrnet.io.geometry import Size
from hrnet.nn.backbone import Maps
from hrnet.nn.representation import Levels, Pyramid
from hrnet.nn.task import Losses

BOX_CELLS, MASK_CELLS = 7, 14
POSITIVE_FRACTION = 0.25


class BoxHead(nn.Module):
    """Two fully connected layers that classify regions and regress their boxes; the background is the last logit."""

    def __init__(self, num_classes: int, spec: RCNNSpec) -> None:
        super().__init__()
        width = spec.head_width
        self.hidden: nn.ModuleList = nn.ModuleList(
            [nn.Linear(spec.pyramid_width * BOX_CELLS**2, width), nn.Linear(width, width)]
        )
        self.classify: nn.Linear = nn.Linear(width, num_classes + 1)
        self.regress: nn.Linear = nn.Linear(width, 4 if spec.class_agnostic else 4 * num_classes)
        for layer in self.hidden:
            nn.init.xavier_uniform_(cast(nn.Linear, layer).weight)
        # Source: mmdetection's initialization.
        for layer, std in ((self.classify, 0.01), (self.regress, 0.001)):
            nn.init.normal_(layer.weight, std=std)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)

    def forward(self, features: Float[Tensor, "r c h w"]) -> tuple[Float[Tensor, "r k1"], Float[Tensor, "r b 4"]]:
        """Return the logits, and the box deltas of every class or one set for all."""
        x = features.flatten(1)
        for layer in self.hidden:
            x = functional.relu(layer(x))
        return self.classify(x).float(), self.regress(x).float().unflatten(1, (-1, 4))


class RegionPredictions(NamedTuple):
    """Predictions for the regions of a batch: mean logits of the stages, the last of which is the background, and boxes of
    the last stage, per class or one for all, clipped to the input."""

    logits: Float[Tensor, "r k1"]
    boxes: Float[Tensor, "r b 4"]


@dataclass(frozen=True, slots=True)
class SampledRegions:
    """Regions of a batch that a head is trained on, positives first in each input.

    Attributes:
        regions: index of the input, x1 y1 x2 y2.
        matches: index of the matched object among those of all inputs, -1 for background.
        labeled: True for the labeled boxes themselves.
    """

    regions: Float[Tensor, "s 5"]
    matches: Int[Tensor, " s"]
    labeled: Bool[Tensor, " s"]


class RCNN(nn.Module):
    """The detector over the maps of the backbone, whose channels are `widths`."""

    def __init__(self, widths: Sequence[int], num_classes: int, spec: RCNNSpec) -> None:
        super().__init__()
        self.spec = spec
        self.num_classes = num_classes
        width = spec.pyramid_width
        self.pyramid: Pyramid = Pyramid(widths, width, spec.num_levels, spec.pooling)
        self.rpn: RPN = RPN(spec)
        self.box_heads: nn.ModuleList = nn.ModuleList(BoxHead(num_classes, spec) for _ in spec.stages)
        interleaved = spec.masks == "interleaved"
        self.mask_heads: MaskHeads | None = (
            None
            if spec.masks == "none"
            else MaskHeads(len(spec.stages), num_classes, width, interleaved, average=spec.average_masks)
        )
        self.semantic_head: SemanticHead | None = (
            SemanticHead(spec.semantic_classes, width, spec.num_levels) if spec.semantic_classes else None
        )

    def forward(self, maps: Maps, size: Size) -> DetectionOutput:
        """Return the detections of inputs of this height and width, best first."""
        return self.finish(self.dense(maps), size)

    def dense(self, maps: Maps) -> tuple[Float[Tensor, "n _ _ _"], ...]:
        """Return the outputs whose shapes depend on the input size only: pyramid levels, RPN maps, semantic features."""
        levels = self.levels(maps)
        rpn_maps = self.rpn(levels)
        semantic = () if self.semantic_head is None else (self.semantic_head(levels).features,)
        return (*levels, *rpn_maps.logits, *rpn_maps.deltas, *semantic)

    def finish(self, dense: Sequence[Float[Tensor, "n _ _ _"]], size: Size) -> DetectionOutput:
        """Return the detections from the outputs of `dense` for inputs of this height and width, best first."""
        count = self.spec.num_levels
        levels, logits, deltas = (list(dense[start : start + count]) for start in (0, count, 2 * count))
        semantic = None if self.semantic_head is None else dense[-1]
        proposals = self.rpn.propose(RPNMaps(logits, deltas), size, self.spec.test_proposals)
        rows = proposals.valid.flatten().nonzero()[:, 0]
        predictions = self.predict_regions(levels, semantic, to_regions(proposals.boxes)[rows], size)
        shape = proposals.valid.shape
        scores = _scatter_rows(predictions.logits.softmax(-1)[:, :-1], rows, shape)
        boxes = _scatter_rows(predictions.boxes, rows, shape)
        # NMS compares all pairs, so one call per input is faster than one for the batch.
        selected = [self._select(boxes[i], scores[i]) for i in range(shape[0])]
        output = DetectionOutput(*(torch.stack(values) for values in zip(*selected, strict=True)))
        if self.mask_heads is None:
            return output
        rows = (output.scores.flatten() > 0).nonzero()[:, 0]
        features = self.mask_features(levels, semantic, to_regions(output.boxes)[rows])
        masks = self.mask_heads.ensemble(features, output.labels.flatten()[rows])
        return output._replace(masks=_scatter_rows(masks, rows, output.scores.shape))

    def levels(self, maps: Maps) -> list[Float[Tensor, "n c _ _"]]:
        """Return the pyramid in single precision, like the boxes of the regions that are pooled from it."""
        return [level.float() for level in self.pyramid(maps)]

    def predict_regions(
        self, levels: Levels, semantic: Float[Tensor, "n c _ _"] | None, regions: Float[Tensor, "r 5"], size: Size
    ) -> RegionPredictions:
        """Return the predictions of all stages; each runs on the boxes of the stage before."""
        total: list[Tensor] = []
        boxes = regions[:, None, 1:]
        for stage, head in zip(self.spec.stages, self.box_heads, strict=True):
            logits, deltas = head(self.box_features(levels, semantic, regions))
            boxes, regions = _refine(regions, logits, deltas, stage, size)
            total.append(logits)
        # Source: mmdetection: logits are averaged, not probabilities.
        return RegionPredictions(torch.stack(total).mean(0), boxes)

    def box_features(
        self, levels: Levels, semantic: Float[Tensor, "n c _ _"] | None, regions: Float[Tensor, "r 5"]
    ) -> Float[Tensor, "r c h w"]:
        """Return the features of regions for a box head."""
        return self._pool(levels, semantic, regions, BOX_CELLS)

    def mask_features(
        self, levels: Levels, semantic: Float[Tensor, "n c _ _"] | None, regions: Float[Tensor, "r 5"]
    ) -> Float[Tensor, "r c h w"]:
        """Return the features of regions for a mask head."""
        return self._pool(levels, semantic, regions, MASK_CELLS)

    def _pool(
        self, levels: Levels, semantic: Float[Tensor, "n c _ _"] | None, regions: Float[Tensor, "r 5"], cells: int
    ) -> Float[Tensor, "r c {cells} {cells}"]:
        features = pool_regions(levels, regions, cells, self.spec.legacy)
        if semantic is None:
            return features
        # Source: mmdetection: the cells of masks, averaged to those of the box head.
        return features + pool(semantic.float(), regions, cells, SEMANTIC_STRIDE, merge=MASK_CELLS // cells)

    def _select(
        self, boxes: Float[Tensor, "p b 4"], scores: Float[Tensor, "p k"]
    ) -> tuple[Float[Tensor, "d 4"], Float[Tensor, " d"], Int[Tensor, " d"]]:
        """Return boxes, scores and labels of one input after the per-class NMS, best first."""
        count = self.spec.num_detections
        indices, labels = (scores > self.spec.score_threshold).nonzero().unbind(1)
        candidates = scores[indices, labels]
        chosen = boxes[indices, labels if boxes.shape[1] > 1 else torch.zeros_like(labels)]
        kept = nms(separate(chosen, labels, boxes.max()), candidates, self.spec.nms_iou)
        return (
            torch.cat([chosen[kept], chosen.new_zeros(count, 4)])[:count],
            torch.cat([candidates[kept], candidates.new_zeros(count)])[:count],
            torch.cat([labels[kept], labels.new_zeros(count)])[:count],
        )

    # ---- training

    def loss(self, maps: Maps, size: Size, objects: Sequence[GroundTruth]) -> Losses:
        """Return the losses of the RPN, of classes, boxes and masks of all stages, and of the semantic branch."""
        levels = self.levels(maps)
        rpn_maps = self.rpn(levels)
        losses = self.rpn.loss(rpn_maps, objects)
        semantic = None
        if self.semantic_head is not None:
            logits, semantic = self.semantic_head(levels)
            targets = self._semantic_targets((logits.shape[-2], logits.shape[-1]), objects)
            losses["semantic"] = self.spec.semantic_weight * semantic_loss(logits, targets)
        with torch.no_grad():
            proposals = self.rpn.propose(rpn_maps, size, self.spec.train_proposals)
        regions = to_regions(proposals.boxes)[proposals.valid.flatten()]
        terms: dict[str, list[Tensor]] = {"classes": [], "boxes": []} | ({"masks": []} if self.mask_heads else {})
        for index, (stage, head) in enumerate(zip(self.spec.stages, self.box_heads, strict=True)):
            samples = self.sample_regions(regions, objects, stage)
            logits, deltas = head(self.box_features(levels, semantic, samples.regions))
            for name, term in self._box_losses(logits, deltas, samples, objects, stage).items():
                terms[name].append(stage.weight * term)
            with torch.no_grad():
                # The next stage adds the labeled boxes again.
                regions = _refine(samples.regions, logits, deltas, stage, size)[1][~samples.labeled]
            if self.mask_heads is not None:
                if self.spec.masks == "interleaved":
                    samples = self.sample_regions(regions, objects, stage)
                terms["masks"].append(stage.weight * self._mask_loss(levels, semantic, samples, objects, index))
        return losses | {name: torch.stack(values).sum() for name, values in terms.items()}

    def sample_regions(
        self, regions: Float[Tensor, "r 5"], objects: Sequence[GroundTruth], stage: BoxStage
    ) -> SampledRegions:
        """Sample the regions that a stage is trained on, from the regions and the labeled boxes."""
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        before = 0
        for index, one in enumerate(objects):
            boxes = torch.cat([one.boxes, regions[regions[:, 0] == index, 1:]])
            matches = match(boxes, one.boxes, stage.iou, stage.iou)
            negatives = exclude_crowd(boxes, (matches == BACKGROUND).nonzero()[:, 0], one.crowd)
            positives = (matches >= 0).nonzero()[:, 0]
            chosen = torch.cat(sample(positives, negatives, self.spec.region_samples, POSITIVE_FRACTION))
            indices = boxes.new_full((len(chosen), 1), index)
            matches = torch.where(matches >= 0, matches + before, BACKGROUND)[chosen]
            parts.append((torch.cat([indices, boxes[chosen]], 1), matches, chosen < len(one)))
            before += len(one)
        return SampledRegions(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def _box_losses(
        self,
        logits: Float[Tensor, "s k1"],
        deltas: Float[Tensor, "s b 4"],
        samples: SampledRegions,
        objects: Sequence[GroundTruth],
        stage: BoxStage,
    ) -> Losses:
        """Return the cross entropy of the classes and the smooth L1 loss of positive boxes, both per sampled region."""
        positive = samples.matches >= 0
        matches = samples.matches[positive]
        boxes, labels = torch.cat([one.boxes for one in objects]), torch.cat([one.labels for one in objects])[matches]
        classes = torch.full_like(samples.matches, self.num_classes).masked_scatter(positive, labels)
        targets = encode_boxes(boxes[matches], samples.regions[positive, 1:], stage.stds)
        chosen = deltas[positive]
        chosen = chosen[:, 0] if chosen.shape[1] == 1 else select_class(chosen, labels)
        count = max(len(classes), 1)
        return {
            "classes": functional.cross_entropy(logits, classes, reduction="sum") / count,
            "boxes": functional.smooth_l1_loss(chosen, targets, reduction="sum") / count,
        }

    def _mask_loss(
        self,
        levels: Levels,
        semantic: Float[Tensor, "n c _ _"] | None,
        samples: SampledRegions,
        objects: Sequence[GroundTruth],
        stage: int,
    ) -> Float[Tensor, ""]:
        assert self.mask_heads is not None
        positive = samples.matches >= 0
        regions, matches = samples.regions[positive], samples.matches[positive]
        boxes, labels = torch.cat([one.boxes for one in objects]), torch.cat([one.labels for one in objects])
        crops = torch.cat([_mask_crops(one) for one in objects])
        logits = self.mask_heads(self.mask_features(levels, semantic, regions), stage).float()
        targets = mask_targets(crops[matches], boxes[matches], regions[:, 1:], logits.shape[-1])
        return mask_loss(logits, targets, labels[matches])

    def _semantic_targets(self, size: Size, objects: Sequence[GroundTruth]) -> Int[Tensor, "n h w"]:
        targets = [
            semantic_targets(one.boxes, one.labels, _mask_crops(one), one.crowd, size, self.num_classes)
            if one.stuff is None
            else one.stuff
            for one in objects
        ]
        return torch.stack(targets)


def _mask_crops(ground_truth: GroundTruth) -> UInt8[Tensor, "k m m"]:
    if ground_truth.masks is None:
        raise ValueError("This model is trained on masks, and these objects have none.")
    return ground_truth.masks


def to_regions(boxes: Float[Tensor, "n p 4"]) -> Float[Tensor, "n*p 5"]:
    """Return all boxes of a batch as regions: index of the input, x1 y1 x2 y2."""
    indices = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
    return torch.cat([indices[:, None, None].expand(-1, boxes.shape[1], 1), boxes], -1).flatten(0, 1)


def _scatter_rows(
    values: Float[Tensor, "r ..."], rows: Int[Tensor, " r"], shape: tuple[int, ...]
) -> Float[Tensor, "n p ..."]:
    """Return the values of some boxes in the rows of all boxes, zero elsewhere."""
    count = shape[0] * shape[1]
    return values.new_zeros(count, *values.shape[1:]).index_copy(0, rows, values).unflatten(0, (shape[0], shape[1]))


def _refine(
    regions: Float[Tensor, "r 5"],
    logits: Float[Tensor, "r k1"],
    deltas: Float[Tensor, "r b 4"],
    stage: BoxStage,
    size: Size,
) -> tuple[Float[Tensor, "r b 4"], Float[Tensor, "r 5"]]:
    """Return the boxes of a stage, clipped to the input, and as regions those of the most probable classes."""
    boxes = clip_boxes_to_image(decode_boxes(deltas, regions[:, None, 1:], stage.stds), size)
    best = boxes[:, 0] if boxes.shape[1] == 1 else select_class(boxes, logits[:, :-1].argmax(1))
    return boxes, torch.cat([regions[:, :1], best], 1)
