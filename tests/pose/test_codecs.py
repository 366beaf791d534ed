"""Oracles: outputs of the published pose code and of mmpose (tests/golden), and closed forms."""

from pathlib import Path

import numpy as np
import pytest

from hrnet.io.geometry import Frame, flip_points
from hrnet.pose.codecs import ClassicCodec, UdpCodec, make_codec
from hrnet.pose.processor import oks_nms
from hrnet.pose.skeletons import COCO
from hrnet.pose.spec import CodecSpec

GOLDEN = Path(__file__).parents[1] / "golden"
PROTOCOL = dict(np.load(GOLDEN / "pose-protocol.npz"))
CODECS = dict(np.load(GOLDEN / "pose-codecs.npz"))
SIZE = (256, 192)


def codec_spec(kind: str, **fields: bool) -> CodecSpec:
    return CodecSpec(**{"kind": kind, **fields})


def codec_of(
    kind: str, size: tuple[int, int] = SIZE, pairs: tuple[tuple[int, int], ...] = (), **fields: bool
) -> ClassicCodec:
    codec = make_codec(codec_spec(kind, **fields), size, pairs)
    assert isinstance(codec, ClassicCodec)
    return codec


KINDS = {"msra": CodecSpec("classic", per_axis=True), "dark": CodecSpec("dark"), "udp": CodecSpec("udp")}


def crop(row: np.ndarray, size: tuple[int, int], rotation: float) -> Frame:
    """The published scale is in units of 200 pixels and only its width counts."""
    x, y, scale = map(float, row[:3])
    return Frame.around((x, y), 200 * scale, size, (480, 640), rotation=float(rotation))


@pytest.mark.parametrize("size", [(256, 192), (384, 288), (256, 256)])
def test_crops_are_the_published_affine_maps(size: tuple[int, int]) -> None:
    name = f"{size[0]}x{size[1]}"
    for row, angle, expected in zip(
        PROTOCOL[f"centre_scale_{name}"], PROTOCOL["rotation_degrees"], PROTOCOL[f"to_input_{name}"], strict=True
    ):
        # The published code goes through float32 points: entries of a few hundred pixels keep 1e-3.
        np.testing.assert_allclose(crop(row, size, angle).matrix, expected, atol=1e-3)


def test_keypoints_are_the_published_ones() -> None:
    codec = make_codec(CodecSpec(), SIZE, COCO.pairs)
    points, scores = codec.decode(PROTOCOL["heatmaps"].astype(np.float32))
    for index, row in enumerate(PROTOCOL["centre_scale_256x192"][:6]):
        found = crop(row, SIZE, 0).to_source(points[index].astype(np.float64))
        np.testing.assert_allclose(found, PROTOCOL["keypoints"][index], atol=1e-3)  # float32 in the reference
    np.testing.assert_array_equal(scores, PROTOCOL["scores"][..., 0])


def test_targets_are_the_published_ones() -> None:
    codec = make_codec(CodecSpec(), SIZE, COCO.pairs)
    heatmaps, weights = codec.encode(PROTOCOL["joints"], PROTOCOL["visible"])
    np.testing.assert_allclose(heatmaps, PROTOCOL["targets"], atol=1e-6)  # float32 rounding of exp
    np.testing.assert_array_equal(weights, PROTOCOL["target_weights"][..., 0])


def test_mirrored_heatmaps_come_back_as_published() -> None:
    mirrored = PROTOCOL["heatmaps"][:1].astype(np.float32)
    codec = ClassicCodec(CodecSpec(flip_shift=False), SIZE, COCO.pairs)
    np.testing.assert_array_equal(codec.flip_back(mirrored), PROTOCOL["heatmaps_flipped_back"])
    shifted = ClassicCodec(CodecSpec(), SIZE, COCO.pairs).flip_back(mirrored)
    np.testing.assert_array_equal(shifted[..., 1:], PROTOCOL["heatmaps_flipped_back"][..., :-1])
    np.testing.assert_array_equal(shifted[..., 0], PROTOCOL["heatmaps_flipped_back"][..., 0])


def test_mirrored_keypoints_are_the_published_ones() -> None:
    # The published code moves labeled keypoints only; the image of the golden file is 192 wide.
    labeled = PROTOCOL["visible_flipped"] > 0
    found = flip_points(PROTOCOL["joints"], 192, COCO.pairs)
    np.testing.assert_allclose(found[labeled], PROTOCOL["joints_flipped"][labeled], atol=1e-9)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9])
def test_oks_nms_keeps_the_published_poses(threshold: float) -> None:
    keep = oks_nms(
        PROTOCOL["nms_keypoints"][..., :2],
        PROTOCOL["nms_scores"],
        PROTOCOL["nms_areas"],
        np.array(COCO.oks_sigmas),
        threshold,
    )
    np.testing.assert_array_equal(keep, PROTOCOL[f"nms_keep_{threshold}"])


@pytest.mark.parametrize("name", KINDS)
def test_targets_are_those_of_mmpose(name: str) -> None:
    codec = make_codec(KINDS[name], SIZE)
    heatmaps, weights = codec.encode(CODECS["keypoints_input_px"], CODECS["visible"])
    np.testing.assert_allclose(heatmaps, CODECS[f"{name}_targets"], atol=1e-5)  # float32 exp in the reference
    np.testing.assert_array_equal(weights, CODECS[f"{name}_weights"])


@pytest.mark.parametrize("name", KINDS)
def test_decoded_points_are_those_of_mmpose(name: str) -> None:
    codec = make_codec(KINDS[name], SIZE)
    points, scores = codec.decode(CODECS["heatmaps"].astype(np.float32))
    expected = CODECS[f"{name}_decoded_input_px"]
    if name == "udp":
        # mmpose stretches the points to the whole width here and shrinks them again on the way to the image.
        expected = expected * (np.array(SIZE[::-1]) - 1) / np.array(SIZE[::-1])
    np.testing.assert_allclose(points, expected, atol=1e-2)  # float32 logarithms, times the stride
    np.testing.assert_array_equal(scores, CODECS[f"{name}_scores"])


# The classic target is a Gaussian around the rounded place, whose neighbors are equal, so that the quarter offset adds
# nothing: half a heatmap pixel, two of the input. The Taylor step is exact for a Gaussian but for its cut tails.
@pytest.mark.parametrize(("kind", "tolerance"), [("classic", 2.0), ("dark", 0.05), ("udp", 0.25)])
@pytest.mark.parametrize("size", [(256, 192), (192, 160), (128, 96)])
def test_encoding_and_decoding_come_back(kind: str, tolerance: float, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(24, np.array(size[::-1]) - 24, (40, 5, 2))
    codec = codec_of(kind, size)
    heatmaps, weights = codec.encode(points, np.ones((40, 5)))
    found, scores = codec.decode(heatmaps)
    assert weights.all()
    assert (scores > 0.8).all()
    assert np.abs(found - points).max() <= tolerance


@pytest.mark.parametrize("kind", ["classic", "dark", "udp"])
def test_a_batch_of_one_is_a_row_of_a_batch(kind: str) -> None:
    heatmaps = np.random.default_rng(0).random((4, 3, 64, 48), np.float32)
    codec = codec_of(kind)
    points, _ = codec.decode(heatmaps)
    for row in range(4):
        # Smoothing may sum in another order for another batch.
        np.testing.assert_allclose(codec.decode(heatmaps[row : row + 1])[0][0], points[row], atol=1e-3)


def test_udp_mirrors_without_a_shift() -> None:
    """The heatmap of a mirrored keypoint, mirrored back, is the keypoint's own: what `udp` is for."""
    codec = UdpCodec(CodecSpec("udp"), SIZE, ((0, 1),))
    points = np.array([[[50.3, 80.2], [120.9, 33.1]]])
    mirrored = flip_points(points, SIZE[1], ((0, 1),))
    straight, _ = codec.encode(points, np.ones((1, 2)))
    turned, _ = codec.encode(mirrored, np.ones((1, 2)))
    np.testing.assert_allclose(codec.flip_back(turned), straight, atol=1e-6)


def test_nothing_found_is_the_origin_with_score_zero() -> None:
    for kind in ("classic", "dark", "udp"):
        points, scores = codec_of(kind).decode(np.zeros((1, 2, 64, 48), np.float32))
        assert not points.any()
        assert not scores.any()


@pytest.mark.parametrize("size", [(256, 192), (128, 96)])
@pytest.mark.parametrize(
    ("kind", "border", "near", "deep"),
    [
        # Rounding to a heatmap pixel costs half of it, two pixels; the last quarter of a heatmap pixel before the far
        # border rounds to a column that is not there, which costs half of one more, less what the input lacks of it.
        ("classic", 3.0, 2.0, 2.0),
        # The same at the border, where there is no second derivative; further in smoothing cuts the Gaussian's tail, and
        # away from that the Taylor step is exact for a Gaussian but for float32.
        ("dark", 3.0, 0.5, 0.002),
        # Smoothing counts what is beyond the border as 0, which moves a peak there by a whole heatmap pixel (4.15 here).
        ("udp", 4.2, 0.5, 0.001),
    ],
)
def test_every_place_up_to_the_border_comes_back(
    kind: str, border: float, near: float, deep: float, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, np.array(size[::-1]) - 1, (400, 3, 2))
    codec = codec_of(kind, size)
    found, scores = codec.decode(codec.encode(points, np.ones((400, 3)))[0])
    error = np.abs(found - points).max(-1)
    place = points / codec.stride
    depth = np.minimum(place, np.array(codec.heatmap_size[::-1]) - 1 - place).min(-1)
    assert error.max() <= border
    assert error[depth > 2.5].max() <= near
    assert (depth > 8).sum() > 50
    assert error[depth > 8].max() <= deep
    # The sampled height of a Gaussian half a heatmap pixel off in both directions, or less.
    assert (scores[depth > 0] >= np.exp(-0.25 / 4) - 1e-6).all()


@pytest.mark.parametrize("kind", ["dark", "udp"])
def test_a_keypoint_that_is_not_there_stays_near_its_peak(kind: str) -> None:
    """Noise is nearly flat in places, where one Newton step may lead anywhere; the released code follows it."""
    heatmaps = 0.05 * np.random.default_rng(0).standard_normal((20, 5, 64, 48), np.float32)
    codec = codec_of(kind)
    points, _ = codec.decode(heatmaps)
    place = heatmaps.reshape(20, 5, -1).argmax(-1)
    peaks = np.stack([place % 48, place // 48], -1)
    assert np.abs(points / codec.stride - peaks).max() <= 2 + 1e-4  # the limit, and float32


@pytest.mark.parametrize("kind", ["classic", "dark", "udp"])
def test_negative_heatmaps_find_nothing(kind: str) -> None:
    codec = codec_of(kind)
    points, scores = codec.decode(-np.random.default_rng(0).random((2, 3, 64, 48), np.float32) - 0.1)
    assert not points.any()  # and not nan, which counts as any
    assert (scores < 0).all()


def test_what_is_far_outside_or_unlabeled_is_not_learned() -> None:
    points = np.array([[[50.0, 60.0], [-25.0, 60.0], [-31.0, 60.0], [500.0, 60.0], [50.0, 60.0]]])
    heatmaps, weights = make_codec(CodecSpec(), SIZE).encode(points, np.array([[1.0, 2, 1, 1, 0]]))
    # Three sigma are six heatmap pixels: -25 rounds to -5 (truncated from -5.75), whose Gaussian reaches in; -31 to -7.
    assert weights.tolist() == [[1, 1, 1, 0, 0]]
    assert (heatmaps.max((-2, -1)) > 0).tolist() == [[True, True, False, False, False]]
    assert heatmaps[0, 0, 15, 13] == 1


def test_mirroring_the_input_mirrors_the_targets() -> None:
    """Between pixel centers: a keypoint of the mirrored crop has the mirrored heatmap, of its partner."""
    for kind in ("dark", "udp"):
        codec = codec_of(kind, SIZE, ((0, 1),), flip_shift=False)
        points = np.array([[[52.0, 80.0], [120.0, 32.0]]])
        # Mirrored about the middle of the heatmap: width - 4 - x counts input pixels from heatmap pixel to heatmap pixel.
        mirrored = np.array([[[188.0, 0.0]]]) + points[:, ::-1] * np.array([-1.0, 1.0])
        if kind == "udp":
            mirrored = flip_points(points, SIZE[1], ((0, 1),))
        straight, _ = codec.encode(points, np.ones((1, 2)))
        turned, _ = codec.encode(mirrored, np.ones((1, 2)))
        np.testing.assert_allclose(codec.flip_back(turned), straight, atol=1e-6)
