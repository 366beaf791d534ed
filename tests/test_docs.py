"""The documentation agrees with the code: links lead somewhere, commands and options exist, code is the tested code."""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import re
import shlex
from pathlib import Path

import pytest

from hrnet.cli import main
from hrnet.tasks import recipes

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
# Options of torchrun, of training/ and of benchmarks/ are not ours to check here.
COMMAND = re.compile(r"^    (?:\$ )?(hrnet [a-z].*)$", re.M)


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as hosts of Markdown make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files_and_headings(name: str):
    page = ROOT / name
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{name}: {link}"
        assert not anchor or anchor in _anchors(target), f"{name}: {link}"


@functools.cache
def _help(*arguments: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([*arguments, "--help"])
    return out.getvalue()


def _commands(text: str) -> list[str]:
    text = re.sub(r"\\\n\s*", " ", text)
    lines = [line.split("  #")[0] for line in COMMAND.findall(text)]
    return [part.strip() for line in lines for part in line.split(";") if part.strip().startswith("hrnet ")]


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_options_exist(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    for command in _commands((ROOT / name).read_text(encoding="utf-8")):
        words = shlex.split(command)[1:]
        verb = words[:2] if words[0] == "data" else words[:1]
        if "|" in "".join(verb):  # `hrnet data check|show`
            continue
        options = {
            word.split("=")[0] for word in words if word.startswith("--") and word not in ("--help", "--version")
        }
        help_text = _help(*verb)
        if verb == ["train"]:
            recipe = words[1] if words[1] in recipes() else "pose-own"
            help_text += _help("train", recipe)
        if verb[0] in ("predict", "evaluate"):  # the options of a command are those of the model's task
            shipped = ("pose", "segmentation", "detection")
            help_text += "".join(
                _help(*verb, model) for model in shipped if words[1] not in shipped or words[1] == model
            )
        assert len(help_text) > 100, f"{name}: {command}"
        missing = {
            option
            for option in options
            if "*" not in option and not re.search(rf"{re.escape(option)}(?![\w-])", help_text)
        }
        assert not missing, f"{name}: {command}: {sorted(missing)}"


@pytest.mark.parametrize("name", NAMES)
def test_python_blocks_are_python(name: str):
    for block in re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.S):
        ast.parse(block)


def test_the_examples_of_extending_are_the_tested_code():
    page = ROOT / "docs/extending.md"
    blocks = re.findall(r"<!-- (\S+) -->\n```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    for file, block in blocks:
        assert block.strip() in (ROOT / file).read_text(encoding="utf-8"), f"{page.name}: its block is not in {file}"
