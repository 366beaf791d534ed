"""One file from the network: resumed where it was cut, checked by its hash, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import ssl
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from hrnet.errors import InputError

# Seconds without a byte.
_TIMEOUT = 30.0
_BLOCK = 1 << 18


class DeadLinkError(Exception):
    """Behind an address is not the file. The message says what is there instead."""


class UnreachableError(Exception):
    """There is no network, or no answer. The message is the system's."""


def fetch(url: str, target: Path, sha256: str = "") -> None:
    """Download a file; what an earlier call began beside it (``.part``) is continued if it is still the same file.

    Args:
        url: http or https; redirections are followed, but never from https to http.
        target: becomes the file when all of it is there and its hash is right.
        sha256: hexadecimal digits that the hash must begin with; empty: not checked.

    Raises:
        DeadLinkError: no such file, or a page instead of it; what was begun is kept.
        UnreachableError: no connection.
        InputError: the connection was cut (the part is kept), the hash is wrong (it is deleted), or the disk is full.
    """
    part, tag = _beside(target, ".part"), _beside(target, ".part.tag")
    try:
        total = _receive(url, part, tag, checked=bool(sha256))
    except HTTPError as error:
        error.close()
        kind = UnreachableError if error.code >= 500 or error.code == 429 else DeadLinkError
        raise kind(f"HTTP {error.code}") from None
    except URLError as error:
        raise UnreachableError(str(error.reason)) from None
    except (HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
        raise InputError(_cut(target, part, str(error) or type(error).__name__)) from None
    except OSError as error:
        raise _unwritten(target, error) from None
    if total is not None and part.stat().st_size != total:
        raise InputError(_cut(target, part, f"{part.stat().st_size} of {total} bytes"))
    found = file_hash(part)
    if not found.startswith(sha256):
        _forget(part, tag)
        raise InputError(
            f"{url} gave a file with the SHA-256 {found[:16]}..., published is {sha256[:16]}...; it was deleted: try "
            "again, or pass the path of a file that you trust."
        )
    part.replace(target)
    _forget(tag)


def file_hash(path: Path) -> str:
    """SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; others wait. The system lets go when a process dies.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise _unwritten(path, error) from None
    with file:
        _lock(file)
        yield


def _lock(file: IO[bytes]) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        while True:
            try:
                # Gives up after ten seconds.
                return msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            except OSError:
                continue
    else:
        import fcntl

        return fcntl.flock(file, fcntl.LOCK_EX)


class _Redirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        allowed = ("https://",) if req.full_url.startswith("https://") else ("https://", "http://")
        if not newurl.startswith(allowed):
            raise DeadLinkError(f"it leads to {newurl.split(':')[0]}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, headers: dict[str, str]) -> HTTPResponse:
    if not url.startswith(("https://", "http://")):
        raise DeadLinkError("it is no http or https address")
    opener = urllib.request.build_opener(_Redirect)
    return opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)


def _start(answer: HTTPResponse, begun: int) -> int:
    """The byte at which the answer begins. Raises DeadLinkError where it is a page."""
    if answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise DeadLinkError("a page instead of the file")
    if answer.status != 206:
        return 0
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    if not found or int(found[1]) != begun:
        raise DeadLinkError("another part than the one asked for")
    return begun


def _total(answer: HTTPResponse, start: int) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def _validator(headers: Any) -> str:
    # A weak one says nothing of single bytes.
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _receive(url: str, part: Path, tag: Path, checked: bool) -> int | None:
    """All of the file, or what is missing of it, into `part`. Returns how many bytes there should be, if that is told."""
    begun = part.stat().st_size if part.is_file() else 0
    known = tag.read_text(encoding="utf-8") if tag.is_file() else ""
    if not (known or checked):
        # Nothing would tell whether the rest belongs to the same file.
        begun = 0
    headers = {"User-Agent": "hrnet", "Accept-Encoding": "identity"}
    if begun:
        headers |= {"Range": f"bytes={begun}-"} | ({"If-Range": known} if known else {})
    try:
        answer = _open(url, headers)
    except HTTPError as error:
        if error.code != 416 or not begun:
            raise
        error.close()
        if error.headers.get("Content-Range", "") == f"bytes */{begun}":
            # Nothing is missing: an earlier call ended before it had checked the file.
            return begun
        # More was begun than there is: of another file.
        _forget(part, tag)
        return _receive(url, part, tag, checked)
    with answer:
        start = _start(answer, begun)
        if not start:
            tag.write_text(_validator(answer.headers), encoding="utf-8")
        total = _total(answer, start)
        _write(answer, part, start, total)
    return total


def _write(answer: HTTPResponse, part: Path, start: int, total: int | None) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with (
        Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress,
        part.open("ab" if start else "wb") as file,
    ):
        shown = progress.add_task(part.stem, total=total, completed=start)
        while block := answer.read(_BLOCK):
            file.write(block)
            progress.advance(shown, len(block))
        file.flush()
        os.fsync(file.fileno())


def _cut(target: Path, part: Path, reason: str) -> str:
    return f"The download of {target.name} was cut ({reason}); {part} is kept: do the same again to go on."


def _unwritten(path: Path, error: OSError) -> InputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(
            f"{path} was not written: the disk is full; make room and do the same again to go on, or set HRNET_HOME to "
            "another folder."
        )
    return InputError(f"{path} cannot be written ({error.strerror}); set HRNET_HOME to another folder.")


def _forget(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
