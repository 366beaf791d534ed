"""Memory and time of segmentation, one image at a time: ours beside the same network written in the plain, published way.

python benchmarks/segmentation_memory.py [--networks w48 w18-small-v2] [--works train forward] [--rounds 3]
    [--size 512 1024] [--ocr]

Memory is what the work adds to the largest resident size of a fresh process that holds PyTorch and the weights already, and
that gives every freed megabyte back, so that it is what the work needs and not what the C library keeps. Times are processor
seconds, which neighbors on the machine disturb less than the clock, taken in turns in one process that keeps freed memory
as training does; set OMP_NUM_THREADS=1, or waiting threads count too.
"""

from __future__ import annotations

import ctypes
import importlib
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional

from hrnet.engine.hardware import keep_freed_memory
from hrnet.io.geometry import Size
from hrnet.nn.backbone import BasicBlock, Bottleneck, ConvBN, HRNet
from hrnet.nn.representation import ConcatConv2d, PixelHead, concatenate
from hrnet.nn.spec import hrnet, hrnet_small_v2
from hrnet.nn.task import Batch
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.spec import OCRSpec, SegmentationSpec

BACKBONES = {"w48": hrnet(48, fusion_upsample="bilinear"), "w18-small-v2": hrnet_small_v2(fusion_upsample="bilinear")}
# Source: malloc.h of glibc.
_M_MMAP_THRESHOLD = -3
Side = Literal["published", "ours"]
Work = Literal["train", "forward"]


@dataclass
class Options:
    """How often, and of which networks; with `side` and `work` one measurement of memory in this process."""

    networks: tuple[str, ...] = tuple(BACKBONES)
    works: tuple[Work, ...] = ("train", "forward")
    rounds: int = 3
    size: tuple[int, int] = (512, 1024)
    ocr: bool = False
    side: Side | None = None
    work: Work = "train"


class PlainConv(ConcatConv2d):
    """The convolution of the concatenation as one would write it."""

    def forward(self, first: Tensor, *others: Tensor, channels: slice = slice(None)) -> Tensor:
        whole = concatenate([first, *others], self.align_corners)
        assert self.bias is not None
        return functional.conv2d(whole, self.weight[channels], self.bias[channels], padding=self.padding)


class PlainHead(PixelHead):
    """One layer after the other."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.classify(functional.relu(self.norm(self.project(*maps)), inplace=True))


class PlainBasicBlock(BasicBlock):
    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return functional.relu(y, inplace=True)


class PlainBottleneck(Bottleneck):
    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = functional.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return functional.relu(y, inplace=True)


class PlainHRNet(HRNet):
    def _stem(self, images: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(images)), inplace=True)
        return functional.relu(self.bn2(self.conv2(x)), inplace=True)


PLAIN: dict[type[nn.Module], type[nn.Module]] = {
    ConcatConv2d: PlainConv,
    PixelHead: PlainHead,
    BasicBlock: PlainBasicBlock,
    Bottleneck: PlainBottleneck,
    ConvBN: nn.Sequential,
    HRNet: PlainHRNet,
}


class Published(SegmentationModel):
    """Each layer as one would write it, everything kept, the concatenation made, the loss of all images at once."""

    def __init__(self, spec: SegmentationSpec) -> None:
        super().__init__(spec)
        self.backbone = HRNet(spec.backbone)
        for layer in self.modules():
            layer.__class__ = PLAIN.get(type(layer), type(layer))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        labels = batch.targets["labels"].long()
        terms: dict[str, Tensor] = {}
        for name, output in zip(("classes", "auxiliary"), self(batch.images), strict=True):
            if output is not None:
                align = self.spec.backbone.align_corners
                large = functional.interpolate(output, labels.shape[-2:], mode="bilinear", align_corners=align)
                terms[name] = functional.cross_entropy(large, labels, ignore_index=255)
        return terms


def build(network: str, ocr: bool, side: Side) -> SegmentationModel:
    torch.manual_seed(0)
    spec = SegmentationSpec(backbone=BACKBONES[network], ocr=OCRSpec() if ocr else None)
    return (SegmentationModel if side == "ours" else Published)(spec)


def example(size: Size) -> Batch:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 19, (1, *size), generator=generator)
    return Batch(torch.rand(1, 3, *size, generator=generator), (), {"labels": labels}, (0,))


def run(model: SegmentationModel, batch: Batch, work: Work) -> None:
    if work == "forward":
        with torch.inference_mode():
            model.eval()(batch.images)
        return
    # The gradients stay, as they would beside an optimizer's state, which is the same for both.
    sum(model.train().loss(batch).values(), torch.zeros(())).backward()


def resident() -> int:
    """The largest resident size so far, in MiB, of Linux; that of getrusage would be at least the parent process's."""
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) >> 10


def memory(network: str, size: Size, ocr: bool, side: Side, work: Work) -> tuple[int, int]:
    """The largest resident size in a fresh process, and the part of it that the work added."""
    options = [
        "--networks",
        network,
        "--side",
        side,
        "--work",
        work,
        "--size",
        *map(str, size),
        "--ocr" if ocr else "--no-ocr",
    ]
    found = subprocess.run([sys.executable, __file__, *options], check=True, capture_output=True, text=True)
    peak, added = map(int, found.stdout.split())
    return peak, added


def times(network: str, size: Size, ocr: bool, work: Work, rounds: int) -> tuple[float, float]:
    """Median processor seconds of both, in turns; the first turn does not count."""
    keep_freed_memory()
    sides: tuple[Side, Side] = ("published", "ours")
    models, batch = [build(network, ocr, side) for side in sides], example(size)
    taken: list[list[float]] = [[], []]
    for round_ in range(rounds + 1):
        # The second of two is served worse by the memory, so they change places.
        for model, column in list(zip(models, taken, strict=True))[:: -1 if round_ % 2 else 1]:
            start = time.process_time()
            run(model, batch, work)
            if round_:
                column.append(time.process_time() - start)
    return statistics.median(taken[0]), statistics.median(taken[1])


def main(options: Options) -> None:
    if options.side:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        # An optimizer brings it into every training, and so does a checkpointed function: 150 MiB of code.
        importlib.import_module("torch._dynamo")
        model, batch = build(options.networks[0], options.ocr, options.side), example(options.size)
        # The largest so far becomes what is there now: building the model took more.
        Path("/proc/self/clear_refs").write_text("5")
        before = resident()
        run(model, batch, options.work)
        print(resident(), resident() - before)
        return
    for network in options.networks:
        for work in options.works:
            (plain, plain_added), (ours, ours_added) = (
                memory(network, options.size, options.ocr, side, work) for side in ("published", "ours")
            )
            print(
                f"{network} {work}: published {plain} MiB ({plain_added} of them added), ours {ours} ({ours_added}), "
                f"ratio {ours / plain:.2f} ({ours_added / plain_added:.2f})",
                flush=True,
            )
            if options.rounds:
                slow, fast = times(network, options.size, options.ocr, work, options.rounds)
                print(
                    f"{network} {work}: published {slow:.2f} s, ours {fast:.2f} s, ratio {fast / slow:.2f}", flush=True
                )


if __name__ == "__main__":
    main(tyro.cli(Options))
