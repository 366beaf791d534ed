"""Run a model over a data set and score it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hrnet.engine.batches import Share, reading
from hrnet.engine.evaluator import Evaluator
from hrnet.engine.processes import Processes
from hrnet.engine.progress import Progress
from hrnet.nn.task import Batch, SampleSource, TaskModel, as_arrays

Forward = Callable[[Tensor], Any]


class Interrupted(Exception):  # noqa: N818  # a wish, not an error
    """Somebody wants to stop."""


def evaluate(
    model: TaskModel[Any, Any],
    samples: SampleSource,
    evaluator: Evaluator,
    *,
    device: torch.device,
    forward: Forward | None = None,
    flip: bool = False,
    batch: int = 32,
    workers: int = 0,
    processes: Processes | None = None,
    stop: Callable[[], bool] = bool,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Metrics of a model, the same in all processes. The evaluator gets the results in order, in the first process only.

    Args:
        model: in evaluation mode on `device`.
        samples: what to run on.
        evaluator: what scores the results.
        forward: a compiled form of the model's forward; the model itself if None.
        flip: average with the mirrored images.
        batch: samples that go through the network together in one process.
        processes: that share the samples, each of which is seen once; None for this one alone.
        stop: asked between batches.

    Raises:
        Interrupted: `stop` said so in any process.
    """
    processes = processes or Processes()
    share = Share(len(samples), batch, processes)
    with reading(samples, share, workers) as loader:
        for _ in range(share.rounds):
            # At the end some processes have nothing left, but speak with the others as before.
            pairs: list[tuple[int, Any]] = []
            current = next(loader, None)
            if current is not None:
                current = current.to(device)
                pairs = list(zip(current.indices, run_batch(model, current, forward or model, flip), strict=True))
            gathered = processes.gather([(stop(), pairs)])
            if any(stopped for stopped, _ in gathered):
                raise Interrupted
            found = sorted((pair for _, pairs in gathered for pair in pairs), key=lambda pair: pair[0])
            if processes.first:
                evaluator.update([index for index, _ in found], [result for _, result in found])
            if progress:
                progress.advance(len(found))
    return processes.share(evaluator.compute() if processes.first else {})


@torch.inference_mode()
def run_batch(model: TaskModel[Any, Any], batch: Batch, forward: Forward, flip: bool) -> Sequence[Any]:
    """Return the results of one batch, averaged with its horizontal flip if `flip`."""
    processor, outputs = model.processor, as_arrays(forward(batch.images))
    if flip:
        flipped = as_arrays(forward(batch.images.flip(-1)))
        outputs = processor.merge_flip(outputs, flipped, batch.frames[0].size)
    return processor.decode(outputs, batch.frames)
