"""The published checkpoints against the tables they were taken from, read here in another way."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from hrnet.published import published


@pytest.fixture
def tables(shared: Path) -> str:
    text = (shared / "FACTS.md").read_text(encoding="utf-8")
    return text[text.index("## B4.") : text.index("# C. PUBLISHED")]


def test_every_address_once(tables: str) -> None:
    told = set(re.findall(r"https://[^\s,;)]+?\.pth(?:\.tar)?(?=[\s,;).]|$)", tables, re.MULTILINE))
    told |= {
        f"{page}/resolve/main/model.safetensors" for page in re.findall(r"https://huggingface\.co/[^\s|]+", tables)
    }
    ours = Counter(url for entry in published().values() for url in entry.urls)
    assert max(ours.values()) == 1
    assert told <= set(ours)
    # What remains stands there by parts: a base and file names, or the identity of a drive's file.
    for url in set(ours) - told:
        drive = re.search(r"[?]id=([\w-]+)", url)
        assert (drive[1] if drive else url.rsplit("/", 1)[1]) in tables, url


def test_every_hash_once(tables: str) -> None:
    dated = r"20(?:19|2\d)[01]\d[0-3]\d"
    names = set(re.findall(r"[\w.-]+\.pth", tables))
    told = set(re.findall(r"sha256 ([0-9a-f]{64})", tables))
    for name in names:
        pieces = re.split(r"[-_.]", name)[-3:-1]
        told |= {piece for piece in pieces if re.fullmatch("[0-9a-f]{8}", piece) and not re.fullmatch(dated, piece)}
    ours = Counter(entry.sha256 for entry in published().values() if entry.sha256)
    assert max(ours.values()) == 1
    assert set(ours) == told


def test_numbers_of_rows(tables: str) -> None:
    rows = {}
    for section in tables.split("\n### ")[1:]:
        lines = [line for line in section.splitlines() if line.startswith("|")][2:]
        rows[section.split(" (")[0].split(":")[0].split("\n")[0].encode("ascii", "ignore").decode()] = lines
    entries = published().values()
    mmseg = sum(entry.origin == "mmsegmentation" for entry in entries)
    assert mmseg == len(rows["Semantic segmentation  mmseg"])
    assert sum(entry.task == "classification" for entry in entries) == len(rows["Classification"])
    assert sum(entry.origin == "mmdetection" for entry in entries) == sum(
        "/mmdetection/v2" in line for line in tables.splitlines()
    )
    pose = {line.split("|")[-2] for line in rows["Pose, face, hand, whole-body  mmpose"]}
    assert sum(entry.origin == "mmpose" for entry in entries) == len(pose)


def test_names_and_figures() -> None:
    for name, entry in published().items():
        assert re.fullmatch(rf"{entry.task}-[a-z0-9]+(-[a-z0-9]+)+", name)
        assert entry.metric
        assert entry.code_licence
        assert entry.data_licence
        assert entry.urls or entry.sources, name
        assert re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}|", entry.sha256)
