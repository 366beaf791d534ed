"""`hrnet train`: a recipe and your data become a model."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from hrnet.engine.recipe import BEST, LOG, RECIPE
from hrnet.errors import InputError

_USAGE = """usage: hrnet train RECIPE [--out DIR] [--init MODEL] [--resume] [--dry-run] [--data.* ...]
                          [--train.* ...] [--model.* ...]

RECIPE is a name from `hrnet recipes`, or the recipe.json or the folder of an earlier run.
hrnet train RECIPE --help lists everything that can be changed, with the recipe's values.
hrnet train FOLDER --resume goes on with a run that was stopped."""

# What may differ when a run is resumed, because the weights do not depend on it.
_FREE = {"train.workers", "train.save_every", "train.timeout", "train.trackers", "train.examples"}


@dataclass(frozen=True, slots=True)
class _Options:
    """Train a recipe. The run folder keeps the recipe, the log, the last states and the best model."""

    out: Path | None = None
    """run folder; without it the folder that is resumed, else runs/RECIPE"""
    init: str | None = None
    """start from this model's weights, of any task; those that do not fit are new, and named"""
    resume: bool = False
    """go on where the run folder's last state stands"""
    dry_run: bool = False
    """take two steps, print the plan of the run, leave nothing behind"""
    flip: bool = False
    """score with the mirrored images too"""
    device: Literal["auto", "cpu"] = "auto"
    """auto: the GPU, where there is one"""


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if arguments else 2
    from hrnet.tasks import find_recipe

    recipe = find_recipe(arguments[0])
    options, recipe = _parse(recipe, arguments[1:])
    again = Path(arguments[0]) if options.resume and Path(arguments[0]).is_dir() else None
    out = options.out or again or Path("runs") / recipe.name
    if options.resume and options.init:
        raise InputError("--resume goes on with the run's own weights; leave out --init.")
    try:
        # The other processes may come when the first has written something already.
        if _rank() == 0 and not options.dry_run:
            _check_folder(out, recipe, options.resume)
        return _train(recipe, out, options)
    except InputError as error:
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            raise
        raise InputError(f"process {_rank()} of {world}: {error}") from error


def _rank() -> int:
    """The number of this process, as `torchrun` says."""
    return int(os.environ.get("RANK", "0"))


def _parse(recipe: Any, arguments: list[str]) -> tuple[Any, Any]:
    """The options, and the recipe with the fields that the command line changes."""
    from hrnet.tasks import task_of

    changeable = [
        (name, type(getattr(recipe, name)), field(default=getattr(recipe, name))) for name in ("data", "train", "model")
    ]
    together = make_dataclass("Train", changeable, bases=(_Options,), frozen=True)
    together.__doc__ = _Options.__doc__
    # The recipe has chosen the family of a detector, whose fields are options like all others; the object context of a
    # segmentation network may be chosen here.
    fixed = () if task_of(recipe.model).nested_choices else (tyro.conf.AvoidSubcommands,)
    parsed: Any = tyro.cli(together, args=arguments, prog=f"hrnet train {recipe.name}", config=fixed)
    return parsed, replace(recipe, data=parsed.data, train=parsed.train, model=parsed.model)


def _check_folder(out: Path, recipe: Any, resume: bool) -> None:
    """Raises InputError where the folder's run would be lost, or cannot be gone on with."""
    from hrnet.engine.state import has_state, read_recipe
    from hrnet.tasks import recipe_from_json, recipe_to_json

    begun = has_state(out) or any((out / name).exists() for name in (RECIPE, LOG, BEST))
    if begun and not resume:
        raise InputError(f"{out} holds a run already; add --resume to go on with it, or choose another --out.")
    if resume and not begun:
        raise InputError(f"{out} holds no run to resume; leave --resume out, or name the run's folder with --out.")
    text = read_recipe(out) if resume else None
    if not text:
        return
    try:
        before = json.loads(recipe_to_json(recipe_from_json(text)))
    except ValueError as error:
        raise InputError(f"{out} was begun by another version of this program ({error}); use that one.") from None
    changes = [
        f"{name} was {old}, is {new}"
        for name, old, new in _differences(before, json.loads(recipe_to_json(recipe)))
        if name not in _FREE
    ]
    if changes:
        raise InputError(
            f"{out} was begun with another recipe ({'; '.join(changes)}); resume with the values it had "
            f"(`hrnet train {out} --resume`), or start in another folder with --init {out}."
        )


def _differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each field with two values, by its dotted name."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() | new.keys():
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield name, old, new


def _train(recipe: Any, out: Path, options: Any) -> int:
    import torch

    from hrnet.engine.train import Trainer
    from hrnet.io.checkpoint import save_model
    from hrnet.tasks import prepare, recipe_to_json

    torch.manual_seed(recipe.train.seed)
    job = prepare(recipe)
    _say(*job.messages)
    if options.flip and not job.model.flips:
        raise InputError(f"{recipe.name} has no average over mirrored images; leave out --flip.")
    if options.init and not options.resume:
        _initialize(job.model, options.init)
    resume = f"`hrnet train {out} --resume` goes on."
    trainer = Trainer(
        job,
        recipe.train,
        out,
        recipe=recipe_to_json(recipe),
        save=lambda path, model, _: save_model(path, model, note=f"trained by the recipe {recipe.name}"),
        resume=options.resume and not options.dry_run,
        flip=options.flip,
        device=options.device,
        cure=resume,
        report=lambda evaluator, metrics: _report(out, evaluator, metrics),
    )
    _say(*trainer.messages)
    if options.dry_run:
        from hrnet.engine.plan import rehearse

        plan = rehearse(trainer)
        if trainer.processes.first:
            print(plan)
        return 0
    return _run(trainer, recipe, out, resume)


def _run(trainer: Any, recipe: Any, out: Path, resume: str) -> int:
    from hrnet.io.atomic import write_text

    if trainer.processes.first:
        # Kept as it is when the run goes on: it may have free fields of another value now.
        if not (out / RECIPE).exists():
            write_text(out / RECIPE, trainer.position.recipe + "\n")
        _say(f"{len(trainer.job.train)} samples, {trainer.total} steps of {recipe.train.batch}; {out} keeps everything")
    metrics = trainer.run()
    if trainer.stopped:
        if trainer.processes.first:
            _say(f"stopped after step {trainer.position.step} of {trainer.total}, which is saved; {resume}")
        if trainer.stopped == signal.SIGINT:
            raise KeyboardInterrupt
        return 0
    if trainer.processes.first:
        for name, value in metrics.items():
            print(f"{name:<24} {value:.4g}")
        print(f"{out / BEST} is the model: hrnet predict {out} IMAGES")
    return 0


def _report(out: Path, evaluator: Any, metrics: dict[str, float]) -> None:
    """Write the run's page. The run goes on without one where it cannot be written."""
    from hrnet.vis.report import write_run_report

    try:
        write_run_report(out, evaluator, metrics)
    except InputError as error:
        _say(str(error))


def _say(*messages: str) -> None:
    if _rank() == 0:
        for message in messages:
            print(f"hrnet train: {message}", file=sys.stderr)


def _initialize(model: Any, source: str) -> None:
    from hrnet.engine.transfer import transfer
    from hrnet.foreign import read_backbone
    from hrnet.io.checkpoint import is_model
    from hrnet.io.zoo import load

    try:
        found = load(source)
        state, outputs = found.state_dict(), found.named_outputs()
    except InputError:
        # A network of a kind that is not built here may still have a backbone that is.
        path = Path(source)
        if not path.is_file() or (path.suffix == ".safetensors" and is_model(path)):
            raise
        state = {f"backbone.{name}": value for name, value in read_backbone(path)[1].items()}
        outputs = {}
    _say(*transfer(model, state, outputs, source))
