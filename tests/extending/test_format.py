"""A data format from outside the package: one class and one row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_hrnet

import hrnet
from hrnet.cli import main
from hrnet.detection.augment import Augment
from hrnet.detection.recipes import DetectionData
from hrnet.detection.spec import DetectionSpec, FCOSSpec
from hrnet.engine.recipe import Recipe, TrainSpec
from hrnet.formats.checked import checked_size, usable
from hrnet.formats.defects import Draft
from hrnet.formats.reader import Content, Reader
from hrnet.formats.records import DataSet, ImageRecord, Object
from hrnet.formats.registry import READERS


class ToyReader(Reader[Path]):
    """Reader of FILE.toy: a line "IMAGE X1 Y1 X2 Y2" per object, all of one class."""

    title = "toy"
    looked_for = "a .toy file"
    gives: frozenset[Content] = frozenset({"boxes"})

    def find(self, path: Path, images: Path | None) -> Path | None:
        return path if path.suffix == ".toy" else None

    def load(self, found: Path, path: Path, images: Path | None) -> tuple[DataSet, ...]:
        draft = Draft(path)
        objects: dict[Path, list[Object]] = {}
        for number, line in enumerate(path.read_text().splitlines()):
            name, *box = line.split()
            things = objects.setdefault((images or path.parent) / name, [])
            things.append(Object(0, f"line {number + 1}", number, np.array(box, float)))
        records: list[ImageRecord] = []
        for image, things in objects.items():
            size = checked_size(image, None, draft)
            if size is not None:
                kept = usable(things, size, draft, path)
                records.append(ImageRecord(image, size, len(records), path, kept))
        return (DataSet("toy", path, images=tuple(records), classes=("square",), defects=tuple(draft.defects)),)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(READERS, "toy", ToyReader())


def squares(folder: Path) -> Path:
    """Write four images with a white square each, and a line of which the image is missing."""
    lines: list[str] = []
    for number in range(4):
        pixels = np.full((64, 64, 3), 30 + number, np.uint8)
        x, y = 8 + 8 * number, 24
        pixels[y : y + 20, x : x + 20] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(f"{number}.png {x} {y} {x + 20} {y + 20}")
    file = folder / "squares.toy"
    file.write_text("\n".join([*lines, "gone.png 1 1 9 9"]))
    return file


def test_the_format_is_checked_shown_trained_and_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the four images and the missing one, written above."""
    file = squares(tmp_path)
    counts = f"toy: 4 images, 4 objects, 1 class ({file})"
    assert main(["data", "check", str(file)]) == 1
    said = capsys.readouterr().out
    assert counts in said
    assert "gone.png" in said
    assert main(["data", "show", str(file), "--out", str(tmp_path / "sheets")]) == 0
    assert (tmp_path / "sheets/toy.jpg").is_file()
    detector = FCOSSpec(pyramid_width=32, tower_convs=1, num_detections=10)
    spec = DetectionSpec(("square",), detector, tiny_hrnet(), (64, 64), fit="canvas", frozen_norms=False)
    data = DetectionData((tmp_path,), (file,), hold_out=2, augment=Augment())
    recipe = Recipe("squares", spec, data, TrainSpec(epochs=1, batch=2, workers=0))
    messages: list[str] = []
    run = hrnet.train(recipe, out=tmp_path / "run", on_message=messages.append)
    assert any(counts in message for message in messages)
    assert any("2 images held out" in message for message in messages)
    capsys.readouterr()
    # Exit status 1: one image is missing.
    assert main(["evaluate", str(run.folder), "--images", str(tmp_path), "--annotations", str(file)]) == 1
    said = capsys.readouterr()
    assert counts in said.err
    assert "4 images, 4 objects" in said.out
