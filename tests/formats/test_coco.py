"""COCO json. Oracles: what was written into the file; pycocotools for masks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from samples.coco import make

from hrnet.errors import InputError
from hrnet.formats.check import check
from hrnet.formats.coco import CocoReader, read_coco, read_runs


def test_a_clean_set_has_none(tmp_path: Path, paint: Callable[..., Path]) -> None:
    report = check(make(tmp_path / "set", paint))
    assert [str(defect) for defect in report.defects] == []
    assert [(one.format, one.split, len(one.images)) for one in report.sets] == [
        ("coco", "train", 2),
        ("coco", "val", 2),
    ]


def test_a_broken_json_is_named(tmp_path: Path, paint: Callable[..., Path], named: Callable[..., None]) -> None:
    file = make(tmp_path / "set", paint) / "annotations/train.json"
    file.write_text(file.read_text()[:-1])
    named(file, "file-malformed", "train.json")


def test_everything_is_read(tmp_path: Path, paint: Callable[..., Path]) -> None:
    train, _ = CocoReader().read(make(tmp_path / "set", paint))
    assert train.classes == ("mouse", "cup")
    assert train.keypoints == ("snout", "left_ear", "right_ear")
    assert train.links == ((0, 1), (0, 2))
    mouse, cup = train.images[0].objects
    assert (mouse.label, cup.label) == (0, 1)
    assert mouse.box is not None
    assert mouse.keypoints is not None
    assert mouse.visibility is not None
    np.testing.assert_array_equal(mouse.box, [1, 2, 21, 22])
    np.testing.assert_array_equal(mouse.keypoints, [[3, 4], [5, 6], [7, 8]])
    np.testing.assert_array_equal(mouse.visibility, [2, 1, 2])
    np.testing.assert_array_equal(cup.polygons[0], [[20, 5], [30, 5], [30, 15]])
    runs = train.images[1].objects[1].runs
    assert runs is not None
    expected = np.zeros((30, 40))
    expected[3:8, 1] = expected[3:8, 2] = 1
    np.testing.assert_array_equal(runs.mask(), expected)


@pytest.mark.parametrize("seed", range(8))
def test_masks_are_those_of_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(1, 400)), int(rng.integers(1, 300)))
    # Smooth, so that there are runs of every length; the first pixel is set in half of them.
    mask = np.asfortranarray((rng.random(size).cumsum(0) % (seed + 1.5) > 0.7).astype(np.uint8))
    counts: Any = coco_mask.encode(mask)["counts"]  # bytes, whatever its type stub says
    text = {"size": list(size), "counts": counts.decode()}
    np.testing.assert_array_equal(read_runs(text, size).mask(), mask)


def test_images_are_found_beside_the_json_or_where_it_is_said(tmp_path: Path, paint: Callable[..., Path]) -> None:
    folder = make(tmp_path / "set", paint)
    assert len(read_coco(folder / "annotations/train.json").images) == 2
    (folder / "train").rename(tmp_path / "elsewhere")
    assert not read_coco(folder / "annotations/train.json").images
    assert len(read_coco(folder / "annotations/train.json", tmp_path / "elsewhere").images) == 2
    with pytest.raises(InputError, match=r"gone\.json cannot be read"):
        read_coco(tmp_path / "gone.json")
