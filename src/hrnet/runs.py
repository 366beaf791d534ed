"""Training, evaluation and the check of a data set from Python; the commands of these names call them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hrnet.engine.recipe import BEST, LOG, RECIPE, Recipe
from hrnet.errors import InputError
from hrnet.tasks import find_recipe, override_recipe, prepare, recipe_from_json, recipe_to_json, task_of

if TYPE_CHECKING:
    from hrnet.engine.evaluator import Evaluator
    from hrnet.engine.scoring import EvaluationOptions, Scored
    from hrnet.engine.train import Trainer
    from hrnet.formats.check import Report
    from hrnet.nn.task import TaskModel

Paths = str | Path | Sequence[str | Path]
AnyRecipe = Recipe[Any, Any]
Say = Callable[[str], None]
# Fields that may differ when a run is resumed, because the weights do not depend on them.
_FREE = {"train.workers", "train.save_every", "train.timeout", "train.trackers", "train.examples"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """A training run that ended or was interrupted.

    Attributes:
        folder: run folder with the recipe, the log, the last states and the best model; `hrnet.load` takes it.
        recipe: the recipe that was trained.
        metrics: metrics of the last evaluation by name; empty without a validation set.
        interrupted: True if SIGTERM ended the run early; `resume` continues it.
    """

    folder: Path
    recipe: Recipe[Any, Any]
    metrics: Mapping[str, float]
    interrupted: bool = False


def train(
    recipe: str | Path | AnyRecipe,
    *,
    data: Paths = (),
    annotations: Paths = (),
    out: str | Path | None = None,
    init: str | Path | None = None,
    resume: bool = False,
    flip: bool = False,
    device: Literal["auto", "cpu"] = "auto",
    overrides: Mapping[str, object] | None = None,
    on_message: Say = _log.info,
) -> Run:
    """Train a recipe on a data set.

        run = hrnet.train("pose-own", data="photos", annotations="labels.json", init="pose", overrides={"train.epochs": 20})
        model = hrnet.load(run.folder)

    Args:
        recipe: name of a recipe, recipe.json or run folder, or a recipe itself.
        data: folders of training images, or of whole data sets: the recipe's ``data.images``.
        annotations: labels of each folder: the recipe's ``data.annotations``.
        out: run folder; None for the folder that is resumed, else ``runs/RECIPE``.
        init: model whose weights are the start, of any task; weights that do not fit stay new, and are named.
        resume: True to continue the run in `out` from its last state.
        flip: True to average with horizontally flipped inputs when scoring.
        device: ``auto`` for the GPU, where there is one.
        overrides: other values of the recipe's fields, by their names with dots: ``{"train.epochs": 20}``.
        on_message: function that gets each sentence about the data, the start weights and the run's end.

    Raises:
        InputError: the recipe, the data, the run folder or an override cannot be used; or a value became not finite.
        KeyboardInterrupt: Ctrl-C ended the run, whose state is saved.
    """
    chosen = _with_data(recipe, data, annotations, overrides)
    found = Path(recipe) if resume and isinstance(recipe, str | Path) and Path(recipe).is_dir() else None
    folder = Path(out) if out else found or Path("runs") / chosen.name
    if resume and init:
        raise InputError("A resumed run starts from its own weights; leave out init, or resume.")
    with _named_process():
        # Other processes may arrive when the first one has written something already.
        if process_rank() == 0:
            _check_folder(folder, chosen, resume)
        return _run(_open(chosen, folder, init, resume, flip, device, on_message), chosen, on_message)


def plan(recipe: AnyRecipe, *, init: str | Path | None, flip: bool, device: str, on_message: Say) -> str:
    """Take two steps of a training run and return its plan as a table; writes nothing. Arguments as for `train`."""
    from hrnet.engine.plan import rehearse

    with _named_process():
        return rehearse(_open(recipe, Path("runs") / recipe.name, init, False, flip, device, on_message))


def check_data(
    path: str | Path,
    *,
    images: str | Path | None = None,
    val: str | Path | None = None,
    decode: bool = False,
    data_format: str | None = None,
) -> Report:
    """Return all defects of a data set, before training on it.

    Args:
        path: file or folder of any format that training reads.
        images: folder of the images, if it is not where the format has it.
        val: validation set, to be compared with the training set.
        decode: True to decode every image, which finds damage in the middle of files.
        data_format: format of the data set, a key of `hrnet.formats.registry.READERS`; None: it is recognized.

    Raises:
        InputError: a path is of no known format.
    """
    from hrnet.formats.check import check

    return check(
        Path(path), Path(images) if images else None, Path(val) if val else None, decode=decode, data_format=data_format
    )


def process_rank() -> int:
    """Return the number of this process, which `torchrun` sets; 0 without it."""
    return int(os.environ.get("RANK", "0"))


@contextlib.contextmanager
def _named_process() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            raise
        raise InputError(f"process {process_rank()} of {world}: {error}") from error


def _with_data(
    recipe: str | Path | AnyRecipe, data: Paths, annotations: Paths, overrides: Mapping[str, object] | None
) -> AnyRecipe:
    chosen = recipe if isinstance(recipe, Recipe) else find_recipe(str(recipe))
    changes = dict(overrides or {})
    for name, paths in (("data.images", data), ("data.annotations", annotations)):
        listed = (paths,) if isinstance(paths, str | Path) else tuple(paths)
        if listed:
            changes[name] = listed
    return override_recipe(chosen, changes) if changes else chosen


def _check_folder(folder: Path, recipe: AnyRecipe, resume: bool) -> None:
    """Refuse to train where a run would be lost, or to resume with another recipe; raises InputError."""
    from hrnet.engine.state import has_state, read_recipe

    begun = has_state(folder) or any((folder / name).exists() for name in (RECIPE, LOG, BEST))
    if begun and not resume:
        raise InputError(f"{folder} holds a run already; add --resume to continue it, or choose another --out.")
    if resume and not begun:
        raise InputError(f"{folder} holds no run to resume; leave out --resume, or name the run's folder with --out.")
    text = read_recipe(folder) if resume else None
    if not text:
        return
    try:
        before = json.loads(recipe_to_json(recipe_from_json(text)))
    except ValueError as error:
        cause = f"was written by another version of hrnet ({error})"
        raise InputError(f"The recipe of {folder} {cause}; use that version.") from None
    differences = _differences(before, json.loads(recipe_to_json(recipe)))
    changes = [f"{name} was {old}, is {new}" for name, old, new in differences if name not in _FREE]
    if changes:
        raise InputError(
            f"{folder} was begun with another recipe ({'; '.join(changes)}); resume with the values it had "
            f"(`hrnet train {folder} --resume`), or start in another folder with --init {folder}."
        )


def _differences(old: object, new: object, name: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield each field that has two values, with its dotted name."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() | new.keys():
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield name, old, new


def _open(
    recipe: AnyRecipe, folder: Path, init: str | Path | None, resume: bool, flip: bool, device: str, say: Say
) -> Trainer:
    """Open a run's data and build its trainer."""
    import torch

    from hrnet.engine.train import Trainer
    from hrnet.io.checkpoint import save_model
    from hrnet.vis.report import write_run_report

    def report(evaluator: Evaluator | None, metrics: dict[str, float]) -> None:
        try:
            write_run_report(folder, evaluator, metrics)
        except InputError as error:  # a page that cannot be written does not end the run
            say(str(error))

    torch.manual_seed(recipe.train.seed)
    job = prepare(recipe)
    for message in job.messages:
        say(message)
    if flip and not job.model.processor.can_flip:
        raise InputError(f"{recipe.name} cannot average over flipped images; leave out --flip.")
    if init:
        _initialize(job.model, str(init), say)
    trainer = Trainer(
        job,
        recipe.train,
        folder,
        recipe=recipe_to_json(recipe),
        save=lambda path, model, _: save_model(path, model, note=f"trained by the recipe {recipe.name}"),
        resume=resume,
        flip=flip,
        device=device,
        cure=_how_to_resume(folder),
        report=report,
    )
    for message in trainer.messages:
        say(message)
    return trainer


def _run(trainer: Trainer, recipe: AnyRecipe, say: Say) -> Run:
    from hrnet.io.atomic import write_text

    folder = trainer.out
    if trainer.processes.first:
        # A resumed run keeps its first recipe, whose free fields may have had other values.
        if not (folder / RECIPE).exists():
            write_text(folder / RECIPE, trainer.position.recipe + "\n")
        steps = f"{trainer.total} steps of {recipe.train.batch}"
        say(f"{len(trainer.job.train)} samples, {steps}; the run folder is {folder}")
    metrics = trainer.run()
    if trainer.stopped:
        step = f"step {trainer.position.step} of {trainer.total}"
        say(f"interrupted after {step}; the state is saved. {_how_to_resume(folder)}")
        if trainer.stopped == signal.SIGINT:
            raise KeyboardInterrupt
    return Run(folder, recipe, metrics, interrupted=bool(trainer.stopped))


def _how_to_resume(folder: Path) -> str:
    return f"`hrnet train {folder} --resume` continues it."


def _initialize(model: TaskModel[Any, Any], source: str, say: Say) -> None:
    from hrnet.engine.transfer import transfer
    from hrnet.foreign import read_backbone
    from hrnet.io.checkpoint import is_model
    from hrnet.io.zoo import load

    try:
        found = load(source)
        state, outputs = found.state_dict(), found.named_outputs()
    except InputError:
        # A network that cannot be built here may still have a backbone that can.
        path = Path(source)
        if not path.is_file() or (path.suffix == ".safetensors" and is_model(path)):
            raise
        state = {f"backbone.{name}": value for name, value in read_backbone(path)[1].items()}
        outputs = {}
    for message in transfer(model, state, outputs, source):
        say(message)


def evaluate(
    model: TaskModel[Any, Any] | str | Path,
    *,
    images: str | Path,
    annotations: str | Path | None = None,
    hold_out: int = 0,
    flip: bool = False,
    report: str | Path | None = None,
    runtime: str = "auto",
    device: str = "auto",
    batch: int | None = None,
    options: Mapping[str, object] | None = None,
    on_message: Say = _log.info,
) -> dict[str, float]:
    """Return the metrics of a model on labeled images.

        metrics = hrnet.evaluate("pose", images="photos", annotations="labels.json", flip=True)

    Args:
        model: a model, or a name or path of one.
        images: folder of the images, or the whole data set.
        annotations: labels; see `hrnet evaluate MODEL --help`. None where the folder is a whole data set.
        hold_out: score only every n-th image, which a training with this number holds out; 0 for all.
        flip: True to average with the horizontally flipped inputs.
        report: folder for report.html.
        runtime: ``auto``, ``openvino`` or ``torch``.
        device: ``auto`` or a torch device.
        batch: inputs per forward; None for as many as hold two million pixels, at most 16.
        options: further options of the model's task by name: ``{"scales": (0.75, 1.0)}``.
        on_message: function that gets each sentence about the data.

    Raises:
        InputError: the model, the labels or an option cannot be used.
    """
    from hrnet.io.zoo import load

    name = str(model) if isinstance(model, str | Path) else type(model).__name__
    loaded = load(model) if isinstance(model, str | Path) else model
    kind = evaluation_options(name, loaded)
    given: dict[str, object] = {"images": Path(images), "hold_out": hold_out, "runtime": runtime, "device": device}
    given |= {"batch": batch, "report": Path(report) if report else None}
    given |= {"annotations": Path(annotations)} if annotations else {}
    given |= ({"flip": True} if flip else {}) | dict(options or {})
    try:
        chosen = kind(**given)  # pyright: ignore[reportArgumentType]  # checked by the constructor
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be evaluated so: {error}.") from None
    scored = score_model(name, loaded, chosen, on_message)
    if chosen.report:
        write_evaluation_report(name, chosen, scored)
    return dict(scored.metrics)


def evaluation_options(name: str, model: TaskModel[Any, Any]) -> type[EvaluationOptions]:
    """Return the type of the options that a model of this name is evaluated with.

    Raises:
        InputError: the model is a backbone without a head.
    """
    evaluation = task_of(model.spec).evaluation
    if evaluation is None:
        raise InputError(f"{name} is a backbone without a head, which predicts nothing that could be scored.")
    return evaluation()


def score_model(name: str, model: TaskModel[Any, Any], options: EvaluationOptions, say: Say) -> Scored:
    """Score a model of this name with the options of its task; writes the files that the options name but the report."""
    from hrnet.engine.scoring import score
    from hrnet.predictor import Predictor

    data = options.open(name, model)
    for message in data.messages:
        say(message)
    predictor = Predictor(
        model, runtime=options.runtime, device=options.device, batch=options.batch, **dict(data.settings)
    )
    scored = score(predictor.run, data, say)
    options.write(scored.evaluator)
    return scored


def write_evaluation_report(name: str, options: EvaluationOptions, scored: Scored) -> Path:
    """Write report.html of an evaluation, with the course of the run where the model is a run folder; returns its path."""
    from hrnet.vis.report import REPORT, Evaluation, is_run, read_run, write_report

    assert options.report is not None
    model, page = Path(name), options.report / REPORT
    facts = {"model": name} | {what: str(count) for what, count in scored.counts.items()}
    facts |= options.facts() | dict(scored.facts)
    run = read_run(model) if is_run(model) else None
    title = f"{model.name} on {options.images.resolve().name}"
    write_report(page, title, facts, Evaluation.of(scored.evaluator, scored.metrics), run)
    return page
