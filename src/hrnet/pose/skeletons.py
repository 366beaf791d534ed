"""Skeletons: names, links, left-right pairs and OKS sigmas of the published keypoint sets and of any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hrnet.formats import mpii
from hrnet.formats.sides import infer_pairs, words

# Source: the median of COCO's seventeen, used for all other keypoints.
UNKNOWN_OKS_SIGMA = 0.072
# Source: the COCO keypoint evaluation.
_SIGMA_OF_WORD = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062, "hip": 0.107,
    "knee": 0.087, "ankle": 0.089,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A set of keypoints."""

    names: tuple[str, ...]  # names of the keypoints, in the order of the network's outputs
    links: tuple[tuple[int, int], ...] = ()  # pairs of indices that a plot joins by a line
    pairs: tuple[tuple[int, int], ...] = ()  # indices of a left keypoint and of its right partner
    oks_sigmas: tuple[float, ...] = ()
    """standard deviation of the annotation of each keypoint, as a fraction of the object's size (COCO's convention)"""
    upper: tuple[int, ...] = ()  # indices of the upper body for the half-body augmentation; empty turns it off

    def __post_init__(self) -> None:
        count = len(self.names)
        if not count or len(set(self.names)) != count:
            raise ValueError(f"A skeleton needs at least one keypoint, each with its own name, not {self.names}.")
        indices = [index for pair in (*self.links, *self.pairs) for index in pair] + list(self.upper)
        if any(not 0 <= index < count for index in indices):
            raise ValueError(f"Links, pairs and upper keypoints are indices from 0 to {count - 1}: {self}.")
        paired = [index for pair in self.pairs for index in pair]
        if len(set(paired)) != len(paired):
            raise ValueError(f"A keypoint has at most one left-right partner: {self.pairs}.")
        if not self.oks_sigmas:
            object.__setattr__(self, "oks_sigmas", infer_oks_sigmas(self.names))
        if len(self.oks_sigmas) != count or min(self.oks_sigmas) <= 0:
            raise ValueError(f"{count} keypoints need {count} positive oks_sigmas, not {self.oks_sigmas}.")

    def __len__(self) -> int:
        return len(self.names)


def left_right(names: Sequence[str], joint: str) -> tuple[int, int] | None:
    """Return the indices of the left and the right keypoint of a joint, in any spelling; None without such a pair."""
    found = [pair for pair in infer_pairs(names) if joint in words(names[pair[0]])]
    return found[0] if len(found) == 1 else None


def infer_oks_sigmas(names: Sequence[str]) -> tuple[float, ...]:
    """Return COCO's value for the joints that COCO has, in any spelling, and the median of its seventeen for all others."""
    return tuple(
        next((_SIGMA_OF_WORD[word] for word in words(name) if word in _SIGMA_OF_WORD), UNKNOWN_OKS_SIGMA)
        for name in names
    )


def infer_upper(names: Sequence[str]) -> tuple[int, ...]:
    """Return the indices of a person's upper body by name; empty without a shoulder or without a lower body."""
    lower_words = {"hip", "knee", "ankle", "foot", "heel", "toe", "pelvis"}
    lower = [bool(lower_words & set(words(name))) for name in names]
    if not any("shoulder" in words(name) for name in names) or not any(lower):
        return ()
    return tuple(number for number in range(len(names)) if not lower[number])


# fmt: off
COCO = Skeleton(
    names=("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
           "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
           "right_ankle"),
    links=((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
           (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
    pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    upper=tuple(range(11)),
)

MPII = Skeleton(mpii.KEYPOINTS, mpii.LINKS, mpii.PAIRS, upper=tuple(range(7, 16)))

LSP = Skeleton(
    names=("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
           "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top"),
    links=((0, 1), (1, 2), (3, 4), (4, 5), (2, 3), (6, 7), (7, 8), (9, 10), (10, 11), (8, 9), (12, 13), (2, 8), (3, 9)),
    pairs=((5, 0), (4, 1), (3, 2), (11, 6), (10, 7), (9, 8)),
    upper=(6, 7, 8, 9, 10, 11, 12, 13),
)
# fmt: on
