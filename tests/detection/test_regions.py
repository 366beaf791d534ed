import pytest
import torch
from torch.nn import functional
from torchvision.ops import roi_align

from hrnet.detection.regions import pool, pool_regions

SIZE = (24, 32)


def regions_of(images: int, count: int, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """Of all sizes, some beyond the edges, one without area, one all over the map and beyond."""
    corners = (torch.rand(count, 2, 2) * 1.2 - 0.1) * 4 * torch.tensor(size).flip(0)
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
    boxes[0, 2:] = boxes[0, :2]
    boxes[1] = torch.tensor([-31.0, -29, 170, 130])
    return torch.cat([torch.randint(images, (count, 1)).float(), boxes], 1)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("cells", [1, 7, 14])
@pytest.mark.parametrize(("size", "merge"), [(SIZE, 1), (SIZE, 2), ((3, 5), 1), ((5, 1), 1)])
def test_the_gradient_of_pooling(cells: int, legacy: bool, size: tuple[int, int], merge: int) -> None:
    """Oracle: torchvision's and torch's, in double precision."""
    torch.manual_seed(0)
    level = torch.randn(3, 5, *size, dtype=torch.float64)
    regions = regions_of(2, 40, size).double()  # The third image has none.
    weights = torch.randn(40, 5, cells, cells, dtype=torch.float64)
    points = (2, False) if legacy else (-1, True)
    expected, own = (level.clone().requires_grad_() for _ in range(2))
    values = functional.avg_pool2d(roi_align(expected, regions, cells * merge, 1 / 4, *points), merge)
    pooled = pool(own, regions, cells, 4, legacy, merge=merge)
    (values * weights).sum().backward()
    (pooled * weights).sum().backward()
    assert torch.equal(pooled, values)
    assert type(pooled.grad_fn).__name__ == "_PoolBackward"
    assert expected.grad is not None
    assert expected.grad.abs().max() > 0
    torch.testing.assert_close(own.grad, expected.grad, rtol=1e-9, atol=1e-9)


def test_no_regions() -> None:
    level = torch.randn(2, 5, *SIZE, requires_grad=True)
    pooled = pool_regions([level], torch.zeros(0, 5), 7)
    (pooled.sum() + level.sum()).backward()
    assert pooled.shape == (0, 5, 7, 7)
    assert level.grad is not None
    assert torch.equal(level.grad, torch.ones(2, 5, *SIZE))


def test_large_maps_are_torchvisions() -> None:
    level = torch.randn(1, 2, 200, 120, requires_grad=True)
    pooled = pool(level, torch.tensor([[0.0, 1, 2, 90, 80]]), 7, 4)
    assert type(pooled.grad_fn).__name__ != "_PoolBackward"
