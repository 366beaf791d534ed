"""A classification network in the names that timm and the official code share: the inverse of the tables."""

from __future__ import annotations

import re

from torch import Tensor, nn

from hrnet.errors import InputError

# Source: the published classification files, whose names timm keeps.
# Ours, theirs; the inverse of `names.OFFICIAL_CLASSIFICATION`.
_NAMES = (
    (r"backbone\.(.+)", r"\1"),
    (r"head\.widen\.(\d)\.(.+)", r"incre_modules.\1.0.\2"),
    (r"head\.halve\.(.+)", r"downsamp_modules.\1"),
    (r"head\.expand\.(.+)", r"final_layer.\1"),
    (r"head\.classifier\.(.+)", r"classifier.\1"),
)


def timm_state(model: nn.Module) -> dict[str, Tensor]:
    """Return weights that timm's HRNet of the same widths loads strictly.

    Args:
        model: classification model; without biases in its head (`head_bias`) timm's network is one with
            ``head_conv_bias=False``.

    Raises:
        InputError: the model is not a classification model.
    """
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        pattern, theirs = next((pair for pair in _NAMES if re.fullmatch(pair[0], name)), ("", ""))
        if not pattern:
            raise InputError(f"timm has classification networks only, and {name} is not of one; choose another model.")
        state[re.sub(pattern, theirs, name)] = value
    return state
