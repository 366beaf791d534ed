"""A program on the public face, checked by pyright in `make test`: it needs no cast and no ignore. It is never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import numpy as np

import hrnet
from hrnet.nn.task import TaskModel
from hrnet.pose.model import PoseModel

pose = hrnet.load("pose")
assert_type(pose, PoseModel)
for poses in hrnet.Predictor(pose)("a.jpg"):
    assert_type(poses, hrnet.Poses)
    points: np.ndarray = poses.keypoints
    poses.plot(threshold=0.5).save("a.png")
for semantic in hrnet.Predictor(hrnet.load("segmentation"))(["a.jpg", Path("b.jpg")]):
    assert_type(semantic, hrnet.SemanticMap)
    labels: np.ndarray = semantic.labels
for detections in hrnet.Predictor(hrnet.load("detection"), runtime="torch")(np.zeros((9, 9, 3), np.uint8)):
    assert_type(detections, hrnet.Detections)
    text: str = detections.to_json()

run = hrnet.train("pose-own", data="photos", annotations="labels.json", init="pose", overrides={"train.epochs": 20})
assert_type(run, hrnet.Run)
folder: Path = run.folder
accuracy: float = run.metrics["PCK@0.2"]
metrics: dict[str, float] = hrnet.evaluate(run.folder, images="photos", annotations="labels.json")
names: list[str] = hrnet.list_models("*w32*")
fatal: bool = hrnet.check_data("photos").fatal
hrnet.save(pose, "pose.safetensors")
converted = hrnet.convert("hrnet.pth", "hrnet.safetensors", align_corners=True)
hrnet.save(converted, "again.safetensors")

spec = hrnet.PoseSpec(backbone=hrnet.spec.hrnet(32))
created = hrnet.create_model(spec)
if isinstance(created, TaskModel):
    outputs = created.processor.class_names
backbone = hrnet.HRNet(hrnet.spec.hrnet(32))
