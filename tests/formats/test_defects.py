"""Each seeded defect is named. Oracle: the seed, one change to a clean data set of each format."""

from collections.abc import Callable
from pathlib import Path

import pytest
from samples import class_folders, coco, deeplabcut, label_folders, voc, yolo

Change = Callable[[Path], object]
Make = Callable[[Path, Callable[..., Path]], Path]
FORMATS: dict[str, tuple[Make, list[tuple[str, Change, str, str]]]] = {
    "coco": (coco.make, coco.SEEDS),
    "voc": (voc.make, voc.SEEDS),
    "yolo boxes": (yolo.make, yolo.SEEDS),
    "yolo poses": (yolo.make_poses, yolo.POSE_SEEDS),
    "deeplabcut": (deeplabcut.make, deeplabcut.SEEDS),
    "label maps": (label_folders.make, label_folders.SEEDS),
    "class folders": (class_folders.make, class_folders.SEEDS),
}
CASES = [
    pytest.param(make, change, kind, words, id=f"{name}: {seed}")
    for name, (make, seeds) in FORMATS.items()
    for seed, change, kind, words in seeds
]


@pytest.mark.parametrize(("make", "change", "kind", "words"), CASES)
def test_a_seeded_defect_is_named(
    tmp_path: Path,
    paint: Callable[..., Path],
    named: Callable[..., None],
    make: Make,
    change: Change,
    kind: str,
    words: str,
) -> None:
    folder = make(tmp_path / "set", paint)
    change(folder)
    named(folder, kind, words)
