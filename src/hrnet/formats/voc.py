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
from hrnet.formats.defects import Draft
from hrnet.formats.files import entries, is_file, read_text, read_xml, shown, stated_classes
from hrnet.formats.reader import Content
from hrnet.formats.records import DataSet, Defect, ImageRecord, Object
from hrnet.io.images import SUFFIXES


class VocReader:
    """Reader of Pascal VOC xml."""

    title = "Pascal VOC xml"
    looked_for = "a folder with VOC xml in it or in its Annotations/, or one of the lists in its ImageSets/Main/"
    gives: frozenset[Content] = frozenset({"boxes"})

    def recognize(self, path: Path, images: Path | None = None) -> bool:
        """Return whether a path is a folder of VOC xml, or a list of such a folder."""
        return _layout(path) is not None

    def read(self, path: Path, images: Path | None = None) -> tuple[DataSet, ...]:
        """Return each list of ImageSets/Main as a split of its name; without lists all xml as one.

        Args:
            path: folder, folder of the xml, or a list.
            images: folder that holds the images, itself or in JPEGImages or images; None for that of the set.

        Raises:
            InputError: there is no xml.
        """
        layout = _layout(path, images)
        if layout is None:
            raise InputError(f"{path} is not {self.looked_for}; name one.")
        files = {entry.stem: entry for entry in entries(layout.xml) if entry.suffix.lower() == ".xml"}
        splits = list(_splits(layout, files))
        listed = dict.fromkeys(name for _, names, _ in splits for name in names)
        pages = {name: _read_file(files[name], layout) for name in listed}
        classes, stated = _class_names(layout.root, pages.values())
        spelling = _spelling(layout.xml, pages.values())
        sets: list[DataSet] = []
        for number, (source, names, draft) in enumerate(splits):
            draft.defects += spelling if not number else []
            records = _images([pages[name] for name in names], classes, stated, draft)
            split = source.stem if source.suffix == ".txt" else ""
            sets.append(DataSet("voc", source, split, tuple(records), classes, defects=tuple(draft.defects)))
        return tuple(sets)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The folders of a set: its root, its xml, places where images may be, and its lists."""

    root: Path
    xml: Path
    images: tuple[Path, ...]
    lists: tuple[Path, ...]


def _layout(path: Path, images: Path | None = None) -> _Layout | None:
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
                last.say("id-twice", f"{shown(name)} is listed before", f"line {number}")
            elif name not in files:
                last.say("label-missing", f"{shown(name)}.xml is not in {layout.xml}", f"line {number}")
            else:
                names.append(name)
        listed |= set(names)
        if len(layout.lists) > 1 and file == layout.lists[-1] and len(listed) < len(files):
            left = sorted(files.keys() - listed)
            last.say("image-unlisted", f"{len(left)} xml are in no list, first {left[0]}", file=layout.xml)
        yield file, names, last


@dataclass(frozen=True, slots=True)
class _Page:
    """One xml: its image, the names of its classes, and its defects."""

    file: Path
    image: ImageRecord | None
    names: tuple[str, ...]
    defects: tuple[Defect, ...]


def _read_file(file: Path, layout: _Layout) -> _Page:
    draft = Draft(file)
    try:
        root = read_xml(file, "a VOC xml")
    except InputError as error:
        draft.repeat("file-malformed", error, file)
        return _Page(file, None, (), tuple(draft.defects))
    if root.tag != "annotation":
        draft.say("file-malformed", f"is an xml of {shown(root.tag)}, not of annotation")
        return _Page(file, None, (), tuple(draft.defects))
    path = _image_path(root, file, layout)
    if path is None:
        draft.say("image-missing", f"names the image {_text(root, 'filename') or file.stem}, which is not there")
        return _Page(file, None, (), tuple(draft.defects))
    size = checked_size(path, _listed_size(root, draft), draft)
    if size is None:
        return _Page(file, None, (), tuple(draft.defects))
    names: list[str] = []
    objects: list[Object] = []
    for number, element in enumerate(root.findall("object"), start=1):
        place = f"object {number}"
        name, box = _text(element, "name"), _box(element)
        if not name or box is None:
            text = "it needs a name" if not name else "its bndbox needs the numbers xmin, ymin, xmax and ymax"
            draft.say("entry-malformed", text, place)
            continue
        if name not in names:
            names.append(name)
        # Until the classes are known, the label is a position among the names of this file.
        objects.append(
            Object(names.index(name), place, box=box, difficult=_text(element, "difficult") in ("1", "true"))
        )
    image = ImageRecord(path, size, 0, file, usable(objects, size, draft, file))
    return _Page(file, image, tuple(names), tuple(draft.defects))


def _image_path(root: Element, file: Path, layout: _Layout) -> Path | None:
    """Return the image by the name in the xml, else by the name of the xml."""
    named = (_text(root, "filename") or "").replace("\\", "/").rpartition("/")[2]
    names = ([named] if named else []) + [f"{file.stem}{suffix}" for suffix in SUFFIXES]
    names += [f"{file.stem}{suffix.upper()}" for suffix in SUFFIXES[:3]]
    return next((folder / name for name in names for folder in layout.images if is_file(folder / name)), None)


def _listed_size(root: Element, draft: Draft) -> tuple[object, object] | None:
    """Return height and width; None where they are not given, or 0 as some programs write."""
    texts = [_text(root, f"size/{name}") for name in ("height", "width")]
    if not any(texts):
        return None
    try:
        height, width = (int(text or "") for text in texts)
    except ValueError:
        draft.say("entry-malformed", f"{shown(texts)} are no height and width", "size")
        return None
    return (height, width) if height or width else None


def _box(element: Element) -> Float[np.ndarray, " 4"] | None:
    """Return x1 y1 x2 y2. The first pixel of VOC is 1, and its boxes end on their last pixel."""
    try:
        values = [float(_text(element, f"bndbox/{name}") or "") for name in ("xmin", "ymin", "xmax", "ymax")]
    except ValueError:
        return None
    if not all(math.isfinite(value) for value in values):
        return None
    x1, y1, x2, y2 = values
    # By VOC's convention a box that ends where it begins is one pixel wide; nobody means that.
    return np.array([x1 - 1 if x2 > x1 else x1, y1 - 1 if y2 > y1 else y1, x2, y2])


def _text(element: Element, path: str) -> str | None:
    found = element.findtext(path)
    return found.strip() if found else None


def _class_names(root: Path, pages: Collection[_Page]) -> tuple[tuple[str, ...], bool]:
    """Return the classes, and whether a file states them; otherwise they are those that occur, sorted."""
    stated = stated_classes(root)
    found = {name for page in pages for name in page.names}
    return (stated, True) if stated else (tuple(sorted(found)), False)


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
            text = " and ".join(f"{shown(name)} ({counts[name]} objects)" for name in names)
            draft.say("class-spelling", f"has {text}")
    return draft.defects


def _images(pages: list[_Page], classes: tuple[str, ...], stated: bool, draft: Draft) -> list[ImageRecord]:
    labels = {name: label for label, name in enumerate(classes)}
    users: dict[Path, Path] = {}
    images: list[ImageRecord] = []
    count = 0
    for page in pages:
        draft.defects += page.defects
        image = page.image
        if image is None:
            continue
        if image.path in users:
            draft.say("id-twice", f"names the image of {users[image.path].name} too", file=page.file)
            continue
        users[image.path] = page.file
        known: list[Object] = []
        for thing in image.objects:
            label = labels.get(page.names[thing.label])
            if label is None:
                text = f"the class {shown(page.names[thing.label])} is not in the list of classes"
                draft.say("class-unknown", text, thing.place, page.file)
            else:
                known.append(replace(thing, label=label))
        objects = numbered(known, count)
        count += len(objects)
        images.append(replace(image, number=len(images), objects=objects))
    return images
