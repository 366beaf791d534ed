"""Oracles: outputs of the published pose code and of mmpose (tests/golden), and closed forms."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hrnet.geometry import Frame, flip_points
from hrnet.pose.heatmap import HeatmapCodec
from hrnet.pose.model import oks_nms
from hrnet.pose.skeletons import COCO
from hrnet.pose.spec import CodecSpec

GOLDEN = Path(__file__).parents[1] / "golden"
PROTOCOL = dict(np.load(GOLDEN / "pose-protocol.npz"))
CODECS = dict(np.load(GOLDEN / "pose-codecs.npz"))
SIZE = (256, 192)
KINDS = {"msra": CodecSpec("classic", per_axis=True), "dark": CodecSpec("dark"), "udp": CodecSpec("udp")}


def crop(row: np.ndarray, size: tuple[int, int], rotation: float) -> Frame:
    """The published scale is in units of 200 pixels and only its width counts."""
    return Frame.around((row[0], row[1]), 200 * row[2], size, (480, 640), rotation=rotation)


@pytest.mark.parametrize("size", [(256, 192), (384, 288), (256, 256)])
def test_crops_are_the_published_affine_maps(size: tuple[int, int]) -> None:
    name = f"{size[0]}x{size[1]}"
    for row, angle, expected in zip(
        PROTOCOL[f"centre_scale_{name}"], PROTOCOL["rotation_degrees"], PROTOCOL[f"to_input_{name}"], strict=True
    ):
        # The published code goes through float32 points: entries of a few hundred pixels keep 1e-3.
        np.testing.assert_allclose(crop(row, size, angle).matrix, expected, atol=1e-3)


def test_keypoints_are_the_published_ones() -> None:
    codec = HeatmapCodec(CodecSpec(), SIZE, COCO.pairs)
    points, scores = codec.decode(torch.from_numpy(PROTOCOL["heatmaps"].astype(np.float32)))
    for index, row in enumerate(PROTOCOL["centre_scale_256x192"][:6]):
        found = crop(row, SIZE, 0).to_source(points[index].double().numpy())
        np.testing.assert_allclose(found, PROTOCOL["keypoints"][index], atol=1e-3)  # float32 in the reference
    np.testing.assert_array_equal(scores.numpy(), PROTOCOL["scores"][..., 0])


def test_targets_are_the_published_ones() -> None:
    codec = HeatmapCodec(CodecSpec(), SIZE, COCO.pairs)
    heatmaps, weights = codec.encode(torch.from_numpy(PROTOCOL["joints"]), torch.from_numpy(PROTOCOL["visible"]))
    np.testing.assert_allclose(heatmaps.numpy(), PROTOCOL["targets"], atol=1e-6)  # float32 rounding of exp
    np.testing.assert_array_equal(weights.numpy(), PROTOCOL["target_weights"][..., 0])


def test_mirrored_heatmaps_come_back_as_published() -> None:
    mirrored = torch.from_numpy(PROTOCOL["heatmaps"][:1].astype(np.float32))
    codec = HeatmapCodec(CodecSpec(flip_shift=False), SIZE, COCO.pairs)
    np.testing.assert_array_equal(codec.flip_back(mirrored).numpy(), PROTOCOL["heatmaps_flipped_back"])
    shifted = HeatmapCodec(CodecSpec(), SIZE, COCO.pairs).flip_back(mirrored).numpy()
    np.testing.assert_array_equal(shifted[..., 1:], PROTOCOL["heatmaps_flipped_back"][..., :-1])
    np.testing.assert_array_equal(shifted[..., 0], PROTOCOL["heatmaps_flipped_back"][..., 0])


def test_mirrored_keypoints_are_the_published_ones() -> None:
    # The published code moves labelled keypoints only; the picture of the golden file is 192 wide.
    labelled = PROTOCOL["visible_flipped"] > 0
    found = flip_points(PROTOCOL["joints"], 192, COCO.pairs)
    np.testing.assert_allclose(found[labelled], PROTOCOL["joints_flipped"][labelled], atol=1e-9)


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
    codec = HeatmapCodec(KINDS[name], SIZE)
    heatmaps, weights = codec.encode(
        torch.from_numpy(CODECS["keypoints_input_px"]), torch.from_numpy(CODECS["visible"])
    )
    np.testing.assert_allclose(heatmaps.numpy(), CODECS[f"{name}_targets"], atol=1e-5)  # float32 exp in the reference
    np.testing.assert_array_equal(weights.numpy(), CODECS[f"{name}_weights"])


@pytest.mark.parametrize("name", KINDS)
def test_decoded_points_are_those_of_mmpose(name: str) -> None:
    codec = HeatmapCodec(KINDS[name], SIZE)
    points, scores = codec.decode(torch.from_numpy(CODECS["heatmaps"].astype(np.float32)))
    expected = CODECS[f"{name}_decoded_input_px"]
    if name == "udp":
        # mmpose stretches the points to the whole width here and shrinks them again on the way to the picture.
        expected = expected * (np.array(SIZE[::-1]) - 1) / np.array(SIZE[::-1])
    np.testing.assert_allclose(points.numpy(), expected, atol=1e-2)  # float32 logarithms, times the stride
    np.testing.assert_array_equal(scores.numpy(), CODECS[f"{name}_scores"])


# A quarter offset leaves at most 3/8 of a heatmap pixel: the peak is rounded (1/2), then moved by 1/4 towards the truth,
# or away from it by 1/4 at the middle of a pixel. The Taylor step is exact for a Gaussian but for its cut tails.
@pytest.mark.parametrize(("kind", "tolerance"), [("classic", 2.0), ("dark", 0.05), ("udp", 0.25)])
@pytest.mark.parametrize("size", [(256, 192), (192, 160), (128, 96)])
def test_encoding_and_decoding_come_back(kind: str, tolerance: float, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(24, np.array(size[::-1]) - 24, (40, 5, 2)))
    codec = HeatmapCodec(CodecSpec(kind), size)  # type: ignore[arg-type]  # the parameters are the three kinds
    heatmaps, weights = codec.encode(points, torch.ones(40, 5))
    found, scores = codec.decode(heatmaps)
    assert weights.all()
    assert (scores > 0.8).all()
    assert (found - points).abs().max() <= tolerance


@pytest.mark.parametrize("kind", ["classic", "dark", "udp"])
def test_a_batch_of_one_is_a_row_of_a_batch(kind: str) -> None:
    heatmaps = torch.rand(4, 3, 64, 48)
    codec = HeatmapCodec(CodecSpec(kind), SIZE)  # type: ignore[arg-type]  # as above
    points, _ = codec.decode(heatmaps)
    for row in range(4):
        # Smoothing may sum in another order for another batch.
        torch.testing.assert_close(codec.decode(heatmaps[row : row + 1])[0][0], points[row], atol=1e-3, rtol=0)


def test_udp_mirrors_without_a_shift() -> None:
    """The heatmap of a mirrored keypoint, mirrored back, is the keypoint's own: what `udp` is for."""
    codec = HeatmapCodec(CodecSpec("udp"), SIZE, ((0, 1),))
    points = torch.tensor([[[50.3, 80.2], [120.9, 33.1]]])
    mirrored = torch.from_numpy(flip_points(points.numpy(), SIZE[1], ((0, 1),)))
    straight, _ = codec.encode(points, torch.ones(1, 2))
    turned, _ = codec.encode(mirrored, torch.ones(1, 2))
    torch.testing.assert_close(codec.flip_back(turned), straight, atol=1e-6, rtol=0)


def test_nothing_found_is_the_origin_with_score_zero() -> None:
    for kind in ("classic", "dark", "udp"):
        points, scores = HeatmapCodec(CodecSpec(kind), SIZE).decode(torch.zeros(1, 2, 64, 48))
        assert not points.any()
        assert not scores.any()
