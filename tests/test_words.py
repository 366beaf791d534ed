# ruff: noqa: E501 - one row per phrase
"""The language of the project: the field's terms in plain English, American spelling.

Each row of PHRASES is a private phrase that the code once used, with the term that stands in its place. None of them may come
back, neither in the sources, the documentation nor the help. `python tests/test_words.py` prints what is found, file by file.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hrnet.cli import main

ROOT = Path(__file__).parents[1]

# A line with this comment is not read; the comment says why.
ALLOW = "words: allow"

PHRASES = {
    r"so-?manieth|every so many": "every n-th",
    r"\bso many of (a|one) hundred": "percent",
    r"\b(a|an|the|this|in) shares?\b(?! (a|the)\b)|\bshares? of\b|\bcrop_share\b|\bclass Share\b|\.share\(": "fraction",
    r"\b(how|less|more|most|not|is|was|are|were|so) sure\b|\bsurest\b|\bless_sure\b": "score, confidence",
    r"overlaps? more\b|how much they share": "IoU above a threshold",
    r"counts? (for|as) nothing|counted for nothing|neither right nor wrong": "is ignored",
    r"(?<!ground )(?<!ground-)(?<!ground_)\btruths?\b(?! table)": "ground truth",
    r"marked by people": "labeled",
    r"label (picture|image)s?\b|\blabel-images?\b": "label map",
    r"look(s|ed|ing)? into (a |the |labeled |given )?box": "top-down, needs boxes",
    r"\bwhat is found\b|\bwhat was found\b|\bwhat it found\b": "detections, results",
    r"\bis on an object\b|\bare on an object\b": "foreground",
    r"(?<!standard )(?<!standard_)\bdeviations\b": "stds",
    r"to be corrected\b": "box deltas, targets",
    r"mirror image|in a mirror|mirrored (image|picture)s?\b|looked at in": "horizontal flip, flip test",
    r"\b(is|are|was|were|be|been) looked at\b|\bhow (a|an|the) (picture|image) is looked": "inference, processed",
    r"looking through windows|looks? at whole (picture|image)s?": "sliding window; runs on whole images",
    r"\b(fitted|fit) into\b|\bfilled up\b": "resize, pad, letterbox",
    r"\bwhat it (has )?learned\b|\bwhat (is|was) learned\b|\bwhat goes on\b": "weights, training state, targets",
    r"\b(go|goes|going|gone|went) on with\b|\bgoes on from\b|\bgo on after\b": "resume",
    r"\bequali[sz]e[sd]?\b": "all_reduce, broadcast, sync",
    r"\b(write|writes|written|writing) down\b|drawing_graph|\bgraphs? (is|are|was|were) drawn": "export, trace",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bthere is no verb\b|\bthe verbs are\b": "unknown command X; choose from A, B",
    r"kept for scoring|kept out of training": "held out",
    r"\bto the bit\b": "bit for bit, bitwise identical",
    r"\bthat which\b": "a noun",
    r"\bwhat is said\b|\bis said of\b|\bwhich is said\b|\band that is said\b|\bhas to be said\b|\bsaid of (each|every|whole)": "output, prediction",
    r"\b(one|a) (file|folder|page|row|column|line|number|name|part|call|image|PNG|json|curve|word|table) an? (format|task|origin|class|verb|line|image|picture|runtime|codec|set|sample|step|model|box|row|process)\b": "per",
    r"\b(images?|crops?|samples?|steps?|batch(es)?|boxes|numbers?|times|millisecond|ms|seconds?|CPU|sign of life) an? (second|image|step|class|sample|picture|row|line)\b": "per",
    r"^\s*(#:? )?`?\w+`?: of (a|an|the|each|every|all|whole|what|its|one|two)\b": "an argument begins with a noun",
    r"\bthe less sure\b|\bnothing is held\b(?! out)|\bwishes\b|\ba wish\b|from whom\b|\bseen from there\b": "see WORDS",
    r"\bgaze\b|(?-i:\b_TOGETHER\b|\b_COUNTED\b|\b_AHEAD\b|\b_PART\b)|def (look|measure|together|each|agree|inside)\(": "the field's name",
    r"--part\b|\b(part|parts) `?(train|val|test)\b|\b(val|test|validation|training) parts?\b(?! of)|\bwithout parts\b": "split",
    r"\bthe images? and its mirror\b": "flip",
    r"\b\w*colour\w*|\b\w*normalis\w*|\bcentre[sd]?\b|\bgrey\b|\b\w*labell(ed|ing|er)\b(?!by)|\brecognis\w*|\boptimis\w*|\binitialis\w*|\bgeneralis\w*|\bneighbour\w*|\bbehaviour\w*|\bserialis\w*|\bsynchronis\w*|\bfavour\w*|\blicence\b|\bartefact\w*|\bminimis\w*|\bmaximis\w*|\borganis\w*|\bsummaris\w*|\binitialis\w*|\bvisualis\w*|\bcatalogue\b|\bquantis\w*": "American spelling",
}
# A sentence begins with its subject.
OPENINGS = re.compile(r"(?:^|[.:!?]\s+|\"\"\")(?:What|Of|That which) (?!(?:Is|is|are|does|do) .*\?)\w+")
PICTURE_LINES = 15
FILES = (
    "src/hrnet/**/*.py",
    "src/hrnet/**/*.html",
    "src/hrnet/**/*.css",
    "docs/*.md",
    "*.md",
)
# Printed by this file as a program, not tested.
MORE_FILES = ("tests/**/*.py", "benchmarks/*.py", "training/*.py")
HELP = (
    ("--help",),
    ("predict", "--help"),
    ("predict", "pose", "--help"),
    ("predict", "segmentation", "--help"),
    ("predict", "detection", "--help"),
    ("evaluate", "--help"),
    ("evaluate", "pose", "--help"),
    ("evaluate", "segmentation", "--help"),
    ("evaluate", "detection", "--help"),
    ("train", "--help"),
    ("train", "pose-own", "--help"),
    ("train", "segmentation-own", "--help"),
    ("train", "detection-own-mask", "--help"),
    ("train", "classification-own", "--help"),
    ("convert", "--help"),
    ("models", "--help"),
    ("recipes", "--help"),
    ("data", "check", "--help"),
    ("data", "show", "--help"),
    ("doctor", "--help"),
)


_PATTERNS = {re.compile(pattern, re.IGNORECASE): term for pattern, term in PHRASES.items()}


def _findings(name: str, text: str) -> Iterator[str]:
    """Yield one line per phrase in a text."""
    for number, line in enumerate(text.splitlines(), 1):
        if ALLOW in line:
            continue
        for pattern, term in _PATTERNS.items():
            if found := pattern.search(line):
                yield f"{name}:{number}: {found.group().strip()!r} -> {term}: {line.strip()[:100]}"
        if name.endswith(".md") and (found := OPENINGS.search(line)):
            yield f"{name}:{number}: a sentence begins with {found.group().strip()!r}: {line.strip()[:100]}"


def _texts(patterns: tuple[str, ...] = FILES) -> dict[str, str]:
    """Read every file of the project that people read."""
    paths = sorted({path for pattern in patterns for path in ROOT.glob(pattern)} - {Path(__file__)})
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def test_no_private_phrase_in_the_files():
    found = [line for name, text in _texts().items() for line in _findings(name, text)]
    assert not found, "\n".join(found)


def test_picture_means_a_photograph_shown_to_people():
    texts = {name: text for name, text in _texts().items() if name.startswith(("src/", "docs/", "README"))}
    lines = [
        f"{name}: {line.strip()}"
        for name, text in texts.items()
        for line in text.splitlines()
        if re.search("picture", line, re.I)
    ]
    assert len(lines) <= PICTURE_LINES, "\n".join(lines)


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_no_private_phrase_in_the_help(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(list(arguments))
    assert len(out.getvalue()) > 100
    found = list(_findings("hrnet " + " ".join(arguments), out.getvalue()))
    assert not found, "\n".join(found)


if __name__ == "__main__":
    for name, text in _texts(FILES + MORE_FILES).items():
        sys.stdout.writelines(line + "\n" for line in _findings(name, text))
