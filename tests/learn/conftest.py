"""How a small network learns a batch by heart."""

from collections.abc import Callable

import pytest
import torch

from hrnet.nn.task import Batch, TaskModel


@pytest.fixture
def learn() -> Callable[[TaskModel, Batch, int, float], None]:
    """Adam for some steps from a rate down to a fiftieth of it; the model is then ready to predict."""

    def learned(model: TaskModel, batch: Batch, steps: int, rate: float) -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.02, steps)
        model.train()
        for _ in range(steps):
            total = torch.stack(list(model.loss(batch).values())).sum()
            optimizer.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            falling.step()
        model.eval()

    return learned
