"""Text files of unknown origin, read so that none can do harm: json, yaml, xml, csv, lists."""

from __future__ import annotations

import csv
import json
import os
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

import yaml

from hrnet.errors import InputError

# COCO's largest published file has half a gigabyte; no sensible label file of one image has 16 MB.
MAX_JSON, MAX_SMALL = 4_000_000_000, 16_000_000
CLASS_FILES = ("classes.txt", "labels.txt")
_DEEPEST_XML = 64
# Folders of a foreign path that are looked for.
_LONGEST_END = 6


def read_text(path: Path, what: str, limit: int = MAX_SMALL) -> str:
    """A text file as UTF-8.

    Args:
        path: of the file.
        what: it should be, for the message: "a COCO json".
        limit: more bytes are not read.

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


def read_json(path: Path, what: str) -> Any:
    """The content of a json; arguments and errors as of `read_text`."""
    try:
        return json.loads(read_text(path, what, MAX_JSON))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, or lists a thousand deep
        raise InputError(f"{path} is not valid json ({error}); export it again.") from None


class _PlainYaml(yaml.SafeLoader):
    """Without aliases: a few bytes of them stand for a billion values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read")
        return super().compose_node(parent, index)


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """The content of a yaml that is a mapping; arguments and errors as of `read_text`."""
    text = read_text(path, what, MAX_SMALL // 16)
    try:
        content = yaml.load(text, Loader=_PlainYaml)
    except Exception as error:  # its constructors raise whatever their arithmetic meets
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is not valid yaml ({reason}); mend or export it.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not {what}: it needs lines `key: value`.")
    return {str(key): value for key, value in content.items()}


def read_xml(path: Path, what: str) -> ElementTree.Element:
    """The root of an xml without document type or entities; arguments and errors as of `read_text`."""
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
    try:
        # The text is decoded already; what encoding its first line claims does not matter any more.
        parser.Parse(text, True)
        return builder.close()
    except (expat.ExpatError, ValueError, AssertionError) as error:
        raise InputError(f"{path} is not valid xml ({error}); export it again.") from None


def read_csv(path: Path, what: str) -> list[list[str]]:
    """The rows of a csv; arguments and errors as of `read_text`."""
    try:
        return list(csv.reader(read_text(path, what, MAX_JSON).splitlines()))
    except csv.Error as error:
        raise InputError(f"{path} is not valid csv ({error}); export it again.") from None


def entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted by name, hidden files left out; empty where it cannot be looked into."""
    try:
        with os.scandir(folder) as found:
            return [folder / name for name in sorted(entry.name for entry in found) if not name.startswith(".")]
    except OSError:
        return []


def is_folder(path: Path) -> bool:
    """Whether it is one, also for names that no file system takes."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether it is one, also for names that no file system takes."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def stated_classes(folder: Path) -> tuple[str, ...]:
    """Names of classes that a folder states in one of `CLASS_FILES`, one a line; none without such a file."""
    file = next((folder / name for name in CLASS_FILES if is_file(folder / name)), None)
    if file is None:
        return ()
    return tuple(line.strip() for line in read_text(file, "a list of classes").splitlines() if line.strip())


def find_below(roots: Iterable[Path], name: str) -> Path | None:
    """A file or folder that is named as on another machine: the longest end of its path that leads somewhere from a root."""
    parts = name.strip().replace("\\", "/").split("/")
    ends = [name.strip(), *("/".join(parts[start:]) for start in range(max(len(parts) - _LONGEST_END, 0), len(parts)))]
    places = (root / end for end in dict.fromkeys(ends) if end not in ("", ".", "..") for root in roots)
    return next((place for place in places if is_file(place) or is_folder(place)), None)


def shown(value: object) -> str:
    """A value of unknown depth and length, as a few words of a message."""
    try:
        return (value if isinstance(value, str) else reprlib.repr(value))[:80]
    except ValueError:  # a number of thousands of digits
        return f"a very long {type(value).__name__}"


def number_in_name(path: Path) -> int | None:
    """Return the number that a file's name ends in, as 139 of 000000000139.jpg; None without one."""
    digits = path.stem[len(path.stem.rstrip("0123456789")) :]
    return int(digits) if digits.isascii() and digits else None
