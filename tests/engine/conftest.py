"""The small run of runs.py, as a module and as the program that several tests read the results of."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = Path(__file__).parent / "runs.py"


@pytest.fixture(scope="session")
def runs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("runs", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["runs"] = module
    spec.loader.exec_module(module)
    return module


class Program:
    """What runs.py did for all tests of the session: one import of torch for all processes."""

    tasks = (
        "evaluate:1", "evaluate:2", "evaluate:3", "norm:2", "norm:3", "synchronized:1", "synchronized:2",
        "stop:2", "die:2", "label:2", "whole:1", "killed:1", "resumed:1",
    )  # fmt: skip

    def __init__(self, out: Path) -> None:
        self.out = out
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", str(PROGRAM), str(out), *self.tasks]
        subprocess.run(command, env=environment, check=True, timeout=900, stdout=subprocess.DEVNULL)
        self.statuses: dict[str, Any] = json.loads((out / "statuses.json").read_text())

    def said(self, task: str, world: int, rank: int) -> str:
        return (self.out / f"{task}-{world}-{rank}.txt").read_text()


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return Program(tmp_path_factory.mktemp("processes"))
