"""Several processes, forked by runs.py. Oracles: one process; the positions of the set; exit statuses."""

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 7, 22])
def test_every_sample_is_scored_once_and_in_order(program: Any, world: int, count: int) -> None:
    # Oracle: the positions themselves, and the metrics of one process. Batches of other sizes sum in another order
    # inside the convolutions, 1e-7 relative; the distances that the metric is the mean of are found on a grid.
    one, found = (
        json.loads((program.out / f"evaluate-{number}.json").read_text())[str(count)] for number in (1, world)
    )
    assert found["seen"] == list(range(count))
    assert found["metrics"] == pytest.approx(one["metrics"], abs=1e-9)


def test_synchronized_norms_are_those_of_the_whole_batch(program: Any) -> None:
    # Oracle: torch's batch norm of the whole batch, in runs.py; statistics of single processes differ by a tenth.
    assert program.statuses["norm:2"] == [0, 0]
    assert program.statuses["norm:3"] == [0, 0, 0]


def test_two_processes_with_synchronized_norms_are_one_with_the_whole_batch(program: Any) -> None:
    # Oracle: one process; fifty steps of SGD in double precision. The heatmaps are rounded to single precision in the
    # loss, alike in both but for ties, which leaves about 1e-9.
    one, two = (load_file(program.out / f"synchronized-{world}/last.safetensors") for world in (1, 2))
    assert one.keys() == two.keys()
    moved = 0.0
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
        moved = max(moved, float(np.abs(value).max()))
    assert moved > 0.1
    losses = [
        [json.loads(line)["loss"]["heatmaps"] for line in path.read_text().splitlines() if "loss" in line]
        for path in (program.out / f"synchronized-{world}/log.jsonl" for world in (1, 2))
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_all_processes_stop_at_one_step_when_one_is_asked_to(program: Any) -> None:
    # The signal reaches process 1 in its fifth step, which both finish; two steps an epoch.
    assert program.statuses["stop:2"] == [0, 0]
    assert [(program.out / f"stop/stopped-{rank}").read_text() for rank in (0, 1)] == ["15 5", "15 5"]
    tensors = load_file(program.out / "stop/run/last.safetensors")
    assert tensors["optimizer.0.step"] == 5


def test_a_dead_process_ends_the_others_and_is_named(program: Any) -> None:
    first, second = program.statuses["die:2"]
    assert (first, second) == (1, -9)
    assert "process 1 of 2" in program.said("die", 2, 0)
    assert "has died" in program.said("die", 2, 0)


def test_a_label_that_one_process_finds_broken_stops_all_with_its_file(program: Any) -> None:
    assert program.statuses["label:2"] == [1, 1]
    for rank in (0, 1):
        assert "The label 'heatmaps' of sticks/3.png is not finite" in program.said("label", 2, rank)


def test_a_killed_run_resumes_to_the_same_bits(program: Any) -> None:
    # Oracle: the same run, left alone. SIGKILL in the fifth of eight steps, a state after every step.
    assert [program.statuses[f"{name}:1"] for name in ("whole", "killed", "resumed")] == [[0], [-9], [0]]
    whole, parts = (load_file(program.out / f"{name}/last.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert np.array_equal(value, parts[name]), name
