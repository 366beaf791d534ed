"""DeepLabCut csv. Oracle: what was written into the file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from samples.deeplabcut import make

from hrnet.errors import InputError
from hrnet.formats.check import check
from hrnet.formats.deeplabcut import DeepLabCutReader


def test_a_image_of_the_other_set_is_named(
    tmp_path: Path, paint: Callable[..., Path], named: Callable[..., None]
) -> None:
    make(tmp_path / "one", paint)
    named(make(tmp_path / "other", paint), "image-leak", "img0.png", val=tmp_path / "one")


def test_a_clean_set_has_none(tmp_path: Path, paint: Callable[..., Path]) -> None:
    report = check(make(tmp_path / "set", paint))
    assert [str(defect) for defect in report.defects] == []
    (one,) = report.sets
    assert one.keypoints == ("snout", "left_ear", "right_ear")
    assert one.classes == ("animal",)
    first, other, _ = (image.objects[0] for image in one.images)
    assert first.box is None
    assert first.keypoints is not None
    assert other.visibility is not None
    np.testing.assert_array_equal(first.keypoints, [[1, 2], [3, 4], [5.5, 6]])
    np.testing.assert_array_equal(other.visibility, [2, 0, 2])


def test_several_animals_and_paths_in_three_cells(tmp_path: Path, paint: Callable[..., Path]) -> None:
    paint(tmp_path / "video/img0.png", 0)
    file = tmp_path / "labels.csv"
    file.write_text(
        "scorer,,,me,me,me,me,me,me\nindividuals,,,ann,ann,ann,ann,bob,bob\nbodyparts,,,snout,snout,tail,tail,snout,snout\n"
        "coords,,,x,y,x,y,x,y\nlabeled-data,video,img0.png,1,2,3,4,5,6\n"
    )
    (one,) = DeepLabCutReader().read(file)
    assert not one.defects
    ann, bob = one.images[0].objects
    assert ann.keypoints is not None
    assert bob.visibility is not None
    np.testing.assert_array_equal(ann.keypoints, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(bob.visibility, [2, 0])


@pytest.mark.parametrize("text", ["", "a,b\n", "scorer\nbodyparts\ncoords\n", "coords,x\nbodyparts,a,b\n", "\0"])
def test_another_csv_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=r"x\.csv"):
        DeepLabCutReader().read(tmp_path / "x.csv")
