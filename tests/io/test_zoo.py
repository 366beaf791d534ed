"""The published checkpoints against the tables they were taken from, read here in another way."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from hrnet.classification.spec import ClassificationSpec
from hrnet.cli import main
from hrnet.io.published import published
from hrnet.nn.spec import ModelSpec
from hrnet.pose.spec import PoseSpec
from hrnet.tasks import override_spec


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


def test_names_and_sources() -> None:
    for name, entry in published().items():
        assert re.fullmatch(rf"{entry.task}-[a-z0-9]+(-[a-z0-9]+)+", name)
        assert entry.code_license
        assert entry.data_license
        assert entry.urls or entry.sources, name
        assert re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}|", entry.sha256)
        if entry.task == "pose":
            # The names of the files tell the input and the codec as well.
            sizes = re.findall(r"(?<!\d)(\d{3})x(\d{3})(?!\d)", f"{name} {entry.file}")
            assert {(int(height), int(width)) for height, width in sizes} == {entry.input}, name
            told = re.search(r"dark|udp", entry.file)
            assert entry.overrides.get("codec.kind") == (told[0] if told and entry.loadable else None), name


def test_fields_of_every_entry_are_fields_of_its_spec() -> None:
    # Source of sigma and blur: the published configurations; the heatmap is half as large again, and so are both.
    specs: dict[str, ModelSpec] = {"pose": PoseSpec(), "classification": ClassificationSpec(num_classes=1000)}
    for name, entry in published().items():
        if entry.overrides and entry.loadable:
            spec = override_spec(specs[entry.task], entry.overrides, name)
            if isinstance(spec, PoseSpec):
                large = entry.input == (384, 288)
                assert (spec.codec.heatmap_sigma, spec.codec.blur) == ((3.0, 17) if large else (2.0, 11)), name


_LABELS = {"Mean": "PCKh", "Mean@0.1": "PCKh@0.1"}
"""What the lists of MPII print; FACTS C4 names the figure."""

_NO_FIGURE = {
    *(f"backbone-imagenet-{width}-openmmlab" for width in ("w18-small-v2", "w18", "w32", "w40", "w48")),
    *(f"backbone-imagenet-v1-{width}" for width in ("w32", "w48")),
    *(f"pose-coco-{width}-{size}-mmpose0" for width in ("w32", "w48") for size in ("256x192", "384x288")),
    "pose-coco-higherhrnet-w32-512x512-mmpose0",
    "pose-mpii-w48-256x256",
}
"""FACTS gives none for them."""


def _told() -> dict[str, list[tuple[str, str]]]:
    """By file, or page, or name: labels and figures as they are printed."""
    found: dict[str, list[tuple[str, str]]] = {}
    labels: list[str] = []
    for line in (Path(__file__).parent / "published_figures.tsv").read_text(encoding="utf-8").splitlines():
        key, _, figures = line.partition("\t")
        if line.startswith("#"):
            labels = line.rpartition(": ")[2].split("/")
        elif "=" in figures:
            pairs = re.findall(r"([A-Za-z][\w@. ]*?)=([\d.]+)", figures)
            found.setdefault(key, []).extend((_LABELS.get(label) or label, value) for label, value in pairs)
        else:
            assert key not in found
            found[key] = list(zip(labels, figures.split("/"), strict=False))
    return found


def test_every_figure() -> None:
    # Oracle: `published_figures.tsv`, copied from the tables of FACTS.md and from nothing of ours.
    told = _told()
    missing = set(told)
    for name, entry in published().items():
        addresses = [url.removesuffix("/resolve/main/model.safetensors") for url in entry.urls]
        keys = {key for key in told if key in (name, entry.file) or any(url.endswith(f"/{key}") for url in addresses)}
        # Of faces, what is measured stands behind the figure.
        metric = re.sub(r" \([^)]*\)", "", re.sub(r"NME ([\d.]+) \((\w+)\)", r"NME \2 \1", entry.metric))
        ours = [part.rpartition(" ") for part in re.split(r"[,;] ", metric) if part]
        if name in _NO_FIGURE:
            assert (keys, ours) == (set(), []), name
            continue
        assert len(keys) == 1, (name, keys)
        missing -= keys
        theirs = Counter((label, float(value)) for label, value in told[keys.pop()])
        assert Counter((label, float(value)) for label, _, value in ours) == theirs, name
    assert not missing


def test_copied_rightly(shared: Path) -> None:
    lines = (shared / "FACTS.md").read_text(encoding="utf-8").splitlines()
    rows = {key: [line for line in lines if line.startswith("|") and key in line] for key in _told()}
    whole = " ".join(lines)
    for key, figures in _told().items():
        place = " ".join(rows[key]) or whole
        for _, value in figures:
            assert re.search(rf"(?<![\d.]){re.escape(value)}(?!\d)", place), (key, value)


def test_chief_figure() -> None:
    entries = published()
    assert entries["segmentation-cityscapes-w48"].chief_figure == "mIoU 80.9"
    assert entries["pose-coco-w48-384x288"].chief_figure == "AP 0.763"
    assert entries["pose-coco-wholebody-w32-256x192-mmpose"].chief_figure == "Whole AP 0.536"
    assert entries["pose-mpii-w48-256x256"].chief_figure == "none known"


def test_licenses() -> None:
    """Oracles: the license file of each code base; what a data set allows does not depend on who trained on it."""
    of_code = {
        "MIT": r"HRNet-(Image-Classification|Human-Pose-Estimation|Semantic-Segmentation|Facial-Landmark-Detection|"
        r"MaskRCNN-Benchmark)|openseg\.pytorch|openmmlab|timm",
        "Apache-2.0": r"mm(pose|pose 0\.x|segmentation|detection|detection 1|pretrain)|timm",
    }
    of_data: dict[str, str] = {}
    for name, entry in published().items():
        assert re.fullmatch(of_code[entry.code_license], entry.origin), name
        assert of_data.setdefault(entry.data, entry.data_license) == entry.data_license, name
        if entry.origin == "timm":
            # As the pages of these files say: only GluonCV's weights are under its license.
            assert (entry.code_license == "MIT") == (".gluon_" not in entry.urls[0]), name


def test_addresses_of_drives(tables: str) -> None:
    # FACTS gives the identities only; the form is the one that answers with the file and no page before it.
    form = re.compile(r"https://drive\.usercontent\.google\.com/download\?id=([\w-]{33})&export=download&confirm=t")
    drives = [url for entry in published().values() for url in entry.urls if "google" in url]
    assert all(form.fullmatch(url) for url in drives)
    assert Counter(re.findall(r"id=([\w-]+)", " ".join(drives))) == Counter(re.findall(r"Drive id ([\w-]+)", tables))


@pytest.mark.parametrize("width", [80, 100, 140, None])
def test_the_list_of_all(
    width: int | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a terminal no line is longer than it is wide; a file gets every column.
    if width:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(width))
    assert main(["models"]) == 0
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= (width or 1000)
    rows = {line.split()[0]: line for line in (line.removeprefix("- ").removeprefix("x ") for line in lines) if line}
    text = " ".join(" ".join(lines).split())
    for name, entry in published().items():
        assert entry.chief_figure in rows[name]
        assert f" {entry.code_license}" in rows[name]
        assert f"{entry.data} (license: {entry.data_license})" in text
        if width is None:
            assert entry.sha256[:8] in rows[name]
            assert rows[name].endswith(entry.data_license)


def test_one_whole(capsys: pytest.CaptureFixture[str]) -> None:
    entry = published()["pose-coco-w48-384x288"]
    assert main(["models", entry.name]) == 0
    said = capsys.readouterr().out
    for value in (entry.metric, entry.sha256, entry.file, *entry.urls, *entry.sources, entry.data_license):
        assert value in said
    assert main(["models", "pose-mpii"]) == 0
    listed = set(re.findall(r"^[-x ] (pose-\S+)", capsys.readouterr().out, re.MULTILINE))
    assert listed == {name for name in published() if "pose-mpii" in name}
