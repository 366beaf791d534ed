"""R-CNNs: regions are proposed, pooled from the pyramid, and a head says what is in each and corrects its box, once or
in several stages; masks and a semantic branch where there are some. Five published networks are this one, as data.

Source: arXiv 1506.01497 (Faster), 1703.06870 (Mask), 1712.00726 (Cascade), 1901.07518 (Hybrid Task Cascade), in the form
of mmdetection 2 and 3: no pixel is added to widths, RoIAlign without its half-pixel shift, background as the last class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import nms

from hrnet.detection.boxes import DetectionOutput, Objects, apart, clip_to, decode_boxes, encode_boxes
from hrnet.detection.masks import MaskHeads, mask_loss, mask_targets
from hrnet.detection.regions import pool, pool_regions
from hrnet.detection.rpn import BACKGROUND, RegionMaps, RegionProposals, match, not_in_crowd, sample
from hrnet.detection.semantic import STRIDE as SEMANTIC_STRIDE
from hrnet.detection.semantic import SemanticHead, SemanticOutput, semantic_loss, semantic_targets
from hrnet.detection.spec import BoxStage, RCNNSpec
from hrnet.io.geometry import Size
from hrnet.nn.representation import Pyramid

BOX_CELLS, MASK_CELLS = 7, 14
# The features of the semantic branch.
Semantic = Float[Tensor, "n c h w"]
REGIONS_ON_OBJECTS = 0.25


class BoxHead(nn.Module):
    """From the features of regions to classes and corrected boxes: two fully connected layers.

    Args:
        num_classes: without the background, which is the last logit.
        spec: of the detector.
    """

    def __init__(self, num_classes: int, spec: RCNNSpec) -> None:
        super().__init__()
        width = spec.head_width
        self.hidden = nn.ModuleList([nn.Linear(spec.pyramid_width * BOX_CELLS**2, width), nn.Linear(width, width)])
        self.classify = nn.Linear(width, num_classes + 1)
        self.measure = nn.Linear(width, 4 if spec.class_agnostic else 4 * num_classes)
        for layer in self.hidden:
            nn.init.xavier_uniform_(cast(nn.Linear, layer).weight)
        # Source: mmdetection's initialization.
        for layer, deviation in ((self.classify, 0.01), (self.measure, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)

    def forward(self, features: Float[Tensor, "r c h w"]) -> tuple[Float[Tensor, "r k1"], Float[Tensor, "r b 4"]]:
        """Logits, and deltas of every class or of one for all."""
        x = features.flatten(1)
        for layer in self.hidden:
            x = functional.relu(layer(x))
        return self.classify(x).float(), self.measure(x).float().unflatten(1, (-1, 4))


class Found(NamedTuple):
    """What all stages say of the regions of a batch, and where the last one puts their boxes.

    Attributes:
        logits: mean of the stages; the last is of the background.
        boxes: of every class or one for all, cut at the borders of the input.
    """

    logits: Float[Tensor, "r k1"]
    boxes: Float[Tensor, "r b 4"]


@dataclass(frozen=True, slots=True)
class Samples:
    """Regions of a batch that a head learns from, those on objects first in each input.

    Attributes:
        regions: number of the input, x1 y1 x2 y2.
        owners: number of the object of the input, -1 for background.
        given: which are an object's own labeled box.
    """

    regions: Float[Tensor, "s 5"]
    owners: Int[Tensor, " s"]
    given: Bool[Tensor, " s"]


class RCNN(nn.Module):
    """The detector over the maps of the backbone.

    Args:
        widths: channels of the maps.
        num_classes: how many kinds of objects there are.
        spec: everything else.
    """

    def __init__(self, widths: Sequence[int], num_classes: int, spec: RCNNSpec) -> None:
        super().__init__()
        self.spec = spec
        self.num_classes = num_classes
        width = spec.pyramid_width
        self.pyramid = Pyramid(widths, width, spec.num_levels, spec.pooling)
        self.proposals = RegionProposals(spec)
        self.boxes = nn.ModuleList(BoxHead(num_classes, spec) for _ in spec.stages)
        informed = spec.masks == "interleaved"
        self.masks = (
            None
            if spec.masks == "none"
            else MaskHeads(len(spec.stages), num_classes, width, informed=informed, average=spec.average_masks)
        )
        self.semantic = SemanticHead(spec.semantic_classes, width, spec.num_levels) if spec.semantic_classes else None

    def forward(self, maps: Sequence[Float[Tensor, "n _ _ _"]], size: Size) -> DetectionOutput:
        """The objects of images of this height and width, best first."""
        return self.finish(self.dense(maps), size)

    def dense(self, maps: Sequence[Float[Tensor, "n _ _ _"]]) -> tuple[Float[Tensor, "n _ _ _"], ...]:
        """All that is said of whole images: the levels, logits and deltas of every anchor, and the features of the semantic
        branch, where there is one."""
        levels = self.levels(maps)
        found = self.proposals(levels)
        semantic = () if self.semantic is None else (self.semantic(levels).features,)
        return (*levels, *found.logits, *found.deltas, *semantic)

    def finish(self, dense: Sequence[Float[Tensor, "n _ _ _"]], size: Size) -> DetectionOutput:
        """The objects of images of this height and width, best first, from what `dense` says of them."""
        count = self.spec.num_levels
        levels, logits, deltas = (list(dense[start : start + count]) for start in (0, count, 2 * count))
        semantic = None if self.semantic is None else dense[-1]
        proposed = self.proposals.propose(RegionMaps(logits, deltas), size, self.spec.test_proposals)
        rows = proposed.real.flatten().nonzero()[:, 0]
        found = self.look(levels, semantic, with_numbers(proposed.boxes)[rows], size)
        shape = proposed.real.shape
        scores = _spread(found.logits.softmax(-1)[:, :-1], rows, shape)
        boxes = _spread(found.boxes, rows, shape)
        # One input after the other: overlaps are compared with all that is kept, so together would be slower.
        each = [self._select(boxes[i], scores[i]) for i in range(shape[0])]
        output = DetectionOutput(*(torch.stack(values) for values in zip(*each, strict=True)))
        if self.masks is None:
            return output
        rows = (output.scores.flatten() > 0).nonzero()[:, 0]
        features = self.mask_features(levels, semantic, with_numbers(output.boxes)[rows])
        masks = self.masks.together(features, output.labels.flatten()[rows])
        return output._replace(masks=_spread(masks, rows, output.scores.shape))

    def levels(self, maps: Sequence[Float[Tensor, "n _ _ _"]]) -> list[Float[Tensor, "n c _ _"]]:
        """The pyramid, in single precision: so are the boxes that regions are pooled from."""
        return [level.float() for level in self.pyramid(maps)]

    def look(
        self,
        levels: Sequence[Float[Tensor, "n c _ _"]],
        semantic: Semantic | None,
        regions: Float[Tensor, "r 5"],
        size: Size,
    ) -> Found:
        """Through all stages, each of which sees the boxes of the one before."""
        total: list[Tensor] = []
        boxes = regions[:, None, 1:]
        for stage, head in zip(self.spec.stages, self.boxes, strict=True):
            logits, deltas = head(self.box_features(levels, semantic, regions))
            boxes = clip_to(decode_boxes(deltas, regions[:, None, 1:], stage.deviations), size)
            regions = torch.cat([regions[:, :1], _of_class(boxes, logits)], 1)
            total.append(logits)
        # Source: mmdetection: logits are averaged, not probabilities.
        return Found(torch.stack(total).mean(0), boxes)

    def box_features(
        self, levels: Sequence[Tensor], semantic: Semantic | None, regions: Float[Tensor, "r 5"]
    ) -> Float[Tensor, "r c h w"]:
        """What a box head reads of regions."""
        features = pool_regions(levels, regions, BOX_CELLS, self.spec.legacy)
        if semantic is None:
            return features
        return features + _pool_semantic(semantic, regions, BOX_CELLS)

    def mask_features(
        self, levels: Sequence[Tensor], semantic: Semantic | None, regions: Float[Tensor, "r 5"]
    ) -> Float[Tensor, "r c h w"]:
        """What a mask head reads of regions."""
        features = pool_regions(levels, regions, MASK_CELLS, self.spec.legacy)
        return features if semantic is None else features + _pool_semantic(semantic, regions, MASK_CELLS)

    def _select(
        self, boxes: Float[Tensor, "p b 4"], scores: Float[Tensor, "p k"]
    ) -> tuple[Float[Tensor, "d 4"], Float[Tensor, " d"], Int[Tensor, " d"]]:
        """The results of one input: the best boxes that overlap no better one of their class."""
        count = self.spec.num_detections
        places, labels = (scores > self.spec.score_threshold).nonzero().unbind(1)
        sure = scores[places, labels]
        chosen = boxes[places, labels if boxes.shape[1] > 1 else torch.zeros_like(labels)]
        kept = nms(apart(chosen, labels, boxes.max()), sure, self.spec.nms_iou)
        return (
            torch.cat([chosen[kept], chosen.new_zeros(count, 4)])[:count],
            torch.cat([sure[kept], sure.new_zeros(count)])[:count],
            torch.cat([labels[kept], labels.new_zeros(count)])[:count],
        )

    # ---- what is learned

    def loss(
        self, maps: Sequence[Float[Tensor, "n _ _ _"]], size: Size, objects: Sequence[Objects]
    ) -> dict[str, Float[Tensor, ""]]:
        """Of the proposals, of classes and boxes and masks of all stages, and of the semantic branch."""
        levels = self.levels(maps)
        maps_of_regions = self.proposals(levels)
        losses = self.proposals.loss(maps_of_regions, objects)
        said = self.semantic(levels) if self.semantic is not None else None
        if said is not None:
            losses["semantic"] = self.spec.semantic_weight * semantic_loss(
                said.logits, self._semantic_targets(said, objects)
            )
        semantic = None if said is None else said.features
        with torch.no_grad():
            proposed = self.proposals.propose(maps_of_regions, size, self.spec.train_proposals)
        regions = with_numbers(proposed.boxes)[proposed.real.flatten()]
        terms: dict[str, list[Tensor]] = {"classes": [], "boxes": []} | ({"masks": []} if self.masks else {})
        for number, (stage, head) in enumerate(zip(self.spec.stages, self.boxes, strict=True)):
            samples = self.samples(regions, objects, stage)
            logits, deltas = head(self.box_features(levels, semantic, samples.regions))
            for name, term in self._box_losses(logits, deltas, samples, objects, stage).items():
                terms[name].append(stage.weight * term)
            with torch.no_grad():
                regions = self._refined(samples, logits, deltas, stage, size)
            if self.masks is not None:
                seen = self.samples(regions, objects, stage) if self.spec.masks == "interleaved" else samples
                terms["masks"].append(stage.weight * self._mask_loss(levels, semantic, seen, objects, number))
        return losses | {name: torch.stack(values).sum() for name, values in terms.items()}

    def samples(self, regions: Float[Tensor, "r 5"], objects: Sequence[Objects], stage: BoxStage) -> Samples:
        """Regions that a stage learns from; the labeled boxes are among them."""
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for number, one in enumerate(objects):
            boxes = torch.cat([one.boxes, regions[regions[:, 0] == number, 1:]])
            owners = match(boxes, one.boxes, stage.iou, stage.iou)
            off = not_in_crowd(boxes, (owners == BACKGROUND).nonzero()[:, 0], one.crowd)
            chosen = torch.cat(sample((owners >= 0).nonzero()[:, 0], off, self.spec.region_samples, REGIONS_ON_OBJECTS))
            numbers = boxes.new_full((len(chosen), 1), number)
            parts.append((torch.cat([numbers, boxes[chosen]], 1), owners[chosen], chosen < len(one.boxes)))
        return Samples(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def _box_losses(
        self,
        logits: Float[Tensor, "s k1"],
        deltas: Float[Tensor, "s b 4"],
        samples: Samples,
        objects: Sequence[Objects],
        stage: BoxStage,
    ) -> dict[str, Float[Tensor, ""]]:
        """Cross entropy of the classes and smooth L1 of the boxes of regions on objects, both per sampled region."""
        on = samples.owners >= 0
        boxes, labels = self._owned(samples, objects)
        classes = torch.full_like(samples.owners, self.num_classes).masked_scatter(on, labels)
        targets = encode_boxes(boxes, samples.regions[on, 1:], stage.deviations)
        said = deltas[on]
        said = said[:, 0] if said.shape[1] == 1 else said[torch.arange(len(labels), device=said.device), labels]
        count = max(len(classes), 1)
        return {
            "classes": functional.cross_entropy(logits, classes, reduction="sum") / count,
            "boxes": functional.smooth_l1_loss(said, targets, reduction="sum") / count,
        }

    def _owned(self, samples: Samples, objects: Sequence[Objects]) -> tuple[Float[Tensor, "p 4"], Int[Tensor, " p"]]:
        """Boxes and labels of the objects that the regions on objects belong to."""
        rows = _rows(samples, objects)
        return torch.cat([one.boxes for one in objects])[rows], torch.cat([one.labels for one in objects])[rows]

    def _refined(
        self,
        samples: Samples,
        logits: Float[Tensor, "s k1"],
        deltas: Float[Tensor, "s b 4"],
        stage: BoxStage,
        size: Size,
    ) -> Float[Tensor, "r 5"]:
        """The regions with the boxes that a stage makes of them; labeled ones come back anyway."""
        boxes = clip_to(decode_boxes(deltas, samples.regions[:, None, 1:], stage.deviations), size)
        return torch.cat([samples.regions[:, :1], _of_class(boxes, logits)], 1)[~samples.given]

    def _mask_loss(
        self,
        levels: Sequence[Tensor],
        semantic: Semantic | None,
        samples: Samples,
        objects: Sequence[Objects],
        number: int,
    ) -> Float[Tensor, ""]:
        assert self.masks is not None
        on = samples.regions[samples.owners >= 0]
        boxes, labels = self._owned(samples, objects)
        chips = torch.cat([_chips(one) for one in objects])[_rows(samples, objects)]
        logits = self.masks(self.mask_features(levels, semantic, on), number).float()
        return mask_loss(logits, mask_targets(chips, boxes, on[:, 1:], logits.shape[-1]), labels)

    def _semantic_targets(self, semantic: SemanticOutput, objects: Sequence[Objects]) -> Int[Tensor, "n h w"]:
        size = (semantic.logits.shape[-2], semantic.logits.shape[-1])
        return torch.stack(
            [
                semantic_targets(one.boxes, one.labels, _chips(one), one.crowd, size, self.num_classes)
                if one.stuff is None
                else one.stuff
                for one in objects
            ]
        )


def _chips(objects: Objects) -> Tensor:
    if objects.masks is None:
        raise ValueError("A model that finds masks learns from masks; these objects have none.")
    return objects.masks


def _rows(samples: Samples, objects: Sequence[Objects]) -> Int[Tensor, " p"]:
    """Of the regions on objects, the place of the object among those of all inputs."""
    starts = [0]
    for one in objects[:-1]:
        starts.append(starts[-1] + len(one))
    on = samples.owners >= 0
    return samples.owners[on] + samples.owners.new_tensor(starts)[samples.regions[on, 0].long()]


def with_numbers(boxes: Float[Tensor, "n p 4"]) -> Float[Tensor, "n*p 5"]:
    """All boxes of a batch, each after the number of its input."""
    numbers = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
    return torch.cat([numbers[:, None, None].expand(-1, boxes.shape[1], 1), boxes], -1).flatten(0, 1)


def _spread(
    values: Float[Tensor, "r ..."], rows: Int[Tensor, " r"], shape: tuple[int, ...]
) -> Float[Tensor, "n p ..."]:
    """Values of some boxes at their places among all, zeros between."""
    count = shape[0] * shape[1]
    return values.new_zeros(count, *values.shape[1:]).index_copy(0, rows, values).unflatten(0, (shape[0], shape[1]))


def _pool_semantic(
    semantic: Semantic, regions: Float[Tensor, "r 5"], cells: int
) -> Float[Tensor, "r c {cells} {cells}"]:
    # Source: mmdetection: as many cells as of masks, averaged to those that a box head reads.
    return pool(semantic.float(), regions, cells, SEMANTIC_STRIDE, merge=MASK_CELLS // cells)


def _of_class(boxes: Float[Tensor, "r b 4"], logits: Float[Tensor, "r k1"]) -> Float[Tensor, "r 4"]:
    """Of the boxes of all classes that of the most probable one."""
    if boxes.shape[1] == 1:
        return boxes[:, 0]
    best = logits[:, :-1].argmax(1)
    return boxes[torch.arange(len(best), device=best.device), best]
