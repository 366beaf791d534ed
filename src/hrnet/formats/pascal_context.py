"""PASCAL-Context: 59 frequent classes of 459, and background."""

from __future__ import annotations

from pathlib import Path

from hrnet.formats.files import files_ending, is_file, is_folder, listed_names
from hrnet.formats.published import PublishedReader, SplitFiles, label_table, match_labels, split_names

# Source: PASCAL-Context (Mottaghi et al., CVPR 2014): the 59 most frequent of 459 categories in alphabetical order; all
# others are background.
CONTEXT_60 = split_names(
    "background, aeroplane, bag, bed, bedclothes, bench, bicycle, bird, boat, book, bottle, building, bus, cabinet, car, "
    "cat, ceiling, chair, cloth, computer, cow, cup, curtain, dog, door, fence, floor, flower, food, grass, ground, horse, "
    "keyboard, light, motorbike, mountain, mouse, person, plate, platform, pottedplant, road, rock, sheep, shelves, "
    "sidewalk, sign, sky, snow, sofa, table, track, train, tree, truck, tvmonitor, wall, water, window, wood"
)
CONTEXT_59 = CONTEXT_60[1:]
_IDS = (
    0, 2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158,
    159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368,
    397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip
_TABLE = label_table(_IDS, 460, other=0)
# Folders of label maps, and whether they hold the 60 labels instead of the 459 original values.
_LABEL_FOLDERS = {"SegmentationClassContext": True, "59_context_labels": True, "trainval": False, "context": False}


def _find(root: Path, split: str) -> SplitFiles | None:
    roots = [root, root / "VOC2010", root / "VOCdevkit" / "VOC2010"]
    base = next((one for one in roots if is_folder(one / "JPEGImages")), None)
    if base is None:
        return None
    places = [(one / name, ready) for name, ready in _LABEL_FOLDERS.items() for one in roots]
    labels, ready = next(((place, ready) for place, ready in places if is_folder(place)), (None, False))
    if labels is None:
        return None
    lists = [base / "ImageSets" / kind / f"{split}.txt" for kind in ("SegmentationContext", "Main")]
    listed = next((path for path in (*lists, root / f"{split}.txt") if is_file(path)), None)
    table = tuple(range(len(CONTEXT_60))) if ready else _TABLE
    if listed is None:
        return SplitFiles(
            (), table, f"there is no list of {split}; write {lists[0]}, one name per line" * (split != "test")
        )
    suffix = ".mat" if any(files_ending(labels, ".mat")) else ".png"
    images = [base / "JPEGImages" / f"{name}.jpg" for name in listed_names(listed)]
    return SplitFiles(match_labels(images, labels, suffix), table)


PASCAL_CONTEXT_READER = PublishedReader(
    "pascal-context",
    "PASCAL-Context",
    "the folder of PASCAL-Context with VOC2010/JPEGImages/ and trainval/ or SegmentationClassContext/",
    CONTEXT_60,
    _find,
)
