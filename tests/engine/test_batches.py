"""Which samples make up an epoch. Oracle: counting."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from hrnet.engine.batches import Batches
from hrnet.engine.processes import Processes
from hrnet.engine.recipe import TrainSpec
from hrnet.nn.task import SampleKey, random_generator


@dataclass
class Process(Processes):
    """One of several processes, without a group."""

    rank: int
    world: int

    def __post_init__(self) -> None:
        pass


def epoch_of(count: int, batch: int, epoch: int = 0, world: int = 1) -> list[SampleKey]:
    spec = TrainSpec(epochs=epoch + 1, batch=batch)
    return [
        key
        for rank in range(world)
        for keys in Batches(count, spec, Process(rank, world))
        for key in keys
        if key.epoch == epoch
    ]


@pytest.mark.parametrize(("count", "batch"), [(31, 16), (16, 16), (5, 16), (1, 4), (33, 16), (7, 1)])
@pytest.mark.parametrize("world", [1, 2])
def test_every_sample_is_in_every_epoch(count: int, batch: int, world: int) -> None:
    """None twice more than another, none twice with the same augmentation, and full batches."""
    if batch % world:
        return
    for epoch in range(2):
        keys = epoch_of(count, batch, epoch, world)
        times = Counter(key.sample for key in keys)
        assert set(times) == set(range(count))
        assert max(times.values()) - min(times.values()) <= 1
        assert len(set(keys)) == len(keys) == -(-count // batch) * batch


def test_repetitions_are_augmented_anew() -> None:
    draws = {float(random_generator(0, key).random()) for key in epoch_of(5, 16)}
    assert len(draws) == 16


def test_the_order_of_an_epoch_does_not_share_random_numbers_with_a_sample() -> None:
    """The permutation that sample 0 would draw is not the order of its epoch, nor are two epochs in one order."""
    for epoch in range(3):
        order = [key.sample for key in epoch_of(64, 64, epoch)]
        for sample in range(3):
            drawn = random_generator(0, SampleKey(epoch, sample)).permutation(64)
            assert not np.array_equal(order, drawn)
        assert order != [key.sample for key in epoch_of(64, 64, epoch + 1)]
