"""YOLO. Oracle: what was written into the files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from samples.yolo import BOXES, GOOD_BOXES, GOOD_POSES, POSES, make, yaml

from hrnet.errors import InputError
from hrnet.formats.check import check
from hrnet.formats.yolo import YoloReader


@pytest.mark.parametrize(("text", "labels"), [(BOXES, GOOD_BOXES), (POSES, GOOD_POSES)])
def test_a_clean_set_has_none(tmp_path: Path, paint: Callable[..., Path], text: str, labels: str) -> None:
    report = check(make(tmp_path / "set", paint, text, labels))
    assert [str(defect) for defect in report.defects] == []
    assert [(one.split, len(one.images)) for one in report.sets] == [("train", 2), ("val", 2)]


def test_relative_coordinates_become_pixels(tmp_path: Path, paint: Callable[..., Path]) -> None:
    """Of images of 40 x 30."""
    train, _ = YoloReader().read(make(tmp_path / "boxes", paint))
    box, outline = train.images[0].objects
    assert box.box is not None
    np.testing.assert_allclose(box.box, [16, 9, 24, 21])  # floats, relative to the size
    np.testing.assert_allclose(outline.polygons[0], [[4, 3], [20, 3], [12, 18]])
    train, _ = YoloReader().read(make(tmp_path / "poses", paint, POSES, GOOD_POSES))
    assert train.keypoints == ("snout", "left_ear", "right_ear")
    assert train.pairs == ((1, 2),)
    mouse = train.images[0].objects[0]
    assert mouse.keypoints is not None
    assert mouse.visibility is not None
    np.testing.assert_allclose(mouse.keypoints, [[20, 15], [16, 18], [0, 0]])
    np.testing.assert_array_equal(mouse.visibility, [2, 1, 0])


def test_paths_of_another_machine_and_lists_are_found(tmp_path: Path, paint: Callable[..., Path]) -> None:
    folder = make(tmp_path / "set", paint, BOXES.replace("path: .", "path: /home/me/set"))
    yaml("images/val", "../images/val")(folder)
    (folder / "list.txt").write_text("/home/me/set/images/train/a.png\n")
    yaml("images/train", "list.txt")(folder)
    train, val = YoloReader().read(folder)
    assert [image.path.name for image in train.images] == ["a.png"]
    assert len(train.images[0].objects) == 2
    assert len(val.images) == 2


def test_a_yaml_of_aliases_is_refused(tmp_path: Path) -> None:
    text = "a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\ntrain: .\n"
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(InputError, match="aliases"):
        YoloReader().read(tmp_path)
