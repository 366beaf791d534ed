"""How good detections are: COCO's average precision of boxes and masks, VOC's of boxes; and what there is to see of it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from hrnet.detection.coco_entries import (
    coco_entries,
    compressed,
    decoded,
    default_ids,
    labeled_detections,
    left_out,
    truth_entries,
    truth_of,
    with_sides,
)
from hrnet.detection.confusion import confusion_matrix, count_pairs, in_words
from hrnet.detection.spec import DetectionSpec
from hrnet.detection.voc import Found, Truth, average_precision, judge, precision_recall
from hrnet.engine.coco_metrics import coco_evaluation
from hrnet.engine.findings import Case, Chart, Findings, Matrix, Measure, Series
from hrnet.formats.records import ImageRecord
from hrnet.results import Detections

# COCO's twelve figures, in its order.
FIGURES = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL")
# Images that a page can show: the worst, and some that are chosen without a look at the errors.
_WORST, _CHOSEN = 12, 18
# Lines that a chart can tell apart.
_LINES = 6
_RECALLS = tuple(index / 100 for index in range(101))
_LEGEND = (
    "Colors are those of the classes; a class that has none of its own in another data set may have another there. In "
    "the prediction thin yellow lines mark where objects are labeled."
)


class DetectionEvaluator:
    """Scores the objects that were found in each image.

    Args:
        images: in the order of the positions that `update` gets; their labels are those of the spec.
        spec: of the model.
        category_ids: COCO's number of each class, for `coco_results`; None or none for `default_ids`.

    Attributes:
        headline: AP.
    """

    headline = "AP"

    def __init__(
        self, images: Sequence[ImageRecord], spec: DetectionSpec, category_ids: Sequence[int] | None = None
    ) -> None:
        self.images = images
        self.spec = spec
        self.category_ids = tuple(category_ids) if category_ids else default_ids(spec.class_names)
        self._found: dict[int, Found] = {}
        # Of each image whose masks were found: COCO's compressed run lengths, a small part of what they stand for.
        self._masks: dict[int, list[dict[str, Any]]] = {}

    def update(self, indices: Sequence[int], results: Sequence[Detections]) -> None:
        for index, result in zip(indices, results, strict=True):
            if index in self._found:
                continue
            self._found[index] = Found(result.boxes.astype(float), result.scores.astype(float), result.labels)
            if result.masks is not None:
                size = self.images[index].size
                if result.masks.size != size:
                    raise ValueError(f"Image {index} is of {size}, and its masks are of {result.masks.size}.")
                self._masks[index] = compressed(result.masks)

    def compute(self) -> dict[str, float]:
        """See `_MEANINGS`; besides `AP/NAME` and `mask-AP/NAME` of each class that is labeled.

        Figures for which nothing is labeled are left out; without any object there are none.
        """
        truths = self._truths()
        if not any(truth.counted.any() for truth in truths.values()):
            return {}
        metrics = self._coco("bbox")
        if self._has_masks():
            metrics |= {f"mask-{name}": value for name, value in self._coco("segm").items()}
        metrics |= self._voc(truths)
        # The classes come last: there may be many.
        return dict(sorted(metrics.items(), key=lambda item: "/" in item[0]))

    def coco_results(self) -> list[dict[str, Any]]:
        """All objects as a COCO results list, which `loadRes` of pycocotools reads; its text form is JSON."""
        return [
            entry
            for index, found in sorted(self._found.items())
            for entry in coco_entries(found, self._masks.get(index), self.images[index].number, self.category_ids)
        ]

    def _truths(self) -> dict[int, Truth]:
        """What there is to find in each image that was looked at."""
        return {index: truth_of(self.images[index]) for index in sorted(self._found)}

    def _has_masks(self) -> bool:
        """Whether masks were found, and every object to be found has one."""
        objects = [one for index in self._found for one in self.images[index].objects if not left_out(one)]
        return bool(self._masks) and all(one.polygons or one.runs is not None for one in objects)

    def _evaluation(self, kind: Literal["bbox", "segm"]) -> Any:
        order = sorted(self._found)
        results: list[dict[str, Any]] = []
        for index in order:
            found, masks = self._found[index], self._masks.get(index)
            if kind == "segm" and masks is None:
                continue
            for position, label in enumerate(found.labels.tolist()):
                entry = {"image_id": index, "category_id": label + 1, "score": float(found.scores[position])}
                # Only one of the two: with a box COCO's code would take its area for that of the mask.
                if masks is not None and kind == "segm":
                    entry["segmentation"] = dict(masks[position])
                else:
                    entry["bbox"] = with_sides(found.boxes[[position]])[0]
                results.append(entry)
        truth = [entry for index in order for entry in truth_entries(self.images[index], index, kind)]
        sizes = {index: self.images[index].size for index in order}
        return coco_evaluation(kind, sizes, range(1, len(self.spec.class_names) + 1), truth, results)

    def _coco(self, kind: Literal["bbox", "segm"]) -> dict[str, float]:
        evaluation = self._evaluation(kind)
        evaluation.summarize()
        values: dict[str, float] = dict(zip(FIGURES, (float(value) for value in evaluation.stats), strict=False))
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        for label, name in enumerate(self.spec.class_names):
            values[f"AP/{name}"] = float(precision[:, :, label].mean())
        # What nothing is labeled for is -1 throughout.
        return {name: value for name, value in values.items() if value >= 0}

    def _judged(self, truths: dict[int, Truth]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, verdicts and labels of all boxes, image after image."""
        founds = [self._found[index] for index in truths]
        verdicts = [judge(truth, self._found[index]) for index, truth in truths.items()]
        return (
            np.concatenate([found.scores for found in founds]),
            np.concatenate(verdicts),
            np.concatenate([found.labels for found in founds]),
        )

    def _voc(self, truths: dict[int, Truth]) -> dict[str, float]:
        scores, verdicts, labels = self._judged(truths)
        counts = self._counts(truths)
        areas: list[tuple[float, float]] = []
        for label in np.flatnonzero(counts):
            of_class = labels == label
            precision, recall, _ = precision_recall(scores[of_class], verdicts[of_class], int(counts[label]))
            areas.append((average_precision(precision, recall), average_precision(precision, recall, eleven=True)))
        plain, eleven = np.mean(areas, axis=0)
        return {"VOC-AP50": float(plain), "VOC07-AP50": float(eleven)}

    def _counts(self, truths: dict[int, Truth]) -> Int[np.ndarray, " k"]:
        """How many objects of each class are to be found."""
        labels = np.concatenate([truth.labels[truth.counted] for truth in truths.values()])
        return np.bincount(labels, minlength=len(self.spec.class_names))

    def findings(self) -> Findings:
        """Curves of precision over recall, what is taken for what, the worst and some other images."""
        truths = self._truths()
        if not any(truth.counted.any() for truth in truths.values()):
            return Findings(measures=_measures())
        threshold = self.best_threshold(truths)
        cases = self._cases(truths, threshold)
        return Findings(
            charts=self._charts(truths),
            matrices=(self._matrix(truths, threshold),),
            cases=cases,
            judged=len(truths),
            legend=f"{_LEGEND} Shown are objects with a score of {threshold:.2f} or more, where the mean of precision "
            "and recall (F1) is best.",
            measures=_measures(),
        )

    def best_threshold(self, truths: dict[int, Truth] | None = None) -> float:
        """The score from which on objects are taken to be found so that F1, over all classes, is largest."""
        truths = truths or self._truths()
        scores, verdicts, _ = self._judged(truths)
        precision, recall, reached = precision_recall(scores, verdicts, max(int(self._counts(truths).sum()), 1))
        if not len(reached):
            return 0.5
        best = int((2 * precision * recall / np.maximum(precision + recall, 1e-9)).argmax())
        return float(reached[best])

    def _charts(self, truths: dict[int, Truth]) -> tuple[Chart, ...]:
        kinds: list[tuple[Literal["bbox", "segm"], str]] = [("bbox", "boxes")]
        if self._has_masks():
            kinds.append(("segm", "masks"))
        counts = self._counts(truths)
        frequent = np.argsort(-counts, kind="stable")[:_LINES]
        names = self.spec.class_names
        charts: list[Chart] = []
        for kind, what in kinds:
            # Overlaps from 0.5 to 0.95, recalls, classes.
            precision = self._evaluation(kind).eval["precision"][:, :, :, 0, -1]
            mean = precision[:, :, counts > 0].mean(2)
            lines = (("overlap 0.5", mean[0]), ("overlap 0.75", mean[5]), ("mean of 0.5 to 0.95", mean.mean(0)))
            title = f"Precision over recall, {what}"
            charts.append(_chart(title, lines, "The area below the mean line is AP."))
            classes = [(str(names[int(label)]), precision[0, :, label]) for label in frequent if counts[label]]
            if len(names) > 1:
                charts.append(_chart(f"{title} of a class, overlap 0.5", classes, _of_classes(len(names))))
        return tuple(charts)

    def _matrix(self, truths: dict[int, Truth], threshold: float) -> Matrix:
        classes = len(self.spec.class_names)
        total = np.zeros((classes + 1, classes + 1), int)
        for index, truth in truths.items():
            total += count_pairs(truth, _above(self._found[index], threshold), classes)
        return confusion_matrix(total, self.spec.class_names)

    def _cases(self, truths: dict[int, Truth], threshold: float) -> tuple[Case, ...]:
        """The worst images and some others, in order."""
        classes = len(self.spec.class_names)
        errors: dict[int, float] = {}
        words: dict[int, str] = {}
        for index, truth in truths.items():
            counts = count_pairs(truth, _above(self._found[index], threshold), classes)
            named = counts.sum()
            right = int(np.trace(counts[:classes, :classes]))
            errors[index] = 1 - right / named if named else 0.0
            words[index] = in_words(counts, self.spec.class_names)
        shown = set(sorted(errors, key=lambda index: (-errors[index], index))[:_WORST])
        rest = [index for index in errors if index not in shown]
        shown |= set(Random(0).sample(rest, min(_CHOSEN, len(rest))))
        return tuple(self._case(index, errors[index], words[index], threshold) for index in sorted(shown))

    def _case(self, index: int, error: float, words: str, threshold: float) -> Case:
        image, found = self.images[index], self._found[index]
        keep = np.flatnonzero(found.scores >= threshold)
        masks = None
        if index in self._masks:
            masks = decoded([self._masks[index][position] for position in keep], image.size)
        shown = Detections(
            found.boxes[keep], found.scores[keep], found.labels[keep], self.spec.class_names, masks, image.path
        )
        truth = labeled_detections(image, self.spec.class_names, masks=self.spec.has_masks)
        height, width = image.size
        region = np.array([-0.5, -0.5, width - 0.5, height - 0.5])
        return Case(image.path, image.size, region, truth, shown, error, words)


_MEANINGS = {
    "AP": "COCO's average precision of boxes, mean over overlaps from 0.5 to 0.95 and over classes",
    "AP50": "the same at an overlap of 0.5",
    "AP75": "the same at an overlap of 0.75",
    "APS": "AP of objects below 32 x 32 pixels",
    "APM": "AP of objects between 32 x 32 and 96 x 96 pixels",
    "APL": "AP of larger objects",
    "AR1": "recall with one box of each class an image, mean over overlaps and classes",
    "AR10": "the same with 10",
    "AR100": "the same with 100",
    "ARS": "AR100 of objects below 32 x 32 pixels",
    "ARM": "AR100 of objects between 32 x 32 and 96 x 96 pixels",
    "ARL": "AR100 of larger objects",
}


def _measures() -> dict[str, Measure]:
    masks = {f"mask-{name}": text.replace("boxes", "masks").replace("box", "mask") for name, text in _MEANINGS.items()}
    voc = {
        "VOC-AP50": "VOC's average precision of boxes at an overlap of 0.5, mean over classes",
        "VOC07-AP50": "the same at eleven recalls, as until VOC 2009",
    }
    return {name: Measure(1, meaning) for name, meaning in (_MEANINGS | masks | voc).items()}


def _above(found: Found, threshold: float) -> Found:
    keep = found.scores >= threshold
    return Found(found.boxes[keep], found.scores[keep], found.labels[keep])


def _chart(title: str, lines: Sequence[tuple[str, np.ndarray]], text: str) -> Chart:
    series = tuple(Series(name, _RECALLS, values.tolist()) for name, values in lines)
    return Chart(title, "recall", "precision", series, y_range=(0, 1), text=text)


def _of_classes(count: int) -> str:
    return "The area below a line is AP50 of the class." + (
        f" Shown are the {_LINES} of {count} classes with most objects." if count > _LINES else ""
    )
