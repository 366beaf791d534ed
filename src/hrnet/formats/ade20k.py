"""ADE20K: scenes, 150 classes."""

from __future__ import annotations

from pathlib import Path

from hrnet.formats.files import entries, files_ending, is_folder
from hrnet.formats.published import PublishedReader, SplitFiles, label_table, match_labels, split_names

# Source: the scene parsing benchmark of ADE20K (arXiv 1608.05442), values 1 to 150; 0 is other or unlabeled.
ADE20K = split_names(
    "wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth, door, table, "
    "mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, field, armchair, seat, "
    "fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column, signboard, chest of drawers, counter, "
    "sand, sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table, pillow, "
    "screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench, countertop, "
    "stove, palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel, light, truck, tower, "
    "chandelier, awning, streetlight, booth, television receiver, airplane, dirt track, apparel, pole, land, bannister, "
    "escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything, "
    "swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name, "
    "microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray, "
    "ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag"
)
_TABLE = label_table(range(1, 151), 151)
_FOLDERS = {"train": "training", "val": "validation"}


def _find(root: Path, split: str) -> SplitFiles | None:
    base = next((one for one in (root, root / "ADEChallengeData2016") if is_folder(one / "images")), root)
    images, labels = base / "images", base / "annotations"
    first = [entry for folder in _FOLDERS.values() for entry in entries(images / folder)[:1]]
    if not is_folder(labels) or not any(entry.name.startswith("ADE_") for entry in first):
        return None
    folder = _FOLDERS[split]
    return SplitFiles(match_labels(files_ending(images / folder, ".jpg"), labels / folder), _TABLE)


ADE20K_READER = PublishedReader(
    "ade20k", "ADE20K", "the folder of ADE20K with images/training/ADE_*.jpg and annotations/training/",
    ADE20K, _find, splits=("train", "val"),
)  # fmt: skip
