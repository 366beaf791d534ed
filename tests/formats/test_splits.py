"""Splits, held-out images, and folders with their labels. Oracles: written by hand."""

from pathlib import Path

import pytest

from hrnet.errors import InputError
from hrnet.formats.records import ImageRecord
from hrnet.formats.splits import LabeledSet, Split, hold_out_images, pair_folders


def test_images_are_held_out_by_path() -> None:
    data = LabeledSet(("a",), tuple(ImageRecord(Path(f"{name}.png"), (30, 40), name) for name in "edcba"))
    (kept,), held = hold_out_images([data], 3)
    assert ([one.number for one in kept.images], [one.number for one in held.images]) == (["e", "c", "b"], ["a", "d"])
    for every in (-1, 0, 1):
        with pytest.raises(InputError, match=f"got {every} for 5 images"):
            hold_out_images([data], every)
    with pytest.raises(InputError, match="leave training images; got 2 for 1 image"):
        hold_out_images([LabeledSet(("a",), data.images[:1])], 2)


def test_folders_go_with_their_labels() -> None:
    first, second, labels = Path("a"), Path("b"), Path("c")
    assert pair_folders((first, second), (labels, first), ("train",)) == [(first, labels), (second, first)]
    assert pair_folders((first, second), (), ("train",)) == [(first, None), (second, None)]
    train: tuple[Split, ...] = ("train",)
    for images, annotations, splits in (((), (), train), ((first,), (labels, labels), train), ((first,), (), ())):
        with pytest.raises(InputError, match=f"^{len(images)} folders of images, {len(annotations)} files or folders"):
            pair_folders(images, annotations, splits)
