"""Batches of samples, and the processes that read them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from hrnet.engine.processes import Processes, ignore_stop_signals
from hrnet.engine.recipe import TrainSpec
from hrnet.errors import InputError
from hrnet.nn.task import Batch, SampleKey, SampleSource


class Batches:
    """Training batches of one process, from a step to the end of the run.

    The order of an epoch depends on the seed and the epoch alone; each process takes its slice of every batch. An epoch
    has every sample once, and its last batch is filled with some once more, augmented anew.

    Raises:
        InputError: a batch cannot be divided among the processes.
    """

    def __init__(self, count: int, spec: TrainSpec, processes: Processes, start: int = 0) -> None:
        if spec.batch % (processes.world * spec.accumulate):
            raise InputError(
                f"A batch of {spec.batch} cannot be divided among {processes.world} processes and "
                f"{spec.accumulate} accumulation steps; choose a multiple of their product."
            )
        self.count = count
        self.spec = spec
        self.start = start
        self.steps_per_epoch: int = max(-(-count // spec.batch), 1)
        self.rank: int = processes.rank
        self.world: int = processes.world
        self.micro: int = spec.batch // (processes.world * spec.accumulate)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        size = self.spec.batch
        for epoch in range(self.start // self.steps_per_epoch, self.spec.epochs):
            order = self._order(epoch)
            first = self.start % self.steps_per_epoch if epoch == self.start // self.steps_per_epoch else 0
            for step in range(first, self.steps_per_epoch):
                batch = order[step * size : (step + 1) * size]
                for part in range(self.spec.accumulate):
                    begin = (part * self.world + self.rank) * self.micro
                    yield batch[begin : begin + self.micro]

    def _order(self, epoch: int) -> list[SampleKey]:
        # The key keeps the stream apart from those of the samples.
        rng = np.random.default_rng(np.random.SeedSequence((self.spec.seed, epoch), spawn_key=(1,)))
        repetitions = -(-self.steps_per_epoch * self.spec.batch // max(self.count, 1))
        return [
            SampleKey(epoch, int(index), repetition)
            for repetition in range(repetitions)
            for index in rng.permutation(self.count)
        ]


class EvaluationBatches:
    """Positions of one process in an evaluation, in batches: every `world`-th, so that each is visited exactly once.

    Round r of all processes covers consecutive positions, so that results can be put back in order.
    """

    def __init__(self, count: int, size: int, processes: Processes) -> None:
        positions = range(processes.rank, count, processes.world)
        self.batches: list[list[int]] = [
            list(positions[begin : begin + size]) for begin in range(0, len(positions), size)
        ]
        # The first process has the most batches.
        self.rounds: int = -(-len(range(0, count, processes.world)) // size)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


@contextlib.contextmanager
def reading(samples: SampleSource, batches: Iterable[list[Any]], workers: int) -> Iterator[Iterator[Batch]]:
    """Yield an iterator of batches that worker processes read; the workers end with the block.

    Raises:
        InputError: a sample cannot be read, or a worker was killed.
    """
    loader = iter(
        DataLoader(
            samples,  # pyright: ignore[reportArgumentType]  # the loader needs no more of a Dataset than SampleSource has
            batch_sampler=batches,
            collate_fn=Batch.stack,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            worker_init_fn=ignore_stop_signals,
        )
    )
    try:
        yield _named_errors(loader)
    except RuntimeError as error:
        # PyTorch raises this in its handler of a signal, wherever the process is.
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(f"A worker that reads samples was killed ({error}); use fewer --train.workers.") from None
    finally:
        # Workers ignore SIGTERM, by which Python would end them, and would be waited for forever.
        if hasattr(loader, "_shutdown_workers"):
            with contextlib.suppress(RuntimeError):  # the same once more
                loader._shutdown_workers()  # pyright: ignore[reportAttributeAccessIssue]  # of the multi-process iterator


def _named_errors(loader: Iterator[Batch]) -> Iterator[Batch]:
    try:
        yield from loader
    except InputError as error:
        # An error of a worker has the worker's traceback in front.
        last = str(error).strip().splitlines()[-1]
        raise InputError(last.removeprefix(f"{InputError.__module__}.InputError: ")) from None
