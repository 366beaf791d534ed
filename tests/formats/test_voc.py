"""Pascal VOC. Oracle: what was written into the files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from samples.voc import GOOD, make, xml

from hrnet.formats.check import check
from hrnet.formats.voc import VocReader


def test_a_clean_set_has_none(tmp_path: Path, paint: Callable[..., Path]) -> None:
    report = check(make(tmp_path / "set", paint))
    assert [str(defect) for defect in report.defects] == []
    assert [(one.split, len(one.images)) for one in report.sets] == [("train", 2), ("val", 2)]


def test_boxes_count_from_one_and_end_on_their_last_pixel(tmp_path: Path, paint: Callable[..., Path]) -> None:
    train, _ = VocReader().read(make(tmp_path / "set", paint))
    assert train.classes == ("cell", "plate")
    cell, plate = train.images[0].objects
    assert cell.box is not None
    assert plate.box is not None
    np.testing.assert_array_equal(cell.box, [0, 1, 10, 20])
    np.testing.assert_array_equal(plate.box, [19, 4, 40, 30])  # to the last corner of 40 x 30
    assert (cell.label, plate.label) == (0, 1)


def test_xml_beside_its_images_and_sizes_of_zero_are_read(tmp_path: Path, paint: Callable[..., Path]) -> None:
    paint(tmp_path / "a.png", 1)
    (tmp_path / "a.xml").write_text(xml("other", GOOD, "<width>0</width><height>0</height>"))
    report = check(tmp_path)
    assert not report.defects
    (one,) = report.sets
    assert len(one.images[0].objects) == 2


def test_lists_of_one_class_repeat_the_others(tmp_path: Path, paint: Callable[..., Path]) -> None:
    folder = make(tmp_path / "set", paint)
    (folder / "ImageSets/Main/cell_train.txt").write_text("a  1\nb -1\n")
    assert [one.split for one in VocReader().read(folder)] == ["train", "val"]
    assert [one.split for one in VocReader().read(folder / "ImageSets/Main/val.txt")] == ["val"]
    for images in (folder, folder / "JPEGImages"):
        (one,) = VocReader().read(folder / "ImageSets/Main/val.txt", images)
        assert [image.path.parent.name for image in one.images] == ["JPEGImages"] * 2
