"""Readers and bytes of any kind: an InputError or a set with defects, never anything else."""

import contextlib
import copy
import functools
import json
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrnet.errors import InputError
from hrnet.formats.check import check
from hrnet.formats.files import find_below, read_text
from hrnet.formats.registry import read, recognize

EASY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
Values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from([1, 2, 0, -1, 10**400]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "size", "counts", "x"]), inner),
    max_leaves=6,
)
CONTENT = {
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}, {"id": 2, "file_name": "b.png"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 9, 9], "keypoints": [1, 2, 2, 3, 4, 1], "area": 81},
        {
            "id": 2,
            "image_id": 1,
            "category_id": 2,
            "bbox": [1, 2, 9, 9],
            "segmentation": [[1, 2, 3, 4, 5, 6]],
            "iscrowd": 0,
        },
        {"id": 3, "image_id": 1, "category_id": 2, "segmentation": {"size": [30, 40], "counts": [600, 600]}},
        {"id": 4, "image_id": 1, "category_id": 2, "segmentation": {"size": [30, 40], "counts": "hb0hb0"}},
    ],
    "categories": [
        {"id": 1, "name": "mouse", "keypoints": ["l ear", "r ear"], "skeleton": [[1, 2]], "sigmas": [0.1, 0.1]},
        {"id": 2, "name": "cup"},
    ],
}


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [found for key in keys for found in (*[(*way, key)], *places(value[key], (*way, key)))]


def survives(path: Path) -> None:
    try:
        check(path)
    except InputError as error:
        assert str(error)  # noqa: PT017  # either is right


@EASY
@given(st.lists(st.tuples(st.sampled_from(places(CONTENT)), Values), min_size=1, max_size=3))
def test_coco_with_anything_in_it(
    tmp_path: Path, paint: Callable[..., Path], changes: list[tuple[tuple[Any, ...], Any]]
) -> None:
    paint(tmp_path / "a.png", 1)
    content = copy.deepcopy(CONTENT)
    for (*way, last), value in changes:
        with contextlib.suppress(TypeError, KeyError, IndexError):  # an earlier change may have taken it away
            functools.reduce(operator.getitem, way, content)[last] = value
    (tmp_path / "labels.json").write_text(json.dumps(content))
    survives(tmp_path / "labels.json")


NAMES = [
    "data.yaml",
    "labels/a.txt",
    "train.txt",
    "CollectedData_x.csv",
    "a.xml",
    "labels.json",
    "classes.txt",
    "images/a.png",
]
Words = st.sampled_from([
    "0", "1", "0.5", "nan", "1e999", "-1", "names", ":", "\n", "\n", ",", ",", " ", " ", "[", "]", "{", "}", "<annotation>",
    "</annotation>", "<object>", "</object>", "<name>", "</name>", "<bndbox>", "<xmin>1</xmin>", "train: images", "coords",
    "bodyparts", "x", "y", "images/a.png", "a.png", "\0", "é", "kpt_shape: [1, 2]", "*a", "&a", "!!python/object:x", '"',
])  # fmt: skip


@EASY
@given(st.sampled_from(NAMES), st.lists(Words, max_size=30).map("".join) | st.text())
def test_files_of_any_text(tmp_path: Path, paint: Callable[..., Path], name: str, text: str) -> None:
    for used in NAMES:
        (tmp_path / used).unlink(missing_ok=True)
    paint(tmp_path / "images/a.png", 1)
    (tmp_path / "labels").mkdir(exist_ok=True)
    (tmp_path / "data.yaml").write_text("train: images\nnames: [a]\n")
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    survives(tmp_path)
    survives(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.json", '{"images": ' + "[" * 990 + "]" * 990 + ', "annotations": [], "categories": []}'),
        (
            "x.json",
            '{"images": [], "annotations": [' + '{"a":' * 900 + "1" + "}" * 900 + '], "categories": [{"id": 1}]}',
        ),
        ("data.yaml", "names: " + "[" * 5000),
        ("data.yaml", "names: [0x" + "f" * 9000 + "]\ntrain: x\n"),
        ("data.yaml", "? [a]\n: b\n"),
        ("data.yaml", "train: 2001-99-99\nnames: [a]\n"),
        ("a.xml", "<annotation>" + "<a>" * 100_000),
        ("a.xml", '<?xml version="1.0" encoding="utf-7"?><annotation/>'),
        ("a.xml", "<annotation><filename>" + "x" * 10_000 + "</filename></annotation>"),
        ("CollectedData_a.csv", "bodyparts,a,a\ncoords,x,y\n" + "/" * 10_000 + ",1,2\n" + "x" * 10_000 + ",1,2\n"),
        ("CollectedData_a.csv", 'bodyparts,a,a\ncoords,x,y\n"' + "x" * 200_000),
    ],
)
def test_long_and_deep_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    survives(tmp_path)
    survives(tmp_path / name)


def test_what_is_no_data_set_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for path, words in (
        (tmp_path, "looked for"),
        (tmp_path / "notes.txt", "looked for"),
        (tmp_path / "no", "does not exist"),
    ):
        with pytest.raises(InputError, match=words):
            recognize(path)
        with pytest.raises(InputError, match=words):
            read(path)


def test_half_a_data_set_is_not_taken_for_classes(tmp_path: Path, paint: Callable[..., Path]) -> None:
    paint(tmp_path / "images/a.png", 1)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 0.1 0.1")
    with pytest.raises(InputError, match=r"data\.yaml"):
        recognize(tmp_path)


def test_huge_files_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    with path.open("wb") as file:
        file.truncate(20_000_000)
    with pytest.raises(InputError, match="20 MB"):
        read_text(path, "a VOC xml")


def test_foreign_paths_are_found_by_their_longest_end(tmp_path: Path, paint: Callable[..., Path]) -> None:
    paint(tmp_path / "b/a.png", 1)
    paint(tmp_path / "a.png", 2)
    assert find_below([tmp_path], "C:\\data\\b\\a.png") == tmp_path / "b/a.png"
    assert find_below([tmp_path], "/x/c/a.png") == tmp_path / "a.png"
    assert find_below([tmp_path], "..") is None
