"""Safe reading of text files of unknown origin: json, yaml, xml, csv, lists."""

from __future__ import annotations

import csv
import json
import os
import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

import yaml

from hrnet.errors import InputError

# Largest json and largest other file: COCO's largest has half a gigabyte, labels of one image far less than 16 MB.
MAX_JSON, MAX_SMALL = 4_000_000_000, 16_000_000
CLASS_FILES = ("classes.txt", "labels.txt")
_DEEPEST_XML = 64
# Trailing folders of a path from another machine that are searched.
_LONGEST_END = 6
# These return False, as the methods of Path do not, for names that no file system takes.
is_folder, is_file = os.path.isdir, os.path.isfile


def read_text(path: Path, what: str, limit: int = MAX_SMALL) -> str:
    """Return a text file as UTF-8; `what` is the expected kind of file in messages, such as "a COCO json".

    Raises:
        InputError: it is missing, too large, or no text.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise InputError(f"{path} has {size / 1e6:.0f} MB, more than {what} ever has; name the right file.")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); name {what}.") from None


@contextmanager
def _parsing(path: Path, kind: str) -> Iterator[None]:
    """Turn any error of a parser into an InputError: on damaged text they raise whatever their arithmetic meets."""
    try:
        yield
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} is not valid {kind} ({reason}); fix it, or export it again.") from None


def read_json(path: Path, what: str) -> Any:
    """Return the content of a json; arguments and errors as for `read_text`."""
    text = read_text(path, what, MAX_JSON)
    with _parsing(path, "json"):
        return json.loads(text)


class _PlainYaml(yaml.SafeLoader):
    """A loader without aliases, a few bytes of which can stand for a billion values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read")
        return super().compose_node(parent, index)


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """Return the content of a yaml that is a mapping; arguments and errors as for `read_text`."""
    text = read_text(path, what, MAX_SMALL // 16)
    with _parsing(path, "yaml"):
        content = yaml.load(text, Loader=_PlainYaml)
    if not isinstance(content, dict):
        raise InputError(f"{path} is not {what}: it needs lines `key: value`; export it again.")
    return {str(key): value for key, value in content.items()}


def read_xml(path: Path, what: str) -> ElementTree.Element:
    """Return the root of an xml without document type or entities; arguments and errors as for `read_text`."""
    text = read_text(path, what)
    builder, depth = ElementTree.TreeBuilder(), 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST_XML:
            raise ValueError(f"more than {_DEEPEST_XML} elements inside one another")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def refuse(*_: object) -> None:
        raise ValueError("document types and entities are not read")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    with _parsing(path, "xml"):
        # The text is decoded already, whatever encoding its first line claims.
        parser.Parse(text, True)
        return builder.close()


def read_csv(path: Path, what: str) -> list[list[str]]:
    """Return the rows of a csv; arguments and errors as for `read_text`."""
    text = read_text(path, what, MAX_JSON)
    with _parsing(path, "csv"):
        return list(csv.reader(text.splitlines()))


def entries(folder: Path) -> list[Path]:
    """Return the entries of a folder, sorted by name, without hidden files; none where it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return [folder / name for name in sorted(entry.name for entry in found) if not name.startswith(".")]
    except OSError:
        return []


def files_ending(folder: Path, suffix: str) -> list[Path]:
    """Return the files of a folder whose names end so."""
    return [entry for entry in entries(folder) if entry.name.endswith(suffix)]


def listed_names(path: Path) -> list[str]:
    """Return the first word of every line."""
    return [line.split()[0] for line in read_text(path, "a list of images").splitlines() if line.strip()]


def stated_classes(folder: Path) -> tuple[str, ...]:
    """Return the class names in one of `CLASS_FILES` of a folder, one per line; none without such a file."""
    file = next((folder / name for name in CLASS_FILES if is_file(folder / name)), None)
    if file is None:
        return ()
    return tuple(line.strip() for line in read_text(file, "a list of classes").splitlines() if line.strip())


def find_below(roots: Iterable[Path], name: str) -> Path | None:
    """Return a file or folder named by a path of another machine: the longest end of the path that exists below a root."""
    parts = name.strip().replace("\\", "/").split("/")
    ends = [name.strip(), *("/".join(parts[start:]) for start in range(max(len(parts) - _LONGEST_END, 0), len(parts)))]
    places = (root / end for end in dict.fromkeys(ends) if end not in ("", ".", "..") for root in roots)
    return next((place for place in places if is_file(place) or is_folder(place)), None)


def find_file(roots: Iterable[Path], name: str) -> Path | None:
    """Return what `find_below` finds, if it is a file."""
    place = find_below(roots, name)
    return place if place is not None and is_file(place) else None


def whole_number(value: object) -> object:
    """Return a whole number that was written as a fraction or as text as an int, and any other value as it is."""
    if isinstance(value, str) and value.isascii() and len(value) < 19:
        value = int(value) if value.isdigit() else float(value) if value.removesuffix(".0").isdigit() else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def shown(value: object) -> str:
    """Return a value of unknown depth and length as a few words of a message."""
    try:
        return (value if isinstance(value, str) else reprlib.repr(value))[:80]
    except ValueError:  # a number of thousands of digits
        return f"a very long {type(value).__name__}"


def number_in_name(path: Path) -> int | None:
    """Return the number that a file's name ends in, as 139 of 000000000139.jpg; None without one."""
    digits = path.stem[len(path.stem.rstrip("0123456789")) :]
    return int(digits) if digits.isascii() and digits else None
