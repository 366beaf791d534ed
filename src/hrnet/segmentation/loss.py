"""Cross entropy of pixels: with class weights, online hard example mining (OHEM) and an auxiliary term."""

from __future__ import annotations

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from hrnet.errors import InputError
from hrnet.results import IGNORE_INDEX
from hrnet.segmentation.spec import LossSpec

# Upsampled logits that are held at once: 2 MiB.
STRIP_ELEMENTS = 1 << 19


def segmentation_losses(
    logits: Float[Tensor, "n k h w"],
    auxiliary: Float[Tensor, "n k h w"] | None,
    labels: Integer[Tensor, "n H W"],
    spec: LossSpec,
    align_corners: bool,
) -> dict[str, Float[Tensor, ""]]:
    """Return the terms of the loss by name: `classes`, and `auxiliary`, already weighted, if there is such an output.

    The logits are upsampled to the labels, not the labels reduced to the logits, so that thin objects stay. A term is 0
    if no pixel is labeled, or none is hard. Labels of 255 are ignored.

    Raises:
        InputError: a label is neither a class nor 255.
    """
    _check(labels, logits.shape[1])
    weights = _pixel_weights(labels, spec)
    errors = pixel_errors(logits, labels, align_corners)
    hard = hard_pixels(errors.detach(), labels, spec) if spec.hard_pixels else None
    if hard is None:
        losses = {"classes": _mean(weights * errors, weights.sum())}
    else:
        # As released: the sum of weighted errors is divided by the number of pixels, not by the sum of the weights.
        losses = {"classes": _mean(weights * errors * hard, hard.sum())}
    if auxiliary is not None:
        errors = pixel_errors(auxiliary, labels, align_corners)
        over_all = hard is not None and spec.auxiliary_mean == "all"
        total = weights.new_tensor(labels.numel()) if over_all else weights.sum()
        losses["auxiliary"] = spec.auxiliary * _mean(weights * errors, total)
    return losses


def pixel_errors(
    logits: Float[Tensor, "n k h w"], labels: Integer[Tensor, "n H W"], align_corners: bool
) -> Float[Tensor, "n H W"]:
    """Return the cross entropy of every pixel; 0 where the label is 255.

    The logits are upsampled some rows at a time, and again for the gradient.
    """
    height, width = labels.shape[-2:]
    lines = _line_weights(height, logits.shape[-2], align_corners).to(logits.device)
    rows = max(1, STRIP_ELEMENTS // (logits.shape[1] * width))
    errors = []
    # Upsampling is exact; mixed precision would round it.
    with torch.autocast(logits.device.type, enabled=False):
        for single, target in zip(logits.float().split(1), labels.split(1), strict=True):
            wide = functional.interpolate(
                single, size=(logits.shape[-2], width), mode="bilinear", align_corners=align_corners
            )
            for weights, strip in zip(lines.split(rows), target.split(rows, dim=1), strict=True):
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
    wide: Float[Tensor, "1 k h W"], weights: Float[Tensor, "r h"], labels: Integer[Tensor, "1 r W"]
) -> Float[Tensor, "1 r W"]:
    used = weights.any(0).nonzero()
    near = slice(int(used[0]), int(used[-1]) + 1)
    large = weights[:, near] @ wide[:, :, near]
    return functional.cross_entropy(large, labels.long(), ignore_index=IGNORE_INDEX, reduction="none")


def _line_weights(length: int, count: int, align_corners: bool) -> Float[Tensor, "length count"]:
    """Return the weight of each of `count` rows in each of `length` rows upsampled from them, bilinear."""
    lines = torch.arange(length, dtype=torch.double)
    positions = lines * (count - 1) / max(length - 1, 1) if align_corners else (lines + 0.5) * count / length - 0.5
    distances = positions.clamp(0, count - 1)[:, None] - torch.arange(count)
    return (1 - distances.abs()).clamp(min=0).float()


def hard_pixels(
    errors: Float[Tensor, "n H W"], labels: Integer[Tensor, "n H W"], spec: LossSpec
) -> Float[Tensor, "n H W"]:
    """Return 1 for hard pixels (see `LossSpec`) and 0 for others.

    Source: the released OHEM. The probabilities of the labeled pixels of the batch are sorted; the threshold is the one at
    index min(hard_pixels, number - 1), but at least `hard_below`; a pixel strictly below it is hard.
    """
    labeled = labels != IGNORE_INDEX
    # Probabilities are compared, not errors, as released: 0.9 is exact in neither.
    probabilities = torch.exp(-errors)
    sample = probabilities[labeled]
    if not len(sample):
        return torch.zeros_like(errors)
    index = min(spec.hard_pixels, len(sample) - 1)
    threshold = sample.kthvalue(index + 1).values.clamp(min=spec.hard_below)
    return (labeled & (probabilities < threshold)).to(errors.dtype)


def _pixel_weights(labels: Integer[Tensor, "n H W"], spec: LossSpec) -> Float[Tensor, "n H W"]:
    labeled = labels != IGNORE_INDEX
    if not spec.class_weights:
        return labeled.float()
    weights = torch.tensor(spec.class_weights, device=labels.device)
    return torch.where(labeled, weights[torch.where(labeled, labels, 0).long()], 0.0)


def _mean(errors: Float[Tensor, "n H W"], total: Float[Tensor, ""]) -> Float[Tensor, ""]:
    # The sum is 0 wherever the total is.
    return errors.sum() / total.clamp(min=torch.finfo(errors.dtype).tiny)


def _check(labels: Integer[Tensor, "n H W"], count: int) -> None:
    wrong = labels[((labels < 0) | (labels >= count)) & (labels != IGNORE_INDEX)]
    if len(wrong):
        raise InputError(
            f"The labels hold {int(wrong[0])}, but there are {count} classes, 0 to {count - 1}, and {IGNORE_INDEX} is "
            "ignored; correct the label maps or the list of classes."
        )
