"""A COCO data set, and changes that break it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[dict[str, Any], Path], object]


def make(folder: Path, paint: Callable[..., Path]) -> Path:
    """Train and val, each with two images: a mouse with keypoints and a cup with a mask in each."""
    (folder / "annotations").mkdir(parents=True)
    for part, numbers in (("train", (1, 2)), ("val", (3, 4))):
        images, annotations = [], []
        for number in numbers:
            paint(folder / part / f"{number}.png", number)
            images.append({"id": number, "file_name": f"{number}.png", "width": 40, "height": 30})
            runs = [33, 5, 25, 5, 30 * 40 - 68]
            mask = [[20, 5, 30, 5, 30, 15]] if number % 2 else {"size": [30, 40], "counts": runs}
            annotations += [
                {
                    "id": 10 * number,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [1, 2, 20, 20],
                    "keypoints": [3, 4, 2, 5, 6, 1, 7, 8, 2],
                    "iscrowd": 0,
                },
                {
                    "id": 10 * number + 1,
                    "image_id": number,
                    "category_id": 7,
                    "bbox": [20, 5, 10, 10],
                    "segmentation": mask,
                },
            ]
        mouse = {
            "id": 1,
            "name": "mouse",
            "keypoints": ["snout", "left_ear", "right_ear"],
            "skeleton": [[1, 2], [1, 3]],
        }
        content = {"images": images, "annotations": annotations, "categories": [mouse, {"id": 7, "name": "cup"}]}
        (folder / "annotations" / f"{part}.json").write_text(json.dumps(content))
    return folder


def entry(number: int, **values: Any) -> Change:
    return lambda content, _: content["annotations"][number].update(values)


def first(**values: Any) -> Change:
    return lambda content, _: content["images"][0].update(values)


def again(name: str, /, **values: Any) -> Change:
    return lambda content, _: content[name].append({**content[name][0], **values})


def category(**values: Any) -> Change:
    return lambda content, _: content["categories"][0].update(values)


def truncated(_: dict[str, Any], folder: Path) -> None:
    path = folder / "train/1.png"
    path.write_bytes(path.read_bytes()[:-40])


def copied(content: dict[str, Any], folder: Path) -> None:
    (folder / "train/1.png").write_bytes((folder / "val/3.png").read_bytes())


_CHANGES: list[tuple[str, Change, str, str]] = [
    ("a truncated image", truncated, "image-unreadable", "1.png"),
    ("a missing image", lambda _, folder: (folder / "train/2.png").unlink(), "image-missing", "2.png"),
    ("no image at all", lambda _, folder: (folder / "train/2.png").write_text("x"), "image-unreadable", "2.png"),
    ("another size", first(width=41), "image-size", "1.png"),
    ("a box without width", entry(0, bbox=[1, 2, 0, 20]), "box-missing", "annotation 10"),
    ("a box beyond the border", entry(0, bbox=[1, 2, 60, 20]), "box-outside", "annotation 10"),
    ("a box elsewhere", entry(0, bbox=[100, 2, 6, 20]), "box-lost", "annotation 10"),
    ("a box of words", entry(0, bbox=[1, 2, "wide", 20]), "box-dropped", "annotation 10"),
    ("an image id twice", again("images"), "id-twice", "image id 1"),
    ("an annotation id twice", again("annotations", bbox=[2, 2, 9, 9]), "id-reused", "annotation 10"),
    ("the same object twice", again("annotations", id=99), "object-twice", "annotation 99"),
    ("an unknown category", entry(1, category_id=3), "class-unknown", "annotation 11"),
    ("a category id twice", again("categories", name="rat"), "class-twice", "rat"),
    ("labels of no image", entry(1, image_id=77), "image-unknown", "annotation 11"),
    ("a keypoint outside", entry(0, keypoints=[3, 4, 2, 500, 6, 1, 7, 8, 2]), "keypoint-outside", "annotation 10"),
    ("too few keypoints", entry(0, keypoints=[3, 4, 2]), "keypoint-count", "annotation 10"),
    ("a keypoint at infinity", entry(0, keypoints=[1e999, 4, 2, 5, 6, 1, 7, 8, 2]), "keypoint-value", "annotation 10"),
    ("a strange visibility", entry(0, keypoints=[3, 4, 5, 5, 6, 1, 7, 8, 2]), "visibility-value", "annotation 10"),
    ("a left without right", category(keypoints=["snout", "left_ear", "tail"]), "sides-unpaired", "left_ear"),
    ("links to nowhere", category(skeleton=[[1, 9]]), "links-malformed", "mouse"),
    ("an outline of two points", entry(1, segmentation=[[1, 2, 3, 4]]), "outline-dropped", "annotation 11"),
    ("an outline beyond", entry(1, segmentation=[[1, 2, 90, 4, 5, 6]]), "outline-outside", "annotation 11"),
    ("a mask too short", entry(1, segmentation={"size": [30, 40], "counts": [9]}), "mask-dropped", "annotation 11"),
    (
        "a mask of another size",
        entry(1, segmentation={"size": [9, 9], "counts": [81]}),
        "mask-dropped",
        "annotation 11",
    ),
    ("a mask of noise", entry(1, segmentation={"size": [30, 40], "counts": "~~é"}), "mask-dropped", "annotation 11"),
    (
        "an unlabeled image",
        lambda content, _: content["annotations"].__delitem__(slice(2)),
        "image-empty",
        "1.png",
    ),
    ("an image of validation", copied, "image-leak", "3.png"),
    ("a class never labeled", again("categories", id=8, name="rat"), "class-unused", "rat"),
]


def _edit(change: Change) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        file = folder / "annotations/train.json"
        content = json.loads(file.read_text())
        change(content, folder)
        file.write_text(json.dumps(content))

    return edit


SEEDS = [(name, _edit(change), kind, words) for name, change, kind, words in _CHANGES]
