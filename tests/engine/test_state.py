"""Writing the state of a run. Oracles: what was there before; the system's own error for a full disk."""

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from hrnet.engine.recipe import PREVIOUS, STATE
from hrnet.engine.state import Position, read_state, write_state
from hrnet.errors import InputError


def state(step: int) -> tuple[dict[str, torch.Tensor], Position]:
    return {"model.x": torch.full((1000,), float(step))}, Position(step, recipe="{}", metrics={"AP": 0.5})


def test_what_is_written_is_read_and_the_one_before_stays(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        write_state(tmp_path, *state(step))
    position, tensors, message = read_state(tmp_path)
    assert position == state(3)[1]
    assert torch.equal(tensors["model.x"], state(3)[0]["model.x"])
    assert not message
    assert sorted(path.name for path in tmp_path.iterdir()) == [STATE, PREVIOUS]
    (tmp_path / STATE).unlink()  # killed between the two renames
    position, _, message = read_state(tmp_path)
    assert position.step == 2
    assert f"Resuming from {PREVIOUS}, step 2" in message


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_leaves_the_old_state(tmp_path: Path, monkeypatch: Any, error: Exception) -> None:
    write_state(tmp_path, *state(1))

    def fail(tensors: object, path: Path, header: object) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr("hrnet.engine.state.save_file", fail)
    with pytest.raises(InputError, match=r"is as it was: the disk is full; free some space"):
        write_state(tmp_path, *state(2))
    assert [path.name for path in tmp_path.iterdir()] == [STATE]
    assert read_state(tmp_path)[0].step == 1


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    if os.name != "posix" or os.geteuid() or not shutil.which("mount"):
        pytest.skip("needs the right to mount a small disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        write_state(tmp_path, *state(1))
        with pytest.raises(InputError, match="the disk is full"):
            write_state(tmp_path, {"model.x": torch.zeros(100_000)}, Position(2))
        assert [path.name for path in tmp_path.iterdir()] == [STATE]
        assert read_state(tmp_path)[0].step == 1
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_bytes_that_come_back_wrong_are_not_put_in_place(tmp_path: Path, monkeypatch: Any) -> None:
    from safetensors.torch import save_file

    write_state(tmp_path, *state(1))

    def bend(tensors: dict[str, torch.Tensor], path: Path, header: dict[str, str]) -> None:
        save_file({name: value + 1 for name, value in tensors.items()}, path, header)

    monkeypatch.setattr("hrnet.engine.state.save_file", bend)
    with pytest.raises(InputError, match="the disk returned other bytes"):
        write_state(tmp_path, *state(2))
    assert read_state(tmp_path)[0].step == 1
