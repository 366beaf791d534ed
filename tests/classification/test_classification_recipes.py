"""Classification runs: the published settings, opening class folders, and steps on them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hrnet.classification.data import Augment, ClassificationDataset
from hrnet.classification.evaluation import ClassificationEvaluation
from hrnet.classification.model import ClassificationModel
from hrnet.classification.recipes import RECIPES, ClassificationData, ClassificationRecipe, prepare
from hrnet.classification.spec import ClassificationSpec
from hrnet.cli import main
from hrnet.engine.optim import build_optimizer, learning_rate
from hrnet.engine.recipe import BEST, SMALL_BACKBONE, TrainSpec
from hrnet.engine.train import Trainer
from hrnet.errors import InputError
from hrnet.io.checkpoint import load_model, save_model
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.tasks import recipe_from_json, recipe_to_json, recipes

Folders = Callable[..., Path]
STAGES = (StageSpec((4, 4), 1), StageSpec((4, 4, 4), 1), StageSpec((4, 4, 4, 4), 1))
TINY = HRNetSpec(STAGES, 1, 2, stem_width=4)
# What the official README says: top-1 and top-5 error, in percent.
ERRORS = {
    "w18-small-v1": (27.7, 9.3),
    "w18-small-v2": (24.9, 7.6),
    "w18": (23.2, 6.6),
    "w30": (21.8, 5.8),
    "w32": (21.5, 5.8),
    "w40": (21.1, 5.5),
    "w44": (21.1, 5.6),
    "w48": (20.7, 5.5),
    "w64": (20.5, 5.4),
}


@pytest.mark.parametrize("name", ERRORS)
def test_published_runs_have_the_released_settings(name: str) -> None:
    recipe = RECIPES[f"classification-imagenet-{name}"]
    error, top_5 = ERRORS[name]
    assert recipe.published is not None
    assert recipe.published.metric == "top-1"
    assert recipe.published.value == pytest.approx(100 - error, abs=1e-9)
    assert f"error {error} %" in recipe.published.source
    assert f"top-5 {top_5} %" in recipe.published.source
    width = 16 if name == "w18-small-v1" else int(name.removeprefix("w").partition("-")[0])
    assert recipe.model.backbone.widths[0] == width
    assert (recipe.model.num_classes, recipe.model.input_size, recipe.model.label_smoothing) == (1000, (224, 224), 0)
    assert recipe.data.augment == Augment((0.08, 1.0), (3 / 4, 4 / 3), 0.0, 0.5)
    train = recipe.train
    assert (train.optimizer, train.nesterov, train.batch, train.weight_decay) == ("sgd", True, 128, 1e-4)
    # A set of 1280 has 10 steps an epoch. By the paper the rate is 0.1 for 256 images, and falls after 30, 60, 90 of 100.
    rates = [learning_rate(train, epoch * 10, 10) for epoch in (0, 29, 30, 60, 90, 99)]
    assert rates == pytest.approx([0.05, 0.05, 0.005, 0.0005, 0.00005, 0.00005])
    assert train.epochs == 100


def test_weight_decay_reaches_everything_and_momentum_looks_ahead() -> None:
    recipe = RECIPES["classification-imagenet-w18"]
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = build_optimizer(model, recipe.train)
    assert all(group["nesterov"] and group["momentum"] == 0.9 for group in optimizer.param_groups)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {1e-4}
    assert not build_optimizer(model, replace(recipe.train, nesterov=False)).param_groups[0]["nesterov"]


def test_all_recipes_are_listed_and_survive_json() -> None:
    assert len(RECIPES) == 13
    for name, recipe in RECIPES.items():
        assert recipes()[name] is recipe
        assert name == recipe.name
        assert recipe_from_json(recipe_to_json(recipe)) == recipe
    assert RECIPES["classification-own"].model.backbone == SMALL_BACKBONE


def tiny(path: Path, **data: object) -> ClassificationRecipe:
    return ClassificationRecipe(
        "classification-tiny",
        ClassificationSpec(("of the data set",), backbone=TINY, input_size=(32, 32), head_width=2, label_smoothing=0.1),
        ClassificationData(images=(path,), **data),  # type: ignore[arg-type]  # as the tests give them
        TrainSpec(epochs=2, batch=4, optimizer="sgd", learning_rate=0.01, evaluate_every=2, workers=0, trackers=()),
    )


def test_the_data_sets_classes_take_the_place_of_none(folders: Folders) -> None:
    job = prepare(tiny(folders({"train": {"cat": 4, "dog": 4, "emu": 0}, "val": {"dog": 2, "cat": 1}})))
    assert job.model.spec.class_names == ("cat", "dog", "emu")
    assert len(job.train) == 8
    assert job.validation is not None
    assert len(job.validation) == 3
    assert any("no image to learn emu" in message for message in job.messages)
    assert any("3 classes: cat, dog, emu" in message for message in job.messages)


def test_evaluation_holds_out_the_images_that_training_did(folders: Folders) -> None:
    """Oracle: the recipe's own validation images, of a model that lacks one of the folders, the first by name."""
    path = folders({"": {"ant": 2, "cat": 5, "dog": 5}})
    recipe = tiny(path, hold_out=3)
    recipe = replace(recipe, model=replace(recipe.model, class_names=("cat", "dog"), num_classes=2))
    validation = prepare(recipe).validation
    assert isinstance(validation, ClassificationDataset)
    options = ClassificationEvaluation(images=path, hold_out=3)
    scored = options.open("tiny", ClassificationModel(recipe.model))
    assert [one.source for one in scored.inputs] == [one.path for one in validation.images]


def test_images_are_held_out_where_there_is_nothing_to_score_on(folders: Folders) -> None:
    path = folders({"": {"cat": 5, "dog": 5}})
    job = prepare(tiny(path, hold_out=5))
    assert job.validation is not None
    assert (len(job.train), len(job.validation)) == (8, 2)
    assert prepare(tiny(path)).validation is None
    with pytest.raises(InputError, match="hold_out must be at least 2"):
        prepare(tiny(path, hold_out=1))
    # A set of its own to score on, with other classes.
    other = folders({"val": {"dog": 2, "fox": 1}}, "other")
    job = prepare(tiny(path, val_images=other))
    assert job.validation is not None
    assert len(job.validation) == 2


def test_one_class_is_nothing_to_learn(folders: Folders) -> None:
    with pytest.raises(InputError, match="one class only, cat"):
        prepare(tiny(folders({"train": {"cat": 3}})))
    with pytest.raises(InputError, match=r"^0 folders of images"):
        prepare(replace(tiny(Path("x")), data=ClassificationData()))


@pytest.mark.parametrize("augment", [Augment(), Augment(mixup=0.2, cutmix=1.0)], ids=["plain", "mixed"])
def test_a_run_trains_scores_and_is_read_back(folders: Folders, tmp_path: Path, augment: Augment) -> None:
    recipe = tiny(folders({"train": {"cat": 6, "dog": 6}, "val": {"cat": 2, "dog": 2}}), augment=augment)
    trainer = Trainer(
        prepare(recipe),
        recipe.train,
        tmp_path / "run",
        recipe=recipe_to_json(recipe),
        save=lambda path, model, _: save_model(path, model),
    )
    metrics = trainer.run()
    assert set(metrics) == {"top-1", "mean-accuracy", "accuracy/cat", "accuracy/dog"}
    assert load_model(tmp_path / "run" / BEST).named_outputs() == {"head.classifier": ("cat", "dog")}


def test_train_evaluate_predict_and_the_page(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The three commands on one data set. Oracle: what predict writes, counted here, is what evaluate measures."""
    path = folders({"train": {"cat": 8, "dog": 8}, "val": {"cat": 3, "dog": 3}})
    written = tmp_path / "recipe.json"
    written.write_text(recipe_to_json(tiny(path)))
    run, device = tmp_path / "run", ("--device", "cpu")
    assert main(["train", str(written), "--out", str(run), *device]) == 0
    assert "top-1" in capsys.readouterr().out
    broken = path / "val/dog/0.png"
    broken.write_bytes(broken.read_bytes()[:200])
    figures, page = tmp_path / "figures.json", tmp_path / "page"
    arguments = ["--images", str(path), "--out", str(figures), "--report", str(page), "--runtime", "torch", *device]
    assert main(["evaluate", str(run), *arguments]) == 1  # an image had to be left out
    said = capsys.readouterr()
    assert "dog/0.png" in said.err
    content = json.loads(figures.read_text())
    assert (content["task"], content["images"]) == ("classification", 5)
    shown = (page / "report.html").read_text()
    for words in ("Confusion matrix", "Accuracy over coverage", "the most frequent class"):
        assert words in shown

    out = tmp_path / "out"
    images = [str(path / f"val/{name}/{number}.png") for name in ("cat", "dog") for number in (1, 2)]
    more = ["--runtime", "torch", *device]
    assert main(["predict", str(run), *images, str(path / "val/cat/0.png"), "--out", str(out), *more]) == 0
    assert "cat 0." in capsys.readouterr().out
    found = [json.loads(file.read_text()) for file in out.glob("*.json")]
    hits = [one["classes"][0]["name"] == Path(one["file"]).parent.name for one in found]
    assert content["metrics"]["top-1"] == pytest.approx(100 * sum(hits) / 5, rel=1e-12)
    assert len(list(out.glob("*.png"))) == 5
    assert main(["predict", str(run), *images, "--json", *more]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(line["file"]).name for line in lines] == ["1.png", "2.png", "1.png", "2.png"]
    assert all({one["name"] for one in line["classes"]} == {"cat", "dog"} for line in lines)
    with pytest.raises(SystemExit):
        main(["evaluate", str(run), "--images", str(path), "--boxes", "x.json", *more])
    assert "Unrecognized options: --boxes" in capsys.readouterr().err


def test_cifar_is_read_like_all_others(shared: Path) -> None:
    """Ten classes of 32 x 32, and a test split in the place of val."""
    path = shared / "data/cifar10_small"
    recipe = RECIPES["classification-cifar10"]
    job = prepare(replace(recipe, data=replace(recipe.data, images=(path,))))
    assert job.model.spec.class_names == recipe.model.class_names
    assert job.validation is not None
    assert (len(job.train), len(job.validation)) == (10_000, 2_000)
    assert len(job.messages) == 2  # the counts of both sets
