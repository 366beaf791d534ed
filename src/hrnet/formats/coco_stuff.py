"""COCO-Stuff 10k: things and stuff, 171 classes."""

from __future__ import annotations

from pathlib import Path

from hrnet.formats.files import files_ending, is_file, is_folder, listed_names
from hrnet.formats.published import PublishedReader, SplitFiles, label_table, match_labels, split_names

# Source: COCO-Stuff (arXiv 1612.03716): COCO's 80 things and 91 kinds of stuff. Values run from 1 to 182, of which eleven
# things were never labeled; 0 is unlabeled.
COCO_STUFF = split_names(
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, "
    "parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag, "
    "tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, "
    "tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, "
    "hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, "
    "keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, "
    "hair drier, toothbrush, banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet, "
    "ceiling-other, ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt, door-stuff, fence, "
    "floor-marble, floor-other, floor-stone, floor-tile, floor-wood, flower, fog, food-other, fruit, furniture-other, grass, "
    "gravel, ground-other, hill, house, leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin, net, paper, "
    "pavement, pillow, plant-other, plastic, platform, playingfield, railing, railroad, river, road, rock, roof, rug, salad, "
    "sand, sea, shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, straw, structural-other, table, tent, "
    "textile-other, towel, tree, vegetable, wall-brick, wall-concrete, wall-other, wall-panel, wall-stone, wall-tile, "
    "wall-wood, water-other, waterdrops, window-blind, window-other, wood"
)
_NEVER_LABELED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
_TABLE = label_table([number for number in range(1, 183) if number not in _NEVER_LABELED], 183)


def _find(root: Path, split: str) -> SplitFiles | None:
    images, labels, lists = root / "images", root / "annotations", root / "imageLists"
    in_folders = is_folder(images / "train2014") and is_folder(labels / "train2014")
    if not (is_folder(images) and (in_folders or (is_folder(labels) and is_folder(lists)))):
        return None
    if in_folders:
        chosen, labels = files_ending(images / f"{split}2014", ".jpg"), labels / f"{split}2014"
    else:
        listed = lists / f"{split}.txt"
        chosen = [images / f"{one}.jpg" for one in listed_names(listed)] if is_file(listed) else []
    end = next((end for end in (".mat", "_labelTrainIds.png", ".png") if files_ending(labels, end)), None)
    if end is None:
        return None
    table = tuple(range(len(COCO_STUFF))) if "Train" in end else _TABLE
    return SplitFiles(match_labels(chosen, labels, end), table)


COCO_STUFF_READER = PublishedReader(
    "coco-stuff", "COCO-Stuff 10k", "the folder of COCO-Stuff 10k with images/, annotations/ and imageLists/",
    COCO_STUFF, _find, splits=("train", "test"),
)  # fmt: skip
