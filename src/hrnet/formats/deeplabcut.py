"""DeepLabCut: CollectedData csv files with three or four header rows, one row per image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrnet.errors import InputError
from hrnet.formats.checked import LARGEST_COORDINATE, checked_size, numbered, usable
from hrnet.formats.defects import Draft, EntryError
from hrnet.formats.files import entries, find_file, is_file, is_folder, read_csv, shown
from hrnet.formats.reader import Content, Reader
from hrnet.formats.records import DataSet, ImageRecord, Object

CLASS = "animal"
_EMPTY = ("", "nan")
_MOST_KEYPOINTS = 10_000


class DeepLabCutReader(Reader[list[Path]]):
    """Reader of DeepLabCut csv files: all of a folder as one set, or one csv.

    Objects have no boxes; empty cells are unlabeled. An image is found by the longest end of its path that leads to it from
    the folder of images, the folder of the csv or one of the three above it.
    """

    title = "DeepLabCut csv"
    looked_for = "a DeepLabCut csv (CollectedData_NAME.csv), or a folder with such in it or in labeled-data/*/"
    gives: frozenset[Content] = frozenset({"keypoints"})

    def find(self, path: Path, images: Path | None) -> list[Path]:
        if is_file(path):
            return [path] if path.suffix.lower() == ".csv" else []
        places = [path, *entries(path), *entries(path / "labeled-data")]
        found = [file for place in places if is_folder(place) for file in entries(place)]
        return sorted({file for file in found if file.suffix == ".csv" and file.name.startswith("CollectedData")})

    def load(self, found: list[Path], path: Path, images: Path | None) -> tuple[DataSet, ...]:
        draft = Draft(path)
        tables = [_read_table(file) for file in found]
        names = tables[0].names
        records: list[ImageRecord | None] = []
        seen: set[Path] = set()
        for table in tables:
            if table.names != names:
                text = f"has the keypoints {', '.join(table.names)}, {found[0].name} has {', '.join(names)}"
                draft.add("keypoint-count", shown(text), file=table.file)
                continue
            for place, row in table.rows:
                with draft.entry(place, table.file):
                    records.append(_image(table, place, row, images, seen, draft))
        kept = numbered(record for record in records if record is not None)
        return (DataSet("deeplabcut", path, "", kept, (CLASS,), names, defects=tuple(draft.defects)),)


@dataclass(frozen=True, slots=True)
class _Table:
    """One csv.

    Attributes:
        file: csv file.
        names: keypoint names.
        path_columns: number of cells that make the path of the image.
        places: columns of x and y of each keypoint, per individual; -1 where there is none.
        rows: rows with their places in the file.
    """

    file: Path
    names: tuple[str, ...]
    path_columns: int
    places: dict[str, list[tuple[int, int]]]
    rows: list[tuple[str, list[str]]]


def _read_table(file: Path) -> _Table:
    rows = read_csv(file, "a DeepLabCut csv")
    header = {row[0].strip(): row for row in rows[:4] if row}
    coords, parts = header.get("coords"), header.get("bodyparts")
    if coords is None or parts is None or len(coords) != len(parts):
        raise InputError(f"{file} is no DeepLabCut csv: its header lacks bodyparts or coords; export it again.")
    axes = [cell.strip() for cell in coords]
    start = next((column for column, axis in enumerate(axes) if axis in ("x", "y")), len(axes))
    who = header.get("individuals", [])
    individuals = [cell.strip() for cell in who] if len(who) == len(parts) else [""] * len(parts)
    names = tuple(dict.fromkeys(cell.strip() for cell in parts[start:]))
    if not names or len(names) > _MOST_KEYPOINTS:
        raise InputError(f"{file} has {len(names)} keypoints in its header; export it again.")
    columns = {(individuals[i], parts[i].strip(), axes[i]): i for i in range(start, len(parts))}
    places = {
        one: [(columns.get((one, name, "x"), -1), columns.get((one, name, "y"), -1)) for name in names]
        for one in dict.fromkeys(individuals[start:])
    }
    first = rows.index(coords) + 1
    placed = [(f"line {number}", row) for number, row in enumerate(rows[first:], start=first + 1) if any(row)]
    return _Table(file, names, start, places, placed)


def _image(
    table: _Table, place: str, row: list[str], images: Path | None, seen: set[Path], draft: Draft
) -> ImageRecord | None:
    """Return the image of a row with its animals; None where it cannot be used, which the draft then names."""
    width = max(max(pair) for places in table.places.values() for pair in places) + 1
    if len(row) < width:
        raise EntryError("entry-malformed", f"{len(row)} cells, the header has {width}")
    name = "/".join(cell.strip() for cell in row[: table.path_columns] if cell.strip())
    above = [table.file.parent, *table.file.parents[1:4]]
    path = find_file(([images] if images else []) + above, name)
    if path is None:
        raise EntryError("image-missing", f"{shown(name)} is not there")
    if path in seen:
        raise EntryError("id-twice", f"{shown(name)} has a row before; that one is used")
    seen.add(path)
    size = checked_size(path, None, draft)
    if size is None:
        return None
    objects = [_animal(row, columns, place, table, draft) for columns in table.places.values()]
    kept = usable([thing for thing in objects if thing is not None], size, draft, table.file)
    return ImageRecord(path, size, 0, table.file, kept)


def _animal(row: list[str], columns: list[tuple[int, int]], place: str, table: _Table, draft: Draft) -> Object | None:
    """Return one individual of a row; None where nothing of it is labeled."""
    points, visibility = np.zeros((len(columns), 2)), np.zeros(len(columns))
    for index, (x, y) in enumerate(columns):
        cells = [row[column].strip() if column >= 0 else "" for column in (x, y)]
        if all(cell.lower() in _EMPTY for cell in cells):
            continue
        try:
            values = [float(cell) for cell in cells]
            if not all(abs(value) <= LARGEST_COORDINATE for value in values):
                raise ValueError
        except ValueError:
            text = f"{table.names[index]} is at {shown(', '.join(cells))}, which are no two numbers"
            draft.add("keypoint-value", text, place, table.file)
            continue
        points[index], visibility[index] = values, 2
    return Object(0, place, keypoints=points, visibility=visibility) if visibility.any() else None
