"""The protocol of a network that is ready to run."""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

Precision = Literal["auto", "fp32", "bf16"]


@runtime_checkable
class Runtime(Protocol):
    """A network ready to run: RGB inputs as bytes to the model's NamedTuple of output arrays."""

    def __call__(self, images: UInt8[np.ndarray, "n h w c"]) -> Any: ...
