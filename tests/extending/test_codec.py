"""A heatmap codec from outside the package: one class, one row of `CODECS`, and it trains, scores and predicts."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from jaxtyping import Float
from PIL import Image

import hrnet
from hrnet.engine.recipe import Recipe, TrainSpec
from hrnet.errors import InputError
from hrnet.io.geometry import Size, flip_order
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.pose.augment import Augment
from hrnet.pose.codecs import CODECS, Codec, Pairs, make_codec
from hrnet.pose.recipes import PoseData
from hrnet.pose.skeletons import Skeleton
from hrnet.pose.spec import CodecSpec, PoseSpec

Heatmaps = Float[np.ndarray, "n k h w"]
Points = Float[np.ndarray, "n k 2"]
Scores = Float[np.ndarray, "n k"]
SIZE = (64, 64)
STRIDE = 4
TINY = HRNetSpec(
    stages=(StageSpec((8, 16), 1), StageSpec((8, 16, 32), 1), StageSpec((8, 16, 32, 64), 1)),
    bottlenecks=1,
    bottleneck_width=8,
    stem_width=16,
    high_resolution_only=True,
)


class ConeCodec(Codec):
    """Cones of height 1 around each keypoint, decoded as the center of mass of their upper half."""

    unbiased: ClassVar[bool] = False

    def __init__(self, spec: CodecSpec, input_size: Size, pairs: Pairs = ()) -> None:
        self.radius = 3 * spec.heatmap_sigma
        self.size = (input_size[0] // STRIDE, input_size[1] // STRIDE)
        self.pairs = pairs

    def encode(self, points: Points, visibility: Scores) -> tuple[Heatmaps, Scores]:
        pixels = np.stack(np.meshgrid(*(np.arange(side) for side in self.size[::-1])), -1)
        distances = np.linalg.norm(pixels - (points / STRIDE)[:, :, None, None], axis=-1)
        return np.clip(1 - distances / self.radius, 0, 1).astype(np.float32), np.minimum(visibility, 1).astype(
            np.float32
        )

    def decode(self, heatmaps: Heatmaps) -> tuple[Points, Scores]:
        scores = heatmaps.max((-2, -1))
        mass = np.maximum(heatmaps - scores[..., None, None] / 2, 0) + 1e-9
        columns, rows = (mass.sum(axis) for axis in (-2, -1))
        points = [(axis * np.arange(axis.shape[-1])).sum(-1) / axis.sum(-1) for axis in (columns, rows)]
        return STRIDE * np.stack(points, -1), scores

    def merge_flip(self, heatmaps: Heatmaps, flipped: Heatmaps) -> Heatmaps:
        return (heatmaps + flipped[:, flip_order(flipped.shape[1], self.pairs), :, ::-1]) / 2


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODECS, "cone", ConeCodec)


def labeled_dots(folder: Path) -> dict[str, list[list[float]]]:
    """Write eight images of three dots each with their COCO json; return the keypoints by file name."""
    rng = np.random.default_rng(0)
    images, annotations, keypoints = [], [], {}
    for number in range(1, 9):
        points = rng.uniform(8, 56, (3, 2)).round()
        image = np.full((*SIZE, 3), 40, np.uint8)
        for color, (x, y) in enumerate(points.astype(int)):
            image[y - 3 : y + 4, x - 3 : x + 4] = np.eye(3, dtype=np.uint8)[color] * 250
        name = f"{number}.png"
        Image.fromarray(image).save(folder / name)
        keypoints[name] = points.tolist()
        images.append({"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        visible = np.column_stack([points, np.full(3, 2)]).ravel().tolist()
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": [0, 0, 64, 64], "keypoints": visible}
        )
    categories = [{"id": 1, "name": "dots", "keypoints": ["red", "green", "blue"]}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(content))
    return keypoints


def test_the_codec_trains_scores_and_predicts(tmp_path: Path) -> None:
    """Oracle of the scores: the distances between the predictions and the labels, computed here."""
    expected = labeled_dots(tmp_path)
    labels = tmp_path / "labels.json"
    spec = PoseSpec(Skeleton(("red", "green", "blue")), TINY, input_size=SIZE, codec=CodecSpec("cone"))
    recipe = Recipe(
        "dots",
        spec,
        PoseData(
            (tmp_path,),
            (labels,),
            val_images=tmp_path,
            val_annotations=labels,
            augment=Augment(half_body=0.0, empty_outside=True),
        ),
        TrainSpec(epochs=2, batch=4, workers=0),
    )
    run = hrnet.train(recipe, out=tmp_path / "run", flip=True)
    assert np.isfinite(run.metrics["error/px"])
    model = hrnet.load(run.folder)
    assert model.spec == spec  # the spec's name of the codec is stored with the weights
    metrics = hrnet.evaluate(model, images=tmp_path, annotations=labels, flip=True, runtime="torch")
    predict = hrnet.Predictor(model, runtime="torch", flip=True)
    found = np.concatenate([pose.keypoints for pose in predict([tmp_path / name for name in expected])])
    distances = np.linalg.norm(found - np.array(list(expected.values())), axis=-1)
    # The batches differ, and so may the order of sums in single precision.
    assert metrics["error/px"] == pytest.approx(distances.mean(), abs=1e-2)


def test_encoding_and_decoding_come_back() -> None:
    """Oracle: the keypoint itself; a cone is symmetric but for its sampling, a quarter of a heatmap pixel at most."""
    points = np.random.default_rng(0).uniform(16, 48, (20, 3, 2))
    codec = make_codec(CodecSpec("cone"), SIZE)
    found, scores = codec.decode(codec.encode(points, np.ones((20, 3)))[0])
    np.testing.assert_allclose(found, points, atol=1)
    assert (scores > 0.8).all()


def test_an_unknown_codec_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown codec 'cube'; choose from 'classic', 'dark', 'udp', 'cone'\."):
        make_codec(CodecSpec("cube"), SIZE)
