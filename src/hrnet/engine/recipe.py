"""The parts of a training run that no task owns."""

from __future__ import annotations

import math
from dataclasses import dataclass
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
    """How to train.

    Attributes:
        epochs: passes over the training samples.
        batch: samples of one optimizer step, over all processes and accumulation together.
        optimizer: ``adam``, ``adamw``, ``sgd`` (momentum 0.9), or ``muon``: orthogonal momentum for the backbone's
            convolutions, AdamW for all else.
        nesterov: of ``sgd``: the momentum looks one step ahead.
        learning_rate: the highest of the run, at `batch` samples a step.
        head_rate: the learning rate of all that is not the backbone, as a multiple.
        weight_decay: applied to every parameter, or only to weights with two or more dimensions if `decay_norms` is False.
        decay_norms: whether weight decay reaches norms and biases.
        decay_biases: whether it reaches the biases of other layers than norms, where it reaches norms.
        bias_rate: the learning rate of these biases, as a multiple.
        schedule: ``step`` multiplies by 0.1 at each of `milestones` (epochs); ``cosine`` falls to zero; ``poly`` falls
            with power 0.9.
        milestones: epochs at which ``step`` falls.
        warmup_steps: steps over which the rate is lower.
        warmup: ``linear`` rises from `warmup_start` to the full rate; ``constant`` stays there until the end of the steps.
        warmup_start: the rate of the first step, as a share of the full rate.
        ema: decay of the exponential moving average of the weights, which is then what is evaluated and saved; 0 for none.
        gradient_clip: largest norm of the gradient; 0 for none.
        accumulate: optimizer steps gather this many smaller batches.
        precision: ``auto`` takes bf16 where the hardware gains from it.
        channels_last: memory layout; None takes it where the hardware gains from it.
        workers: processes that read samples; None for one less than there are cores, at most 8.
        evaluate_every: epochs between evaluations; the last epoch is always evaluated.
        save_every: minutes between checkpoints inside an epoch.
        sync_norm: batch norm takes its statistics over all processes, not over each one's part of the batch.
        timeout: seconds without a sign of life after which a process counts as dead and ends the run.
        trackers: where the curves go besides the run's log; None for TensorBoard where it is installed.
        examples: validation images that are shown with their predictions after every evaluation.
        seed: of weights, order and augmentation; not negative.
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
                raise ValueError(f"train.{name} is at least 1, not {getattr(self, name)}")
        shares = ("learning_rate", "head_rate", "weight_decay", "bias_rate", "warmup_start", "gradient_clip", "timeout")
        for name in (*shares, "warmup_steps", "save_every", "examples", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"train.{name} is not negative, not {getattr(self, name)}")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"train.workers is not negative, not {self.workers}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"train.ema is at least 0 and less than 1, not {self.ema}")


# What our own recipes start from; see docs/decisions.md for Muon.
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
