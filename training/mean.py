"""The mean of the weights of models of one network: `python training/mean.py OUT.safetensors MODEL MODEL...`

Of trainings that begin where others ended; models of different origins have no mean that works.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

import hrnet
from hrnet.io.checkpoint import save_model


@dataclass
class Options:
    out: Annotated[Path, tyro.conf.Positional]
    models: Annotated[tuple[str, ...], tyro.conf.Positional]


def main(options: Options) -> None:
    first, *others = (hrnet.load(name) for name in options.models)
    states = [first.state_dict(), *(one.state_dict() for one in others)]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    first.load_state_dict(mean)
    save_model(options.out, first, note=f"mean of {', '.join(options.models)}")


if __name__ == "__main__":
    main(tyro.cli(Options))
