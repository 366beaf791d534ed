"""Safe reading of the tensors of a file: no code of the file runs, and no more memory is used than it has bytes."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hrnet.errors import InputError
from hrnet.foreign.shapes import State
from hrnet.io.tensors import read_tensors
from hrnet.io.warnings import suppress_warnings

# torch stores archives uncompressed. One that claims to unpack to this many times its size was made to fill the memory.
_MOST_UNPACKED, _SMALL = 3, 1 << 20


class _Number:
    """A placeholder for a NumPy number of a training checkpoint, such as its best score; the number is never made."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


_PLACEHOLDERS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Number, name) for name in ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
]


def read_weights(path: Path) -> State:
    """Return all tensors of a file (.pth, .pt, .tar through torch's restricted reader; .safetensors), unwrapped.

    Raises:
        InputError: the file is missing, damaged, or holds more than weights.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist or is no file; check the name.")
    if path.suffix == ".safetensors":
        return read_tensors(path)[1]
    _check_archive(path)
    try:
        # torch's warnings do not help the user of a file.
        with suppress_warnings, torch.serialization.safe_globals(_PLACEHOLDERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's word for a class or function that the file asks to call.
        if "GLOBAL" in str(error):
            raise InputError(
                f"{path} holds Python objects beside its weights, which are never loaded, since they could run code; "
                "where you trust its origin, save its state dict alone with torch.save(model.state_dict(), ...)."
            ) from None
        raise InputError(f"{path} is not an intact checkpoint; get it again.") from None
    except Exception as error:
        # A damaged file can make the reader fail in any way: EOFError, RuntimeError, KeyError, UnicodeDecodeError ...
        raise InputError(f"{path} is not an intact checkpoint ({type(error).__name__}); get it again.") from None
    state = _open_envelope(content)
    if state is None:
        raise InputError(f"{path} holds no weights (a mapping from names to tensors); get the checkpoint of a network.")
    claimed = sum(value.numel() * value.element_size() for value in state.values())
    if claimed > path.stat().st_size:
        raise InputError(f"{path} claims {claimed} bytes of weights and is smaller than that; get it again.")
    return state


def _check_archive(path: Path) -> None:
    """Raise InputError where a zip archive would unpack to far more than its size."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
    except Exception as error:
        # As with torch's reader, a damaged directory can make this one fail in any way.
        raise InputError(f"{path} is not an intact checkpoint ({type(error).__name__}); get it again.") from None
    if claimed > _MOST_UNPACKED * path.stat().st_size + _SMALL:
        raise InputError(f"{path} would unpack to {claimed} bytes, far more than it has; get it again.")


def _open_envelope(content: Any) -> State | None:
    """Return the innermost mapping of tensors, or None; training checkpoints wrap it with optimizer, epoch and so on."""
    for _ in range(4):
        if not isinstance(content, Mapping):
            return None
        # 'model' is the network's name, a text, in the pose repository and its weights in maskrcnn-benchmark.
        inner = next((content[key] for key in ("state_dict", "model") if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    state = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    plain = all(map(_is_plain, state.values()))
    return state if state and len(state) == len(content) and plain else None


def _is_plain(value: Tensor) -> bool:
    """Return True for dense real numbers; the restricted reader also makes sparse, quantized and meta tensors."""
    usual = value.layout == torch.strided and value.device.type == "cpu"
    return usual and not (value.is_quantized or value.is_complex())
