"""What of a data set is for what. Oracles: written by hand."""

from pathlib import Path

import pytest

from hrnet.errors import InputError
from hrnet.formats.compare import Part, hold_out, pair_folders
from hrnet.formats.records import ImageRecord


def test_images_are_held_out_by_path() -> None:
    images = [ImageRecord(Path(f"{name}.png"), (30, 40), name) for name in "edcba"]
    kept, held = hold_out(images, 3)
    assert ([one.number for one in kept], [one.number for one in held]) == (["e", "c", "b"], ["a", "d"])
    for every in (-1, 0, 1):
        with pytest.raises(InputError, match="cannot be held out"):
            hold_out(images, every)
    with pytest.raises(InputError, match="there must be more"):
        hold_out(images[:1], 2)


def test_folders_go_with_their_labels() -> None:
    first, second, labels = Path("a"), Path("b"), Path("c")
    assert pair_folders((first, second), (labels, first), ("train",)) == [(first, labels), (second, first)]
    assert pair_folders((first, second), (), ("train",)) == [(first, None), (second, None)]
    train: tuple[Part, ...] = ("train",)
    for images, annotations, parts in (((), (), train), ((first,), (labels, labels), train), ((first,), (), ())):
        with pytest.raises(InputError, match=f"^{len(images)} folders of images, {len(annotations)} files or folders"):
            pair_folders(images, annotations, parts)
