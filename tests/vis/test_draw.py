"""Results on images. Oracles: closed forms of colors and sizes, distances in a color space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from hrnet.io.geometry import Frame
from hrnet.results import Classification, Detections, Masks, SemanticMap
from hrnet.segmentation.spec import CITYSCAPES
from hrnet.vis.colors import class_colors, distinct, oklab
from hrnet.vis.draw import LEFT, draw_boxes, draw_skeletons


@pytest.mark.parametrize("count", [1, 7, 21, 150, 255])
def test_colors_are_told_apart_however_many(count: int) -> None:
    """No two are closer than spheres would be that fill OKLab's colors of this lightness (a volume of about 0.03) to a
    tenth; and fewer classes have the first of the colors that more have."""
    colors = distinct(count)
    assert len({tuple(color) for color in colors.tolist()}) == count
    places = oklab(colors)
    distances = np.linalg.norm(places[:, None] - places, axis=-1) + 9 * np.eye(count)
    assert distances.min() > (0.1 * 0.03 / count / 4.19) ** (1 / 3)
    np.testing.assert_array_equal(colors, distinct(255)[:count])


def test_oklab_of_known_colors() -> None:
    """Source of the values: the publication's own table: white is 1, 0, 0; red 0.628, 0.225, 0.126."""
    found = oklab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], np.uint8))
    np.testing.assert_allclose(found, [[1, 0, 0], [0, 0, 0], [0.628, 0.225, 0.126]], atol=1e-3)


def test_cityscapes_has_its_own_colors_and_the_background_none() -> None:
    assert class_colors(CITYSCAPES)[[0, 10]].tolist() == [[128, 64, 128], [70, 130, 180]]
    assert class_colors(("sky", "Background", "thing")).tolist()[1] == [0, 0, 0]


@pytest.mark.parametrize("size", [(40, 60), (1, 1), (700, 30)])
def test_a_drawing_is_the_image_and_a_legend(size: tuple[int, int]) -> None:
    """Painted in strips as in one piece: half the image and half the color inside, 85 % of the color along outlines."""
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
        first, second = class_colors(("one_thing", "another")).astype(int)
        half = size[0] // 2
        np.testing.assert_allclose(drawn[half - 5, 0], 50 + 0.5 * first, atol=1)  # rounded
        np.testing.assert_allclose(drawn[half - 1, 0], 15 + 0.85 * first, atol=1)
        np.testing.assert_allclose(drawn[half, 0], 15 + 0.85 * second, atol=1)


def test_stored_labels_are_the_labels() -> None:
    labels = np.random.default_rng(0).integers(0, 9, (20, 30)).astype(np.uint8)
    labels[0] = 255
    image = SemanticMap(labels, tuple("abcdefghi")).to_image()
    assert image.mode == "P"
    np.testing.assert_array_equal(np.array(image), labels)


def test_a_classification_is_written_below_its_image() -> None:
    image = np.full((50, 80, 3), 7, np.uint8)
    drawn = np.array(Classification(np.array([0.2, 0.8]), ("a", "b"), image).plot())
    np.testing.assert_array_equal(drawn[:50], image)
    assert drawn[50:].max() > 200


PLAIN = np.full((80, 120, 3), 100, np.uint8)
SCENE = Detections(
    np.array([[10, 20, 60, 70], [40, 5, 100, 50.0]]),
    np.array([0.9, 0.2]),
    np.array([0, 1]),
    ("cat", "dog"),
    Masks((np.tile(np.arange(50) >= 20, (50, 1)), np.ones((45, 60), bool)), np.array([[10, 20], [40, 5]]), (80, 120)),
    PLAIN,
)


def drawn_boxes(result: Detections) -> Image.Image:
    shown = result.above(0.3)
    masks = None if shown.masks is None else (shown.masks.crops, shown.masks.corners)
    return draw_boxes(PLAIN, shown.boxes, shown.labels, shown.names, masks=masks)


def test_skeleton_pixels_have_the_color_of_their_side() -> None:
    """A left limb from (20, 20) to (100, 20): blue on the limb and both keypoints; a hidden keypoint draws nothing."""
    points, visible = np.array([[[20.0, 20], [100, 20], [60, 70]]]), np.array([[True, True, False]])
    drawn = np.array(draw_skeletons(PLAIN, points, visible, [(0, 1), (1, 2)], [(0, 2), (1, 2)]))
    for x in (20, 60, 100):
        # Lines are smoothed by a Lanczos filter, which overshoots by about a tenth of the step from white.
        np.testing.assert_allclose(drawn[20, x], LEFT, atol=40)
    assert (drawn[40:] == 100).all()


def test_boxes_lie_on_their_pixels_and_nowhere_else() -> None:
    """A box of 10 20 60 70 has the pixels 10 to 59 and 20 to 69; what is unsure is not drawn."""
    drawn = np.array(drawn_boxes(replace(SCENE, masks=None)))
    changed = (drawn != 100).any(-1)
    assert (np.flatnonzero(changed.any(0))[[0, -1]] == [10, 59]).all()
    assert (np.flatnonzero(changed.any(1))[[0, -1]] == [20, 69]).all()
    np.testing.assert_array_equal(drawn[20, 10:60], np.broadcast_to(class_colors(SCENE.names)[0], (50, 3)))
    assert not changed[30:60, 20:50].any()


def test_masks_are_half_in_their_color() -> None:
    """Half the image and half the color inside, 85 % of the color along the outline; not of what is unsure."""
    drawn = np.array(drawn_boxes(SCENE))
    color = class_colors(SCENE.names)[0].astype(int)
    np.testing.assert_allclose(drawn[45, 40], 50 + 0.5 * color, atol=1)  # rounded
    np.testing.assert_allclose(drawn[45, 30], 15 + 0.85 * color, atol=1)
    assert (drawn[10, 90] == 100).all()


@pytest.mark.parametrize("size", [(1, 1), (9, 400), (600, 8)])
def test_boxes_and_their_words_fit_any_image(size: tuple[int, int]) -> None:
    """Also boxes beyond it, inside out by rounding, or of no size."""
    boxes = np.array([[-50, -50, 1e4, 1e4], [3.2, 3.2, 3.4, 3.4], [0.6, 0.6, 0.6, 0.6]])
    result = Detections(
        boxes, np.ones(3), np.zeros(3, int), ("a very long name of a class",), None, np.zeros((*size, 3), np.uint8)
    )
    assert result.plot().size == (size[1], size[0])


def test_objects_are_drawn_side_by_side() -> None:
    """At half the size: a box and its mask keep half their pixels, and what should be found is marked in the second."""
    frame = Frame.resize((80, 120), (40, 60))
    ground_truth, found = (np.array(one) for one in SCENE[[1]].plot_pair(SCENE[[0]], PLAIN, frame))
    first, second = ((one != 100).any(-1) for one in (ground_truth, found))
    assert (np.flatnonzero(first.any(0))[[0, -1]] == [20, 49]).all()
    assert (np.flatnonzero(first.any(1))[[0, -1]] == [2, 24]).all()  # 2.5 and 25, to the even
    assert (np.flatnonzero(second.any(0))[[0, -1]] == [5, 49]).all()
    assert SCENE.color_key() == [("cat", "#e67800"), ("dog", "#1e88e5")]
