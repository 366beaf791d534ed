"""Cross entropy of pixels: plain, with weights of classes, of hard pixels only (OHEM), with an auxiliary term."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from hrnet.errors import InputError
from hrnet.results import IGNORE_INDEX
from hrnet.segmentation.spec import LossSpec

# Enlarged logits that are held at once: 2 MiB.
STRIP_ELEMENTS = 1 << 19


def segmentation_losses(
    logits: Float[Tensor, "n k h w"],
    auxiliary: Float[Tensor, "n k h w"] | None,
    labels: Int[Tensor, "n H W"],
    spec: LossSpec,
    align_corners: bool,
) -> dict[str, Float[Tensor, ""]]:
    """The terms of the loss by name: `classes`, and `auxiliary`, already weighted, where there is such an output.

    The logits are brought to the size of the labels, not the labels to that of the logits: thin things stay. Where nothing
    is marked, or no pixel is hard, a term is 0.

    Args:
        logits: before the softmax.
        auxiliary: likewise, of the first guess.
        labels: classes; 255 counts for nothing.
        spec: what is minimized.
        align_corners: of the enlargement.

    Raises:
        InputError: a label that is neither a class nor 255.
    """
    _check(labels, logits.shape[1])
    weights = _pixel_weights(labels, spec)
    errors = pixel_errors(logits, labels, align_corners)
    hard = hard_pixels(errors.detach(), labels, spec) if spec.hard_pixels else None
    if hard is None:
        losses = {"classes": _mean(weights * errors, weights.sum())}
    else:
        # As released: the weighted errors are not divided by their weights.
        losses = {"classes": _mean(weights * errors * hard, hard.sum())}
    if auxiliary is not None:
        errors = pixel_errors(auxiliary, labels, align_corners)
        everything = hard is not None and spec.auxiliary_mean == "all"
        total = weights.new_tensor(labels.numel()) if everything else weights.sum()
        losses["auxiliary"] = spec.auxiliary * _mean(weights * errors, total)
    return losses


def pixel_errors(
    logits: Float[Tensor, "n k h w"], labels: Int[Tensor, "n H W"], align_corners: bool
) -> Float[Tensor, "n H W"]:
    """Minus the logarithm of the probability of every pixel's class; 0 where there is none.

    The enlarged logits, k values for every pixel, are made for some rows at a time, and again for the gradient.
    """
    height, width = labels.shape[-2:]
    lines = _line_weights(height, logits.shape[-2], align_corners).to(logits.device)
    rows = max(1, STRIP_ELEMENTS // (logits.shape[1] * width))
    errors = []
    # Exact enlargement, which mixed precision would round.
    with torch.autocast(logits.device.type, enabled=False):
        for one, truth in zip(logits.float().split(1), labels.split(1), strict=True):
            wide = functional.interpolate(
                one, size=(logits.shape[-2], width), mode="bilinear", align_corners=align_corners
            )
            for weights, strip in zip(lines.split(rows), truth.split(rows, dim=1), strict=True):
                if wide.requires_grad:
                    strip_errors = checkpoint(
                        _strip_errors, wide, weights, strip, use_reentrant=False, preserve_rng_state=False
                    )
                else:
                    strip_errors = _strip_errors(wide, weights, strip)
                errors.append(strip_errors)
    count = -(-height // rows)
    return torch.cat([torch.cat(errors[start : start + count], 1) for start in range(0, len(errors), count)])


def _strip_errors(
    wide: Float[Tensor, "1 k h W"], weights: Float[Tensor, "r h"], labels: Int[Tensor, "1 r W"]
) -> Float[Tensor, "1 r W"]:
    used = weights.any(0).nonzero()
    near = slice(int(used[0]), int(used[-1]) + 1)
    large = weights[:, near] @ wide[:, :, near]
    return functional.cross_entropy(large, labels.long(), ignore_index=IGNORE_INDEX, reduction="none")


def _line_weights(length: int, count: int, align_corners: bool) -> Float[Tensor, "length count"]:
    """What each of `length` lines takes of each of `count` when these are enlarged, bilinear."""
    lines = torch.arange(length, dtype=torch.double)
    places = lines * (count - 1) / max(length - 1, 1) if align_corners else (lines + 0.5) * count / length - 0.5
    distances = places.clamp(0, count - 1)[:, None] - torch.arange(count)
    return (1 - distances.abs()).clamp(min=0).float()


def hard_pixels(errors: Float[Tensor, "n H W"], labels: Int[Tensor, "n H W"], spec: LossSpec) -> Float[Tensor, "n H W"]:
    """1 for pixels to learn from, 0 for others: probability below `hard_below`, or below the one at place `hard_pixels`.

    Source: the released OHEM. Probabilities of all marked pixels of the batch, sorted; the threshold is the one at
    place min(hard_pixels, number - 1), counted from 0, but at least `hard_below`; strictly below it a pixel is hard.
    """
    marked = labels != IGNORE_INDEX
    # Of what is below the threshold nothing changes if errors are compared instead of probabilities, but 0.9 is exact in
    # neither; so probabilities, as released.
    probabilities = torch.exp(-errors)
    sample = probabilities[marked]
    if not len(sample):
        return torch.zeros_like(errors)
    place = min(spec.hard_pixels, len(sample) - 1)
    threshold = sample.kthvalue(place + 1).values.clamp(min=spec.hard_below)
    return (marked & (probabilities < threshold)).to(errors.dtype)


def _pixel_weights(labels: Tensor, spec: LossSpec) -> Float[Tensor, "n H W"]:
    marked = labels != IGNORE_INDEX
    if not spec.class_weights:
        return marked.float()
    weights = torch.tensor(spec.class_weights, device=labels.device)
    return torch.where(marked, weights[torch.where(marked, labels, 0).long()], 0.0)


def _mean(errors: Tensor, total: Tensor) -> Tensor:
    # The sum is 0 wherever the total is.
    return errors.sum() / total.clamp(min=torch.finfo(errors.dtype).tiny)


def _check(labels: Tensor, count: int) -> None:
    strange = labels[((labels < 0) | (labels >= count)) & (labels != IGNORE_INDEX)]
    if len(strange):
        raise InputError(
            f"The labels hold {int(strange[0])}, but there are {count} classes, 0 to {count - 1}, and {IGNORE_INDEX} is "
            "ignored; correct the label images or the list of classes."
        )
