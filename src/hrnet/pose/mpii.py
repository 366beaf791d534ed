"""MPII as the published code has it: a json list of people, and the heads in gt_valid.mat beside it."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hrnet.errors import InputError
from hrnet.formats.files import read_json
from hrnet.io.images import image_size
from hrnet.pose.data import Instance, KeypointSet, ListedImage
from hrnet.pose.skeletons import MPII

# Source: the published MPII data set code. One unit of scale is 200 pixels; the center moves down by 15 pixels a unit.
# The scale grows by 1.25 as well: that is `PoseSpec.box_padding`.
PIXELS_OF_SCALE = 200.0
CENTER_SHIFT = 15.0
# Source: the published evaluation (SC_BIAS): the head's length as a share of its box's diagonal.
HEAD_SHARE = 0.6
HEADS_FILE = "gt_valid.mat"
_JOINTS = len(MPII)


def is_mpii(path: Path) -> bool:
    """Whether a json is a list, as MPII's are, and not a COCO json."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(64).lstrip().startswith("[")
    except (OSError, UnicodeDecodeError):
        return False  # the reader of COCO json says what is wrong with it


def read_mpii(images: Path, annotations: Path) -> KeypointSet:
    """The people of an MPII json, as boxes around the given centers.

    Args:
        images: the folder that the file names in the json refer to.
        annotations: a list of ``{image, center, scale, joints, joints_vis}``, pixels counted from 1.

    Raises:
        InputError: the file is no such json, or nothing in it can be used.
    """
    content = _read_list(annotations)
    notes: list[str] = []
    heads = _read_heads(annotations, len(content), notes)
    problems: list[str] = []
    records: dict[str, ListedImage | None] = {}
    instances: list[Instance] = []
    for number, entry in enumerate(content):
        try:
            instance = _instance(entry, images, records, heads[number])
        except ValueError as error:
            problems.append(f"{annotations}: person {number}: {error}.")
            continue
        if instance is not None:
            instances.append(instance)
    missing = [name for name, record in records.items() if record is None]
    if missing:
        problems.append(
            f"{annotations} lists {len(missing)} images that are not in {images}, which are left out: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}."
        )
    if not instances:
        raise InputError(f"{annotations} has no person that could be used; {(problems or ['it is empty.'])[0]}")
    there = tuple(record for record in records.values() if record is not None)
    return KeypointSet(MPII, tuple(instances), tuple(problems), tuple(notes), MPII.names, there)


def _read_list(path: Path) -> list[Any]:
    content = read_json(path, "an MPII json")
    if not isinstance(content, list):
        raise InputError(f"{path} is not an MPII json: it needs a list of image, center, scale, joints and joints_vis.")
    return content


def _instance(
    entry: Any, images: Path, records: dict[str, ListedImage | None], head: tuple[float, tuple[bool, ...]]
) -> Instance | None:
    """None where the image is missing; ValueError with the reason where the entry is wrong."""
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
        raise ValueError(f"{str(entry)[:40]} does not name an image")
    center, scale = _numbers(entry, "center", (2,)), float(_numbers(entry, "scale", ()))
    if center[0] == -1 or not 0 < scale < 1e3:
        raise ValueError("it has no center and scale")
    joints = _numbers(entry, "joints", (_JOINTS, 2)) if "joints" in entry else np.zeros((_JOINTS, 2))
    seen = _numbers(entry, "joints_vis", (_JOINTS,)) if "joints_vis" in entry else np.zeros(_JOINTS)
    name = entry["image"]
    if name not in records:
        path = images / name
        records[name] = ListedImage(path, len(records) + 1, image_size(path)) if path.is_file() else None
    record = records[name]
    if record is None:
        return None
    # Counted from 1 to counted from 0, after the shift.
    middle = center + np.array([0, CENTER_SHIFT * scale]) - 1
    half = PIXELS_OF_SCALE * scale / 2
    length, missing = head
    visibility = np.where((seen > 0) & ~np.asarray(missing, dtype=bool), 2.0, 0.0)
    return Instance(
        record.path,
        record.image_id,
        record.size,
        np.concatenate([middle - half, middle + half]),
        np.where(visibility[:, None] > 0, joints - 1, 0),
        visibility,
        area=4 * half**2,
        head=length,
    )


def _numbers(entry: dict[str, Any], key: str, shape: tuple[int, ...]) -> Float[np.ndarray, ...]:
    try:
        values = np.array(entry.get(key), dtype=float)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{key} holds something that is no number") from None
    if values.shape != shape or not np.isfinite(values).all():
        raise ValueError(f"{key} has shape {values.shape}, expected finite numbers of shape {shape}")
    return values


def _read_heads(annotations: Path, people: int, notes: list[str]) -> list[tuple[float, tuple[bool, ...]]]:
    """For each person the length of the head and which joints the evaluation leaves out; `notes` says why there is none."""
    none = [(math.nan, (False,) * _JOINTS)] * people
    path = annotations.with_name(HEADS_FILE)
    if annotations.stem != "valid":
        return none
    if not path.is_file():
        notes.append(f"PCKh needs the heads in {path}, which is not there; PCK is measured instead.")
        return none
    try:
        loadmat = importlib.import_module("scipy.io").loadmat
    except ImportError:
        notes.append(f"PCKh needs scipy to read {path}: pip install scipy; PCK is measured instead.")
        return none
    try:
        content = loadmat(path)
        boxes, missing = content["headboxes_src"].astype(float), content["jnt_missing"].astype(bool)
    except Exception as error:  # scipy has errors of its own, and damaged bytes may raise any
        raise InputError(f"{path} is not MPII's file of heads ({error}); copy it again.") from None
    if boxes.shape != (2, 2, people) or missing.shape != (_JOINTS, people):
        raise InputError(
            f"{path} has heads of shape {boxes.shape}, {annotations} has {people} people; take both from one release."
        )
    lengths = HEAD_SHARE * np.linalg.norm(boxes[1] - boxes[0], axis=0)
    return [(float(length), tuple(absent.tolist())) for length, absent in zip(lengths, missing.T, strict=True)]
