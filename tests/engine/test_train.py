"""One process: stopping, resuming, refusing. Oracles: the run left alone; what was put in; the closed form."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hrnet.engine.journal import EXAMPLES
from hrnet.engine.plan import rehearse
from hrnet.engine.recipe import BEST, LOG, PREVIOUS, STATE
from hrnet.errors import InputError
from hrnet.nn.task import Batch, Sample, SampleKey


def curves(out: Path) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    lines = [json.loads(line) for line in (out / LOG).read_text().splitlines()]
    return [{name: line[name] for name in line.keys() - {"seconds", "samples_per_second"}} for line in lines]


def assert_same(one: Path, other: Path) -> None:
    a, b = load_file(one / STATE), load_file(other / STATE)
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name
    assert curves(one) == curves(other)


@pytest.mark.parametrize(("workers", "optimizer"), [(0, "adamw"), (2, "muon")])
def test_stopped_at_any_step_and_resumed_is_like_left_alone(
    runs: Any, tmp_path: Path, workers: int, optimizer: str
) -> None:
    spec = replace(runs.TRAIN, workers=workers, optimizer=optimizer, accumulate=2)
    runs.make_trainer(tmp_path / "whole", spec).run()
    # Four epochs of two steps; also at the end of an epoch, before its evaluation.
    for stop in (3, 4, 7) if workers == 0 else (3,):
        out = tmp_path / f"stopped-{stop}"
        trainer = runs.make_trainer(out, spec)
        take = trainer.step

        def counted(*arguments: Any, trainer: Any = trainer, take: Any = take, stop: int = stop) -> Any:
            if trainer.position.step == stop - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return take(*arguments)

        trainer.step = counted
        trainer.run()
        assert (trainer.stopped, trainer.position.step) == (signal.SIGTERM, stop)
        runs.make_trainer(out, spec, resume=True).run()
        assert_same(tmp_path / "whole", out)


def test_stopping_inside_an_evaluation_begins_it_again(runs: Any, tmp_path: Path, monkeypatch: Any) -> None:
    runs.make_trainer(tmp_path / "whole").run()
    trainer = runs.make_trainer(tmp_path / "parts")
    sample = runs.Sticks.__getitem__

    def asked(self: Any, key: Any) -> Sample:
        if isinstance(key, int) and trainer.position.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return sample(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(runs.Sticks, "__getitem__", asked)
        trainer.run()
    assert (trainer.position.step, trainer.position.evaluated) == (4, 2)
    metrics = runs.make_trainer(tmp_path / "parts", resume=True).run()
    assert metrics["count"] == 5
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_lines_of_steps_that_are_done_again_leave_the_log(runs: Any, tmp_path: Path) -> None:
    runs.make_trainer(tmp_path / "whole").run()
    out = tmp_path / "parts"
    runs.make_trainer(out).run()
    # As after a kill: the state of step 6 (PREVIOUS), a log that goes on to step 8.
    (out / PREVIOUS).replace(out / STATE)
    trainer = runs.make_trainer(out, resume=True)
    assert trainer.position.step == 6
    trainer.run()
    assert_same(tmp_path / "whole", out)


def test_a_damaged_state_falls_back_on_the_one_before(runs: Any, tmp_path: Path) -> None:
    runs.make_trainer(tmp_path / "whole").run()
    out = tmp_path / "parts"
    runs.make_trainer(out).run()
    content = bytearray((out / STATE).read_bytes())
    content[-100] ^= 1  # one bit of a tensor, which only the checksum sees
    for damaged in (bytes(content), content[:-1000], b""):
        (out / STATE).write_bytes(damaged)
        trainer = runs.make_trainer(out, resume=True)
        assert trainer.position.step == 6
        assert f"Resuming from {PREVIOUS}, step 6" in trainer.messages[0]
    trainer.run()
    assert_same(tmp_path / "whole", out)


def test_a_finished_run_resumes_to_its_metrics(runs: Any, tmp_path: Path) -> None:
    metrics = runs.make_trainer(tmp_path).run()
    before = curves(tmp_path)
    assert runs.make_trainer(tmp_path, resume=True).run() == metrics
    assert curves(tmp_path) == before


def test_what_a_killed_process_had_begun_is_removed(runs: Any, tmp_path: Path) -> None:
    (tmp_path / f".{STATE}.x1y2.partial").write_bytes(b"half")
    runs.make_trainer(tmp_path, replace(runs.TRAIN, epochs=1)).run()
    assert not list(tmp_path.glob(".*"))


def test_two_processes_do_not_train_in_one_folder(runs: Any, tmp_path: Path) -> None:
    code = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); "
        "print('held', flush=True); time.sleep(100)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="Another process trains in"):
            runs.make_trainer(tmp_path).run()
        other.kill()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    runs.make_trainer(tmp_path, replace(runs.TRAIN, epochs=1)).run()
    assert (tmp_path / STATE).exists()
    assert not (tmp_path / ".lock").exists()


class Spoiled:
    """Sticks of which one draw has a value that is not finite."""

    def __init__(self, inner: Any, where: str, at: SampleKey) -> None:
        self.inner, self.where, self.at = inner, where, at
        self.describe = inner.describe

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, key: SampleKey) -> Sample:
        sample = self.inner[key]
        image, targets = sample.image, sample.targets
        if self.where == "image":
            image = image.astype(np.float32)
        if key == self.at and self.where == "image":
            image[3, 4, 1] = np.inf
        elif key == self.at and self.where == "label":
            targets["heatmaps"][1, 0] = np.nan
        return replace(sample, image=image)


def spoil_model(model: Any, where: str) -> None:
    if where == "weight":
        model.head.weight.data[0, 0] = torch.nan
    elif where == "loss":
        model.head.weight.data *= 1e38
    elif where == "gradient":
        model.head.weight.register_hook(lambda gradient: gradient * torch.inf)


@pytest.mark.parametrize("where", ["image", "label", "weight", "loss", "gradient"])
@pytest.mark.usefixtures("unchecked")  # an image of floats
def test_what_is_not_finite_stops_the_run_before_the_step_and_is_named(runs: Any, tmp_path: Path, where: str) -> None:
    # The samples of the sixth step, the second of the third epoch, by the rule that orders them.
    rng = np.random.default_rng(np.random.SeedSequence((0, 2), spawn_key=(1,)))
    order = rng.permutation(8)[4:8]
    broken = int(order[1])
    train = Spoiled(runs.Sticks(8), where, SampleKey(2, broken))
    told: list[Any] = []
    options: dict[str, Any] = {"job": {"train": train}, "report": lambda *arguments: told.append(arguments)}
    trainer = runs.make_trainer(tmp_path, replace(runs.TRAIN, save_every=0), **options)
    take, before = trainer.step, {}

    def spoil(*arguments: Any) -> Any:
        if trainer.position.step == 5:
            spoil_model(trainer.model, where)
            before.update({name: value.detach().clone() for name, value in trainer.model.named_parameters()})
            before["state"] = (tmp_path / STATE).read_bytes()
        return take(*arguments)

    trainer.step = spoil
    with pytest.raises(InputError) as caught:
        trainer.run()
    said = str(caught.value)
    names = {
        "image": f"The image of sticks/{broken}.png",
        "label": f"The label 'heatmaps' of sticks/{broken}.png",
        "weight": "The weight head.weight",
        "loss": "The loss 'heatmaps'",
        "gradient": "The gradient of head.weight",
    }
    assert said.startswith(f"{names[where]} is not finite at step 5")
    if where not in ("image", "label"):
        assert all(f"sticks/{index}.png" in said for index in order)
    for name, value in trainer.model.named_parameters():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    assert (tmp_path / STATE).read_bytes() == before["state"]
    # Two epochs were scored; then there is only the reason.
    assert curves(tmp_path)[-1]["stopped"] == said
    assert [metrics for _, metrics in told] == [line["metrics"] for line in curves(tmp_path) if "metrics" in line] + [
        {}
    ]
    assert told[-1][0] is None


def test_runs_of_different_precision_follow_one_another_in_a_process(runs: Any, tmp_path: Path) -> None:
    # Oracle: what was asked for, whatever came before.
    for precision, named in (("bf16", "bf16"), ("fp32", "no"), ("bf16", "bf16")):
        trainer = runs.make_trainer(tmp_path / precision, replace(runs.TRAIN, precision=precision))
        assert trainer.accelerator.mixed_precision == named


@pytest.mark.usefixtures("unchecked")  # an image of floats
def test_a_batch_of_one_pixel_is_refused_in_a_sentence(runs: Any, tmp_path: Path) -> None:
    # Oracle: 32 pixels at the lowest resolution, 1/32, are one, and the variance of one number says nothing.
    trainer = runs.make_trainer(tmp_path, replace(runs.TRAIN, batch=1))
    sample = replace(trainer.job.train[SampleKey(0, 0)], image=np.zeros((32, 32, 3), np.float32))
    with pytest.raises(InputError, match=r"one image of 32 x 32.*--train\.batch"):
        trainer.loss(Batch.stack([sample]))


def test_effective_batch_and_schedule_do_not_depend_on_accumulation(runs: Any, tmp_path: Path) -> None:
    # Oracle: one with the other; samples and learning rates of the steps, seen where they are used.
    seen = []
    for accumulate in (1, 2):
        trainer = runs.make_trainer(tmp_path / str(accumulate), replace(runs.TRAIN, accumulate=accumulate))
        trainer.run()
        drawn = [draw for batch in trainer.batches for draw in batch]
        seen.append((drawn, [line["learning_rate"] for line in curves(tmp_path / str(accumulate))]))
    assert seen[0] == seen[1]
    drawn = [draw for draw in seen[0][0] if draw.epoch == 1]
    assert sorted(draw for draw in drawn if not draw.repetition) == [SampleKey(1, index) for index in range(8)]


def test_example_images_are_few_and_small(runs: Any, tmp_path: Path) -> None:
    from PIL import Image

    runs.make_trainer(tmp_path, replace(runs.TRAIN, examples=3)).run()
    files = sorted(path.name for path in (tmp_path / EXAMPLES).iterdir())
    assert files == [f"epoch-{epoch:04}.jpg" for epoch in range(1, 5)]
    with Image.open(tmp_path / EXAMPLES / files[0]) as sheet:
        assert sheet.size == (3 * 32, 32)
        # Beside the noise of 0 to 60, the dots are there.
        assert np.asarray(sheet).max() > 150


def test_rehearsal_leaves_nothing_behind_and_says_what_will_be(runs: Any, tmp_path: Path) -> None:
    plan = rehearse(runs.make_trainer(tmp_path / "run", replace(runs.TRAIN, accumulate=2)))
    rows = {line[:20].strip(): line[20:].strip() for line in plan.splitlines()}
    assert rows["training samples"] == "8"
    assert rows["validation samples"] == "5"
    assert rows["batch"] == "4: 1 processes x 2 parts x 2 samples"
    assert rows["steps"] == "8: 4 epochs of 2"
    assert {"memory", "time", "network"} <= rows.keys()
    assert not list(tmp_path.iterdir())


def test_a_tracker_that_is_not_installed_is_named(runs: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("hrnet.engine.journal.find_spec", lambda name: None)
    with pytest.raises(InputError, match="wandb is not installed; `pip install wandb`"):
        runs.make_trainer(tmp_path, replace(runs.TRAIN, trackers=("wandb",))).run()


def test_the_best_model_is_that_of_the_best_evaluation(runs: Any, tmp_path: Path) -> None:
    # Oracle: the log, and what the evaluation gave at that step.
    from hrnet.engine.evaluate import evaluate
    from hrnet.io.zoo import load

    runs.make_trainer(tmp_path).run()
    lines = [line for line in curves(tmp_path) if "metrics" in line]
    near = [line["metrics"]["near"] for line in lines]
    best = [line["best"] for line in lines]
    assert best == [value >= max(near[:place], default=-np.inf) for place, value in enumerate(near)]
    samples = runs.Sticks(5)
    found = evaluate(load(tmp_path / BEST), samples, runs.Distance(samples), device=torch.device("cpu"), batch=4)
    assert found["near"] == max(near)


def test_of_equal_evaluations_the_later_is_the_best(runs: Any, tmp_path: Path) -> None:
    class Full(runs.Distance):
        def compute(self) -> dict[str, float]:
            return {"near": 100.0}

    samples = runs.Sticks(5)
    runs.make_trainer(tmp_path, job={"evaluator": lambda: Full(samples)}).run()
    assert all(line["best"] for line in curves(tmp_path) if "metrics" in line)


class Failing:
    """Sticks that cannot all be read."""

    def __init__(self, inner: Any, how: str) -> None:
        self.inner, self.how = inner, how

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, key: SampleKey) -> Sample:
        if key.epoch == 1 and self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if key.epoch == 1:
            raise InputError("sticks/3.png is not an image; remove it.")
        return self.inner[key]


def test_a_image_that_cannot_be_read_is_one_sentence_from_any_process(runs: Any, tmp_path: Path) -> None:
    for workers in (0, 1):
        train = Failing(runs.Sticks(8), "unreadable")
        trainer = runs.make_trainer(tmp_path / str(workers), replace(runs.TRAIN, workers=workers), job={"train": train})
        with pytest.raises(InputError, match=r"^sticks/3\.png is not an image; remove it\.$"):
            trainer.run()


def test_a_reading_process_that_is_killed_is_named(runs: Any, tmp_path: Path) -> None:
    train = Failing(runs.Sticks(8), "killed")
    trainer = runs.make_trainer(tmp_path, replace(runs.TRAIN, workers=1), job={"train": train})
    with pytest.raises(InputError, match=r"worker that reads samples was killed .*pid"):
        trainer.run()


def test_other_trackers_get_curves_and_images(runs: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Oracle: the calls that W&B and MLflow, here stood in for, get from Accelerate's trackers."""
    wandb, mlflow = MagicMock(), MagicMock()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setattr("hrnet.engine.journal.find_spec", lambda name: object())
    runs.make_trainer(tmp_path / "run", replace(runs.TRAIN, epochs=1, trackers=("wandb", "mlflow"))).run()
    assert wandb.init.call_args.kwargs["project"] == "hrnet"
    logged = [call.args[0] for call in wandb.init.return_value.log.call_args_list]
    assert any("heatmaps" in values and "learning_rate" in values for values in logged)
    assert any(EXAMPLES in values for values in logged)
    wandb.init.return_value.finish.assert_called_once()
    metrics = [call.args[0] for call in mlflow.log_metrics.call_args_list]
    assert any("near" in values for values in metrics)
    assert str(mlflow.log_artifact.call_args.kwargs["local_path"]).endswith("epoch-0001.jpg")
