"""Run a model over a data set and score it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hrnet.engine.progress import Progress
from hrnet.task import Batch, Evaluator, SampleSource, TaskModel

Forward = Callable[[Tensor], Any]


class _Slice:
    """The positions of one process: every `world`-th, so that each is seen exactly once whatever the numbers."""

    def __init__(self, count: int, rank: int, world: int) -> None:
        self.positions = range(rank, count, world)

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)

    def __len__(self) -> int:
        return len(self.positions)


def evaluate(
    model: TaskModel[Any],
    samples: SampleSource,
    evaluator: Evaluator,
    *,
    device: torch.device,
    forward: Forward | None = None,
    flip: bool = False,
    batch: int = 32,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    gather: Callable[[list[Any]], list[Any]] = list,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Metrics of a model.

    Args:
        model: in evaluation mode on `device`.
        samples: what to run on.
        evaluator: what scores the results.
        forward: a compiled form of the model's forward; the model itself if None.
        flip: average with the mirrored images.
        rank: which of `world` processes this is; results are brought together by `gather`.
    """
    loader = DataLoader(
        samples,  # type: ignore[arg-type]  # a SampleSource is all that the loader needs of a Dataset
        batch_size=batch,
        sampler=_Slice(len(samples), rank, world),
        collate_fn=Batch.stack,
        num_workers=workers,
    )
    for found in loader:
        current: Batch = found.to(device)
        results = run_batch(model, current, forward or model, flip)
        pairs = gather(list(zip(current.indices, results, strict=True)))
        evaluator.update([index for index, _ in pairs], [result for _, result in pairs])
        if progress:
            progress.advance(len(pairs))
    return evaluator.compute()


@torch.inference_mode()
def run_batch(model: TaskModel[Any], batch: Batch, forward: Forward, flip: bool) -> Sequence[Any]:
    """Results of one batch, averaged with its mirror image if `flip`."""
    outputs = forward(batch.images)
    if flip:
        outputs = model.merge_flip(outputs, forward(batch.images.flip(-1)), batch.frames[0].size)
    return model.decode(outputs, batch.frames)
