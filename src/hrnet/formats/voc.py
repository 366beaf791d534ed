"""Pascal VOC: one xml per image, and lists of names in ImageSets/Main."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Float

from hrnet.errors import InputError
from hrnet.formats.checked import checked_size, numbered, usable
from hrnet.formats.defects import Draft, EntryError, without_cure
from hrnet.formats.files import entries, is_file, read_text, read_xml, shown, stated_classes
from hrnet.formats.reader import Content, Reader
from hrnet.formats.records import DataSet, Defect, ImageRecord, Object
from hrnet.io.images import SUFFIXES


@dataclass(frozen=True, slots=True)
class _Layout:
    """The folders of a set: its root, its xml, places where images may be, and its lists."""

    root: Path
    xml: Path
    images: tuple[Path, ...]
    lists: tuple[Path, ...]


class VocReader(Reader[_Layout]):
    """Reader of Pascal VOC xml. Each list of ImageSets/Main is a split of its name; without lists all xml are one.

    A path is the folder, the folder of the xml, or a list. A folder of images holds them itself, in JPEGImages or in images.
    """

    title = "Pascal VOC xml"
    looked_for = "a folder with VOC xml in it or in its Annotations/, or one of the lists in its ImageSets/Main/"
    gives: frozenset[Content] = frozenset({"boxes"})

    def find(self, path: Path, images: Path | None) -> _Layout | None:
        listed = is_file(path) and path.suffix == ".txt" and path.parent.parent.name == "ImageSets"
        root = path.parents[2] if listed else path
        for folder in (root / "Annotations", root / "annotations", root):
            if any(entry.suffix.lower() == ".xml" for entry in entries(folder)):
                named = root.parent if folder == root and root.name.lower() == "annotations" else root
                given = images or named
                inside = (given / "JPEGImages", given / "images")
                places = (given, *inside) if images else (*inside, given, folder)
                lists = [entry for entry in entries(named / "ImageSets" / "Main") if entry.suffix == ".txt"]
                return _Layout(named, folder, places, (path,) if listed else tuple(lists))
        return None

    def load(self, found: _Layout, path: Path, images: Path | None) -> tuple[DataSet, ...]:
        files = {entry.stem: entry for entry in entries(found.xml) if entry.suffix.lower() == ".xml"}
        splits = list(_splits(found, files))
        listed = dict.fromkeys(name for _, names, _ in splits for name in names)
        pages = {name: _read_file(files[name], found) for name in listed}
        stated = stated_classes(found.root)
        classes = stated or tuple(sorted({name for page in pages.values() for name in page.names}))
        spelling = _spelling(found.xml, pages.values())
        sets: list[DataSet] = []
        for number, (source, names, draft) in enumerate(splits):
            draft.defects += spelling if not number else []
            records = _images([pages[name] for name in names], classes, draft)
            split = source.stem if source.suffix == ".txt" else ""
            sets.append(DataSet("voc", source, split, records, classes, defects=tuple(draft.defects)))
        return tuple(sets)


def _splits(layout: _Layout, files: dict[str, Path]) -> Iterator[tuple[Path, list[str], Draft]]:
    """Yield each list with the names in it that have an xml."""
    if not layout.lists:
        yield layout.xml, list(files), Draft(layout.xml)
        return
    listed: set[str] = set()
    last = Draft(layout.xml)
    for file in layout.lists:
        last = Draft(file)
        names: list[str] = []
        lines = [line.split() for line in read_text(file, "a list of names").splitlines() if line.strip()]
        if all(len(words) == 2 and words[1] in ("-1", "0", "1") for words in lines):
            continue  # a list of one class, which repeats the list of all
        for number, words in enumerate(lines, start=1):
            name = words[0]
            if name in names:
                last.add("id-twice", f"{shown(name)} is listed before", f"line {number}")
            elif name not in files:
                last.add("label-missing", f"{shown(name)}.xml is not in {layout.xml}", f"line {number}")
            else:
                names.append(name)
        listed |= set(names)
        if len(layout.lists) > 1 and file == layout.lists[-1] and len(listed) < len(files):
            left = sorted(files.keys() - listed)
            last.add("image-unlisted", f"{len(left)} xml are in no list, first {left[0]}", file=layout.xml)
        yield file, names, last


@dataclass(frozen=True, slots=True)
class _Page:
    """One xml: its image, the names of its classes, and its defects."""

    file: Path
    image: ImageRecord | None
    names: tuple[str, ...]
    defects: tuple[Defect, ...]


def _read_file(file: Path, layout: _Layout) -> _Page:
    draft, image = Draft(file), None
    names: list[str] = []
    with draft.entry():
        image = _read_image(file, layout, names, draft)
    return _Page(file, image, tuple(names), tuple(draft.defects))


def _read_image(file: Path, layout: _Layout, names: list[str], draft: Draft) -> ImageRecord | None:
    """Return the image of an xml; None where it cannot be used.

    The class names are added to `names`; a label is a position among them, until all classes are known.
    """
    try:
        root = read_xml(file, "a VOC xml")
    except InputError as error:
        raise EntryError("file-malformed", without_cure(error, file)) from None
    if root.tag != "annotation":
        raise EntryError("file-malformed", f"is an xml of {shown(root.tag)}, not of annotation")
    path = _image_path(root, file, layout, draft)
    if path is None:
        raise EntryError("image-missing", f"names the image {_text(root, 'filename') or file.stem}, which is not there")
    size = checked_size(path, _listed_size(root, draft), draft)
    if size is None:
        return None
    objects: list[Object] = []
    for number, element in enumerate(root.findall("object"), start=1):
        with draft.entry(place := f"object {number}"):
            name, box = _text(element, "name"), _box(element)
            if not name:
                raise EntryError("entry-malformed", "it needs a name")
            if name not in names:
                names.append(name)
            difficult = _text(element, "difficult") in ("1", "true")
            objects.append(Object(names.index(name), place, box=box, difficult=difficult))
    return ImageRecord(path, size, 0, file, usable(objects, size, draft, file))


def _image_path(root: Element, file: Path, layout: _Layout, draft: Draft) -> Path | None:
    """Return the image of the xml's own name, else the one that the xml names."""
    named = (_text(root, "filename") or "").replace("\\", "/").rpartition("/")[2]
    own = [f"{file.stem}{ending}" for suffix in SUFFIXES for ending in (suffix, suffix.upper())]
    # One of the xml's name and the ending that it states comes first.
    names = ([named] if named and Path(named).stem == file.stem else []) + own
    found = next((folder / name for name in names for folder in layout.images if is_file(folder / name)), None)
    other = next((folder / named for folder in layout.images if named and is_file(folder / named)), None)
    if found is not None and other is not None and other.stem != found.stem:
        draft.add("filename-stale", f"names {shown(named)}; {found.name}, which has its own name, is used")
    return found or other


def _listed_size(root: Element, draft: Draft) -> tuple[object, object] | None:
    """Return height and width; None where they are not given, or 0 as some programs write."""
    texts = [_text(root, f"size/{name}") for name in ("height", "width")]
    if not any(texts):
        return None
    try:
        height, width = (int(text or "") for text in texts)
    except ValueError:
        draft.add("entry-malformed", f"{shown(texts)} are no height and width", "size")
        return None
    return (height, width) if height or width else None


def _box(element: Element) -> Float[np.ndarray, " 4"]:
    """Return x1 y1 x2 y2. The first pixel of VOC is 1, and its boxes end on their last pixel."""
    try:
        values = [float(_text(element, f"bndbox/{name}") or "") for name in ("xmin", "ymin", "xmax", "ymax")]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise EntryError("entry-malformed", "its bndbox needs the numbers xmin, ymin, xmax and ymax")
    x1, y1, x2, y2 = values
    # By VOC's convention a box that ends where it begins is one pixel wide; nobody means that.
    return np.array([x1 - 1 if x2 > x1 else x1, y1 - 1 if y2 > y1 else y1, x2, y2])


def _text(element: Element, path: str) -> str | None:
    found = element.findtext(path)
    return found.strip() if found else None


def _spelling(folder: Path, pages: Collection[_Page]) -> list[Defect]:
    """Return defects for classes that differ in case or blanks only."""
    things = ((page, thing) for page in pages if page.image for thing in page.image.objects)
    counts = Counter(page.names[thing.label] for page, thing in things)
    alike: dict[str, list[str]] = {}
    for name in sorted(counts):
        alike.setdefault("".join(name.lower().replace("_", " ").replace("-", " ").split()), []).append(name)
    draft = Draft(folder)
    for names in alike.values():
        if len(names) > 1:
            listed = " and ".join(f"{shown(name)} ({counts[name]} objects)" for name in names)
            draft.add("class-spelling", f"has {listed}")
    return draft.defects


def _images(pages: list[_Page], classes: tuple[str, ...], draft: Draft) -> tuple[ImageRecord, ...]:
    users: dict[Path, Path] = {}
    images: list[ImageRecord] = []
    for page in pages:
        draft.defects += page.defects
        image = page.image
        if image is None:
            continue
        if image.path in users:
            draft.add("id-twice", f"names the image of {users[image.path].name} too", file=page.file)
            continue
        users[image.path] = page.file
        known: list[Object] = []
        for thing in image.objects:
            name = page.names[thing.label]
            if name in classes:
                known.append(replace(thing, label=classes.index(name)))
            else:
                draft.add(
                    "class-unknown", f"the class {shown(name)} is not in the list of classes", thing.place, page.file
                )
        images.append(replace(image, objects=tuple(known)))
    return numbered(images)
