"""Run a model over a data set and score it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hrnet.engine.batches import EvaluationBatches, reading
from hrnet.engine.evaluator import Evaluator
from hrnet.engine.processes import Processes
from hrnet.engine.progress import Progress
from hrnet.nn.task import Batch, SampleSource, TaskModel, as_arrays

Forward = Callable[[Tensor], Any]


class Interrupted(Exception):  # noqa: N818  # not an error
    """An evaluation that was asked to stop."""


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
    """Score a model on a data set and return the metrics by name, the same in all processes.

    The evaluator gets the results in order, in the first process only.

    Args:
        model: model in evaluation mode on `device`.
        forward: compiled forward of the model; None for the model itself.
        flip: True to average with horizontally flipped inputs.
        batch: batch size of one process.
        processes: processes that divide the samples; None for a single process.
        stop: function that returns True to interrupt, called between batches.

    Raises:
        Interrupted: `stop` returned True in any process.
    """
    processes = processes or Processes()
    batches = EvaluationBatches(len(samples), batch, processes)
    with reading(samples, batches, workers) as loader:
        for _ in range(batches.rounds):
            # In the last round some processes have no batch left, but take part in the collective.
            pairs: list[tuple[int, Any]] = []
            current = next(loader, None)
            if current is not None:
                current = current.to(device)
                pairs = list(zip(current.indices, run_batch(model, current, forward or model, flip), strict=True))
            gathered = processes.gather([(stop(), pairs)])
            if any(stopped for stopped, _ in gathered):
                raise Interrupted
            results = sorted((pair for _, pairs in gathered for pair in pairs), key=lambda pair: pair[0])
            if processes.first:
                evaluator.update([index for index, _ in results], [result for _, result in results])
            if progress:
                progress.advance(len(results))
    return processes.broadcast(evaluator.compute() if processes.first else {})


@torch.inference_mode()
def run_batch(model: TaskModel[Any, Any], batch: Batch, forward: Forward, flip: bool) -> Sequence[Any]:
    """Return the results of one batch, averaged with its horizontal flip if `flip`."""
    processor, outputs = model.processor, as_arrays(forward(batch.images))
    if flip:
        flipped = as_arrays(forward(batch.images.flip(-1)))
        outputs = processor.merge_flip(outputs, flipped, batch.frames[0].size)
    return processor.decode(outputs, batch.frames)
