"""Labeled keypoints of any data set, and the samples of a pose network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from hrnet.errors import InputError
from hrnet.formats.boxes import BoxTable, read_boxes
from hrnet.formats.checked import LARGEST_COORDINATE, bounds
from hrnet.formats.coco import image_number as image_number  # for what scores poses
from hrnet.formats.coco import read_coco_json
from hrnet.formats.records import DataSet, ImageRecord, Object
from hrnet.formats.sides import infer_pairs
from hrnet.formats.splits import LabeledSet, facts, open_evaluation, shortened
from hrnet.inference.processor import BoxPrompts
from hrnet.io.geometry import Frame, Image, Size, warp
from hrnet.io.images import read_labeled
from hrnet.nn.task import Sample, SampleKey, random_generator
from hrnet.pose.augment import Augment, Box, CropLabels, crop_labels, random_crop
from hrnet.pose.boxes import Instance
from hrnet.pose.codecs import make_codec
from hrnet.pose.processor import crop_frame
from hrnet.pose.skeletons import Skeleton, infer_oks_sigmas, infer_upper
from hrnet.pose.spec import PoseSpec

Unboxed = Literal["whole", "keypoints"]
# Margin around the bounds of keypoints, as a fraction of their longer side: an object ends beyond its keypoints.
MARGIN = 0.2


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An existing image of a data set: its path, COCO's id of it, height and width."""

    path: Path
    image_id: int
    size: Size


@dataclass(frozen=True, slots=True, kw_only=True)
class KeypointSet(LabeledSet[ListedImage]):
    """One split of a data set with keypoints."""

    skeleton: Skeleton  # keypoints, from the file or inferred from their names
    instances: tuple[Instance, ...]  # objects with at least one labeled keypoint
    names: tuple[str, ...] = ()  # keypoints in the file's own order, where `skeleton` is another one
    boxed: bool = True  # whether every object has a box of its own
    source: Path | None = None  # COCO json of the set; None for other formats

    def select(self, keep: Callable[[Path], bool]) -> KeypointSet:
        """Return the set with some of its images and their objects, chosen by path."""
        return replace(
            self,
            images=tuple(image for image in self.images if keep(image.path)),
            instances=tuple(instance for instance in self.instances if keep(instance.path)),
        )


def keypoint_set(data: DataSet, unboxed: Unboxed = "whole") -> KeypointSet:
    """Return the objects with labeled keypoints of one split.

    Args:
        data: split of a data set of any format.
        unboxed: box of an object without one: the whole image, or the bounds of its keypoints, wider by `MARGIN`.

    Raises:
        InputError: the split has no keypoints, or none that can be used.
    """
    if not data.keypoints:
        raise InputError(f"{data.source} has no keypoints: neither its classes nor its objects name any.")
    notes, problems = facts(data)
    skeleton = _skeleton(data, notes)
    found: list[tuple[int, Instance]] = []
    for image in data.images:
        for thing in image.objects:
            instance = None if thing.crowd else _instance(thing, image, unboxed)
            if isinstance(instance, Instance):
                found.append((thing.number, instance))
            elif instance is not None:
                problems.append(f"{image.file}: {thing.place}: {instance}.")
    if not found:
        reason = f"; the first problem: {problems[0]}" if problems else "; label at least one keypoint"
        raise InputError(f"{data.source} has no object with keypoints that could be used{reason}")
    return KeypointSet(
        data.classes,
        tuple(ListedImage(image.path, _image_id(image), image.size) for image in data.images),
        shortened(problems, data.source),
        tuple(notes),
        skeleton=skeleton,
        # In the file's order, as the random choices of training go by position.
        instances=tuple(instance for _, instance in sorted(found, key=lambda pair: pair[0])),
        names=skeleton.names,
        boxed=all(thing.box is not None for image in data.images for thing in image.objects),
        source=data.source if data.format == "coco" else None,
    )


# Opens the images to evaluate on.
open_set = partial(open_evaluation, content="keypoints", convert=keypoint_set)


def _skeleton(data: DataSet, notes: list[str]) -> Skeleton:
    names = data.keypoints
    pairs = infer_pairs(names) if data.pairs is None else data.pairs
    how = "by name" if data.pairs is None else "as the file has them"
    notes.append(
        f"Left-right pairs {how}: {', '.join(f'{names[a]}/{names[b]}' for a, b in pairs)}."
        if pairs
        else "No left-right pairs found in the names; flipped images keep their keypoint names."
    )
    if not data.oks_sigmas:
        notes.append("OKS sigmas are COCO's for the joints that COCO has and 0.072 for all others.")
    try:
        return Skeleton(names, data.links, pairs, data.oks_sigmas or infer_oks_sigmas(names), infer_upper(names))
    except ValueError as error:
        raise InputError(f"{data.source}: its keypoints are inconsistent: {error}") from None


def _instance(thing: Object, image: ImageRecord, unboxed: Unboxed) -> Instance | str | None:
    """Return None for an object without labeled keypoints, and the reason for one that cannot be used."""
    points, visibility, area = thing.keypoints, thing.visibility, thing.area
    if points is None or visibility is None:
        return None
    if thing.region is not None and area is not None:
        return Instance(
            image.path, _image_id(image), image.size, thing.region, points, visibility, area, head=thing.head
        )
    if not (visibility > 0).any():
        return None
    outer = bounds(thing)
    if outer is not None:
        x, y, right, bottom = outer.tolist()
        box = clip_ground_truth((x, y, right - x, bottom - y), image.size)
        if box is None:
            width, height = image.size[::-1]
            return f"the box {x:g} {y:g} {right:g} {bottom:g} is degenerate or lies outside its image of {width} x {height}"
        area = area or float((right - x) * (bottom - y))
    elif unboxed == "whole":
        box = BoxPrompts.whole(image.size).boxes[0]
    else:
        seen = points[visibility > 0]
        low, high = seen.min(0), seen.max(0)
        margin = max(MARGIN * float((high - low).max()), 1.0)
        box = np.concatenate([low - margin, high + margin])
    area = area or float(np.prod(box[2:] - box[:2] + 1))
    return Instance(image.path, _image_id(image), image.size, box, points, visibility, area)


def _image_id(image: ImageRecord) -> int:
    """Return COCO's id of an image; some files have text in its place, which is fine, as ids are only compared."""
    return image.number  # type: ignore[return-value]  # see above


def read_ground_truth(data: KeypointSet) -> dict[str, Any] | None:
    """Return the ground truth of average precision as the content of a COCO json; None where objects have no boxes."""
    return read_coco_json(data.source) if data.source else coco_truth(data)


def coco_truth(data: KeypointSet) -> dict[str, Any] | None:
    """Return the labeled objects as the content of a COCO json; None where they have no boxes."""
    if not data.boxed:
        return None
    known, names = data.skeleton.names, data.names or data.skeleton.names
    place = np.array([known.index(name) if name in known else -1 for name in names])

    def rows(one: Instance) -> Float[np.ndarray, "k 3"]:
        return np.column_stack([one.keypoints, one.visibility])[place] * (place >= 0)[:, None]

    annotations = [
        {
            "id": number,
            "image_id": one.image_id,
            "category_id": 1,
            "iscrowd": 0,
            "area": one.area,
            "bbox": [*one.box[:2].tolist(), *(one.box[2:] - one.box[:2] + 1).tolist()],
            "keypoints": rows(one).ravel().tolist(),
            "num_keypoints": int((rows(one)[:, 2] > 0).sum()),
        }
        for number, one in enumerate(data.instances, start=1)
    ]
    images = [{"id": one.image_id, "width": one.size[1], "height": one.size[0]} for one in data.images]
    categories = [{"id": 1, "name": "object", "keypoints": list(names)}]
    return {"images": images, "annotations": annotations, "categories": categories}


def clip_ground_truth(box: Sequence[float], size: Size) -> Float[np.ndarray, 4] | None:
    """Return a labeled box x y w h as x1 y1 x2 y2 inside its image; None where nothing is left.

    As in the published protocol the box loses one pixel in width and height: it ends on its last pixel.
    """
    x, y, w, h = (float(value) for value in box)
    if not max(abs(value) for value in (x, y, w, h)) <= 2 * LARGEST_COORDINATE:
        return None
    x1, y1 = max(0.0, x), max(0.0, y)
    x2, y2 = min(size[1] - 1.0, x1 + max(0.0, w - 1)), min(size[0] - 1.0, y1 + max(0.0, h - 1))
    return np.array([x1, y1, x2, y2]) if w * h > 0 and x2 >= x1 and y2 >= y1 else None


def rename_keypoints(data: KeypointSet, skeleton: Skeleton) -> KeypointSet:
    """Return the objects with the keypoints of another skeleton, matched by name; missing ones are not labeled.

    Raises:
        InputError: no name is common.
    """
    names = data.skeleton.names
    if names == skeleton.names:
        return replace(data, skeleton=skeleton)
    place = [names.index(name) if name in names else -1 for name in skeleton.names]
    if max(place) < 0:
        raise InputError(
            f"The data set's keypoints ({', '.join(names)}) have no name in common with the model's "
            f"({', '.join(skeleton.names)}); rename them in the data set."
        )
    known = np.array(place) >= 0
    instances = tuple(
        replace(
            instance,
            keypoints=np.where(known[:, None], instance.keypoints[place], 0),
            visibility=np.where(known, instance.visibility[place], 0),
        )
        for instance in data.instances
    )
    return replace(data, skeleton=skeleton, instances=instances)


def detected_instances(data: KeypointSet, path: Path) -> tuple[tuple[Instance, ...], list[str]]:
    """Return the boxes of a detection file as instances without keypoints, in the images of a data set.

    As in the published protocol the boxes are used as they are. Boxes of images that the set lacks are ignored; the
    second value are sentences about boxes that cannot be used.
    """
    boxes, problems = read_boxes(path)
    table = BoxTable(boxes, path)
    joints = len(data.skeleton)
    found: list[Instance] = []
    for image in data.images:
        prompts = boxes.get(str(image.image_id)) or table.find(image.path)
        if prompts is None:
            continue
        for box, score in zip(prompts.boxes, prompts.scores, strict=True):
            area = float(np.prod(box[2:] - box[:2]))
            blank = np.zeros((joints, 2))
            found.append(Instance(image.path, image.image_id, image.size, box, blank, blank[:, 0], area, float(score)))
    if not found:
        raise InputError(f"{path} has no box for any image of the data set; its image_id or file_name must match.")
    return tuple(found), problems


class PoseDataset:
    """Crops of objects: a `SampleKey` gives an augmented crop with the targets `heatmaps` and `weights`, an index the plain
    crop without targets."""

    def __init__(self, instances: Sequence[Instance], spec: PoseSpec, augment: Augment, seed: int = 0) -> None:
        self.instances = instances
        self.spec = spec
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.instances)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        if isinstance(key, SampleKey):
            image, frame, labels = self.augmented(key)
            return Sample(image, frame, labels.encode(make_codec(self.spec.codec, frame.size)), key.sample)
        instance = self.instances[key]
        frame = crop_frame(instance.box, self.spec, instance.size)
        image = warp(self._read(instance), frame, antialias=self.augment.antialias)
        return Sample(image, frame, {}, key)

    def describe(self, index: int) -> str:
        """Return the path of the image."""
        return str(self.instances[index].path)

    def _read(self, instance: Instance) -> Image:
        return read_labeled(instance.path, instance.size)

    def augmented(self, key: SampleKey) -> tuple[Image, Frame, CropLabels]:
        """Return an augmented crop, its frame, and the keypoints in it."""
        instance, rng = self.instances[key.sample], random_generator(self.seed, key)
        image, frame, cut = random_crop(self._read(instance), instance, self.spec, self.augment, rng)
        return image, frame, self.labels(instance, frame, cut)

    def labels(self, instance: Instance, frame: Frame, cut: Box | None = None) -> CropLabels:
        """Return the keypoints of an object in a crop; see `crop_labels`."""
        return crop_labels(instance, frame, self.spec.skeleton, cut, empty_outside=self.augment.empty_outside)
