"""Kinds of defects of a data set, the severity of each, and its cure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hrnet.errors import InputError
from hrnet.formats.records import DataSet, Defect, Severity


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of defect: severity, heading, and how to fix it."""

    severity: Severity
    title: str
    cure: str


KINDS: dict[str, Kind] = {
    "file-malformed": Kind("fatal", "a file that cannot be read", "export it again, or name the right file"),
    "entry-malformed": Kind("fatal", "an entry that cannot be understood", "fix the entry, or export the file again"),
    "set-empty": Kind("fatal", "a split without usable images", "fix the other defects, or name another folder"),
    "image-missing": Kind("fatal", "a missing image", "copy it to its place, or take it off the list"),
    "image-unreadable": Kind("fatal", "an image that cannot be read", "copy or export it again, or remove it"),
    "image-size": Kind("fatal", "an image of another size than labeled", "label it as stored, or upright by EXIF"),
    "image-leak": Kind("fatal", "the same image in two splits", "remove it from one: it falsifies the metrics"),
    "image-twice": Kind("note", "the same image twice in one split", "remove one, unless it is meant to count twice"),
    "image-contradiction": Kind("fatal", "the same image in two classes", "decide which, and remove the other"),
    "image-empty": Kind("note", "images without labels", "right for mere background; otherwise label or remove them"),
    "image-unlisted": Kind("note", "images that no list names", "add them to a list, or leave them where they are"),
    "file-stray": Kind("note", "files that are neither images nor labels", "move them elsewhere"),
    "id-twice": Kind("fatal", "the same id or name twice", "give each its own; the first is used"),
    "id-reused": Kind("warning", "an annotation id used twice", "give each its own; COCO's scoring keeps one of them"),
    "image-unknown": Kind("fatal", "labels of an image that is not listed", "list the image, or remove the labels"),
    "class-unknown": Kind("fatal", "an unknown class or label value", "add its name, or correct the label"),
    "class-count": Kind("fatal", "a number of classes that differs from the names", "correct one of them"),
    "class-twice": Kind("fatal", "a class that is named twice", "give each its own name and id"),
    "class-spelling": Kind("warning", "classes that differ in case or spaces only", "spell them alike if they are one"),
    "class-unused": Kind("note", "classes without labels", "take them out, or label some"),
    "class-untrained": Kind("warning", "classes without labels in the training split", "label some there"),
    "classes-unnamed": Kind("note", "classes without names", "write them into classes.txt, one per line"),
    "heads-missing": Kind("note", "missing head boxes of MPII", "copy gt_valid.mat beside the json"),
    "class-imbalance": Kind("note", "classes of very different frequency", "label more of the rare one"),
    "box-degenerate": Kind("fatal", "a box without area", "draw it again, or remove the object"),
    "box-missing": Kind("note", "an object without a box", "--data.unboxed: the whole image, or around the keypoints"),
    "box-dropped": Kind("warning", "a box that is none", "draw it again; the rest of the object is used"),
    "box-outside": Kind("warning", "a box that reaches beyond its image", "clip it to the image"),
    "box-lost": Kind("fatal", "a box entirely outside its image", "correct it, or remove the object"),
    "object-twice": Kind("warning", "the same object twice in one image", "remove one"),
    "object-blank": Kind("warning", "an object without box, outline or keypoint", "label it, or remove it"),
    "keypoint-count": Kind("fatal", "a wrong number of keypoints", "give each object all, unlabeled ones as 0"),
    "keypoint-value": Kind("fatal", "a keypoint with an invalid position", "correct it, or leave it unlabeled"),
    "keypoint-outside": Kind("warning", "a keypoint outside its image", "correct it, or leave it unlabeled"),
    "keypoint-unseen": Kind("note", "keypoints that are never labeled", "label some, or take the name out"),
    "keypoints-unnamed": Kind("note", "keypoints without names", "name them where the format has a place for it"),
    "keypoints-several": Kind("note", "several classes with keypoints", "keep each in a file of its own"),
    "visibility-value": Kind("warning", "a visibility other than 0, 1, 2", "write 0 unlabeled, 1 hidden, 2 visible"),
    "sides-unpaired": Kind("warning", "a left or right keypoint without partner", "name both alike: left_x, right_x"),
    "links-malformed": Kind("fatal", "a skeleton or pairs of unknown keypoints", "count keypoints as the format does"),
    "outline-malformed": Kind("fatal", "a malformed outline", "give at least three points, x and y each"),
    "outline-outside": Kind("warning", "an outline that reaches beyond its image", "clip it to the image"),
    "outline-dropped": Kind("warning", "an outline that encloses nothing", "draw it again; the object is used"),
    "mask-dropped": Kind("warning", "a mask that does not fit", "encode it again; the rest of the object is used"),
    "mask-malformed": Kind("fatal", "a mask that does not fit its image", "encode it again"),
    "label-missing": Kind("fatal", "an image without its label file", "add the file, or remove the image"),
    "label-orphan": Kind("fatal", "a label file without its image", "add the image, or remove the file"),
    "label-unused": Kind("warning", "a label file that is not used", "merge it with the used one, or remove it"),
    "filename-stale": Kind("warning", "an xml that names another image", "correct it; the xml's own name is used"),
    "label-unreadable": Kind("fatal", "a label map that cannot be read", "copy or export it again"),
    "label-size": Kind("fatal", "a label map whose size differs from its image", "export it at the size of its image"),
    "label-colors": Kind("fatal", "a label map that stores colors", "save class numbers, as gray or with a palette"),
    "label-lossy": Kind("fatal", "a label map in a lossy format", "save labels as PNG, which keeps each value"),
}


class EntryError(ValueError):
    """Reason why an entry cannot be used: one of `KINDS`, and a description."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def without_cure(error: InputError, file: Path) -> str:
    """Return the text of an error about a file, a clause that begins after the file's name."""
    return str(error).removeprefix(f"{file} ").partition("; ")[0].rstrip(".")


class Draft:
    """Defects of one set, collected while it is read; those that name no file are of `file`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.defects: list[Defect] = []

    def add(self, kind: str, text: str, place: str = "", file: Path | None = None) -> None:
        """Add a defect of one of `KINDS`."""
        known = KINDS[kind]
        self.defects.append(Defect(kind, known.severity, text, file or self.file, place, known.cure))

    def add_error(self, kind: str, error: InputError, file: Path) -> None:
        """Add the text of an error about a file, without its cure."""
        self.add(kind, without_cure(error, file), file=file)

    @contextmanager
    def entry(self, place: str = "", file: Path | None = None) -> Iterator[None]:
        """Add an `EntryError` that the block raises, which ends the block and nothing else."""
        try:
            yield
        except EntryError as error:
            self.add(error.kind, str(error), place, file)


def sentences(data: DataSet) -> tuple[list[str], list[str]]:
    """Return notes and problems of a data set: a sentence per entry left out, and one per kind of other defect."""
    missing = [defect for defect in data.defects if defect.kind == "image-missing"]
    problems = [str(one) for one in data.defects if one.severity == "fatal" and one.kind != "image-missing"]
    if missing:
        names = "; ".join(defect.text for defect in missing[:3]) + ("; ..." if len(missing) > 3 else "")
        problems.append(f"{data.source} lists {len(missing)} images that are left out: {names}.")
    notes: list[str] = []
    counts = Counter(defect.kind for defect in data.defects if defect.severity != "fatal")
    for kind, count in counts.items():
        first = next(defect for defect in data.defects if defect.kind == kind)
        notes.append(str(first) if count == 1 else f"{count} times {KINDS[kind].title}; first {first}")
    return notes, problems
