"""What fixes a training run of any task, as typed data: options of `jvan train`, what a recipe sets, what is kept."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields

from ..device import DEVICES, DTYPES

# What may differ between a run and its continuation: none of these changes a single bit of the weights.
FREE = (
    "data",
    "val",
    "output",
    "weights",
    "max_steps",
    "workers",
    "log_every",
    "checkpoint_every",
    "keep",
    "resume",
    "plot",
)


def option(
    default,
    help,
    *aliases,
    metavar=None,
    choices=None,
    at_least=None,
    at_most=None,
    below=None,
    flag=None,
    nothing=None,
):
    """A field that is an option of `jvan train`; `aliases` are timm's spellings.

    `flag` is the value where the option is given without one, `nothing` the word that means None.
    """
    return field(
        default=default,
        metadata={
            "help": help, "aliases": aliases, "metavar": metavar, "choices": choices, "at_least": at_least,
            "at_most": at_most, "below": below, "flag": flag, "nothing": nothing,
        },
    )  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """A run of any task; a task adds its own options. What has no option belongs to the recipe."""

    data: str
    arch: str | None = option(
        None,
        "van_b0 … van_b6, or van_b0:embed_dims=32,64,128,256:stem_stride=1 (default: the weights', or van_b0)",
        "--model",
        metavar="A",
    )
    weights: str | None = option(
        None, "fine-tune these: a file, or a name such as van_b0.in1k", "--initial-checkpoint", metavar="W"
    )
    output: str | None = option(
        None, "folder for weights, log and state (default: runs/ and DATA's name)", metavar="DIR"
    )
    val: str | None = option(
        None, "validate on this data set (where DATA has no val/ of its own)", "--val-split", metavar="DIR"
    )
    epochs: int = option(310, "epochs in all", metavar="N", at_least=1)
    max_steps: int | None = option(
        None, "stop after this many steps, on the schedule of all epochs", metavar="N", at_least=1
    )
    batch_size: int | None = option(
        None,
        "pictures a step, over all processes (default: 128; 32 with --weights; fewer where there are fewer)",
        "-b",
        metavar="N",
        at_least=1,
    )
    accum_steps: int = option(
        1, "parts that a batch is computed in, one after the other", "--grad-accum-steps", metavar="N", at_least=1
    )
    max_pixels: int | None = option(
        None, "pass over pictures of more pixels (default: Pillow's own limit)", metavar="N", at_least=1
    )
    lr: float | None = option(
        None,
        "highest learning rate, of all layers (default: scaled to the batch, from 1e-3 for 1024 pictures)",
        metavar="X",
        at_least=0,
    )
    warmup_epochs: float = option(5.0, "epochs of linear warm-up", metavar="X", at_least=0)
    weight_decay: float = option(0.05, "AdamW's, of all but vectors and biases", "--wd", metavar="X", at_least=0)
    drop_path: float | None = option(
        None, "rate of stochastic depth in the last block (default: the network's)", metavar="X", at_least=0, below=1
    )
    model_ema: float = option(
        0.0,
        "keep averaged weights, with this decay (0.9998 if none is given; default: none)",
        "--model-ema-decay",
        metavar="D",
        at_least=0,
        below=1,
        flag=0.9998,
    )
    clip_grad: float | None = option(None, "largest norm of the gradient, 0 for any", metavar="X", at_least=0)
    sync_bn: bool = option(False, "BatchNorm over the batches of all processes")
    dtype: str = option("float32", "precision of the arithmetic", "--amp-dtype", choices=DTYPES)
    workers: int = option(2, "processes that prepare pictures, 0 for none", "-j", metavar="N", at_least=0)
    seed: int = option(42, "of everything that is random", metavar="N", at_least=0)
    log_every: int = option(10, "steps between two rows of log.csv", "--log-interval", metavar="N", at_least=1)
    checkpoint_every: int = option(
        1000,
        "steps between two checkpoints; each epoch ends with one too",
        "--recovery-interval",
        metavar="N",
        at_least=1,
    )
    keep: int = option(2, "checkpoints to keep beside the best", "--checkpoint-hist", metavar="K", at_least=1)
    resume: bool = option(False, "continue the run in OUTPUT if there is one")
    device: str = option("auto", "where to compute", choices=DEVICES)
    plot: bool = option(False, "draw the curves to OUTPUT/curves.png at the end (needs matplotlib)")

    weights_digest: str | None = None  # of their tensors, since the same weights may lie elsewhere by now
    grad_checkpointing: bool = False  # compute blocks again for their gradients: less memory, more time
    usual_batch: int = 128
    base_lr: float = 1e-3  # for a batch of 1024
    low_lr: float = 1e-6  # where warm-up begins and the cosine ends
    cooldown_epochs: int = 10  # the last of `epochs`, at `low_lr`
    layer_decay: float = 1.0

    @property
    def task(self):
        """The Task that this configuration is of; each task's own configuration names it."""
        raise NotImplementedError(type(self).__name__)

    @property
    def peak_lr(self) -> float:
        return self.base_lr * self.batch_size / 1024 if self.lr is None else self.lr

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> TrainConfig:
        """ValueError for anything that is no configuration."""
        document = json.loads(text)
        unknown = set(document) - {f.name for f in fields(cls)} if isinstance(document, dict) else {"document"}
        if unknown:
            raise ValueError(f"unknown entries: {', '.join(sorted(unknown))}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in document.items()})


def differences(one: TrainConfig, other: TrainConfig) -> list[str]:
    """`name: one's value, other's value` of every entry that decides what the run computes."""
    names = [f.name for f in fields(one) if f.name not in FREE]
    pairs = [(name, getattr(one, name), getattr(other, name)) for name in names]
    return [f"{name}: {a}, not {b}" for name, a, b in pairs if a != b]
