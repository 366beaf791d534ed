"""HRNet: high-resolution networks for keypoints, segmentation, detection and classification.

    model = hrnet.load("pose")
    for result in hrnet.Predictor(model)(["photo.jpg"]):
        result.plot().save("annotated.jpg")

Source: arXiv 1908.07919.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hrnet.errors import InputError
    from hrnet.io.zoo import load
    from hrnet.nn import spec
    from hrnet.nn.backbone import HRNet
    from hrnet.nn.features import features_only
    from hrnet.predictor import Predictor
    from hrnet.tasks import build_model as create_model

__version__ = "0.1.0"
__all__ = ["HRNet", "InputError", "Predictor", "create_model", "features_only", "load", "spec"]

# torch is imported with the first of these that is used, so that `hrnet --help` answers at once.
_PLACES = {
    "HRNet": ("hrnet.nn.backbone", "HRNet"),
    "InputError": ("hrnet.errors", "InputError"),
    "Predictor": ("hrnet.predictor", "Predictor"),
    "create_model": ("hrnet.tasks", "build_model"),
    "features_only": ("hrnet.nn.features", "features_only"),
    "load": ("hrnet.io.zoo", "load"),
    "spec": ("hrnet.nn.spec", ""),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'hrnet' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
