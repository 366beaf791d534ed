"""MPII as in the published code: a json list of people, and the heads in gt_valid.mat beside it."""

from __future__ import annotations

import importlib
import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hrnet.errors import InputError
from hrnet.formats.checked import checked_size, usable
from hrnet.formats.coco import find_image_folder
from hrnet.formats.defects import Draft, EntryError
from hrnet.formats.files import find_file, is_file, read_json, shown
from hrnet.formats.reader import Content, Reader
from hrnet.formats.records import DataSet, ImageRecord, Object

KEYPOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax", "upper_neck",
    "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
LINKS = ((0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (10, 11), (11, 12), (12, 7), (7, 13),
         (13, 14), (14, 15))  # fmt: skip
# Left first, as everywhere here.
PAIRS = ((5, 0), (4, 1), (3, 2), (15, 10), (14, 11), (13, 12))
# Source: the published MPII data set code. One unit of scale is 200 pixels; the center moves down by 15 pixels per unit.
# The scale grows by 1.25 as well: that is `PoseSpec.box_padding`.
_PIXELS_OF_SCALE = 200.0
_CENTER_SHIFT = 15.0
# Source: the published evaluation (SC_BIAS): the head's length as a fraction of its box's diagonal.
_HEAD_FRACTION = 0.6
HEADS_FILE = "gt_valid.mat"


class MpiiReader(Reader[Path]):
    """Reader of MPII json lists: ``{image, center, scale, joints, joints_vis}``, pixels counted from 1.

    Each person has a region, the square around its center, in place of a box. Images are searched around the json where no
    folder of images is given.
    """

    title = "MPII json"
    looked_for = "an MPII json (a list of image, center, scale, joints and joints_vis)"
    gives: frozenset[Content] = frozenset({"keypoints"})

    def find(self, path: Path, images: Path | None) -> Path | None:
        """Return a json that is a list, as MPII's are and COCO's are not."""
        if path.suffix.lower() != ".json" or not is_file(path):
            return None
        with suppress(OSError, UnicodeDecodeError), path.open(encoding="utf-8") as file:
            return path if file.read(64).lstrip("\ufeff \t\r\n").startswith("[") else None
        return None  # the reader of COCO json names the defect

    def load(self, found: Path, path: Path, images: Path | None) -> tuple[DataSet, ...]:
        content = read_json(path, "an MPII json")
        draft = Draft(path)
        heads = _read_heads(path, len(content), draft)
        named = [entry["image"] for entry in content if isinstance(entry, dict) and isinstance(entry.get("image"), str)]
        folder = images or find_image_folder(path, named)
        # COCO's ids of the images are their positions, also of those that are missing.
        records = {name: _image(folder, name, number, draft) for number, name in enumerate(dict.fromkeys(named), 1)}
        objects: dict[str, list[Object]] = {name: [] for name in records}
        for number, entry in enumerate(content):
            with draft.entry(f"person {number}"):
                person = _person(entry, number, *heads[number])
                objects[entry["image"]].append(person)
        kept = tuple(
            replace(record, objects=usable(objects[name], record.size, draft, path))
            for name, record in records.items()
            if record is not None
        )
        return (DataSet("mpii", path, "", kept, ("person",), KEYPOINTS, LINKS, PAIRS, defects=tuple(draft.defects)),)


def _image(folder: Path, name: str, number: int, draft: Draft) -> ImageRecord | None:
    path = find_file((folder,), name)
    if path is None:
        draft.add("image-missing", f"{shown(name)} is not in {folder}")
        return None
    size = checked_size(path, None, draft)
    return None if size is None else ImageRecord(path, size, number, draft.file)


def _person(entry: Any, number: int, head: float, absent: tuple[bool, ...]) -> Object:
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
        raise EntryError("entry-malformed", f"{shown(entry)} does not name an image")
    joints = len(KEYPOINTS)
    center, scale = _numbers(entry, "center", (2,)), float(_numbers(entry, "scale", ()))
    if center[0] == -1 or not 0 < scale < 1e3:
        raise EntryError("entry-malformed", "it has no center and scale")
    points = _numbers(entry, "joints", (joints, 2)) if "joints" in entry else np.zeros((joints, 2))
    seen = _numbers(entry, "joints_vis", (joints,)) if "joints_vis" in entry else np.zeros(joints)
    # Counted from 1 to counted from 0, after the shift.
    middle = center + np.array([0, _CENTER_SHIFT * scale]) - 1
    half = _PIXELS_OF_SCALE * scale / 2
    visibility = np.where((seen > 0) & ~np.asarray(absent, dtype=bool), 2.0, 0.0)
    return Object(
        0,
        f"person {number}",
        number,
        keypoints=np.where(visibility[:, None] > 0, points - 1, 0),
        visibility=visibility,
        area=4 * half**2,
        region=np.concatenate([middle - half, middle + half]),
        head=head,
    )


def _numbers(entry: dict[str, Any], key: str, shape: tuple[int, ...]) -> Float[np.ndarray, " ..."]:
    try:
        values = np.array(entry.get(key), dtype=float)
    except (TypeError, ValueError, OverflowError):
        raise EntryError("entry-malformed", f"{key} holds something that is no number") from None
    if values.shape != shape or not np.isfinite(values).all():
        raise EntryError("entry-malformed", f"{key} has shape {values.shape}, expected finite numbers of shape {shape}")
    return values


def _read_heads(annotations: Path, people: int, draft: Draft) -> list[tuple[float, tuple[bool, ...]]]:
    """Return for each person the length of the head and the joints that the evaluation leaves out."""
    joints = len(KEYPOINTS)
    none = [(math.nan, (False,) * joints)] * people
    path = annotations.with_name(HEADS_FILE)
    if annotations.stem != "valid":
        return none
    if not path.is_file():
        draft.add("heads-missing", f"has no {HEADS_FILE} beside it, which PCKh needs; PCK is measured instead")
        return none
    try:
        content = importlib.import_module("scipy.io").loadmat(path)
        boxes, missing = content["headboxes_src"].astype(float), content["jnt_missing"].astype(bool)
    except ImportError:
        draft.add("heads-missing", f"needs scipy to read {path} for PCKh; PCK is measured instead")
        return none
    except Exception as error:  # scipy has errors of its own, and damaged bytes may raise any
        raise InputError(f"{path} is not MPII's file of heads ({error}); copy it again.") from None
    if boxes.shape != (2, 2, people) or missing.shape != (joints, people):
        raise InputError(f"{path} has heads of shape {boxes.shape} for {people} people; take both from one release.")
    lengths = _HEAD_FRACTION * np.linalg.norm(boxes[1] - boxes[0], axis=0)
    return [(float(length), tuple(absent.tolist())) for length, absent in zip(lengths, missing.T, strict=True)]
