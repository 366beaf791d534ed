"""HRNet: high-resolution networks for keypoints, segmentation, detection and classification.

    model = hrnet.load("pose")
    for result in hrnet.Predictor(model)("photo.jpg"):
        result.plot().save("annotated.jpg")

Source: arXiv 1908.07919.
"""

from __future__ import annotations as _annotations

import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:
    from hrnet.classification.spec import ClassificationSpec as ClassificationSpec
    from hrnet.detection.spec import DetectionSpec as DetectionSpec
    from hrnet.errors import InputError as InputError
    from hrnet.io.models import convert as convert
    from hrnet.io.models import list_models as list_models
    from hrnet.io.models import save as save
    from hrnet.io.zoo import load as load
    from hrnet.nn import spec as spec
    from hrnet.nn.backbone import HRNet as HRNet
    from hrnet.nn.backbone_model import features_only as features_only
    from hrnet.pose.spec import PoseSpec as PoseSpec
    from hrnet.predictor import Predictor as Predictor
    from hrnet.results import Classification as Classification
    from hrnet.results import Detections as Detections
    from hrnet.results import Poses as Poses
    from hrnet.results import SemanticMap as SemanticMap
    from hrnet.runs import Run as Run
    from hrnet.runs import check_data as check_data
    from hrnet.runs import evaluate as evaluate
    from hrnet.runs import train as train
    from hrnet.segmentation.spec import SegmentationSpec as SegmentationSpec
    from hrnet.tasks import create_model as create_model

__version__ = "0.1.0"
# Public names by the module that has them, which is imported with the first name that is used: `hrnet --help` needs no
# torch. tests/test_public_face.py holds this table and the imports above equal.
_MODULES = {
    "hrnet.classification.spec": ("ClassificationSpec",),
    "hrnet.detection.spec": ("DetectionSpec",),
    "hrnet.errors": ("InputError",),
    "hrnet.io.models": ("convert", "list_models", "save"),
    "hrnet.io.zoo": ("load",),
    "hrnet.nn.backbone": ("HRNet",),
    "hrnet.nn.backbone_model": ("features_only",),
    "hrnet.pose.spec": ("PoseSpec",),
    "hrnet.predictor": ("Predictor",),
    "hrnet.results": ("Classification", "Detections", "Poses", "SemanticMap"),
    "hrnet.runs": ("Run", "check_data", "evaluate", "train"),
    "hrnet.segmentation.spec": ("SegmentationSpec",),
    "hrnet.tasks": ("create_model",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __dir__() -> list[str]:
    return sorted(["__version__", "spec", *_MODULE_OF])


if not _typing.TYPE_CHECKING:  # a type checker would take every name to be there

    def __getattr__(name: str) -> object:
        if name == "spec":
            return _importlib.import_module("hrnet.nn.spec")
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'hrnet' has no attribute {name!r}")
        return getattr(_importlib.import_module(_MODULE_OF[name]), name)
