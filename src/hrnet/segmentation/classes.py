"""Classes of the published data sets, in the order of their labels, and what the numbers in their files stand for.

A table of numbers gives the label of each number from 0 on; 255 is for what counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from hrnet.results import IGNORE_INDEX


def _words(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split())


def table_of(ids: Sequence[int], count: int, other: int = IGNORE_INDEX) -> tuple[int, ...]:
    """The label of each number below `count`: its position among the ids, or `other`."""
    places = {number: label for label, number in enumerate(ids)}
    return tuple(places.get(number, other) for number in range(count))


# Source: Look Into Person (arXiv 1703.05446), labels 0 to 19.
LIP = _words(
    "background, hat, hair, glove, sunglasses, upper clothes, dress, coat, socks, trousers, jumpsuit, scarf, skirt, face, "
    "left arm, right arm, left leg, right leg, left shoe, right shoe"
)
LIP_PAIRS = ((14, 15), (16, 17), (18, 19))

# Source: the labels of the Cityscapes data set (0 to 33) and those of them that are scored, in order.
CITYSCAPES_IDS = _numbers("7 8 11 12 13 17 19 20 21 22 23 24 25 26 27 28 31 32 33")
CITYSCAPES_TABLE = table_of(CITYSCAPES_IDS, 34)

# Source: PASCAL-Context (Mottaghi and others, CVPR 2014): the 59 most frequent of 459 categories, in their order, which is
# that of the alphabet; all others are background.
CONTEXT_60 = _words(
    "background, aeroplane, bag, bed, bedclothes, bench, bicycle, bird, boat, book, bottle, building, bus, cabinet, car, "
    "cat, ceiling, chair, cloth, computer, cow, cup, curtain, dog, door, fence, floor, flower, food, grass, ground, horse, "
    "keyboard, light, motorbike, mountain, mouse, person, plate, platform, pottedplant, road, rock, sheep, shelves, "
    "sidewalk, sign, sky, snow, sofa, table, track, train, tree, truck, tvmonitor, wall, water, window, wood"
)
CONTEXT_59 = CONTEXT_60[1:]
CONTEXT_IDS = _numbers(
    "0 2 9 18 19 22 23 25 31 33 34 44 45 46 59 65 68 72 80 85 98 104 105 113 115 144 158 159 162 187 189 207 220 232 258 "
    "259 260 284 295 296 308 324 326 347 349 354 355 360 366 368 397 415 416 420 424 427 440 445 454 458"
)
CONTEXT_TABLE = table_of(CONTEXT_IDS, 460, other=0)

# Source: COCO-Stuff (arXiv 1612.03716): COCO's 80 things and 91 kinds of stuff. The numbers run from 1 to 182, of which
# eleven things were never labeled; 0 is unlabeled.
COCO_STUFF = _words(
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
_NEVER = _numbers("12 26 29 30 45 66 68 69 71 83 91")
COCO_STUFF_TABLE = table_of([number for number in range(1, 183) if number not in _NEVER], 183)

# Source: the scene parsing benchmark of ADE20K (arXiv 1608.05442), numbers 1 to 150; 0 is other or unlabeled.
ADE20K = _words(
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
ADE20K_TABLE = table_of(range(1, 151), 151)


# Clothing co-parsing, its 59 classes merged into 12; and weights for them: the share of pixels to the power of -0.3, so that
# the background's three quarters do not outvote a belt.
CLOTHES = _words(
    "background, hair, skin, upper_clothes, coat, dress, trousers, skirt, legwear, shoes, bag, accessories"
)
CLOTHES_WEIGHTS = (1.08, 3.7, 2.9, 2.8, 2.5, 2.8, 2.65, 4.2, 5.8, 3.9, 3.6, 4.8)

# CamVid as SegNet's authors cut it down to 11 classes; weights: the share of pixels to the power of -0.25, of mean 1.
CAMVID = _words("sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist")
CAMVID_WEIGHTS = (0.97, 0.89, 1.97, 0.83, 1.35, 1.11, 1.89, 1.91, 1.26, 2.2, 2.67)


def cityscapes_ids(labels: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """A label map as the numbers that the test server of Cityscapes expects; 0 (unlabeled) where there is no label."""
    table = np.zeros(256, np.uint8)
    table[: len(CITYSCAPES_IDS)] = CITYSCAPES_IDS
    return table[labels]
