"""Download of one file: resumed where it was cut, checked by its hash, complete or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from hrnet.errors import InputError
from hrnet.io.atomic import is_full

# Seconds without a byte after which a connection counts as cut.
_TIMEOUT = 30.0
_BLOCK = 1 << 18


class DeadLinkError(Exception):
    """An address that does not lead to the file. The message says what is there instead."""


class UnreachableError(Exception):
    """A network that is down, or a server that does not answer. The message is the system's."""


def fetch(url: str, target: Path, sha256: str = "") -> None:
    """Download a file; a part that an earlier call left beside it (``.part``) is resumed if the file is still the same.

    Args:
        url: http or https address; redirections are followed, but never from https to http.
        target: path that becomes the file when it is complete and its hash is right.
        sha256: hexadecimal digits that the hash must begin with; empty for no check.

    Raises:
        DeadLinkError: the address has no such file, or a page instead of it; the part is kept.
        UnreachableError: there is no connection.
        InputError: the connection was cut (the part is kept), the hash is wrong (it is deleted), or the disk is full.
    """
    part, tag = (target.with_name(target.name + suffix) for suffix in (".part", ".part.tag"))
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
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time into the block; others wait. The system releases the lock when a process dies.

    Raises:
        InputError: the folder cannot be written.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise _unwritten(path, error) from None
    try:
        yield
    finally:
        lock.release()


class _Redirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes] | HTTPResponse,  # at run time a response is no IO
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        allowed = ("https://",) if req.full_url.startswith("https://") else ("https://", "http://")
        if not newurl.startswith(allowed):
            raise DeadLinkError(f"it leads to {newurl.split(':')[0]}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _start(answer: HTTPResponse, begun: int) -> int:
    """Return the byte at which the answer begins. Raises DeadLinkError where it is a page."""
    if answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise DeadLinkError("a page instead of the file")
    if answer.status != 206:
        return 0
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    if not found or int(found[1]) != begun:
        raise DeadLinkError("another part than the one asked for")
    return begun


def _receive(url: str, part: Path, tag: Path, checked: bool) -> int | None:
    """Write the file, or the missing rest of it, to `part`; return the full number of bytes, if the server tells it."""
    if not url.startswith(("https://", "http://")):
        raise DeadLinkError("it is not an http or https address")
    begun = part.stat().st_size if part.is_file() else 0
    known = tag.read_text(encoding="utf-8") if tag.is_file() else ""
    if not (known or checked):
        # Nothing would tell whether the rest belongs to the same file.
        begun = 0
    headers = {"User-Agent": "hrnet", "Accept-Encoding": "identity"}
    if begun:
        headers |= {"Range": f"bytes={begun}-"} | ({"If-Range": known} if known else {})
    try:
        request = urllib.request.Request(url, headers=headers)
        answer = urllib.request.build_opener(_Redirect).open(request, timeout=_TIMEOUT)
    except HTTPError as error:
        if error.code != 416 or not begun:
            raise
        error.close()
        if error.headers.get("Content-Range", "") == f"bytes */{begun}":
            # Nothing is missing: an earlier call ended before it had checked the file.
            return begun
        # The part is longer than the file: it belongs to another one.
        _forget(part, tag)
        return _receive(url, part, tag, checked)
    with answer:
        start = _start(answer, begun)
        if not start:
            # A weak tag does not hold for single bytes.
            strong = answer.headers.get("ETag", "W/")
            validator = answer.headers.get("Last-Modified", "") if strong.startswith("W/") else strong
            tag.write_text(validator, encoding="utf-8")
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
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
    return f"The download of {target.name} was cut ({reason}); {part} is kept: run the same command again to resume."


def _unwritten(path: Path, error: OSError) -> InputError:
    if is_full(error):
        cure = "free some space and run the same command again to resume, or set HRNET_HOME to another folder"
        return InputError(f"{path} was not written: the disk is full; {cure}.")
    return InputError(f"{path} cannot be written ({error.strerror}); set HRNET_HOME to another folder.")


def _forget(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
