"""A Pascal VOC data set, and changes that break it."""

from collections.abc import Callable
from pathlib import Path

NAMES = {"train": ("a", "b"), "val": ("c", "d")}


def xml(name: str, objects: str = "", size: str = "<width>40</width><height>30</height>") -> str:
    return f"<annotation><filename>{name}.png</filename><size>{size}</size>{objects}</annotation>"


def thing(name: str, x1: object, y1: object, x2: object, y2: object) -> str:
    box = f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
    return f"<object><name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"


GOOD = thing("cell", 1, 2, 10, 20) + thing("plate", 20, 5, 40, 30)


def make(folder: Path, paint: Callable[..., Path]) -> Path:
    """Two lists of two images with a cell and a plate each."""
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for part, names in NAMES.items():
        (folder / f"ImageSets/Main/{part}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            paint(folder / f"JPEGImages/{name}.png", ord(name))
            (folder / f"Annotations/{name}.xml").write_text(xml(name, GOOD))
    return folder


def objects(*things: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "Annotations/a.xml").write_text(xml("a", "".join(things)))


def text(content: str, name: str = "Annotations/a.xml") -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def truncated(folder: Path) -> None:
    path = folder / "JPEGImages/a.png"
    path.write_bytes(path.read_bytes()[:-30])


def copied(folder: Path) -> None:
    (folder / "JPEGImages/a.png").write_bytes((folder / "JPEGImages/c.png").read_bytes())


BOMB = '<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>' + xml("a", thing("&b;", 1, 2, 3, 4))
SEEDS: list[tuple[str, Callable[[Path], object], str, str]] = [
    ("a truncated image", truncated, "image-unreadable", "a.png"),
    ("a missing image", lambda folder: (folder / "JPEGImages/a.png").unlink(), "image-missing", "a.xml"),
    ("another size", text(xml("a", GOOD, "<width>41</width><height>30</height>")), "image-size", "a.png"),
    ("a size of words", text(xml("a", GOOD, "<width>w</width><height>30</height>")), "entry-malformed", "a.xml"),
    ("broken xml", text("<annotation>"), "file-malformed", "a.xml"),
    ("an xml of entities", text(BOMB), "file-malformed", "a.xml"),
    ("another xml", text("<html/>"), "file-malformed", "a.xml"),
    ("a deep xml", text("<annotation>" + "<x>" * 9999), "file-malformed", "a.xml"),
    ("a box of one point", objects(GOOD, thing("cell", 5, 5, 5, 5)), "box-degenerate", "object 3"),
    ("a box turned over", objects(GOOD, thing("cell", 9, 5, 5, 9)), "box-degenerate", "object 3"),
    ("a box beyond", objects(GOOD, thing("cell", 9, 5, 55, 9)), "box-outside", "object 3"),
    ("a box elsewhere", objects(GOOD, thing("cell", 90, 5, 95, 9)), "box-lost", "object 3"),
    ("a box of words", objects(GOOD, thing("cell", "x", 5, 5, 5)), "entry-malformed", "object 3"),
    ("an object without a name", objects(GOOD, thing("", 1, 5, 5, 9)), "entry-malformed", "object 3"),
    ("an object twice", objects(GOOD, GOOD), "object-twice", "object 3"),
    ("a class in capitals", objects(GOOD, thing("Cell", 3, 5, 5, 9)), "class-spelling", "Cell"),
    ("an unnamed class", text("plate\n", "classes.txt"), "class-unknown", "cell"),
    ("nothing labeled", objects(), "image-empty", "a.png"),
    ("a name without xml", text("a\nb\nz\n", "ImageSets/Main/train.txt"), "label-missing", "z.xml"),
    ("a name twice", text("a\nb\na\n", "ImageSets/Main/train.txt"), "id-twice", "line 3"),
    ("an xml in no list", text("a\n", "ImageSets/Main/train.txt"), "image-unlisted", "first b"),
    ("a name in both lists", text("a\nb\nc\n", "ImageSets/Main/train.txt"), "image-leak", "c.png"),
    ("an image of validation", copied, "image-leak", "c.png"),
    ("the name of another image", text(xml("b", GOOD)), "filename-stale", "a.xml"),
    (
        "a list of bytes",
        lambda folder: (folder / "ImageSets/Main/train.txt").write_bytes(b"\xff"),
        "file-malformed",
        "set",
    ),
]
