"""Label maps. Oracle: the numbers that were written."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples.label_folders import LABELS, make, write

from hrnet.errors import InputError
from hrnet.formats.check import check
from hrnet.formats.label_folders import LabelFolderReader
from hrnet.formats.label_maps import LabeledImage, read_labels
from hrnet.io.images import read_indices


def test_a_clean_set_has_none(tmp_path: Path, paint: Callable[..., Path]) -> None:
    report = check(make(tmp_path / "set", paint))
    assert [str(defect) for defect in report.defects] == []
    assert [(one.split, len(one.images)) for one in report.sets] == [("train", 2), ("val", 2)]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/a.jpg", "masks/a.png"),
        ("JPEGImages/a.jpg", "SegmentationClass/a.png"),
        ("train/images/a.jpg", "train/masks/a.png"),
        ("a.jpg", "a.png"),
        ("a.png", "a_mask.png"),
    ],
)
def test_the_usual_places_are_known(tmp_path: Path, paint: Callable[..., Path], image: str, label: str) -> None:
    paint(tmp_path / "set" / image, 1)
    write(tmp_path / "set" / label)
    (one,) = LabelFolderReader().read(tmp_path / "set")
    assert [pair.label_map for pair in one.images] == [tmp_path / "set" / label]
    assert [defect.kind for defect in one.defects] == ["classes-unnamed"]


def test_folders_of_any_name_are_a_pair(tmp_path: Path, paint: Callable[..., Path]) -> None:
    paint(tmp_path / "photos/a.jpg", 1)
    write(tmp_path / "answers/a.png")
    (one,) = LabelFolderReader().read(tmp_path / "answers", tmp_path / "photos")
    labeled = LabeledImage(one.images[0].path, tmp_path / "answers/a.png", one.images[0].size, (0, 1, 2))
    np.testing.assert_array_equal(read_labels(labeled), LABELS)
    with pytest.raises(InputError, match="the value 2 in 300 pixels, expected 0 to 1"):
        read_labels(replace(labeled, meaning=(0, 1)))


@pytest.mark.parametrize("form", ["gray", "palette", "two bits", "four bits", "one bit"])
def test_the_stored_number_is_read_whatever_its_color(tmp_path: Path, form: str) -> None:
    values = np.arange(4, dtype=np.uint8).repeat(8).reshape(4, 8) % (2 if form == "one bit" else 4)
    image = Image.fromarray(values)
    if form == "palette":
        image = image.convert("P")
        image.putpalette([200, 10, 10, 0, 0, 0, 9, 9, 9, 50, 60, 70])
    if form == "one bit":
        image = Image.fromarray(values.astype(bool))
    path = tmp_path / "a.png"
    if form in ("two bits", "four bits"):
        path.write_bytes(png_of_few_bits(values, 2 if form == "two bits" else 4))
    else:
        image.save(path)
    np.testing.assert_array_equal(read_indices(path), values)


def png_of_few_bits(values: np.ndarray, bits: int) -> bytes:
    """A gray PNG of less than a byte a pixel, which Pillow does not write. Source: the PNG specification."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    planes = np.unpackbits(values[..., None], axis=2)[..., 8 - bits :]
    rows = np.packbits(planes.reshape(len(values), -1), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
