"""The optimizers: what Muon does to a convolution, and that all else is AdamW."""

from typing import Any

import pytest
import torch
from torch import nn

from hrnet.engine.optim import Muon, build_optimizer, learning_rate, orthogonalize, set_rate
from hrnet.engine.recipe import TrainSpec


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone: Any = nn.Module()
        self.backbone.conv1 = nn.Conv2d(3, 8, 3)
        self.backbone.conv2 = nn.Conv2d(8, 4, 3, bias=False)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone.conv2(self.backbone.conv1(x)))


@pytest.mark.parametrize("shape", [(3, 6, 20), (2, 20, 6), (1, 8, 8)])
def test_orthogonalize_keeps_directions_and_evens_lengths(shape: tuple[int, int, int]) -> None:
    """Oracle: the singular value decomposition. The iteration's polynomial maps [0.05, 1] into [0.65, 1.25]."""
    matrices = torch.randn(shape, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ orthogonalize(matrices) @ v.mT
    values = inner.diagonal(dim1=1, dim2=2)
    assert (inner - torch.diag_embed(values)).abs().max() < 1e-9
    assert (values.min() > 0.6, values.max() < 1.3) == (True, True)


def test_muon_moves_hidden_convolutions_by_the_size_of_adamw() -> None:
    """Oracle: a first step of AdamW moves every weight by the rate; Muon's moves by 0.2 of it in the mean square."""
    model, rate = Net(), 0.01
    before = model.backbone.conv2.weight.detach().clone()
    optimizer = build_optimizer(model, TrainSpec(optimizer="muon", learning_rate=rate))
    model(torch.randn(4, 3, 9, 9)).square().mean().backward()
    optimizer.step()
    moved = (model.backbone.conv2.weight - before).square().mean().sqrt()
    # Singular values of 0.7 to 1.2; all four directions of the 4 x 72 kernel are there.
    assert 0.2 * rate * 0.65 < moved < 0.2 * rate * 1.25


def test_muon_is_that_of_torch_on_a_matrix() -> None:
    """Oracle: torch.optim.Muon on the same 2-D weight, in the updates of three steps with weight decay.

    It iterates in bfloat16, whose step is 0.4 %; five iterations of three products leave about twice that.
    """
    start, rate, decay = torch.randn(6, 20), 0.02, 0.1
    ours, theirs = nn.Parameter(start[..., None, None].clone()), nn.Parameter(start.clone())
    group = {"params": [ours], "orthogonal": True, "weight_decay": decay}
    optimizers = (
        Muon([group], lr=rate),
        torch.optim.Muon([theirs], lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        theirs.grad = torch.randn_like(theirs)
        ours.grad = theirs.grad[..., None, None].clone()
        for optimizer in optimizers:
            optimizer.step()
    moved, expected = ours.detach()[..., 0, 0] - start, theirs.detach() - start
    assert (moved - expected).norm() < 0.02 * expected.norm()


def test_muon_is_adamw_for_all_else() -> None:
    """Oracle: torch's AdamW on the same gradients, bitwise identical."""
    torch.manual_seed(3)
    ours, theirs = Net(), Net()
    theirs.load_state_dict(ours.state_dict())
    spec = TrainSpec(learning_rate=1e-2, weight_decay=0.1)
    muon = build_optimizer(ours, TrainSpec(optimizer="muon", learning_rate=1e-2, weight_decay=0.1))
    adamw = build_optimizer(
        theirs, TrainSpec(optimizer="adamw", **{n: getattr(spec, n) for n in ("learning_rate", "weight_decay")})
    )
    assert isinstance(muon, Muon)
    for _ in range(3):
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        muon.step()
        adamw.step()
    assert not torch.equal(ours.backbone.conv2.weight, theirs.backbone.conv2.weight)
    for name in ("backbone.conv1.weight", "backbone.conv1.bias", "head.weight", "head.bias"):
        assert torch.equal(ours.get_parameter(name), theirs.get_parameter(name)), name


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_the_head_learns_faster_by_its_factor(optimizer: Any) -> None:
    """Oracle: the schedule's closed form, (1 - progress) to the power 0.9, times 10 for what is not the backbone."""
    model = Net()
    spec = TrainSpec(epochs=4, optimizer=optimizer, learning_rate=0.02, head_rate=10, schedule="poly", weight_decay=0.1)
    built = build_optimizer(model, spec)
    heads = {id(parameter) for parameter in model.head.parameters()}
    for step in (0, 3, 7):
        set_rate(built, learning_rate(spec, step, steps_per_epoch=2))
        for group in built.param_groups:
            for parameter in group["params"]:
                factor = 10 if id(parameter) in heads else 1
                assert group["lr"] == pytest.approx(0.02 * factor * (1 - step / 8) ** 0.9)
                # Only kernels decay unless `decay_norms`.
                assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0)
    assert sum(len(group["params"]) for group in built.param_groups) == len(list(model.parameters()))


def test_warm_up_as_published_for_detection() -> None:
    """Oracle: the released settings: from a third of the rate, linearly or constantly, over 500 steps."""
    spec = TrainSpec(epochs=2, learning_rate=0.02, warmup_steps=500, warmup_start=1 / 3, milestones=(1,))
    assert [learning_rate(spec, step, 1000) for step in (0, 250, 500, 1000)] == pytest.approx(
        [0.02 / 3, 0.02 * 2 / 3, 0.02, 0.002], rel=1e-12
    )
    constant = TrainSpec(epochs=2, learning_rate=0.01, warmup_steps=500, warmup_start=1 / 3, warmup="constant")
    assert [learning_rate(constant, step, 1000) for step in (0, 499, 500)] == pytest.approx(
        [0.01 / 3, 0.01 / 3, 0.01], rel=1e-12
    )


def test_biases_have_a_rate_and_a_decay_of_their_own() -> None:
    """Oracle: which parameter is what, written out. Norms are none of them: their bias is decayed like their weight."""
    model = Net()
    model.norm = nn.BatchNorm2d(2)
    spec = TrainSpec(
        optimizer="sgd", learning_rate=1.0, weight_decay=0.1, decay_norms=True, decay_biases=False, bias_rate=2
    )
    optimizer = build_optimizer(model, spec)
    found = {
        name: (group["lr"], group["weight_decay"])
        for name, parameter in model.named_parameters()
        for group in optimizer.param_groups
        if any(parameter is one for one in group["params"])
    }
    plain, bias = (1.0, 0.1), (2.0, 0.0)
    assert found == {
        "backbone.conv1.weight": plain,
        "backbone.conv1.bias": bias,
        "backbone.conv2.weight": plain,
        "head.weight": plain,
        "head.bias": bias,
        "norm.weight": plain,
        "norm.bias": plain,
    }
