from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import cast

import pytest
import torch

from hrnet.classification.model import ClassificationModel
from hrnet.classification.spec import ClassificationSpec
from hrnet.detection.model import DetectionModel
from hrnet.detection.spec import DetectionSpec, centernet, fcos, hybrid_task_cascade
from hrnet.engine.recipe import Recipe
from hrnet.engine.scoring import EvaluationOptions
from hrnet.engine.task import Task
from hrnet.errors import InputError
from hrnet.inference.prediction import PredictionOptions
from hrnet.inference.processor import Processor
from hrnet.nn.spec import ModelSpec, hrnet, hrnet_small_v1, hrnet_small_v2
from hrnet.nn.task import HRNetModel
from hrnet.pose.model import PoseModel
from hrnet.pose.skeletons import MPII, Skeleton
from hrnet.pose.spec import CodecSpec, PoseSpec
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.spec import LossSpec, SegmentationSpec
from hrnet.tasks import (
    TASKS,
    create_model,
    recipe_from_json,
    recipe_to_json,
    recipes,
    spec_from_json,
    spec_to_json,
    task_of,
)

SPECS: list[tuple[ModelSpec, str, type]] = [
    (PoseSpec(MPII, hrnet(48, high_resolution_only=True), codec=CodecSpec("udp", 3.0)), "pose", PoseModel),
    (
        PoseSpec(Skeleton(("eye", "nose")), hrnet(18, fusion_upsample="bilinear"), representation="v2"),
        "pose",
        PoseModel,
    ),
    (
        ClassificationSpec(("cat", "dog"), backbone=hrnet_small_v1(), head_bias=False),
        "classification",
        ClassificationModel,
    ),
    (
        SegmentationSpec(
            ("sky", "arm", "leg"), ((1, 2),), hrnet_small_v2(fusion_upsample="bilinear", align_corners=True)
        ),
        "segmentation",
        SegmentationModel,
    ),
    (
        SegmentationSpec(
            ("sky", "arm"), input_size=(473, 473), squash=True, loss=LossSpec((1.0, 2.0), 100, auxiliary_mean="all")
        ),
        "segmentation",
        SegmentationModel,
    ),
    (
        DetectionSpec(("cat", "dog"), fcos(), hrnet_small_v1(), (320, 384), "canvas", frozen_norms=False),
        "detection",
        DetectionModel,
    ),
    (DetectionSpec(("cat",), centernet(), hrnet_small_v1(), (511, 511), "canvas"), "detection", DetectionModel),
    (DetectionSpec(detector=hybrid_task_cascade(), backbone=hrnet_small_v1()), "detection", DetectionModel),
]


@pytest.mark.parametrize(("spec", "task", "model"), SPECS)
def test_spec_survives_json_and_builds_its_model(spec: ModelSpec, task: str, model: type) -> None:
    text = spec_to_json(spec)
    assert spec_from_json(text) == spec
    assert json.loads(text)["task"] == task == task_of(spec).name
    with torch.device("meta"):
        built = create_model(spec)
    assert type(built) is model
    assert built.spec == spec


@pytest.mark.parametrize("name", recipes())
def test_recipe_survives_json(name: str) -> None:
    assert recipe_from_json(recipe_to_json(recipes()[name])) == recipes()[name]


def test_unknown_tasks_and_fields_are_refused() -> None:
    # A field of a newer version, passed over, would be another network than the one that was saved.
    content = json.loads(spec_to_json(SPECS[2][0]))
    with pytest.raises(ValueError, match="unknown task 'juggling'"):
        spec_from_json(json.dumps({**content, "task": "juggling"}))
    with pytest.raises(ValueError, match="unknown task None"):
        spec_from_json("[]")
    content["backbone"]["dilation"] = 2
    with pytest.raises(ValueError, match="unknown field 'dilation'"):
        spec_from_json(json.dumps(content))


def test_a_recipe_names_the_field_that_does_not_fit() -> None:
    content = json.loads(recipe_to_json(recipes()["pose-own"]))
    for change, message in (
        ({"colors": 1}, "unknown field 'colors'"),
        ({"train": {**content["train"], "epochs": "many"}}, "train.epochs: input should be a valid integer"),
        ({"train": {**content["train"], "epochs": 0}}, "train: train.epochs must be at least 1, not 0"),
    ):
        with pytest.raises(ValueError, match=message):
            recipe_from_json(json.dumps({**content, **change}))
    with pytest.raises(ValueError, match="the task 'backbone' has no recipes"):
        recipe_from_json(json.dumps({**content, "task": "backbone"}))


def test_the_list_of_tasks_imports_no_torch() -> None:
    code = "import sys, hrnet.tasks; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.usefixtures("unchecked")
def test_a_spec_of_no_task_is_refused() -> None:
    with pytest.raises(InputError, match="HRNetSpec is no spec of a known task; expected one of PoseSpec, "):
        create_model(hrnet(18))  # pyright: ignore[reportArgumentType]  # on purpose


def test_segmentation_specs_of_older_files_still_load() -> None:
    content = json.loads(spec_to_json(SPECS[3][0]))
    for added in ("squash", "ocr", "loss"):
        del content[added]
    assert spec_from_json(json.dumps(content)) == SPECS[3][0]


def test_impossible_values_are_refused() -> None:
    content = json.loads(spec_to_json(SPECS[2][0]))
    content["num_classes"] = 7
    with pytest.raises(ValueError, match="num_classes is 7"):
        spec_from_json(json.dumps(content))


def test_two_models_share_nothing() -> None:
    spec = ClassificationSpec(num_classes=2, backbone=hrnet_small_v1())
    one, other = create_model(spec), create_model(replace(spec))
    places = {value.data_ptr() for value in one.state_dict().values()}
    assert not places & {value.data_ptr() for value in other.state_dict().values()}
    assert not {id(module) for module in one.modules()} & {id(module) for module in other.modules()}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_names_in_a_row_are_what_the_row_says(task: Task) -> None:
    """Names that are imported when needed: each exists and is of the kind that the task's field declares."""
    assert issubclass(cast(type, task.model()), HRNetModel)
    assert all(isinstance(recipe, Recipe) and isinstance(recipe.model, task.spec) for recipe in task.recipes().values())
    assert callable(task.prepare())
    if task.name != "backbone":
        assert task.processor is not None
        assert task.prediction is not None
        assert task.evaluation is not None
        assert issubclass(cast(type, task.processor()), Processor)
        assert issubclass(task.prediction(), PredictionOptions)
        assert issubclass(task.evaluation(), EvaluationOptions)
        recipe = next(iter(task.recipes().values()))
        assert type(create_model(recipe.model).processor) is task.processor()
