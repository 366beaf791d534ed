"""`hrnet train`: a recipe and your data become a model."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from hrnet.errors import InputError

_USAGE = """usage: hrnet train RECIPE [--out DIR] [--init MODEL] [--resume] [--data.* ...] [--train.* ...] [--model.* ...]

RECIPE is a name from `hrnet recipes`, or the recipe.json of an earlier run.
hrnet train RECIPE --help lists everything that can be changed, with the recipe's values."""


@dataclass(frozen=True, slots=True)
class _Options:
    """Train a recipe. The run folder keeps the recipe, the log, the last state and the best model."""

    out: Path | None = None
    """run folder; runs/RECIPE without it"""
    init: str | None = None
    """start from this model's weights; those that do not fit are new, and named"""
    resume: bool = False
    """go on where the run folder's last state stands"""
    flip: bool = False
    """score with the mirrored pictures too"""
    device: str = "auto"
    """auto or cpu"""


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if arguments else 2
    from hrnet.tasks import find_recipe

    recipe = find_recipe(arguments[0])
    options, recipe = _parse(recipe, arguments[1:])
    out = options.out or Path("runs") / recipe.name
    _check_folder(out, options.resume)
    metrics = _train(recipe, out, options)
    for name, value in metrics.items():
        print(f"{name:<24} {value:.4g}")
    print(f"{out / 'best.safetensors'} is the model: hrnet predict {out} PICTURES")
    return 0


def _parse(recipe: Any, arguments: list[str]) -> tuple[_Options, Any]:
    """The recipe with the fields that the command line changes."""
    changeable = [
        (name, type(getattr(recipe, name)), field(default=getattr(recipe, name))) for name in ("data", "train", "model")
    ]
    general = [(name, kind, field(default=default)) for name, kind, default in _general()]
    together = make_dataclass("Train", [*general, *changeable], frozen=True)
    together.__doc__ = _Options.__doc__
    parsed = tyro.cli(together, args=arguments, prog=f"hrnet train {recipe.name}")
    options = _Options(**{name: getattr(parsed, name) for name, _, _ in _general()})
    return options, replace(recipe, data=parsed.data, train=parsed.train, model=parsed.model)


def _general() -> list[tuple[str, Any, Any]]:
    help_text = {
        "out": "run folder; runs/RECIPE without it",
        "init": "start from this model's weights; those that do not fit are new, and named",
        "resume": "go on where the run folder's last state stands",
        "flip": "score with the mirrored pictures too",
        "device": "auto or cpu",
    }
    kinds: dict[str, Any] = {"out": Path | None, "init": str | None, "resume": bool, "flip": bool, "device": str}
    defaults = _Options()
    return [
        (name, Annotated[kind, tyro.conf.arg(help=help_text[name])], getattr(defaults, name))
        for name, kind in kinds.items()
    ]


def _check_folder(out: Path, resume: bool) -> None:
    state = (out / "last.safetensors").exists() or (out / "best.safetensors").exists()
    if state and not resume:
        raise InputError(f"{out} holds a run already; add --resume to go on with it, or choose another --out.")
    if resume and not (out / "last.safetensors").exists():
        raise InputError(
            f"{out} holds no state to resume from; leave --resume out, or name the run's folder with --out."
        )


def _train(recipe: Any, out: Path, options: _Options) -> dict[str, float]:
    import torch

    from hrnet.atomic import write_text
    from hrnet.checkpoint import save_model
    from hrnet.engine.train import Trainer
    from hrnet.tasks import prepare, recipe_to_json

    torch.manual_seed(recipe.train.seed)
    job = prepare(recipe)
    for message in job.messages:
        print(f"hrnet train: {message}", file=sys.stderr)
    if options.init:
        _initialise(job.model, options.init)
    text = recipe_to_json(recipe)
    trainer = Trainer(
        job,
        recipe.train,
        out,
        recipe=text,
        save=lambda path, model, _: save_model(path, model, note=f"trained by the recipe {recipe.name}"),
        resume=options.resume,
        flip=options.flip,
        device=options.device,
    )
    write_text(out / "recipe.json", text + "\n")
    print(
        f"{len(job.train)} samples, {trainer.total} steps of {recipe.train.batch}; {out} keeps everything",
        file=sys.stderr,
    )
    try:
        return trainer.run()
    except KeyboardInterrupt:
        trainer.save_state()
        print(f"stopped; `hrnet train {out} --out {out} --resume` goes on", file=sys.stderr)
        raise


def _initialise(model: Any, source: str) -> None:
    from hrnet.foreign import read_backbone
    from hrnet.zoo import load

    try:
        state = load(source).state_dict()
    except InputError:
        # A network of a kind that is not built here may still have a backbone that is.
        if not Path(source).is_file():
            raise
        state = {f"backbone.{name}": value for name, value in read_backbone(Path(source))[1].items()}
    own = model.state_dict()
    taken = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if not taken:
        raise InputError(
            f"{source} has no weights of the shapes that this model needs; choose a model of the same backbone."
        )
    model.load_state_dict({**own, **taken})
    new = [name for name in own if name not in taken]
    print(f"{len(taken)} tensors taken from {source}, {len(new)} new: {', '.join(new) or 'none'}", file=sys.stderr)
