"""Results on pictures. Oracles: closed forms of colours and sizes, distances in a colour space."""

from __future__ import annotations

import numpy as np
import pytest

from hrnet.colours import class_colours, distinct, oklab
from hrnet.results import Classification, SemanticMap
from hrnet.segmentation.spec import CITYSCAPES


@pytest.mark.parametrize("count", [1, 7, 21, 150, 255])
def test_colours_are_told_apart_however_many(count: int) -> None:
    """No two are closer than spheres would be that fill OKLab's colours of this lightness (a volume of about 0.03) to a
    tenth; and fewer classes have the first of the colours that more have."""
    colours = distinct(count)
    assert len({tuple(colour) for colour in colours.tolist()}) == count
    places = oklab(colours)
    distances = np.linalg.norm(places[:, None] - places, axis=-1) + 9 * np.eye(count)
    assert distances.min() > (0.1 * 0.03 / count / 4.19) ** (1 / 3)
    np.testing.assert_array_equal(colours, distinct(255)[:count])


def test_oklab_of_known_colours() -> None:
    """Source of the values: the publication's own table: white is 1, 0, 0; red 0.628, 0.225, 0.126."""
    found = oklab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], np.uint8))
    np.testing.assert_allclose(found, [[1, 0, 0], [0, 0, 0], [0.628, 0.225, 0.126]], atol=1e-3)


def test_cityscapes_has_its_own_colours_and_the_background_none() -> None:
    assert class_colours(CITYSCAPES)[[0, 10]].tolist() == [[128, 64, 128], [70, 130, 180]]
    assert class_colours(("sky", "Background", "thing")).tolist()[1] == [0, 0, 0]


@pytest.mark.parametrize("size", [(40, 60), (1, 1), (700, 30)])
def test_a_drawing_is_the_picture_and_a_legend(size: tuple[int, int]) -> None:
    """Painted in strips as in one piece: half the picture and half the colour inside, 85 % of the colour along outlines."""
    image = np.full((*size, 3), 100, np.uint8)
    labels = np.zeros(size, np.uint8)
    labels[size[0] // 2 :] = 1
    if size[0] > 1:
        labels[-1] = 255
    drawn = np.array(SemanticMap(labels, ("one_thing", "another"), image).plot())
    assert drawn.shape[1] == size[1]
    assert drawn.shape[0] > size[0]
    if size[0] > 1:
        np.testing.assert_array_equal(drawn[size[0] - 1], image[0])
        first, second = class_colours(("one_thing", "another")).astype(int)
        half = size[0] // 2
        np.testing.assert_allclose(drawn[half - 5, 0], 50 + 0.5 * first, atol=1)  # rounded
        np.testing.assert_allclose(drawn[half - 1, 0], 15 + 0.85 * first, atol=1)
        np.testing.assert_allclose(drawn[half, 0], 15 + 0.85 * second, atol=1)


def test_stored_labels_are_the_labels() -> None:
    labels = np.random.default_rng(0).integers(0, 9, (20, 30)).astype(np.uint8)
    labels[0] = 255
    picture = SemanticMap(labels, tuple("abcdefghi")).to_image()
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.array(picture), labels)


def test_a_classification_is_written_below_its_picture() -> None:
    image = np.full((50, 80, 3), 7, np.uint8)
    drawn = np.array(Classification(np.array([0.2, 0.8]), ("a", "b"), image).plot())
    np.testing.assert_array_equal(drawn[:50], image)
    assert drawn[50:].max() > 200
