"""Detection runs: the published settings, opening any data, and steps on it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hrnet.detection.boxes import GroundTruth
from hrnet.detection.rcnn import RCNN
from hrnet.detection.recipes import RECIPES, SCHEDULES, SMALL, DetectionRecipe, prepare
from hrnet.detection.spec import (
    CenterNetSpec,
    FCOSSpec,
    RCNNSpec,
    cascade_mask_rcnn,
    cascade_rcnn,
    centernet,
    faster_rcnn,
    fcos,
    hybrid_task_cascade,
    mask_rcnn,
)
from hrnet.engine.recipe import SMALL_BACKBONE
from hrnet.errors import InputError
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.nn.task import Batch, SampleKey
from hrnet.tasks import create_model, recipe_to_json

STAGES = (StageSpec((4, 4), 1), StageSpec((4, 4, 4), 1), StageSpec((4, 4, 4, 4), 1))
TINY = HRNetSpec(STAGES, 1, 2, stem_width=4, fusion_upsample="bilinear")
DETECTORS = {
    "faster": faster_rcnn(),
    "mask": mask_rcnn(),
    "cascade": cascade_rcnn(),
    "cascade-mask": cascade_mask_rcnn(),
    "htc": hybrid_task_cascade(),
    "fcos": fcos(),
    "centernet": centernet(),
}

# The published rows: box AP by family, width and schedule. Source: tables C7 and C9 of the facts and the model zoo's own.
FIGURES = {
    "faster-w18-1x": 36.2, "faster-w18-2x": 38.0, "faster-w32-1x": 39.6, "faster-w32-2x": 40.9, "faster-w40-1x": 40.4,
    "faster-w40-2x": 41.4, "faster-w48-1x": 41.3, "faster-w48-2x": 41.8, "faster-w18-1x-syncbn": 37.2,
    "faster-w18-1x-syncbn-ms": 37.6, "faster-w18-2x-syncbn-ms": 39.4, "faster-w32-1x-syncbn-ms": 41.0,
    "faster-w32-2x-syncbn-ms": 42.6, "cascade-w18-20e": 41.3, "cascade-w32-20e": 43.7, "cascade-w40-20e": 43.8,
    "cascade-w48-20e": 44.6, "mask-w18-1x": 37.1, "mask-w18-2x": 39.2, "mask-w32-1x": 40.9, "mask-w32-2x": 42.3,
    "mask-w40-1x": 42.1, "mask-w40-2x": 42.8, "mask-w48-1x": 42.4, "mask-w48-2x": 42.9, "cascade-mask-w18-20e": 41.9,
    "cascade-mask-w32-20e": 44.5, "cascade-mask-w40-20e": 45.1, "cascade-mask-w48-20e": 46.0, "htc-w18-20e": 43.1,
    "htc-w32-20e": 45.3, "htc-w40-20e": 46.4, "htc-w48-20e": 46.8, "htc-w48-28e": 47.0, "fcos-w18-1x": 35.2,
    "fcos-w18-2x": 37.7, "fcos-w32-1x": 38.2, "fcos-w32-2x": 40.3, "fcos-w18-2x-ms": 38.1, "fcos-w32-2x-ms": 41.4,
    "fcos-w40-2x-ms": 42.7, "fcos-w48-2x-ms": 42.9, "fcos-w18-2x-syncbn-ms": 39.4, "fcos-w32-2x-syncbn-ms": 42.5,
    "centernet-w48": 43.4, "centernet-w64": 44.0,
}  # fmt: skip


def test_every_published_run_is_listed() -> None:
    found = {name: round(100 * recipe.published.value, 2) for name, recipe in RECIPES.items() if recipe.published}
    assert found == {f"detection-coco-{name}": value for name, value in FIGURES.items()}
    assert all(name == recipe.name for name, recipe in RECIPES.items())


@pytest.mark.parametrize("name", [name for name in FIGURES if "centernet" not in name])
def test_published_runs_have_the_published_settings(name: str) -> None:
    """Oracle: the published protocol, for batches of 16."""
    recipe = RECIPES[f"detection-coco-{name}"]
    train, spec, augment = recipe.train, recipe.model, recipe.data.augment
    family, rest = name.split("-w")
    width, schedule, *more = rest.split("-")
    assert spec.backbone.widths == tuple(int(width) * factor for factor in (1, 2, 4, 8))
    assert spec.backbone.fusion_upsample == "nearest"
    assert spec.detector == DETECTORS[family]
    assert (spec.input_size, spec.fit, len(spec.class_names)) == ((800, 1333), "sides", 80)
    assert (train.batch, train.optimizer, train.weight_decay, train.decay_norms) == (16, "sgd", 1e-4, True)
    assert (train.gradient_clip, train.warmup_steps, train.warmup_start) == (35, 500, 1 / 3)
    epochs, milestones = {"1x": (12, (8, 11)), "2x": (24, (20, 23)), "20e": (20, (16, 19)), "28e": (28, (24, 27))}[
        schedule
    ]
    if family == "fcos":
        milestones = (16, 22) if schedule == "2x" else milestones
        assert (train.learning_rate, train.warmup, train.bias_rate, train.decay_biases) == (0.01, "constant", 2, False)
    else:
        assert (train.learning_rate, train.warmup, train.bias_rate, train.decay_biases) == (0.02, "linear", 1, True)
    assert (train.epochs, train.milestones, train.schedule) == (epochs, milestones, "step")
    assert train.sync_norm == ("syncbn" in more) == (not spec.frozen_norms)
    assert bool(augment.sizes) == ("ms" in more)
    if augment.sizes:
        shorter = {size[0] for size in augment.sizes}
        assert shorter == ({640, 800} if family == "fcos" else {600, 800, 1000})
        assert augment.sizes_between == (family == "fcos")
    assert (augment.flip, augment.scale, augment.color, augment.mosaic, augment.paste) == (0.5, (1, 1), 0, 0, 0)


def test_epochs_are_the_published_iterations() -> None:
    """Oracle: 180 000 steps of 16 of FCOS, its falls at 120 000 and 160 000; 480 000 of 48 of CenterNet, its fall at 450 000;
    of COCO's 118 287 training images."""
    train = RECIPES["detection-coco-fcos-w18-2x"].train
    steps = [118_287 / 16 * epochs for epochs in (train.epochs, *train.milestones)]
    assert steps == pytest.approx([180_000, 120_000, 160_000], rel=0.02)
    train = RECIPES["detection-coco-centernet-w48"].train
    steps = [118_287 / 48 * epochs for epochs in (train.epochs, *train.milestones)]
    assert steps == pytest.approx([480_000, 450_000], rel=0.003)
    assert set(SCHEDULES) == {"1x", "2x", "20e", "28e"}


def test_our_networks_share_the_backbone_of_the_other_tasks() -> None:
    ours = [recipe for recipe in RECIPES.values() if not recipe.published]
    assert len(ours) == len(SMALL) + 4
    for recipe in ours:
        assert recipe.model.backbone == SMALL_BACKBONE
    with torch.device("meta"):
        model = create_model(RECIPES["detection-own"].model)
    # What is shipped in half precision stays small.
    assert 2 * sum(value.numel() for value in model.state_dict().values()) < 10e6


def paint(folder: Path, count: int = 6, outlines: bool = True, kinds: tuple[str, ...] = ("ring", "bar")) -> Path:
    """A COCO set of squares in two colors, one or two an image; the last image is empty."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = rng.integers(0, 60, (48, 64, 3), dtype=np.uint8)
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 48})
        for label in range(number % 3 if number < count - 1 else 0):
            x, y, w, h = (int(value) for value in (*rng.integers(2, 20, 2), *rng.integers(14, 26, 2)))
            image[y : y + h, x : x + w, label] = 250
            entry: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": label + 1,
                "iscrowd": 0,
            }
            entry |= {"bbox": [x, y, w, h], "area": w * h}
            if outlines:
                entry["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotations.append(entry)
        Image.fromarray(image).save(folder / f"{number}.png")
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(kinds)]
    (folder / "labels.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return folder


def small(recipe: DetectionRecipe, folder: Path, **changes: Any) -> DetectionRecipe:
    """The recipe on a tiny network and one data set: two epochs of two steps."""
    detector = recipe.model.detector
    match detector:
        case RCNNSpec():
            detector = replace(
                detector, pyramid_width=8, head_width=8, anchor_samples=16, region_samples=8,
                train_proposals=(40, 20), test_proposals=(20, 10), num_detections=10,
            )  # fmt: skip
        case FCOSSpec():
            detector = replace(detector, pyramid_width=32, tower_convs=1, num_detections=10)
        case CenterNetSpec():
            detector = replace(detector, width=8, num_points=10, num_detections=10)
    return replace(
        recipe,
        model=replace(recipe.model, backbone=TINY, input_size=(64, 64), fit="canvas", detector=detector),
        data=replace(
            recipe.data, images=(folder,), annotations=(), val_images=None, val_annotations=None, **{"stuff": ()} | changes
        ),
        train=replace(
            recipe.train, epochs=2, batch=2, evaluate_every=2, workers=0, precision="fp32", trackers=(), examples=0,
            warmup_steps=0,
        ),
    )  # fmt: skip


def test_classes_of_the_data_set_and_hold_out(tmp_path: Path) -> None:
    job = prepare(small(RECIPES["detection-own"], paint(tmp_path)))
    assert job.model.spec.class_names == ("ring", "bar")
    assert job.validation is not None
    train: Any = job.train
    validation: Any = job.validation
    assert [one.path.stem for one in validation.images] == ["0", "5"]
    assert [one.path.stem for one in train.images] == ["1", "2", "3", "4"]
    assert "4 objects in 4 images." in job.messages
    assert any("learns the data set's 2 classes: ring, bar" in message for message in job.messages)
    assert any("2 images held out" in message for message in job.messages)


def test_classes_of_the_recipe_stay_if_one_is_common(tmp_path: Path) -> None:
    recipe = small(RECIPES["detection-coco-faster-w18-1x"], paint(tmp_path, kinds=("dog", "unicorn")))
    job = prepare(recipe)
    assert job.model.spec.class_names == recipe.model.class_names
    assert any("does not know unicorn" in message for message in job.messages)
    labels = {thing.label for one in job.train.images for thing in one.objects}  # type: ignore[attr-defined]  # it is ours
    assert labels == {recipe.model.class_names.index("dog")}


def test_aliases_join_several_data_sets(tmp_path: Path) -> None:
    first = paint(tmp_path / "first", kinds=("pedestrian", "lamp"))
    second = paint(tmp_path / "second", kinds=("cow", "person"))
    recipe = small(RECIPES["detection-person"], first)
    recipe = replace(recipe, data=replace(recipe.data, images=(first, second)))
    job = prepare(recipe)
    assert job.model.spec.class_names == ("person",)
    assert job.validation is None
    assert len(job.train) == 12
    # Three images show an object of the first kind, one shows one of the second.
    assert "4 objects in 12 images." in job.messages
    for folder, count in ((first, 3), (second, 1)):
        one = prepare(replace(recipe, data=replace(recipe.data, images=(folder,))))
        assert f"{count} objects in 6 images." in one.messages


def test_the_semantic_branch_follows_the_classes(tmp_path: Path) -> None:
    job = prepare(small(RECIPES["detection-coco-htc-w18-20e"], paint(tmp_path)))
    assert job.model.spec.class_names == ("ring", "bar")
    assert job.model.spec.detector.semantic_classes == 3  # the classes, and what is none of them


def test_semantic_branch_with_label_maps(tmp_path: Path) -> None:
    # Oracle: the maps; a class for every pixel of a column, mirrored with the image.
    folder, maps = paint(tmp_path / "set"), tmp_path / "maps"
    maps.mkdir()
    columns = np.tile(np.arange(64, dtype=np.uint8), (48, 1))
    for number in range(5):
        Image.fromarray(columns).save(maps / f"{number}.png")
    recipe = small(RECIPES["detection-coco-htc-w18-20e"], folder, stuff=(maps,))
    assert RECIPES["detection-coco-htc-w18-20e"].data.stuff
    job = prepare(recipe)
    assert job.model.spec.detector.semantic_classes == 183
    assert any("1 images have no label map" in message and "5.png" in message for message in job.messages)
    batch = Batch.stack([job.train[SampleKey(0, number)] for number in (0, 5)])
    known, unknown = (one.stuff for one in GroundTruth.from_batch(batch))
    assert known is not None
    assert unknown is not None
    row = np.arange(4, 64, 8)
    row = 63 - row if batch.frames[0].matrix[0, 0] < 0 else row
    expected = np.full((8, 8), 255)
    expected[:6] = row
    assert known.tolist() == expected.tolist()
    assert unknown.unique().tolist() == [255]
    losses = job.model.loss(batch.to(torch.device("cpu")))
    assert torch.isfinite(losses["semantic"])
    assert losses["semantic"] > 0


def test_unusable_label_maps_are_one_message(tmp_path: Path) -> None:
    # Oracle: the cure is named.
    folder, maps = paint(tmp_path / "set"), tmp_path / "maps"
    recipe = small(RECIPES["detection-coco-htc-w18-20e"], folder, stuff=(maps,))
    with pytest.raises(InputError, match=r"--data\.stuff without a folder"):
        prepare(recipe)
    maps.mkdir()
    Image.fromarray(np.full((48, 64), 200, np.uint8)).save(maps / "0.png")
    with pytest.raises(InputError, match=r"0.png has the value 200 in 3072 pixels, expected 0 to 182 or 255"):
        prepare(recipe).train[SampleKey(0, 0)]
    with pytest.raises(InputError, match="1 folders of images, 2 of label maps"):
        prepare(replace(recipe, data=replace(recipe.data, stuff=(maps, maps))))
    other = small(RECIPES["detection-own-mask"], folder, stuff=(maps,))
    with pytest.raises(InputError, match="for networks with a semantic branch"):
        prepare(other)


def test_semantic_branch_is_left_out_above_254_classes(tmp_path: Path) -> None:
    """Oracle: 255 is ignored and one class is the background, which leaves 254."""
    for count in (254, 255):
        kinds = tuple(f"class {number}" for number in range(count))
        job = prepare(small(RECIPES["detection-pennfudan-htc"], paint(tmp_path / str(count), kinds=kinds)))
        assert len(job.model.spec.class_names) == count
        detector = job.model.detector
        assert isinstance(detector, RCNN)
        assert (detector.semantic_head is not None) == (count == 254)
        assert any("semantic branch is left out" in message for message in job.messages) == (count == 255)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("own", {"hold_out": 1}, "hold_out must be at least 2"),
        ("own", {"images": ()}, "0 folders of images"),
        ("own", {"annotations": (Path("a"), Path("b"))}, "1 folders of images, 2 files or folders of labels"),
        ("own", {"aliases": (("a", "b"),)}, "names no class of the model"),
        ("own-mask", {}, "boxes only, and this model learns masks"),
    ],
)
def test_unusable_data_is_one_message(tmp_path: Path, name: str, changes: dict[str, Any], words: str) -> None:
    recipe = small(RECIPES[f"detection-{name}"], paint(tmp_path, outlines=False))
    with pytest.raises(InputError, match=words):
        prepare(replace(recipe, data=replace(recipe.data, **changes)))


def test_training_without_objects_is_refused(tmp_path: Path) -> None:
    recipe = small(RECIPES["detection-own"], paint(tmp_path, count=1))
    with pytest.raises(InputError, match="No object of the model's classes is labeled"):
        prepare(replace(recipe, data=replace(recipe.data, hold_out=0)))


@pytest.mark.parametrize("family", ["htc", "fcos", "centernet"])
def test_resumed_run_equals_the_uninterrupted_run(
    tmp_path: Path, family: str, check_resume: Callable[[list[str]], None]
) -> None:
    """Random samples depend on the step alone."""
    recipe = small(RECIPES[f"detection-pennfudan-{family}"], tmp_path, hold_out=3)
    path = tmp_path / "recipe.json"
    path.write_text(recipe_to_json(recipe))
    folder = paint(tmp_path / "set")
    arguments = ["train", str(path), "--device", "cpu", "--data.images", str(folder)]
    arguments += ["--data.annotations", str(folder / "labels.json")]
    check_resume(arguments)
