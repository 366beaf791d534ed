"""Keypoints as people have them (COCO json), crops of them, and the augmentation."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torchvision.transforms.v2 import functional as photometric

from hrnet.errors import InputError
from hrnet.geometry import Frame, Image, Size, flip_order, warp
from hrnet.images import image_size, read_image
from hrnet.pose.boxes import box_key, read_boxes
from hrnet.pose.model import crop_frame
from hrnet.pose.skeletons import Skeleton, infer_oks_sigmas, infer_pairs, infer_upper
from hrnet.pose.spec import PoseSpec
from hrnet.task import Draw, Sample, random_generator


@dataclass(frozen=True, slots=True)
class Augment:
    """What is changed at random in a training crop. The defaults are those of the published COCO training.

    Attributes:
        scale: the crop grows or shrinks by a factor drawn from a normal distribution with this deviation, cut there.
        rotation: degrees, deviation of a normal distribution cut at twice that.
        rotation_probability: how often a crop is rotated.
        flip: how often it is mirrored.
        half_body: how often only the upper or the lower body is shown, where more than `half_body_above` keypoints are
            labelled.
        half_body_above: see there.
        shift: the crop moves by up to this share of its side, evenly drawn.
        portrait: how often the picture is cut off below the chest, the hips or the knees, as portraits are.
        colour: deviation of brightness, contrast and saturation from 1.
        empty_outside: keypoints known to lie outside the crop teach an empty heatmap. The published training ignores them,
            and its networks then place them somewhere.
        antialias: see `geometry.warp`.
    """

    scale: float = 0.35
    rotation: float = 45.0
    rotation_probability: float = 0.6
    flip: float = 0.5
    half_body: float = 0.3
    half_body_above: int = 8
    shift: float = 0.0
    portrait: float = 0.0
    colour: float = 0.0
    empty_outside: bool = False
    antialias: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One labelled object (or one box to look into, then with no visible keypoints).

    Attributes:
        path: of the picture.
        image_id: COCO's number of the picture.
        size: height and width of the picture.
        box: x1 y1 x2 y2.
        keypoints: `k 2`, pixels of the picture.
        visibility: `k`: 0 not labelled, 1 hidden, 2 visible.
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
class Picture:
    """A picture that a data set lists and that is there: its path, COCO's number of it, height and width."""

    path: Path
    image_id: int
    size: Size


@dataclass(frozen=True, slots=True)
class KeypointSet:
    """What a COCO keypoint json holds.

    Attributes:
        skeleton: the keypoints, from the file or inferred from their names.
        instances: objects with at least one labelled keypoint.
        problems: a sentence for each entry that was left out.
        notes: a sentence for each thing that was inferred.
        names: the keypoints in the file's own order, where `skeleton` is another one.
        pictures: all that the file lists and that can be used, labelled or not: what a detector's boxes are scored on.
    """

    skeleton: Skeleton
    instances: tuple[Instance, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()


def read_coco_keypoints(images: Path, annotations: Path) -> KeypointSet:
    """The labelled objects of a COCO keypoint json, whatever its keypoints are.

    Args:
        images: the folder that the file names in the json refer to.
        annotations: the json.

    Raises:
        InputError: the file is no COCO keypoint json, or nothing in it can be used.
    """
    content = read_coco_json(annotations)
    notes: list[str] = []
    category = _category(content, annotations, notes)
    skeleton = _skeleton(category, content, annotations, notes)
    problems: list[str] = []
    pictures = _pictures(content, images, annotations, problems)
    instances: list[Instance] = []
    outside: list[str] = []
    for number, entry in enumerate(content["annotations"]):
        name = f"{annotations}: annotation {entry.get('id', f'number {number}') if isinstance(entry, dict) else number}"
        try:
            instance = _instance(_checked_entry(entry), category, pictures, len(skeleton))
        except ValueError as error:
            problems.append(f"{name}: {error}.")
            continue
        if instance is not None:
            instances.append(instance)
            outside += [name] if _any_outside(instance) else []
    if outside:
        notes.append(
            f"{len(outside)} objects have keypoints outside their picture, which are kept; first {outside[0]}."
        )
    if not instances:
        reason = f"; the first problem: {problems[0]}" if problems else "; label at least one keypoint"
        raise InputError(f"{annotations} has no object with keypoints that could be used{reason}")
    there = tuple(picture for picture in pictures.values() if picture is not None)
    return KeypointSet(skeleton, tuple(instances), tuple(problems), tuple(notes), skeleton.names, there)


def read_coco_json(path: Path) -> dict[str, Any]:
    """A COCO json with its three lists.

    Raises:
        InputError: the file is missing, no json, or not of this form.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); name a COCO json.") from None
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, or lists a thousand deep
        raise InputError(f"{path} is not valid json ({error}); export it again.") from None
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in lists):
        raise InputError(f"{path} is not a COCO json: it needs the lists images, annotations and categories.")
    return content


def picture_number(value: Any) -> Any:
    """COCO's number of a picture, also where it was written as text; None for what cannot be one."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else value
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _pictures(content: dict[str, Any], folder: Path, file: Path, problems: list[str]) -> dict[Any, Picture | None]:
    """The listed pictures by number; None for one that cannot be used, which `problems` then names."""
    found: dict[Any, Picture | None] = {}
    missing: list[str] = []
    for entry in content["images"]:
        number = picture_number(entry.get("id")) if isinstance(entry, dict) else None
        if number is None or not isinstance(entry.get("file_name"), str):
            problems.append(f"{file}: the picture {str(entry)[:80]} needs an id and a file_name.")
            continue
        if number in found:
            problems.append(f"{file}: picture id {number} appears more than once; its first entry is used.")
            continue
        path = folder / entry["file_name"]
        if not path.is_file():
            path = folder / entry["file_name"].replace("\\", "/").rpartition("/")[2]
        found[number] = None
        if not path.is_file():
            missing.append(entry["file_name"])
            continue
        try:
            found[number] = Picture(path, number, _listed_size(path, entry))
        except ValueError as error:
            problems.append(str(error))
    if missing:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        problems.append(f"{file} lists {len(missing)} pictures that are not in {folder}, which are left out: {names}.")
    return found


def _listed_size(path: Path, entry: dict[str, Any]) -> Size:
    """Height and width of a picture as the json says; ValueError where the file's differ, turned or not."""
    size = image_size(path)
    if "height" not in entry and "width" not in entry:
        return size
    listed = (entry.get("height"), entry.get("width"))
    if listed != size and listed != image_size(path, upright=False):
        raise InputError(
            f"{path} has {size[1]} x {size[0]} pixels, the annotations say {listed[1]} x {listed[0]}; it is left out: "
            "label the picture as it is stored, or as its orientation tag turns it."
        )
    return listed  # type: ignore[return-value]  # equal to a Size


def _category(content: dict[str, Any], path: Path, notes: list[str]) -> dict[str, Any]:
    categories = [category for category in content["categories"] if isinstance(category, dict)]
    named = [entry for entry in categories if entry.get("keypoints") and isinstance(entry["keypoints"], list)]
    if not categories:
        raise InputError(f"{path} has no categories; the keypoints' names belong there.")
    if len(named) > 1:
        notes.append(f"{path} has {len(named)} categories with keypoints; {named[0].get('name')!r} is used.")
    return (named or categories)[0]


def _skeleton(category: dict[str, Any], content: dict[str, Any], path: Path, notes: list[str]) -> Skeleton:
    names = [str(name) for name in category.get("keypoints") or ()]
    if not names:
        lists = [entry.get("keypoints") for entry in content["annotations"] if isinstance(entry, dict)]
        counts = [len(points) // 3 for points in lists if isinstance(points, list) and points]
        if not counts:
            raise InputError(f"{path} has no keypoints: neither its categories nor its annotations name any.")
        names = [f"keypoint_{number}" for number in range(counts[0])]
        notes.append(f"{path} does not name its {len(names)} keypoints; they are called {names[0]} to {names[-1]}.")
    pairs = infer_pairs(names)
    notes.append(
        f"Left-right pairs by name: {', '.join(f'{names[a]}/{names[b]}' for a, b in pairs)}."
        if pairs
        else "No left-right pairs found in the names; mirrored pictures keep their keypoint names."
    )
    sigmas = category.get("oks_sigmas") or category.get("sigmas")
    if not sigmas:
        notes.append("OKS sigmas are COCO's for the joints that COCO has and 0.072 for all others.")
    try:
        links = tuple((int(a) - 1, int(b) - 1) for a, b in category.get("skeleton") or ())
        return Skeleton(tuple(names), links, pairs, tuple(sigmas or infer_oks_sigmas(names)), infer_upper(names))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path}: the keypoints of category {category.get('name')!r} are inconsistent: {error}"
        ) from None


# Pixels; beyond it a coordinate is a mistake, and arithmetic with it may overflow.
_LARGEST_COORDINATE = 1e6


def _checked_entry(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ValueError(f"{str(entry)[:40]} is no object with image_id, bbox and keypoints")
    return entry


def _instance(
    entry: dict[str, Any], category: dict[str, Any], pictures: dict[Any, Picture | None], joints: int
) -> Instance | None:
    """None where nothing is to be learned from the entry; ValueError with the reason where it is wrong."""
    if entry.get("category_id", category.get("id")) != category.get("id") or entry.get("iscrowd"):
        return None
    number = picture_number(entry.get("image_id"))
    if number not in pictures:
        raise ValueError(f"it names image {entry.get('image_id')}, which the file does not list")
    picture = pictures[number]
    if picture is None:
        return None
    values = _numbers(entry.get("keypoints") or [0] * 3 * joints, 3 * joints, "keypoints").reshape(-1, 3)
    labelled = values[:, 2] > 0
    if not labelled.any():
        return None
    # The coordinates of what is not labelled mean nothing; some programs write NaN there.
    points = np.where(labelled[:, None], values[:, :2], 0)
    if not (np.abs(points) <= _LARGEST_COORDINATE).all():
        raise ValueError("a keypoint is not a finite number of pixels")
    bbox = _numbers(entry.get("bbox"), 4, "bbox")
    box = clip_ground_truth(bbox.tolist(), picture.size)
    if box is None:
        width, height = picture.size[::-1]
        raise ValueError(f"the box {entry['bbox']} is degenerate or lies outside its picture of {width} x {height}")
    try:
        area = float(entry.get("area") or 0)
    except (TypeError, ValueError, OverflowError):
        area = 0.0
    area = area if 0 < area < math.inf else float(bbox[2] * bbox[3])
    visibility = np.where(labelled, values[:, 2], 0)
    return Instance(picture.path, picture.image_id, picture.size, box, points, visibility, area)


def _numbers(values: Any, count: int, name: str) -> Float[np.ndarray, " count"]:
    """A list of numbers (also ones written as text); ValueError where it is none."""
    if not isinstance(values, list):
        raise ValueError(f"{name} is {str(values)[:40]}, expected a list of {count} numbers")
    if len(values) != count:
        what = f"{count // 3} keypoints, expected {count}" if name == "keypoints" else f"{name}, expected {count}"
        raise ValueError(f"{len(values)} numbers for {what}")
    try:
        return np.array([float(value) for value in values])
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} holds something that is no number") from None


def _any_outside(instance: Instance) -> bool:
    points = instance.keypoints[instance.visibility > 0]
    return bool((points < -0.5).any() or (points > np.array(instance.size[::-1]) - 0.5).any())


def clip_ground_truth(box: Sequence[float], size: Size) -> Float[np.ndarray, 4] | None:
    """A labelled box x y w h as x1 y1 x2 y2 inside its picture; None where nothing is left.

    As in the published protocol the box loses one pixel in width and height: it ends on its last pixel.
    """
    x, y, w, h = (float(value) for value in box)
    if not max(abs(value) for value in (x, y, w, h)) <= _LARGEST_COORDINATE:
        return None
    x1, y1 = max(0.0, x), max(0.0, y)
    x2, y2 = min(size[1] - 1.0, x1 + max(0.0, w - 1)), min(size[0] - 1.0, y1 + max(0.0, h - 1))
    return np.array([x1, y1, x2, y2]) if w * h > 0 and x2 >= x1 and y2 >= y1 else None


def rename_keypoints(data: KeypointSet, skeleton: Skeleton) -> KeypointSet:
    """The same objects with the keypoints of another skeleton, matched by name; those it lacks are not labelled.

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
    """A set in two parts: what is left to train on, and every so-manieth picture to score on.

    Args:
        data: all pictures.
        every: pictures sorted by path at positions 0, `every`, 2 * `every`, ... are held out.

    Raises:
        InputError: `every` is below 2, or one of the parts has nothing labelled.
    """
    if every < 2:
        raise InputError(f"Every {every}-th picture cannot be held out of the others; 5, for one, holds out a fifth.")
    chosen = set(sorted({picture.path for picture in data.pictures})[::every])
    parts = [
        replace(
            data,
            instances=tuple(instance for instance in data.instances if (instance.path in chosen) == held),
            pictures=tuple(picture for picture in data.pictures if (picture.path in chosen) == held),
        )
        for held in (False, True)
    ]
    if not all(part.instances for part in parts):
        raise InputError(
            f"{len(data.pictures)} pictures are too few to hold out every {every}-th; nothing is labelled then."
        )
    return parts[0], parts[1]


def detected_instances(data: KeypointSet, path: Path) -> tuple[tuple[Instance, ...], list[str]]:
    """The boxes of a detection file as instances without keypoints, in the pictures of a data set.

    As in the published protocol the boxes are used as they are. Pictures of the file that the set does not have are
    passed over; the sentences are about boxes that cannot be used.
    """
    table, problems = read_boxes(path)
    joints = len(data.skeleton)
    found: list[Instance] = []
    for picture in data.pictures:
        key = str(picture.image_id) if str(picture.image_id) in table else box_key(picture.path, table)
        if key is None:
            continue
        for box, score in zip(table[key].boxes, table[key].scores, strict=True):
            area = float(np.prod(box[2:] - box[:2]))
            blank = np.zeros((joints, 2))
            found.append(
                Instance(picture.path, picture.image_id, picture.size, box, blank, blank[:, 0], area, float(score))
            )
    if not found:
        raise InputError(f"{path} has no box for any picture of the data set; its image_id or file_name must match.")
    return tuple(found), problems


class PoseDataset:
    """Crops of objects. Asked with a `Draw` it augments, with a number it does not."""

    def __init__(self, instances: Sequence[Instance], spec: PoseSpec, augment: Augment, seed: int = 0) -> None:
        self.instances = instances
        self.spec = spec
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.instances)

    def __getitem__(self, key: Draw | int) -> Sample:
        if isinstance(key, Draw):
            return self._augmented(key)
        instance = self.instances[key]
        frame = crop_frame(instance.box, self.spec, instance.size)
        image = warp(self._read(instance), frame, antialias=self.augment.antialias)
        return Sample(image, frame, self._targets(instance, frame, None), key)

    def describe(self, index: int) -> str:
        """The picture's file."""
        return str(self.instances[index].path)

    def _read(self, instance: Instance) -> Image:
        image = read_image(instance.path)
        if image.shape[:2] == instance.size:
            return image
        if image.shape[1::-1] == instance.size:
            # Labelled as stored: the published code, for one, does not look at the orientation tag.
            stored = read_image(instance.path, upright=False)
            if stored.shape[:2] == instance.size:
                return stored
        height, width = instance.size
        raise InputError(
            f"{instance.path} has {image.shape[1]} x {image.shape[0]} pixels, the annotations say {width} x {height}; "
            "label the picture as it is stored, or as its orientation tag turns it."
        )

    def _augmented(self, draw: Draw) -> Sample:
        augment, rng = self.augment, random_generator(self.seed, draw)
        instance = self.instances[draw.sample]
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
        side = max(box[2:] - box[:2])
        moved = box + np.tile(rng.uniform(-augment.shift, augment.shift, 2) * side, 2)
        frame = crop_frame(
            moved, self.spec, instance.size, enlarge=enlarge, rotation=rotation, flip=bool(rng.random() < augment.flip)
        )
        crop = _recolour(warp(image, frame, antialias=augment.antialias), augment.colour, rng)
        return Sample(crop, frame, self._targets(instance, frame, cut), draw.sample)

    def _portrait(self, instance: Instance, rng: np.random.Generator) -> Float[np.ndarray, 4] | None:
        """The part of the picture around the upper body, cut somewhere between the shoulders and the knees."""
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

    def _targets(self, instance: Instance, frame: Frame, cut: Float[np.ndarray, 4] | None) -> dict[str, np.ndarray]:
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
        targets: dict[str, np.ndarray] = {
            "keypoints": points.astype(np.float32),
            "visibility": np.minimum(visibility, 1).astype(np.float32),
        }
        if self.augment.empty_outside:
            height, width = frame.size
            inside = (points > -0.5).all(1) & (points < np.array([width, height]) - 0.5).all(1)
            targets["absent"] = (visibility > 0) & ~(inside & seen)
        return targets


def _clipped_normal(rng: np.random.Generator, deviation: float, limit: float) -> float:
    return float(np.clip(rng.standard_normal() * deviation, -limit * deviation, limit * deviation))


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


def _recolour(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Brightness, contrast and saturation, in this order."""
    if not strength:
        return image
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    brightness, contrast, saturation = np.clip(1 + strength * rng.standard_normal(3), 0.3, 1.9)
    tensor = photometric.adjust_brightness(tensor, float(brightness))
    tensor = photometric.adjust_contrast(tensor, float(contrast))
    tensor = photometric.adjust_saturation(tensor, float(saturation))
    return tensor.permute(1, 2, 0).contiguous().numpy()
