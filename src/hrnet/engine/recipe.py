"""A training run as data: the recipe and the training options."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Generic, Literal, TypeVar

from hrnet.nn.spec import HRNetSpec, ModelSpec, StageSpec

# The files of a run's folder.
RECIPE = "recipe.json"
LOG = "log.jsonl"
BEST = "best.safetensors"
STATE = "last.safetensors"
PREVIOUS = "previous.safetensors"

Model = TypeVar("Model", bound=ModelSpec)
Data = TypeVar("Data")
Tracker = Literal["tensorboard", "wandb", "mlflow"]

# Backbone of our own recipes that read all four maps: that of the small pose network, with two modules in stage 3 instead of
# three, so that a segmentation network in half precision stays below 8 MB. The weights that both have fit.
SMALL_BACKBONE = HRNetSpec(
    stages=(StageSpec((24, 48), 2, 1), StageSpec((24, 48, 96), 2, 2), StageSpec((24, 48, 96, 192), 2, 1)),
    bottlenecks=1,
    bottleneck_width=32,
    stem_width=32,
    fusion_upsample="bilinear",
)


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """Training options.

    Attributes:
        epochs: passes over the training samples.
        batch: samples of one optimizer step, over all processes and accumulation together.
        optimizer: adam, adamw, sgd (momentum 0.9), or muon: orthogonal momentum for the backbone's
            convolutions, AdamW for all else.
        nesterov: Nesterov momentum, with sgd.
        learning_rate: highest learning rate of the run, for batch samples per step.
        head_rate: multiple of the learning rate for parameters outside the backbone.
        weight_decay: weight decay of all parameters; without decay_norms only of weights with two or more dimensions.
        decay_norms: weight decay of norms and biases too.
        decay_biases: with decay_norms, weight decay of the biases of other layers too.
        bias_rate: multiple of the learning rate for these biases.
        schedule: step multiplies by 0.1 at each of milestones (epochs); cosine falls to zero; poly falls
            with power 0.9.
        milestones: epochs at which step falls.
        warmup_steps: steps over which the rate is lower.
        warmup: linear rises from warmup_start to the full rate; constant stays there until the end of the steps.
        warmup_start: rate of the first step, as a fraction of the full rate.
        ema: decay of the exponential moving average of the weights, which is then evaluated and saved; 0 for none.
        gradient_clip: maximum norm of the gradient; 0 for no clipping.
        accumulate: number of smaller batches whose gradients one optimizer step accumulates.
        precision: auto is bf16 where it is faster.
        channels_last: memory layout; None for channels-last where it is faster.
        workers: number of processes that read samples; None for one less than the cores, at most 8.
        evaluate_every: epochs between evaluations; the last epoch is always evaluated.
        save_every: minutes between checkpoints inside an epoch.
        sync_norm: batch norm statistics over all processes.
        timeout: seconds without a heartbeat after which a process counts as dead and the run ends.
        trackers: experiment trackers that get the curves besides the log; None for TensorBoard where it is installed.
        examples: number of validation images that are drawn with their predictions after every evaluation.
        seed: random seed of weights, order and augmentation; not negative.
    """

    epochs: int = 210
    batch: int = 32
    optimizer: Literal["adam", "adamw", "sgd", "muon"] = "adam"
    nesterov: bool = False
    learning_rate: float = 1e-3
    head_rate: float = 1.0
    weight_decay: float = 0.0
    decay_norms: bool = False
    decay_biases: bool = True
    bias_rate: float = 1.0
    schedule: Literal["step", "cosine", "poly"] = "step"
    milestones: tuple[int, ...] = ()
    warmup_steps: int = 0
    warmup: Literal["linear", "constant"] = "linear"
    warmup_start: float = 1e-3
    ema: float = 0.0
    gradient_clip: float = 0.0
    accumulate: int = 1
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    channels_last: bool | None = None
    workers: int | None = None
    evaluate_every: int = 1
    save_every: float = 5.0
    sync_norm: bool = False
    timeout: float = 45.0
    trackers: tuple[Tracker, ...] | None = None
    examples: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "accumulate", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1, not {getattr(self, name)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not 0 <= value < math.inf:
                raise ValueError(f"train.{field.name} must not be negative or infinite, not {value}")
        if self.ema >= 1:
            raise ValueError(f"train.ema must be at least 0 and less than 1, not {self.ema}")


# The base of our own recipes; docs/decisions.md has the reasons for Muon.
OURS = TrainSpec(
    epochs=60,
    batch=16,
    optimizer="muon",
    learning_rate=2e-3,
    weight_decay=0.01,
    schedule="cosine",
    warmup_steps=100,
    ema=0.998,
    evaluate_every=5,
)


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """A metric that was published for a recipe, and its source."""

    metric: str
    value: float
    source: str


# Without slots, which Python 3.11 cannot combine with a frozen generic dataclass.
@dataclass(frozen=True)
class Recipe(Generic[Model, Data]):
    """A training run as data: the network, the data set, the training and the figure it was published with."""

    name: str
    model: Model
    data: Data
    train: TrainSpec
    published: PublishedFigure | None = None
