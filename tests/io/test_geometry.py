"""The affine record of every crop. Oracles: closed forms, and images whose color says where each pixel is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet.engine.photometric import recolor
from hrnet.io.geometry import Frame, clip_boxes, flip_order, flip_points, warp

# The same examples in every run, on a machine of any speed.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

SOURCE = (120, 160)
SIZES = st.tuples(st.integers(2, 300), st.integers(2, 300))


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    return Frame.around(
        (draw(st.floats(-50, 200)), draw(st.floats(-50, 200))),
        draw(st.floats(1, 1000)),
        draw(SIZES),
        SOURCE,
        rotation=draw(st.floats(-180, 180)),
        flip=draw(st.booleans()),
        unbiased=draw(st.booleans()),
    )


@given(frames(), st.lists(st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=1, max_size=5))
def test_points_come_back(frame: Frame, values: list[tuple[float, float]]) -> None:
    points = np.array(values)
    # Doubles of a few hundred, times a scale of at most 300: 1e-9 is a thousand roundings.
    np.testing.assert_allclose(frame.to_source(frame.to_input(points)), points, atol=1e-9)


@given(frames())
def test_a_crop_has_one_scale_and_keeps_angles(frame: Frame) -> None:
    turn = frame.matrix[:, :2] / frame.scale
    np.testing.assert_allclose(turn @ turn.T, np.eye(2), atol=1e-9)  # orthogonal: rounding alone


@given(st.floats(0, 160), st.floats(0, 120), st.floats(5, 400), SIZES, st.floats(-180, 180))
def test_the_center_comes_to_the_middle_and_the_span_to_the_width(
    x: float, y: float, span: float, size: tuple[int, int], rotation: float
) -> None:
    for unbiased in (False, True):
        frame = Frame.around((x, y), span, size, SOURCE, rotation=rotation, unbiased=unbiased)
        extent = 1 if unbiased else 0
        middle = (np.array([size[1], size[0]]) - extent) / 2
        np.testing.assert_allclose(frame.to_input(np.array([[x, y]]))[0], middle, atol=1e-9)
        assert frame.scale == pytest.approx((size[1] - extent) / span)


def test_content_turns_counter_clockwise() -> None:
    """A point right of the center comes above it when the content turns by 90 degrees."""
    frame = Frame.around((50, 50), 100, (100, 100), SOURCE, rotation=90)
    np.testing.assert_allclose(frame.to_input(np.array([[60.0, 50.0]])), [[50, 40]], atol=1e-9)


@given(frames(), st.floats(-300, 300), st.floats(-300, 300))
def test_a_mirrored_frame_mirrors_the_input(frame: Frame, x: float, y: float) -> None:
    """Oracle: x becomes width - x of the same crop (width - 1 - x, counted between pixel centers)."""
    for unbiased in (False, True):
        plain, mirrored = (
            Frame.around((40, 30), 90, frame.size, SOURCE, rotation=20, flip=flip, unbiased=unbiased)
            for flip in (False, True)
        )
        before, after = plain.to_input(np.array([[x, y]])), mirrored.to_input(np.array([[x, y]]))
        width = frame.size[1] - (1 if unbiased else 0)
        np.testing.assert_allclose(after, [[width - before[0, 0], before[0, 1]]], atol=1e-9)


@given(SIZES, SIZES)
def test_resizing_puts_edges_on_edges(source: tuple[int, int], size: tuple[int, int]) -> None:
    frame = Frame.resize(source, size)
    corners = np.array([[-0.5, -0.5], [source[1] - 0.5, source[0] - 0.5]])
    np.testing.assert_allclose(frame.to_input(corners), [[-0.5, -0.5], [size[1] - 0.5, size[0] - 0.5]], atol=1e-9)


def gradient(height: int, width: int) -> np.ndarray:
    """Red grows along x and green along y, one step a pixel."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([x, y, np.full_like(x, 77)], -1).astype(np.uint8)


@pytest.mark.parametrize("rotation", [0.0, 33.0, -120.0])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("span", "antialias"), [(90, False), (40, True), (110, True), (200, True)])
def test_a_gradient_shows_where_each_pixel_was_read(rotation: float, flip: bool, span: float, antialias: bool) -> None:
    image = gradient(200, 240)
    frame = Frame.around((111.3, 95.7), span, (48, 36), (200, 240), rotation=rotation, flip=flip)
    found = warp(image, frame, antialias=antialias).astype(float)
    columns, rows = np.meshgrid(np.arange(36), np.arange(48))
    place = frame.to_source(np.stack([columns, rows], -1).reshape(-1, 2)).reshape(48, 36, 2)
    # Away from the border, where a blend with black begins, also of whole blocks.
    margin = 2 * max(int(1 / frame.scale), 1)
    inside = (place >= margin).all(-1) & (place <= np.array([239, 199]) - margin).all(-1)
    assert inside.sum() > 500
    # OpenCV reads at 1/32 pixel and rounds to whole values; averaging over blocks rounds once more, and a block's
    # position is then read at 1/32 of the block.
    tolerance = 0.55 + (0.5 + margin / 64 if margin > 2 else 1 / 32)
    assert np.abs(found[..., :2] - place)[inside].max() <= tolerance
    assert (found[..., 2][inside] == 77).all()


def test_beyond_the_image_is_black() -> None:
    frame = Frame.around((0, 60), 40, (40, 40), SOURCE)
    found = warp(np.full((*SOURCE, 3), 200, np.uint8), frame)
    assert (found[:, :19] == 0).all()
    assert (found[:, 21:] == 200).all()


@pytest.mark.parametrize("side", [60, 61, 67])
def test_averaging_blocks_reaches_the_last_pixel(side: int) -> None:
    """The last block of a row need not be whole; a white image stays white up to its edge."""
    frame = Frame.resize((side, side), (9, 9))
    assert (warp(np.full((side, side, 3), 255, np.uint8), frame)[1:-1, 1:-1] == 255).all()


def test_averaging_blocks_keeps_the_mean_of_noise() -> None:
    """Oracle: the mean of 0 and 255 in equal parts; skipping pixels would leave single blacks and whites."""
    noise = np.where(np.random.default_rng(0).random((640, 640, 1)) < 0.5, 0, 255).repeat(3, 2).astype(np.uint8)
    frame = Frame.around((320, 320), 512, (32, 32), (640, 640))
    # 16 x 16 values: a deviation of 8, of which four stay below 40.
    assert np.abs(warp(noise, frame).astype(float) - 127.5).max() < 40
    assert np.abs(warp(noise, frame, antialias=False).astype(float) - 127.5).max() > 100


def test_images_wider_than_sixteen_bits_are_read_where_the_frame_looks() -> None:
    """Older releases of OpenCV alone lose their way beyond column 32767. Oracle: each column's own color."""
    image = np.zeros((4, 60000, 3), np.uint8)
    image[:] = ((np.arange(60000) // 100) % 256)[None, :, None]
    for column in (20050, 40050, 59950):
        found = warp(image, Frame.around((column, 2), 16, (4, 16), (4, 60000)))
        assert (found[2] == (column // 100) % 256).all()


def test_points_of_the_mirrored_image() -> None:
    points = np.array([[0.0, 5.0], [9.0, 6.0], [3.5, 7.0]])
    np.testing.assert_array_equal(flip_points(points, 10, ((0, 1),)), [[0, 6], [9, 5], [5.5, 7]])
    assert flip_order(4, ((0, 3),)) == [3, 1, 2, 0]


@given(st.integers(1, 500), st.lists(st.floats(-100, 600), min_size=8, max_size=8))
def test_mirroring_twice_changes_nothing(width: int, values: list[float]) -> None:
    points = np.array(values).reshape(4, 2)
    pairs = ((0, 1), (3, 2))
    np.testing.assert_allclose(flip_points(flip_points(points, width, pairs), width, pairs), points, atol=1e-9)


def test_boxes_are_cut_at_the_borders() -> None:
    boxes = np.array([[-5.0, 3.0, 20.0, 300.0], [170.0, 0.0, 180.0, 10.0]])
    np.testing.assert_array_equal(clip_boxes(boxes, SOURCE), [[0, 3, 20, 120], [160, 0, 160, 10]])


@given(frames())
def test_outside_is_what_shows_nothing_of_the_image(frame: Frame) -> None:
    """Oracle: a white image on black, warped. Pixels at the edge, which blend both, may count as either."""
    white = np.full((*frame.source_size, 3), 255, np.uint8)
    warped = warp(white, frame, antialias=False)[..., 0]
    outside = frame.outside()
    outside = np.zeros(frame.size, bool) if outside is None else outside
    assert (warped[outside] <= 255 * 0.6).all()
    assert outside[warped == 0].all()


@pytest.mark.parametrize("rotation", [0.0, 30.0])
def test_color_augmentation_leaves_the_outside_as_it_is(rotation: float) -> None:
    image = np.full((40, 60, 3), 200, np.uint8)
    frame = Frame.around((30.0, 20.0), 120.0, (96, 128), (40, 60), rotation=rotation)
    outside = frame.outside()
    assert outside is not None
    assert 0.3 < outside.mean() < 0.95
    for fill in ((0, 0, 0), (124, 116, 104)):
        crop = recolor(warp(image, frame, fill=fill), 0.5, np.random.default_rng(1), frame, fill)
        assert (crop[outside] == fill).all()
        assert (crop[48, 64] != 200).any()
