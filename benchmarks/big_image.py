"""Peak memory and time of `hrnet predict` on one very large image, beside the same on a small one.

    python benchmarks/big_image.py MODEL [--size 9000 12000]

The image is made here: smooth, with edges. Each command runs in a process of its own, whose largest resident memory is
what the system says at its end. The small image shows what the model and its runtime need. Rows: the whole image
resized to the input, and a sliding window at the image's own scale.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import tyro
from PIL import Image as Pillow

import hrnet

_CHILD = "import sys; from hrnet.cli import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True, slots=True)
class Options:
    model: Annotated[str, tyro.conf.Positional]
    size: tuple[int, int] = (9000, 12000)
    """height and width"""
    runtime: str = "auto"


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        height, width = hrnet.load(options.model).spec.input_size
        small, large = folder / "small.jpg", folder / "large.jpg"
        for path, size in ((small, (height, width)), (large, options.size)):
            Pillow.fromarray(image(*size)).save(path, quality=90)
        print(f"large: {options.size[1]} x {options.size[0]} pixels, input of the model {width} x {height}")
        for more in ([], ["--windows"]):
            rows = [run_command(options, path, folder, more) for path in (small, large)]
            least, most = (memory for memory, _ in rows)
            print(
                f"{' '.join(more) or 'whole':<10} small {least:5.2f} GiB {rows[0][1]:6.1f} s   large {most:5.2f} GiB "
                f"{rows[1][1]:6.1f} s   more: {most - least:.2f} GiB"
            )


def image(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (height // 200 + 2, width // 200 + 2, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def run_command(options: Options, path: Path, folder: Path, more: list[str]) -> tuple[float, float]:
    """Largest resident memory in GiB and seconds of one command."""
    out = folder / f"{path.stem}{len(more)}"
    command = [sys.executable, "-c", _CHILD, "predict", options.model, str(path), "--out", str(out)]
    start = time.perf_counter()
    child = subprocess.Popen([*command, "--runtime", options.runtime, *more], stdout=subprocess.DEVNULL)
    _, status, usage = _wait(child)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}")
    expected = {f"{path.stem}.jpg", f"{path.stem}.json", f"{path.stem}.labels.png"}
    assert {entry.name for entry in out.iterdir()} == expected
    print(f"{path.stem} {' '.join(more) or 'whole'}: {usage.ru_utime + usage.ru_stime:.1f} s of CPU time", flush=True)
    return usage.ru_maxrss / 2**20, seconds


def _wait(child: subprocess.Popen[bytes]) -> tuple[int, int, resource.struct_rusage]:
    pid, status, usage = os.wait4(child.pid, 0)
    child.returncode = status
    return pid, status, usage


if __name__ == "__main__":
    main(tyro.cli(Options))
