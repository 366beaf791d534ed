"""Left and right in the names of keypoints."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_JOINTS = ("nose", "eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "hand", "foot", "paw", "toe", "heel",
           "finger", "wing", "leg", "arm")  # fmt: skip

# A left keypoint and its right partner differ in one word, in one letter that stands alone as L or R, or in the two of
# an animal's front and hind legs.
_SIDES = (("left", "right"), ("l", "r"), ("fl", "fr"), ("hl", "hr"), ("bl", "br"), ("rl", "rr"))


def infer_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return left-right pairs by name: left_eye and right_eye, l-paw and r-paw, kneeL and kneeR, EyeLeft and EyeRight."""
    index = {words(name): number for number, name in reversed(list(enumerate(names)))}
    pairs: list[tuple[int, int]] = []
    taken: set[int] = set()
    for number, name in enumerate(names):
        for partner_words in _right_names(words(name)):
            partner = index.get(partner_words)
            if partner is not None and not {number, partner} & taken:
                pairs.append((number, partner))
                taken |= {number, partner}
    return tuple(pairs)


def _right_names(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield possible names of the right partner of a left keypoint, as words, the most likely first."""
    for left, right in _SIDES:
        for place, word in enumerate(words):
            if word == left:
                yield (*words[:place], right, *words[place + 1 :])
    # lhip and rhip, hipl and hipr: only where the rest is a joint, as tail is no left tai.
    for place, word in enumerate(words):
        if word[:1] == "l" and word[1:] in _JOINTS:
            yield (*words[:place], f"r{word[1:]}", *words[place + 1 :])
        if word[-1:] == "l" and word[:-1] in _JOINTS:
            yield (*words[:place], f"{word[:-1]}r", *words[place + 1 :])


def unpaired(names: Sequence[str]) -> list[str]:
    """Return names with left or right whose partner is missing."""
    paired = {place for pair in infer_pairs(names) for place in pair}
    sides = {side for pair in _SIDES for side in pair}
    return [
        name
        for place, name in enumerate(names)
        if place not in paired and len(words(name)) > 1 and sides & set(words(name))
    ]


def words(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case, under any spelling."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    # leftear, rightear: the side without a border.
    spaced = re.sub(r"\b(left|right)(?=[a-z])", r"\1 ", spaced.lower().replace("_", " "))
    return tuple(re.findall(r"[a-z]+|\d+", spaced))
