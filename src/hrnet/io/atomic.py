"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from hrnet.errors import InputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name in the same folder, which becomes `path` if the block succeeds and is removed if it fails.

    The bytes are on the disk before the name changes, and the name before this returns.

    Raises:
        InputError: the disk is full or the folder cannot be written; what was at `path` is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another folder.") from None
    temporary = Path(name)
    try:
        yield temporary
        sync_file(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync_folder(path.parent)
    except (OSError, SafetensorError) as error:
        if is_full(error):
            raise InputError(f"{path} is as it was: the disk is full; free some space and try again.") from None
        if isinstance(error, OSError) and error.filename == str(temporary):
            raise InputError(f"{path} was not written ({error.strerror}); choose another name.") from None
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def check_free(path: Path) -> None:
    """Raise InputError where writing a file would replace something; an empty file may be replaced."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it.")
    if path.exists() and (not path.is_file() or path.stat().st_size):
        raise InputError(f"{path} exists; choose another name or remove it first.")


def sync_file(path: Path) -> None:
    """Wait until the bytes of a file are on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def remove_partial(folder: Path) -> None:
    """Delete the temporary files of `atomic_path` of a process that was killed."""
    for path in folder.glob(".*.partial"):
        path.unlink(missing_ok=True)


def is_full(error: OSError | SafetensorError) -> bool:
    """Return whether a write failed because the disk is full."""
    full = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError):
        return error.errno in full
    # The safetensors library gives the system's error number only as text.
    return any(f"(os error {number})" in str(error) for number in full)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file, completely or not at all; names of files that are no UTF-8 are written with backslashes."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
