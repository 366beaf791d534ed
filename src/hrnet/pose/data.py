"""Keypoints as people have them, crops of them, and the augmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from hrnet.engine.photometric import recolor
from hrnet.errors import InputError
from hrnet.formats import records
from hrnet.formats.checked import LARGEST_COORDINATE
from hrnet.formats.coco import image_number as image_number  # for what scores poses
from hrnet.formats.coco import read_coco
from hrnet.formats.coco import read_coco_json as read_coco_json
from hrnet.formats.defects import sentences
from hrnet.formats.records import DataSet, Object
from hrnet.formats.sides import infer_pairs
from hrnet.inference.processor import BoxPrompts
from hrnet.io.geometry import Frame, Image, Size, flip_order, warp
from hrnet.io.images import read_labeled
from hrnet.nn.task import Sample, SampleKey, random_generator
from hrnet.pose.boxes import box_key, read_boxes
from hrnet.pose.codecs import Codec, make_codec
from hrnet.pose.processor import crop_frame
from hrnet.pose.skeletons import Skeleton, infer_oks_sigmas, infer_upper
from hrnet.pose.spec import PoseSpec

Unboxed = Literal["whole", "keypoints"]
# Bounds of keypoints are this share of their longer side wider, on each side: an object ends beyond its keypoints.
MARGIN = 0.2


@dataclass(frozen=True, slots=True)
class Augment:
    """What is changed at random in a training crop. The defaults are those of the published COCO training.

    Attributes:
        scale: the crop grows or shrinks by a factor drawn from a normal distribution with this deviation, cut there.
        rotation: degrees, deviation of a normal distribution cut at twice that.
        rotation_probability: how often a crop is rotated.
        upright: how often somebody whose hips are not below the shoulders is turned first so that they are.
        flip: how often it is mirrored.
        half_body: how often only the upper or the lower body is shown, where more than `half_body_above` keypoints are
            labeled.
        half_body_above: see there.
        shift: the crop moves by up to this share of its side, evenly drawn.
        portrait: how often the image is cut off below the chest, the hips or the knees, as portraits are.
        color: deviation of brightness, contrast and saturation from 1.
        empty_outside: keypoints known to lie outside the crop teach an empty heatmap. The published training ignores them,
            and its networks then place them somewhere.
        antialias: see `geometry.warp`.
    """

    scale: float = 0.35
    rotation: float = 45.0
    rotation_probability: float = 0.6
    upright: float = 0.0
    flip: float = 0.5
    half_body: float = 0.3
    half_body_above: int = 8
    shift: float = 0.0
    portrait: float = 0.0
    color: float = 0.0
    empty_outside: bool = False
    antialias: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One labeled object (or one box to look into, then with no visible keypoints).

    Attributes:
        path: of the image.
        image_id: COCO's number of the image.
        size: height and width of the image.
        box: x1 y1 x2 y2.
        keypoints: `k 2`, pixels of the image.
        visibility: `k`: 0 not labeled, 1 hidden, 2 visible.
        area: of the object, COCO's measure of size.
        score: of the box.
        head: length that MPII measures errors in, 0.6 times the diagonal of the head's box; not a number where there is none.
    """

    path: Path
    image_id: int
    size: Size
    box: Float[np.ndarray, 4]
    keypoints: Float[np.ndarray, "k 2"]
    visibility: Float[np.ndarray, " k"]
    area: float
    score: float = 1.0
    head: float = math.nan


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image that a data set lists and that is there: its path, COCO's number of it, height and width."""

    path: Path
    image_id: int
    size: Size


@dataclass(frozen=True, slots=True)
class KeypointSet:
    """What a data set with keypoints holds.

    Attributes:
        skeleton: the keypoints, from the file or inferred from their names.
        instances: objects with at least one labeled keypoint.
        problems: a sentence for each entry that was left out.
        notes: a sentence for each thing that was inferred.
        names: the keypoints in the file's own order, where `skeleton` is another one.
        images: all that the file lists and that can be used, labeled or not: what a detector's boxes are scored on.
        boxed: whether every object has a box of its own.
    """

    skeleton: Skeleton
    instances: tuple[Instance, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    images: tuple[ListedImage, ...] = ()
    boxed: bool = True


def read_coco_keypoints(images: Path, annotations: Path) -> KeypointSet:
    """The labeled objects of a COCO keypoint json, whatever its keypoints are.

    Args:
        images: the folder that the file names in the json refer to.
        annotations: the json.

    Raises:
        InputError: the file is no COCO keypoint json, or nothing in it can be used.
    """
    return keypoint_set(read_coco(annotations, images, only_keypoints=True))


def open_set(
    images: Path,
    annotations: Path | None = None,
    split: Literal["train", "val"] = "val",
    *,
    hold_out: int = 0,
    unboxed: Unboxed = "whole",
) -> KeypointSet:
    """Open one split of a data set; with `hold_out` the images that a training with this number holds out.

    Raises:
        InputError: the data set is missing or cannot be used.
    """
    from hrnet.pose.recipes import read_keypoints

    if annotations is None:
        raise InputError(f"{images} has no labels of keypoints; name them by --annotations.")
    data = read_keypoints(images, annotations, "train" if hold_out else split, unboxed)
    return _hold_out(data, hold_out)[1] if hold_out else data


def keypoint_set(data: DataSet, unboxed: Unboxed = "whole") -> KeypointSet:
    """The objects with labeled keypoints of a data set of any format.

    Args:
        data: as read.
        unboxed: the box of an object that has none: the whole image, or the bounds of its keypoints, wider by `MARGIN`.

    Raises:
        InputError: nothing in it can be used.
    """
    if not data.keypoints:
        raise InputError(f"{data.source} has no keypoints: neither its classes nor its objects name any.")
    notes, problems = sentences(data)
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
        skeleton,
        # In the file's order, as the random choices of training go by position.
        tuple(instance for _, instance in sorted(found, key=lambda pair: pair[0])),
        tuple(problems),
        tuple(notes),
        skeleton.names,
        tuple(ListedImage(image.path, _image_id(image), image.size) for image in data.images),
        boxed=all(thing.box is not None for image in data.images for thing in image.objects),
    )


def _skeleton(data: DataSet, notes: list[str]) -> Skeleton:
    names = data.keypoints
    pairs = infer_pairs(names) if data.pairs is None else data.pairs
    how = "by name" if data.pairs is None else "as the file has them"
    notes.append(
        f"Left-right pairs {how}: {', '.join(f'{names[a]}/{names[b]}' for a, b in pairs)}."
        if pairs
        else "No left-right pairs found in the names; mirrored images keep their keypoint names."
    )
    if not data.oks_sigmas:
        notes.append("OKS sigmas are COCO's for the joints that COCO has and 0.072 for all others.")
    try:
        return Skeleton(names, data.links, pairs, data.oks_sigmas or infer_oks_sigmas(names), infer_upper(names))
    except ValueError as error:
        raise InputError(f"{data.source}: its keypoints are inconsistent: {error}") from None


def _instance(thing: Object, image: records.ImageRecord, unboxed: Unboxed) -> Instance | str | None:
    """None where nothing is to be learned from the object; the reason where it cannot be used."""
    if thing.keypoints is None or thing.visibility is None or not (thing.visibility > 0).any():
        return None
    points, visibility, area = thing.keypoints, thing.visibility, thing.area
    if thing.box is not None:
        x, y, right, bottom = thing.box.tolist()
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


def _image_id(image: records.ImageRecord) -> int:
    """Its number; the text that some files have in its place is as good, as it is only compared."""
    return image.number  # type: ignore[return-value]  # see above


def coco_truth(data: KeypointSet) -> dict[str, Any] | None:
    """The labeled objects as the content of a COCO json, for average precision; None where they have no boxes."""
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
    """A labeled box x y w h as x1 y1 x2 y2 inside its image; None where nothing is left.

    As in the published protocol the box loses one pixel in width and height: it ends on its last pixel.
    """
    x, y, w, h = (float(value) for value in box)
    if not max(abs(value) for value in (x, y, w, h)) <= 2 * LARGEST_COORDINATE:
        return None
    x1, y1 = max(0.0, x), max(0.0, y)
    x2, y2 = min(size[1] - 1.0, x1 + max(0.0, w - 1)), min(size[0] - 1.0, y1 + max(0.0, h - 1))
    return np.array([x1, y1, x2, y2]) if w * h > 0 and x2 >= x1 and y2 >= y1 else None


def rename_keypoints(data: KeypointSet, skeleton: Skeleton) -> KeypointSet:
    """The same objects with the keypoints of another skeleton, matched by name; those it lacks are not labeled.

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


def hold_out(data: KeypointSet, every: int) -> tuple[KeypointSet, KeypointSet]:
    """A set in two parts: what is left to train on, and every so-manieth image to score on.

    Args:
        data: all images.
        every: images sorted by path at positions 0, `every`, 2 * `every`, ... are held out.

    Raises:
        InputError: `every` is below 2, or one of the parts has nothing labeled.
    """
    if every < 2:
        raise InputError(f"Every {every}-th image cannot be held out of the others; 5, for one, holds out a fifth.")
    chosen = set(sorted({image.path for image in data.images})[::every])
    parts = [
        replace(
            data,
            instances=tuple(instance for instance in data.instances if (instance.path in chosen) == held),
            images=tuple(image for image in data.images if (image.path in chosen) == held),
        )
        for held in (False, True)
    ]
    if not all(part.instances for part in parts):
        raise InputError(
            f"{len(data.images)} images are too few to hold out every {every}-th; nothing is labeled then."
        )
    return parts[0], parts[1]


def detected_instances(data: KeypointSet, path: Path) -> tuple[tuple[Instance, ...], list[str]]:
    """The boxes of a detection file as instances without keypoints, in the images of a data set.

    As in the published protocol the boxes are used as they are. Images of the file that the set does not have are
    passed over; the sentences are about boxes that cannot be used.
    """
    table, problems = read_boxes(path)
    joints = len(data.skeleton)
    found: list[Instance] = []
    for image in data.images:
        key = str(image.image_id) if str(image.image_id) in table else box_key(image.path, table)
        if key is None:
            continue
        for box, score in zip(table[key].boxes, table[key].scores, strict=True):
            area = float(np.prod(box[2:] - box[:2]))
            blank = np.zeros((joints, 2))
            found.append(Instance(image.path, image.image_id, image.size, box, blank, blank[:, 0], area, float(score)))
    if not found:
        raise InputError(f"{path} has no box for any image of the data set; its image_id or file_name must match.")
    return tuple(found), problems


_hold_out = hold_out


class CropLabels(NamedTuple):
    """Keypoints of one crop.

    Attributes:
        keypoints: pixels of the crop.
        visibility: 0 for unlabeled keypoints, else 1.
        absent: keypoints known to lie outside the crop.
    """

    keypoints: Float[np.ndarray, "k 2"]
    visibility: Float[np.ndarray, " k"]
    absent: Bool[np.ndarray, " k"]

    def encode(self, codec: Codec) -> dict[str, np.ndarray]:
        """Return the training targets: heatmaps, empty for absent keypoints, and their weights."""
        heatmaps, weights = codec.encode(self.keypoints[None], self.visibility[None])
        absent = self.absent
        return {
            "heatmaps": heatmaps[0] * ~absent[:, None, None],
            "weights": np.where(absent, np.float32(1), weights[0]),
        }


class PoseDataset:
    """Crops of objects. A `SampleKey` gives an augmented crop with the targets `heatmaps` and `weights`, an index the plain
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
        """The image's file."""
        return str(self.instances[index].path)

    def _read(self, instance: Instance) -> Image:
        return read_labeled(instance.path, instance.size)

    def augmented(self, key: SampleKey) -> tuple[Image, Frame, CropLabels]:
        """Return an augmented crop, its place in the image, and the keypoints in it."""
        augment, rng = self.augment, random_generator(self.seed, key)
        instance = self.instances[key.sample]
        image = self._read(instance)
        box, enlarge = instance.box, 1.0
        cut = self._portrait(instance, rng) if rng.random() < augment.portrait else None
        if cut is not None:
            image = _black_outside(image, cut)
            box = cut
        elif (instance.visibility > 0).sum() > augment.half_body_above and rng.random() < augment.half_body:
            half = _half_body(instance, self.spec.skeleton, rng)
            if half is not None:
                # Source: the published code enlarges this box by 1.5 in place of the usual 1.25.
                box, enlarge = half, 1.5 / self.spec.box_padding
        enlarge *= _clipped_normal(rng, augment.scale, 1) + 1
        rotated = rng.random() < augment.rotation_probability
        rotation = _clipped_normal(rng, augment.rotation, 2) if rotated else 0.0
        lean = _lean(instance, self.spec.skeleton) if augment.upright and rng.random() < augment.upright else 0.0
        if lean:
            rotation += lean
            box = _turned_bounds(instance, lean) if box is instance.box else _turned_box(box, lean)
        side = max(box[2:] - box[:2])
        moved = box + np.tile(rng.uniform(-augment.shift, augment.shift, 2) * side, 2)
        frame = crop_frame(
            moved, self.spec, instance.size, enlarge=enlarge, rotation=rotation, flip=bool(rng.random() < augment.flip)
        )
        crop = recolor(warp(image, frame, antialias=augment.antialias), augment.color, rng)
        return crop, frame, self.labels(instance, frame, cut)

    def _portrait(self, instance: Instance, rng: np.random.Generator) -> Float[np.ndarray, 4] | None:
        """The part of the image around the upper body, cut somewhere between the shoulders and the knees."""
        upper = [index for index in self.spec.skeleton.upper if instance.visibility[index] > 0]
        visible = instance.visibility > 0
        if len(upper) < 3 or visible.sum() < len(upper) + 2:
            return None
        points = instance.keypoints[upper]
        low, high = points.min(0), points.max(0)
        margin = rng.uniform(0.05, 0.4, 4) * max(high - low)
        height, width = instance.size
        box = np.array([*(low - margin[:2]), *(high + margin[2:])])
        box = np.clip(box, 0, [width - 1, height - 1, width - 1, height - 1])
        return box if min(box[2:] - box[:2]) >= 16 else None

    def labels(self, instance: Instance, frame: Frame, cut: Float[np.ndarray, 4] | None = None) -> CropLabels:
        """Return the keypoints of an object in a crop.

        Args:
            instance: the object.
            frame: the crop.
            cut: the part of the image, x1 y1 x2 y2, outside of which the crop is black.
        """
        points = frame.to_input(instance.keypoints)
        visibility = instance.visibility.copy()
        if np.linalg.det(frame.matrix[:, :2]) < 0:
            order = flip_order(len(points), self.spec.skeleton.pairs)
            points, visibility = points[order], visibility[order]
        seen = np.ones(len(points), dtype=bool)
        if cut is not None:
            place = frame.to_source(points)
            seen = (place >= cut[:2]).all(1) & (place <= cut[2:]).all(1)
            if not self.augment.empty_outside:
                visibility = visibility * seen  # nothing can be learned from black
        absent = np.zeros(len(points), dtype=bool)
        if self.augment.empty_outside:
            height, width = frame.size
            inside = (points > -0.5).all(1) & (points < np.array([width, height]) - 0.5).all(1)
            absent = (visibility > 0) & ~(inside & seen)
        return CropLabels(points.astype(np.float32), np.minimum(visibility, 1).astype(np.float32), absent)


def _clipped_normal(rng: np.random.Generator, deviation: float, limit: float) -> float:
    return float(np.clip(rng.standard_normal() * deviation, -limit * deviation, limit * deviation))


def _lean(instance: Instance, skeleton: Skeleton) -> float:
    """Degrees, clockwise, from upright to the line from hips to shoulders; 0 where one of the four is not labeled."""
    try:
        joints = [skeleton.names.index(name) for name in ("left_hip", "right_hip", "left_shoulder", "right_shoulder")]
    except ValueError:
        return 0.0
    if not (instance.visibility[joints] > 0).all():
        return 0.0
    x, y = instance.keypoints[joints[2:]].mean(0) - instance.keypoints[joints[:2]].mean(0)
    return math.degrees(math.atan2(x, -y))


# Of the longer side, on each side: about what the boxes of Leeds Sports Poses have around their keypoints.
_TURNED_MARGIN = 0.1


def _turned_bounds(instance: Instance, degrees: float) -> Float[np.ndarray, 4]:
    """The box of an object after a turn: the bounds of its keypoints with a margin, where most of them are labeled."""
    points = instance.keypoints[instance.visibility > 0]
    if len(points) < 0.6 * len(instance.keypoints):
        return _turned_box(instance.box, degrees)
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    turned = points @ turn.T
    low, high = turned.min(0), turned.max(0)
    middle = turn.T @ ((low + high) / 2)
    half = (high - low) / 2 + _TURNED_MARGIN * max(high - low)
    return np.concatenate([middle - half, middle + half])


def _turned_box(box: Float[np.ndarray, 4], degrees: float) -> Float[np.ndarray, 4]:
    """The bounds that a box has after a turn, around its own center."""
    cosine, sine = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    center, (width, height) = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    half = np.array([width * cosine + height * sine, width * sine + height * cosine]) / 2
    return np.concatenate([center - half, center + half])


def _half_body(instance: Instance, skeleton: Skeleton, rng: np.random.Generator) -> Float[np.ndarray, 4] | None:
    """A box as large as the bounds of the upper or the lower joints, around their mean.

    Upper in 69 %: the published code compares a normal draw with 0.5.
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


def _black_outside(image: Image, box: Float[np.ndarray, 4]) -> Image:
    x1, y1, x2, y2 = np.round(box).astype(int)
    cut = np.zeros_like(image)
    cut[y1 : y2 + 1, x1 : x2 + 1] = image[y1 : y2 + 1, x1 : x2 + 1]
    return cut
