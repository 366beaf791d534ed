"""Types and shapes: they are checked in every test, and a program that uses hrnet sees them."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

import hrnet
from hrnet.engine.optim import MovingAverage
from hrnet.nn.task import scale_images

# Why a public signature may hold Any.
TASK = "a name or file gives a model of a task that is known at run time only; so do models of all tasks"
JSON = "JSON: text, numbers, lists and dicts"
OPTIONAL = "a type of a library that need not be installed"
REASONS = {
    "TaskModel[Any, Any] | BackboneModel": TASK,
    "TaskModel[Any, Any] | str | Path": TASK,
    "TaskModel[Any, Result] | str | Path": TASK,
    "TaskModel[Any, Any] | Predictor[Any] | str | Path | None": TASK,
    "HRNetModel[Any]": TASK,
    "Recipe[Any, Any]": TASK,
    "dict[str, Any]": JSON,
    "Any": OPTIONAL,
}


def test_shapes_and_types_are_checked_in_every_test() -> None:
    """Images are `n c h w`: one image without its batch is refused on its way in, though the code would take it."""
    assert scale_images(torch.zeros(1, 3, 4, 5)).shape == (1, 3, 4, 5)
    with pytest.raises(TypeCheckError, match="'images'"):
        scale_images(torch.zeros(3, 4, 5))
    with pytest.raises(TypeCheckError, match="'decay'"):
        MovingAverage(torch.nn.Linear(1, 1), "0.9")  # pyright: ignore[reportArgumentType]  # on purpose


def test_type_checkers_know_the_types_of_the_installed_package(tmp_path: Path) -> None:
    """Oracle: pyright's report about an installed copy, which an editable installation does not give."""
    root = tmp_path / "environment"
    venv.create(root, symlinks=os.name != "nt")
    places = {"base": str(root), "platbase": str(root), "installed_base": str(root), "installed_platbase": str(root)}
    packages = Path(sysconfig.get_path("purelib", "venv", places))
    shutil.copytree(
        Path(hrnet.__file__).parent, packages / "hrnet", ignore=shutil.ignore_patterns("assets", "__pycache__")
    )
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    scripts = sysconfig.get_path("scripts", "venv", places)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = os.pathsep.join([scripts, environment["PATH"]])
    command = [sys.executable, "-m", "pyright", "--verifytypes", "hrnet", "--ignoreexternal", "--outputjson"]
    answer = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    found = json.loads(answer.stdout)["typeCompleteness"]
    assert Path(found["pyTypedPath"]) == packages / "hrnet/py.typed"
    unknown = [one["name"] for one in found["symbols"] if one["isExported"] and not one["isTypeKnown"]]
    assert found["exportedSymbolCounts"]["withKnownType"] > 2000
    assert found["completenessScore"] >= 0.98, unknown


def hints(value: object) -> Iterator[str]:
    """Annotations of a public function, or of all public methods of a class."""
    if inspect.isclass(value):
        for name, method in vars(value).items():
            if not name.startswith("_") or name in ("__init__", "__call__"):
                yield from hints(method)
    elif inspect.isfunction(value):
        signature = inspect.signature(value)
        yield from (str(parameter.annotation) for parameter in signature.parameters.values())
        yield str(signature.return_annotation)


def test_any_on_the_public_face_has_a_reason() -> None:
    found = {text for name in dir(hrnet) for text in hints(getattr(hrnet, name)) if re.search(r"\bAny\b", text)}
    assert found == set(REASONS)
