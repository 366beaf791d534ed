"""The structure that docs/architecture.md promises: no cycle, no concrete task outside its folder, small functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src/hrnet"
TASKS = ("pose", "segmentation", "detection", "classification")
# Types of single tasks: a test for one of them outside a task folder is knowledge of that task.
CONCRETE = {f"{task.capitalize()}{kind}" for task in TASKS for kind in ("Model", "Spec", "Processor", "Recipe", "Data")}
CONCRETE |= {"Poses", "SemanticMap", "Detections", "Classification", "RCNN", "FCOS", "CenterNet"}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def test_no_module_imports_itself_through_others() -> None:
    """Oracle: grimp's graph of all imports, also those inside functions; a cycle of modules is a strong component."""
    graph = grimp.build_graph("hrnet")
    chains = []
    for module in sorted(graph.modules):
        for imported in sorted(graph.find_modules_directly_imported_by(module)):
            chain = graph.find_shortest_chain(imported, module)
            if chain:
                chains.append((module, *chain))
    assert chains == []


def concrete_checks(tree: ast.AST) -> Iterator[int]:
    """Lines with `isinstance`, a match class or a comparison of a type, of one task."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("isinstance", "issubclass")
        ):
            names = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
            names |= {inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)}
            if names & CONCRETE:
                yield node.lineno
        elif isinstance(node, ast.MatchClass):
            name = node.cls.id if isinstance(node.cls, ast.Name) else getattr(node.cls, "attr", "")
            if name in CONCRETE:
                yield node.cls.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("hasattr", "getattr"):
            texts = {inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant)}
            if texts & {"skeleton", "detector", "codec", "masks", "keypoints", "class_names"}:
                yield node.lineno


def test_no_concrete_task_is_asked_for_outside_its_folder() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{line}"
        for path in modules()
        if path.relative_to(SOURCE).parts[0] not in (*TASKS, "tasks.py")
        for line in concrete_checks(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_functions_have_at_most_60_lines_and_files_450() -> None:
    long = []
    for path in modules():
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(SOURCE)
        if len(text.splitlines()) > 450:
            long.append(f"{name}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                lines = node.end_lineno - node.lineno + 1
                if lines > 60:
                    long.append(f"{name}: {node.name} has {lines} lines")
    assert long == []


def test_the_root_has_at_most_20_entries() -> None:
    entries = [path.name for path in SOURCE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 20, sorted(entries)


@pytest.mark.parametrize("module", ["hrnet", "hrnet.predictor", "hrnet.tasks", "hrnet.results", "hrnet.cli.predict"])
def test_what_predicts_without_torch_imports_none(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
