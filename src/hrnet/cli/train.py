"""`hrnet train`: train a recipe on a data set."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from hrnet.engine.recipe import BEST, Recipe

USAGE = """usage: hrnet train RECIPE [--out DIR] [--init MODEL] [--resume] [--dry-run] [--data.* ...]
                          [--train.* ...] [--model.* ...]

RECIPE is a name from `hrnet recipes`, or the recipe.json or the folder of an earlier run.
hrnet train RECIPE --help lists every option with the recipe's value.
hrnet train FOLDER --resume continues an interrupted run."""


@dataclass(frozen=True, slots=True)
class _Options:
    """Train a recipe. The run folder keeps the recipe, the log, the last states and the best model."""

    out: Path | None = None
    """run folder; by default the folder that is resumed, else runs/RECIPE"""
    init: str | None = None
    """model of any task to start from; weights that do not fit stay new, and are named"""
    resume: bool = False
    """continue from the run folder's last state"""
    dry_run: bool = False
    """take two steps, print the plan of the run, write nothing"""
    flip: bool = False
    """average with horizontally flipped inputs when scoring"""
    device: Literal["auto", "cpu"] = "auto"
    """auto: the GPU, where there is one"""


def main(arguments: list[str]) -> int:
    from hrnet.runs import plan, process_rank, train
    from hrnet.tasks import find_recipe

    name, *rest = arguments
    options, recipe = _parse(find_recipe(name), rest)
    first = process_rank() == 0

    def say(message: str) -> None:
        if first:
            print(f"hrnet train: {message}", file=sys.stderr)

    shared: dict[str, Any] = {name: getattr(options, name) for name in ("init", "flip", "device")}
    if options.dry_run:
        text = plan(recipe, on_message=say, **shared)
        if first:
            print(text)
        return 0
    out = options.out or (name if options.resume and Path(name).is_dir() else None)
    run = train(recipe, out=out, resume=options.resume, on_message=say, **shared)
    if first and not run.interrupted:
        for metric, value in run.metrics.items():
            print(f"{metric:<24} {value:.4g}")
        print(f"{run.folder / BEST} is the model: hrnet predict {run.folder} IMAGES")
    return 0


def _parse(recipe: Recipe[Any, Any], arguments: list[str]) -> tuple[_Options, Recipe[Any, Any]]:
    """Return the options, and the recipe with the fields that the command line changes."""
    from hrnet.tasks import task_of

    changeable = [
        (name, type(getattr(recipe, name)), field(default=getattr(recipe, name))) for name in ("data", "train", "model")
    ]
    combined = make_dataclass("Train", changeable, bases=(_Options,), frozen=True)
    combined.__doc__ = _Options.__doc__
    fixed = () if task_of(recipe.model).nested_choices else (tyro.conf.AvoidSubcommands,)
    parsed: Any = tyro.cli(combined, args=arguments, prog=f"hrnet train {recipe.name}", config=fixed)
    return parsed, replace(recipe, data=parsed.data, train=parsed.train, model=parsed.model)
