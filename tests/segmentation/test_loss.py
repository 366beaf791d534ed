from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hrnet.errors import InputError
from hrnet.segmentation import loss as loss_module
from hrnet.segmentation.loss import pixel_errors, segmentation_losses
from hrnet.segmentation.spec import CITYSCAPES_WEIGHTS, HARD_LOSS, RELEASED_HARD_LOSS, WEIGHTED_LOSS, LossSpec

WEIGHTS = (0.5, 1.0, 2.0, 0.0)


def outputs(seed: int = 0, *, labeled: float = 0.7) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and auxiliary logits of two images, at stride 4, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    logits, auxiliary = (3 * torch.randn(2, 4, 4, 6, generator=generator) for _ in range(2))
    labels = torch.randint(0, 4, (2, 16, 24), generator=generator)
    labels[torch.rand(2, 16, 24, generator=generator) > labeled] = 255
    return logits.requires_grad_(), auxiliary.requires_grad_(), labels.byte()


def slow_loss(logits: Tensor, auxiliary: Tensor, labels: Tensor, spec: LossSpec) -> tuple[float, float]:
    """The terms in plain numpy, in double precision, pixel after pixel."""
    pixels = {}
    for name, values in (("main", logits), ("auxiliary", auxiliary)):
        large = functional.interpolate(values.detach(), (16, 24), mode="bilinear").double().numpy()
        pixels[name] = [
            (-np.log(np.exp(scores[ground_truth]) / np.exp(scores).sum()), ground_truth)
            for scores, ground_truth in zip(
                large.transpose(0, 2, 3, 1).reshape(-1, 4), labels.flatten().tolist(), strict=True
            )
            if ground_truth != 255
        ]
    weight = dict(enumerate(spec.class_weights or (1.0,) * 4))
    total = sum(weight[ground_truth] for _, ground_truth in pixels["main"])
    if spec.hard_pixels:
        chances = sorted(np.exp(-error) for error, _ in pixels["main"])
        threshold = max(chances[min(spec.hard_pixels, len(chances) - 1)], spec.hard_below)
        kept = [weight[ground_truth] * error for error, ground_truth in pixels["main"] if np.exp(-error) < threshold]
        main = sum(kept) / len(kept)
    else:
        main = sum(weight[ground_truth] * error for error, ground_truth in pixels["main"]) / total
    everything = spec.hard_pixels and spec.auxiliary_mean == "all"
    auxiliary_sum = sum(weight[ground_truth] * error for error, ground_truth in pixels["auxiliary"])
    return main, spec.auxiliary * auxiliary_sum / (labels.numel() if everything else total)


@pytest.mark.parametrize(
    "spec",
    [
        LossSpec(),
        LossSpec(WEIGHTS),
        LossSpec(hard_pixels=40),
        LossSpec(hard_pixels=40, hard_below=0.05),
        LossSpec(hard_pixels=100_000),
        LossSpec(WEIGHTS, hard_pixels=40, hard_below=0.3),
        LossSpec(hard_pixels=40, auxiliary_mean="all"),
        LossSpec(WEIGHTS, hard_pixels=40, auxiliary_mean="all", auxiliary=0.7),
        LossSpec(auxiliary_mean="all"),
    ],
)
def test_loss_is_the_definition(spec: LossSpec) -> None:
    # Oracle: the loop above. Tolerance: single precision means of some 500 errors.
    logits, auxiliary, labels = outputs()
    found = segmentation_losses(logits, auxiliary, labels, spec, False)
    main, second = slow_loss(logits, auxiliary, labels, spec)
    assert found["classes"].item() == pytest.approx(main, rel=1e-5)
    assert found["auxiliary"].item() == pytest.approx(second, rel=1e-5)


@pytest.mark.parametrize("weights", [(), WEIGHTS])
@pytest.mark.parametrize("align_corners", [False, True])
def test_plain_loss_and_its_gradient_are_torchs(weights: tuple[float, ...], align_corners: bool) -> None:
    # Oracle: torch's cross entropy of the upsampled logits. Tolerance: single precision, other order of sums.
    logits, _, labels = outputs()
    (loss,) = segmentation_losses(logits, None, labels, LossSpec(weights), align_corners).values()
    (found,) = torch.autograd.grad(loss, logits)
    large = functional.interpolate(logits, (16, 24), mode="bilinear", align_corners=align_corners)
    expected = functional.cross_entropy(
        large, labels.long(), torch.tensor(weights) if weights else None, ignore_index=255
    )
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-8)


def test_errors_made_in_strips_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    # Property: cutting into strips, the last one shorter, changes only the order of two products of a sum.
    logits, _, labels = outputs()
    whole = pixel_errors(logits, labels, True)
    monkeypatch.setattr(loss_module, "STRIP_ELEMENTS", 4 * 24 * 5)
    strips = pixel_errors(logits, labels, True)
    assert strips.shape == (2, 16, 24)
    torch.testing.assert_close(strips, whole, rtol=1e-5, atol=1e-6)


def test_errors_are_exact_in_mixed_precision() -> None:
    # Oracle: those of the same logits without it, exactly.
    logits, _, labels = outputs()
    expected = pixel_errors(logits, labels, False)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(pixel_errors(logits, labels, False), expected, rtol=0, atol=0)


def test_hard_pixels_alone_get_a_gradient() -> None:
    # Oracle: closed form. Labels as large as the logits; two pixels are right with probability 0.99, so not hard; one is not.
    logits = torch.zeros(1, 2, 1, 3)
    logits[0, 0] = torch.tensor([4.6, 4.6, 0.0])
    logits.requires_grad_()
    labels = torch.zeros(1, 1, 3, dtype=torch.uint8)
    (loss,) = segmentation_losses(logits, None, labels, LossSpec(hard_pixels=1), False).values()
    loss.backward()
    assert loss.item() == pytest.approx(np.log(2), rel=1e-6)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0], torch.tensor([[[0, 0, -0.5]], [[0, 0, 0.5]]]))


@pytest.mark.parametrize("spec", [LossSpec(), LossSpec(WEIGHTS), RELEASED_HARD_LOSS, replace(HARD_LOSS, hard_pixels=1)])
@pytest.mark.parametrize("case", ["nothing labeled", "nothing hard"])
def test_batches_without_hard_or_labeled_pixels_give_zeros(spec: LossSpec, case: str) -> None:
    logits, auxiliary, labels = outputs()
    if case == "nothing labeled":
        labels.fill_(255)
    else:
        labels.fill_(0)
        logits = (logits.detach() * 0 + torch.tensor([50.0, 0, 0, 0]).view(1, 4, 1, 1)).requires_grad_()
    losses = segmentation_losses(logits, auxiliary, labels, spec, False)
    sum(losses.values(), torch.zeros(())).backward()
    assert losses["classes"].item() == pytest.approx(0, abs=1e-12)
    for output in (logits, auxiliary):
        assert output.grad is not None
        assert output.grad.isfinite().all()
    if case == "nothing labeled":
        assert losses["auxiliary"].item() == 0
        assert not logits.grad.any()  # type: ignore[union-attr]  # backward was called


def test_released_auxiliary_term_is_smaller_by_the_labeled_fraction() -> None:
    # Oracle: closed form: the same sum over all pixels instead of the labeled ones.
    logits, auxiliary, labels = outputs(labeled=0.25)
    right = segmentation_losses(logits, auxiliary, labels, HARD_LOSS, False)
    released = segmentation_losses(logits, auxiliary, labels, RELEASED_HARD_LOSS, False)
    fraction = (labels != 255).float().mean().item()
    assert released["auxiliary"].item() == pytest.approx(fraction * right["auxiliary"].item(), rel=1e-5)
    assert released["classes"].item() == right["classes"].item()


def test_errors_without_a_gradient_are_the_same() -> None:
    # Property, exact: making the upsampled logits again changes no bit.
    logits, _, labels = outputs()
    with torch.no_grad():
        expected = pixel_errors(logits, labels, False)
    torch.testing.assert_close(pixel_errors(logits, labels, False).detach(), expected, rtol=0, atol=0)


@pytest.mark.parametrize("wrong", [4, 254])
def test_labels_outside_the_classes_are_refused(wrong: int) -> None:
    logits, _, labels = outputs()
    labels[1, 3, 5] = wrong
    with pytest.raises(InputError, match=rf"hold {wrong}, but there are 4 classes, 0 to 3, and 255"):
        segmentation_losses(logits, None, labels, LossSpec(), False)


def test_published_weights_are_those_of_cityscapes() -> None:
    # Oracle: the released segmentation code: 19 numbers whose mean is 1 to the fourth digit; the train (17th) and the
    # bicycle (last) as there.
    assert (len(CITYSCAPES_WEIGHTS), round(sum(CITYSCAPES_WEIGHTS) / 19, 4)) == (19, 1.0)
    assert (WEIGHTED_LOSS.class_weights[16], WEIGHTED_LOSS.class_weights[18]) == (1.0865, 1.0507)
