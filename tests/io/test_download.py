"""Downloads, against a server of this machine that can misbehave."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from tiny import tiny_hrnet

import hrnet.io.published
import hrnet.io.zoo
from hrnet.errors import InputError
from hrnet.io.download import DeadLinkError, UnreachableError, fetch, locked
from hrnet.io.published import PublishedCheckpoint
from hrnet.pose.model import PoseModel
from hrnet.pose.skeletons import Skeleton
from hrnet.pose.spec import PoseSpec
from hrnet.runs import _initialize as initialize
from hrnet.tasks import create_model

BODY = bytes(range(256)) * 3000
SHA = hashlib.sha256(BODY).hexdigest()


@dataclass
class Site:
    address: str = ""
    body: bytes = BODY
    ranges: bool = True
    cut: int | None = None
    stalled: threading.Event | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            begin = self.headers.get("Range")
            site.asked.append((self.path, begin))
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/file")
                self.end_headers()
                return
            if self.path == "/ftp":
                self.send_response(302)
                self.send_header("Location", "ftp://127.0.0.1/file")
                self.end_headers()
                return
            if self.path == "/none":
                self.send_error(404)
                return
            tag = f'"{hashlib.sha256(site.body).hexdigest()}"'
            ranges = site.ranges and self.headers.get("If-Range", tag) == tag
            start = int(begin.removeprefix("bytes=").removesuffix("-")) if begin and ranges else 0
            if start >= len(site.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(site.body)}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(site.body) - 1}/{len(site.body)}")
            self.send_header("Content-Type", "text/html" if self.path == "/login" else "application/octet-stream")
            self.send_header("Content-Length", str(len(site.body) - start))
            self.send_header("ETag", tag)
            self.end_headers()
            self.wfile.write(site.body[start : site.cut])
            if site.stalled:
                self.wfile.flush()
                site.stalled.wait(60)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.address = f"http://127.0.0.1:{server.server_port}"
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def test_redirected(site: Site, tmp_path: Path) -> None:
    fetch(f"{site.address}/moved", tmp_path / "x.pth", SHA[:8])
    assert (tmp_path / "x.pth").read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_download_goes_on(site: Site, tmp_path: Path, ranges: bool) -> None:
    site.cut = 100_000
    with pytest.raises(InputError, match=r"was cut .* is kept"):
        fetch(f"{site.address}/file", tmp_path / "x.pth", SHA)
    assert (tmp_path / "x.pth.part").read_bytes() == BODY[:100_000]
    assert not (tmp_path / "x.pth").exists()
    site.cut, site.ranges = None, ranges
    fetch(f"{site.address}/file", tmp_path / "x.pth", SHA)
    assert (tmp_path / "x.pth").read_bytes() == BODY
    assert [begin for _, begin in site.asked] == [None, "bytes=100000-"]


@pytest.mark.parametrize("sha256", [SHA, ""])
def test_a_whole_part_is_not_asked_for_again(site: Site, tmp_path: Path, sha256: str) -> None:
    # A process that ended between the last byte and the hash leaves this; the server answers 416.
    (tmp_path / "x.pth.part").write_bytes(BODY)
    (tmp_path / "x.pth.part.tag").write_text(f'"{SHA}"')
    fetch(f"{site.address}/file", tmp_path / "x.pth", sha256)
    assert (tmp_path / "x.pth").read_bytes() == BODY
    assert site.asked == [("/file", f"bytes={len(BODY)}-")]
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


def test_a_part_longer_than_the_file_is_forgotten(site: Site, tmp_path: Path) -> None:
    (tmp_path / "x.pth.part").write_bytes(BODY + b"more")
    fetch(f"{site.address}/file", tmp_path / "x.pth", SHA)
    assert (tmp_path / "x.pth").read_bytes() == BODY
    assert [begin for _, begin in site.asked] == [f"bytes={len(BODY) + 4}-", None]


def test_a_part_of_another_file_is_forgotten(site: Site, tmp_path: Path) -> None:
    # Oracle: RFC 9110, 13.1.5: where If-Range does not hold, the whole file is sent.
    (tmp_path / "x.pth.part").write_bytes(b"old" * 1000)
    (tmp_path / "x.pth.part.tag").write_text('"old"')
    fetch(f"{site.address}/file", tmp_path / "x.pth")
    assert (tmp_path / "x.pth").read_bytes() == BODY
    assert [begin for _, begin in site.asked] == ["bytes=3000-"]


def test_a_part_of_nobody_knows_what_is_forgotten(site: Site, tmp_path: Path) -> None:
    (tmp_path / "x.pth.part").write_bytes(BODY[:1000])
    fetch(f"{site.address}/file", tmp_path / "x.pth")
    assert (tmp_path / "x.pth").read_bytes() == BODY
    assert [begin for _, begin in site.asked] == [None]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(site: Site, tmp_path: Path) -> None:
    # What is written to this device fails as on a full disk, said by the system itself.
    (tmp_path / "x.pth.part").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"x\.pth was not written: the disk is full; free some space"):
        fetch(f"{site.address}/file", tmp_path / "x.pth", SHA)
    assert not (tmp_path / "x.pth").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written \(.*set HRNET_HOME"), locked(tmp_path / "file/x/.lock"):
        pytest.fail("there is no such folder")


def test_a_wrong_hash_deletes(site: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it was deleted"):
        fetch(f"{site.address}/file", tmp_path / "x.pth", "0" * 8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("path", "reason"), [("none", "HTTP 404"), ("login", "a page"), ("ftp", "leads to ftp")])
def test_dead_links(site: Site, tmp_path: Path, path: str, reason: str) -> None:
    with pytest.raises(DeadLinkError, match=reason):
        fetch(f"{site.address}/{path}", tmp_path / "x.pth", SHA)
    assert not (tmp_path / "x.pth").exists()


def test_nobody_answers(tmp_path: Path) -> None:
    # Port 9 of this machine: nothing listens there.
    with pytest.raises(UnreachableError):
        fetch("http://127.0.0.1:9/file", tmp_path / "x.pth", SHA)


TINY = tiny_hrnet(high_resolution_only=True)


@pytest.fixture
def entry(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedCheckpoint:
    """A small pose network in the official names, on the server, under a name of its own."""
    model = create_model(PoseSpec(Skeleton(("keypoint_0", "keypoint_1")), TINY, input_size=(256, 256)))
    state = model.state_dict()
    head = {name: name.replace("head.", "final_layer.") for name in state if not name.startswith("backbone.")}
    foreign = {head.get(name, name.removeprefix("backbone.")): value for name, value in state.items()}
    torch.save(foreign, tmp_path / "made.pth")
    site.body = (tmp_path / "made.pth").read_bytes()
    sha = hashlib.sha256(site.body).hexdigest()
    made = PublishedCheckpoint(
        "pose-made", "pose", "none", "AP 0", "test", "MIT", "none", "made.pth", (f"{site.address}/moved",), sha[:8],
        ("a shelf",), (96, 64), {"codec.kind": "dark"},
    )  # fmt: skip
    monkeypatch.setenv("HRNET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HRNET_OFFLINE", raising=False)
    monkeypatch.setattr(hrnet.io.zoo, "published", lambda: {made.name: made})
    return made


def test_by_name(site: Site, entry: PublishedCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = hrnet.load(entry.name)
    assert isinstance(model.spec, PoseSpec)
    assert (model.spec.input_size, model.spec.codec.kind) == ((96, 64), "dark")
    written = torch.load(tmp_path / "made.pth", weights_only=True)
    assert torch.equal(model.state_dict()["backbone.conv1.weight"], written["conv1.weight"])
    # Later uses read what was converted, without the network.
    monkeypatch.setenv("HRNET_OFFLINE", "1")
    asked = len(site.asked)
    hrnet.load(entry.name)
    assert len(site.asked) == asked


def test_offline(entry: PublishedCheckpoint, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRNET_OFFLINE", "1")
    place = tmp_path / "home/pose-made/made.pth"
    with pytest.raises(InputError, match=f"HRNET_OFFLINE is set; .* put made.pth at {place}"):
        hrnet.load(entry.name)
    assert site.asked == []
    place.write_bytes(site.body)
    hrnet.load(entry.name)


def test_dead_by_name(entry: PublishedCheckpoint, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = replace(entry, urls=(f"{site.address}/none",))
    monkeypatch.setattr(hrnet.io.zoo, "published", lambda: {dead.name: dead})
    with pytest.raises(InputError, match=r"HTTP 404.*other sources: a shelf; .*pass the path"):
        hrnet.load(dead.name)


def test_several_at_once(entry: PublishedCheckpoint, site: Site) -> None:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(hrnet.load(entry.name))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert [path for path, _ in site.asked] == ["/moved", "/file"]


_OTHER = """
import sys
from hrnet.io.published import PublishedCheckpoint, published_file
print("ready", flush=True)
entry = PublishedCheckpoint("pose-made", "pose", "", "", "", "", "", "made.pth", (sys.stdin.readline().strip(),), sys.argv[1])
print(published_file(entry), flush=True)
"""


def test_a_killed_process_leaves_what_it_had(site: Site, tmp_path: Path) -> None:
    # Two processes want one file; the one that is at it dies in the middle, and the other resumes from there.
    site.cut, site.stalled = 400_000, threading.Event()
    address = f"{site.address}/file\n"
    environment = {**os.environ, "HRNET_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _OTHER, SHA]
    first, second = (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    )
    part = tmp_path / "pose-made/made.pth.part"
    with first, second:
        assert first.stdin is not None
        assert first.stdout is not None
        assert first.stdout.readline() == "ready\n"
        first.stdin.write(address)
        first.stdin.flush()
        wait_until(lambda: part.is_file() and part.stat().st_size > 0)
        begun = part.stat().st_size
        assert second.stdout is not None
        assert second.stdout.readline() == "ready\n"
        site.cut = None
        first.kill()
        first.wait()
        site.stalled.set()
        written, _ = second.communicate(address, timeout=60)
    assert Path(written.strip()).read_bytes() == BODY
    assert [begin for _, begin in site.asked] == [None, f"bytes={begun}-"]


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("kind", ["pose", "backbone"])
def test_training_begins_with_a_published_one(
    entry: PublishedCheckpoint, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "backbone":
        state = torch.load(tmp_path / "made.pth", weights_only=True)
        torch.save({name: value for name, value in state.items() if "final_layer" not in name}, tmp_path / "bare.pth")
        site.body = (tmp_path / "bare.pth").read_bytes()
        sha = hashlib.sha256(site.body).hexdigest()
        entry = replace(entry, name="backbone-made", task="backbone", sha256=sha, input=None, spec_fields={})
    for module in (hrnet.io.zoo, hrnet.io.published):
        monkeypatch.setattr(module, "published", lambda: {entry.name: entry})
    torch.manual_seed(1)
    model = PoseModel(PoseSpec(Skeleton(("a", "b", "c")), TINY, input_size=(64, 64)))
    head = {name: value.clone() for name, value in model.state_dict().items() if name.startswith("head.")}
    initialize(model, entry.name, print)
    written = torch.load(tmp_path / "made.pth", weights_only=True)
    for name, value in model.state_dict().items():
        # Another number of keypoints: the head stays as it was made.
        assert torch.equal(value, head[name] if name in head else written[name.removeprefix("backbone.")]), name
    assert site.asked[0] == ("/moved", None)
