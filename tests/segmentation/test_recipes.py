"""Segmentation runs: the published settings, opening any data, and steps on it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hrnet.cli import main
from hrnet.engine.recipe import BEST, SMALL_BACKBONE
from hrnet.engine.train import Trainer
from hrnet.errors import InputError
from hrnet.io.checkpoint import save_model
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.segmentation.recipes import RECIPES, SegmentationRecipe, prepare
from hrnet.segmentation.spec import CITYSCAPES, LossSpec
from hrnet.tasks import recipe_to_json

Published = Callable[[str, Path], np.ndarray]
STAGES = (StageSpec((4, 4), 1), StageSpec((4, 4, 4), 1), StageSpec((4, 4, 4, 4), 1))
TINY = HRNetSpec(STAGES, 1, 2, stem_width=4, fusion_upsample="bilinear")

# What the released configurations say: epochs, batch, rate, weight decay, factor of the head, crop, largest scale, corners
# aligned, momentum of the norms, hard pixels, figure.
W48 = (484, 12, 0.01, 5e-4, 1, (512, 1024), 2.1)
LIP = (150, 40, 0.007, 5e-4, 1, (473, 473), 1.6)
CONTEXT = (200, 16, 0.004, 1e-4, 1, (480, 480), 2.1)
CONTEXT_OCR = (200, 16, 0.001, 1e-4, 10, (520, 520), 2.1)
SETTINGS: dict[str, tuple[Any, ...]] = {
    "cityscapes-w18-small-v1": (*W48, False, 0.01, 0, 70.3),
    "cityscapes-w18-small-v2": (*W48, False, 0.01, 0, 76.2),
    "cityscapes-w40": (*W48, False, 0.01, 0, 80.2),
    "cityscapes-w48": (*W48, False, 0.01, 0, 81.1),
    "cityscapes-w48-ohem": (*W48, False, 0.01, 131072, 81.2),
    "cityscapes-w48-ocr": (*W48, True, 0.1, 0, 81.6),
    "cityscapes-w48-trainval": (484, 12, 0.001, *W48[3:], False, 0.01, 0, 81.6),
    "cityscapes-w48-ohem-trainval": (484, 12, 0.001, *W48[3:], False, 0.01, 131072, 81.9),
    "cityscapes-w48-ocr-trainval": (484, 12, 0.001, *W48[3:], True, 0.1, 0, 82.5),
    "lip-w48": (*LIP, False, 0.01, 0, 55.90),
    "lip-w48-ocr": (*LIP, True, 0.1, 0, 56.48),
    "context-59-w48": (*CONTEXT, False, 0.01, 0, 54.0),
    "context-59-w48-ocr": (*CONTEXT_OCR, True, 0.1, 0, 56.2),
    "context-60-w48": (*CONTEXT, False, 0.01, 0, 48.3),
    "context-60-w48-ocr": (*CONTEXT_OCR, True, 0.1, 0, 50.1),
    "coco-stuff-w48": (110, 16, 0.001, 1e-4, 1, (520, 520), 2.1, True, 0.1, 131072, 36.2),
    "coco-stuff-w48-ocr": (110, 16, 0.001, 1e-4, 10, (520, 520), 2.1, True, 0.1, 131072, 39.7),
    "ade20k-w48": (120, 16, 0.02, 1e-4, 1, (520, 520), 2.1, True, 0.1, 131072, 43.1),
    "ade20k-w48-ocr": (120, 16, 0.02, 1e-4, 1, (520, 520), 2.1, True, 0.1, 131072, 44.5),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_published_runs_have_the_released_settings(name: str) -> None:
    recipe = RECIPES[f"segmentation-{name}"]
    train, spec, augment = recipe.train, recipe.model, recipe.data.augment
    assert recipe.published is not None
    assert (
        train.epochs, train.batch, train.learning_rate, train.weight_decay, train.head_rate, augment.crop, augment.scale[1],
        spec.backbone.align_corners, spec.backbone.norm_momentum, spec.loss.hard_pixels, recipe.published.value,
    ) == SETTINGS[name]  # fmt: skip
    assert (train.optimizer, train.schedule, train.decay_norms, train.sync_norm) == ("sgd", "poly", True, True)
    assert (augment.scale[0], augment.scale_step, augment.flip, augment.rotation, augment.color) == (
        0.5,
        0.1,
        0.5,
        0,
        0,
    )
    base = {"cityscapes": (1024, 2048), "lip": (473, 473)}.get(name.split("-")[0], (520, 520))
    assert spec.input_size == base
    assert spec.squash == name.startswith("lip")
    assert (spec.ocr is not None) == ("ocr" in name)
    assert spec.backbone.fusion_upsample == "bilinear"
    assert len(spec.loss.class_weights) == (19 if "cityscapes" in name else 0)


def test_every_published_run_is_listed() -> None:
    assert {name for name, recipe in RECIPES.items() if recipe.published} == {f"segmentation-{one}" for one in SETTINGS}


@pytest.mark.parametrize(
    ("name", "images", "steps"),
    [("cityscapes-w48", 2975, 120_000), ("lip-w48", 30_462, 110_000), ("context-59-w48", 4998, 60_000)],
)
def test_epochs_are_the_published_iterations(name: str, images: int, steps: int) -> None:
    """Oracle: the paper's iterations, which it rounds: to 120, 110 and 60 thousand, of 119.9, 114.2 and 62.4."""
    train = RECIPES[f"segmentation-{name}"].train
    assert train.epochs * images / train.batch == pytest.approx(steps, rel=0.05)


def test_our_networks_are_below_8_megabytes() -> None:
    for name in ("ccp", "camvid", "own"):
        recipe = RECIPES[f"segmentation-{name}"]
        assert recipe.model.backbone == SMALL_BACKBONE
        # The largest that can be asked for here.
        model = prepare_model(replace(recipe.model, class_names=tuple(map(str, range(150))), loss=LossSpec()))
        assert 2 * sum(value.numel() for value in model.state_dict().values()) < 8e6


def prepare_model(spec: Any) -> torch.nn.Module:
    from hrnet.tasks import create_model

    with torch.device("meta"):
        return create_model(spec)


def small(recipe: SegmentationRecipe, folder: Path) -> SegmentationRecipe:
    """The recipe on a tiny network and a tiny data set: one epoch of two steps."""
    side = (64, 64) if recipe.model.squash else (32, 64)
    return replace(
        recipe,
        model=replace(
            recipe.model,
            backbone=replace(TINY, align_corners=recipe.model.backbone.align_corners),
            input_size=side,
            ocr=recipe.model.ocr and replace(recipe.model.ocr, channels=8, key_channels=4),
        ),
        data=replace(recipe.data, images=(folder,), augment=replace(recipe.data.augment, crop=(32, 32))),
        train=replace(
            recipe.train, epochs=1, batch=2, evaluate_every=1, workers=0, precision="fp32", trackers=(), examples=0
        ),
    )


@pytest.mark.parametrize(
    ("name", "data", "samples", "scored"),
    [
        ("cityscapes-w18-small-v2", "cityscapes", 2, 2),
        ("cityscapes-w48-ocr", "cityscapes train ids", 2, 2),
        ("cityscapes-w48-ohem-trainval", "cityscapes", 4, 0),
        ("lip-w48", "lip", 2, 2),
        ("context-59-w48", "context mat", 2, 2),
        ("context-60-w48-ocr", "context png", 2, 2),
        ("coco-stuff-w48-ocr", "stuff mat", 2, 2),
        ("ade20k-w48", "ade20k", 2, 2),
    ],
)
def test_published_runs_take_their_data_as_it_comes(
    tmp_path: Path, published: Published, name: str, data: str, samples: int, scored: int
) -> None:
    published(data, tmp_path / "data")
    recipe = small(RECIPES[f"segmentation-{name}"], tmp_path / "data")
    job = prepare(recipe)
    assert len(job.train) == samples
    assert (len(job.validation) if job.validation else 0) == scored
    assert job.model.spec.class_names == recipe.model.class_names
    before = {key: value.clone() for key, value in job.model.state_dict().items()}
    run = tmp_path / "run"
    trainer = Trainer(
        job,
        recipe.train,
        run,
        recipe=recipe_to_json(recipe),
        save=lambda path, model, _: save_model(path, model),
        device="cpu",
    )
    metrics = trainer.run()
    assert trainer.position.step == samples // 2
    head = "head.classify.weight"
    assert not torch.equal(before[head], trainer.model.state_dict()[head])
    assert bool(metrics) == bool(scored)
    if not scored:
        return
    # Another way to the same figures: the saved model, through the predictor. Rounding may turn a pixel or two of 1536.
    common = ["--runtime", "torch", "--device", "cpu"]
    arguments = [
        "evaluate",
        str(run / BEST),
        "--images",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "figures.json"),
    ]
    assert main([*arguments, *common]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["images"] == scored
    for measure in ("pixel-accuracy", "mIoU"):
        assert figures["metrics"][measure] == pytest.approx(metrics[measure], abs=0.5)
    validation: Any = job.validation
    image = validation.images[0].path
    assert main(["predict", str(run / BEST), str(image), "--out", str(tmp_path / "out"), *common]) == 0
    (found,) = (tmp_path / "out").glob("*.json")
    assert json.loads(found.read_text())["size"] == list(validation.images[0].size)


def own(folder: Path, count: int = 6, names: str = "sky\nleft arm\nright arm\n") -> Path:
    rng = np.random.default_rng(0)
    for number in range(count):
        values = np.kron(rng.integers(0, 3, (4, 5)), np.ones((8, 8))).astype(np.uint8)
        for kind, pixels in (
            ("images", np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250]], np.uint8)[values]),
            ("labels", values),
        ):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{number}.png")
    if names:
        (folder / "classes.txt").write_text(names)
    return folder


def of_own(folder: Path, **changes: Any) -> SegmentationRecipe:
    recipe = small(RECIPES["segmentation-own"], folder)
    return replace(recipe, data=replace(recipe.data, **changes))


def test_a_data_set_of_any_classes_is_learned_and_a_part_held_out(tmp_path: Path) -> None:
    job = prepare(of_own(own(tmp_path)))
    assert job.model.spec.class_names == ("sky", "left arm", "right arm")
    assert job.model.spec.pairs == ((1, 2),)
    assert job.validation is not None
    # Every fifth by path, from the first.
    train: Any = job.train
    validation: Any = job.validation
    assert [one.path.stem for one in validation.images] == ["0", "5"]
    assert [one.path.stem for one in train.images] == ["1", "2", "3", "4"]
    assert any("2 images held out" in message for message in job.messages)


def test_classes_of_another_data_set_take_the_place_of_the_recipes(tmp_path: Path) -> None:
    recipe = small(RECIPES["segmentation-cityscapes-w48"], own(tmp_path))
    job = prepare(recipe)
    # Sky is common, so that the recipe's classes stay, and arms are ignored.
    assert job.model.spec.class_names == CITYSCAPES
    assert any("does not know left arm, right arm" in message for message in job.messages)
    own(tmp_path, names="a\nb\nc\n")
    job = prepare(recipe)
    assert job.model.spec.class_names == ("a", "b", "c")
    assert job.model.spec.loss.class_weights == ()
    assert any("class weights" in message for message in job.messages)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hold_out": 1}, "hold_out must be at least 2"),
        ({"images": ()}, "0 folders of images"),
        ({"annotations": (Path("a"), Path("b"))}, "1 folders of images, 2 files or folders of labels"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        prepare(of_own(own(tmp_path), **changes))


def test_one_class_is_refused(tmp_path: Path) -> None:
    for path in (own(tmp_path, names="") / "labels").iterdir():
        Image.fromarray(np.zeros((32, 40), np.uint8)).save(path)
    with pytest.raises(InputError, match="one class only"):
        prepare(of_own(tmp_path))


def test_dry_run_and_resumed_run_from_the_command_line(
    tmp_path: Path, capsys: Any, check_resume: Callable[[list[str]], None]
) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(recipe_to_json(of_own(tmp_path)))
    folder = own(tmp_path / "set")
    arguments = ["train", str(path), "--device", "cpu", "--train.epochs", "2"]
    arguments += ["--data.images", str(folder / "images"), "--data.annotations", str(folder / "labels")]
    assert main([*arguments, "--dry-run", "--out", str(tmp_path / "none")]) == 0
    said = capsys.readouterr()
    assert "training samples     4" in said.out
    assert "learns the data set's 3 classes: sky, left arm, right arm" in said.err
    assert not (tmp_path / "none").exists()
    check_resume(arguments)
