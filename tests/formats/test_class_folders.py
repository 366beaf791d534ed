"""Class folders. Oracle: where the images were put."""

from collections.abc import Callable
from pathlib import Path

from samples.class_folders import make

from hrnet.formats.check import check
from hrnet.formats.class_folders import ClassFolderReader


def test_a_clean_set_has_none(tmp_path: Path, paint: Callable[..., Path]) -> None:
    report = check(make(tmp_path / "set", paint))
    assert [str(defect) for defect in report.defects] == []
    assert [(one.split, len(one.images), one.classes) for one in report.sets] == [
        ("train", 4, ("cat", "dog")),
        ("val", 2, ("cat", "dog")),
    ]


def test_classes_without_parts_and_in_depth(tmp_path: Path, paint: Callable[..., Path]) -> None:
    paint(tmp_path / "cat/2021/a.png", 1)
    paint(tmp_path / "dog/b.png", 2)
    (one,) = ClassFolderReader().read(tmp_path)
    assert [(image.path.name, image.label) for image in one.images] == [("a.png", 0), ("b.png", 1)]


def test_the_same_pixels_in_another_file_are_found_by_decoding(tmp_path: Path, paint: Callable[..., Path]) -> None:
    from PIL import Image

    folder = make(tmp_path / "set", paint)
    Image.open(folder / "train/cat/a.png").save(folder / "val/cat/z.bmp")
    assert not [one for one in check(folder).defects if one.kind == "image-leak"]
    (leak,) = (one for one in check(folder, decode=True).defects if one.kind == "image-leak")
    assert leak.file.name == "z.bmp"
