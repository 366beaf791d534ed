"""Oracle: the answer a person would give."""

import pytest

from hrnet.formats.sides import infer_pairs
from hrnet.pose.skeletons import COCO, LSP, MPII, Skeleton, infer_oks_sigmas, infer_upper


@pytest.mark.parametrize("skeleton", [COCO, LSP, MPII])
def test_names_alone_give_the_published_pairs(skeleton: Skeleton) -> None:
    assert sorted(infer_pairs(skeleton.names)) == sorted(skeleton.pairs)


@pytest.mark.parametrize("skeleton", [COCO, LSP])
def test_names_alone_give_the_published_upper_body(skeleton: Skeleton) -> None:
    assert infer_upper(skeleton.names) == tuple(sorted(skeleton.upper))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_eye", "right_eye"),
        ("l-paw", "r-paw"),
        ("kneeL", "kneeR"),
        ("EyeLeft", "EyeRight"),
        ("leftear", "rightear"),
        ("Left Ear", "Right Ear"),
        ("paw_1_L", "paw_1_R"),
        ("LEye", "REye"),
    ],
)
def test_spellings_of_left_and_right(left: str, right: str) -> None:
    assert infer_pairs(["snout", right, left, "tailbase"]) == ((2, 1),)


def test_no_sides_no_pairs() -> None:
    assert infer_pairs(["snout", "tail_1", "tail_2", "lip", "rim"]) == ()


def test_sigmas_follow_the_word() -> None:
    assert infer_oks_sigmas(["LeftWrist", "r_hip", "tail"]) == (0.062, 0.107, 0.072)


@pytest.mark.parametrize(
    "fields",
    [
        {"names": ()},
        {"names": ("a", "a")},
        {"names": ("a", "b"), "links": ((0, 2),)},
        {"names": ("a", "b", "c"), "pairs": ((0, 1), (1, 2))},
        {"names": ("a", "b"), "oks_sigmas": (0.1,)},
    ],
)
def test_inconsistent_skeletons_are_refused(fields: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ValueError, match=r"name|ndices|partner|sigmas"):
        Skeleton(**fields)  # type: ignore[arg-type]  # wrong on purpose
