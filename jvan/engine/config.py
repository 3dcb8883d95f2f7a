"""Everything that fixes a training run, as typed data: what `jvan train` takes, what a recipe sets, what is kept."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields

DTYPES = ("float32", "bfloat16", "float16")
SMALL = 64  # up to this size of pictures are padded and shifted, above it cut at random sizes

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


def option(default, help, *aliases, metavar=None, choices=None):
    """A field that is an option of `jvan train`; `aliases` are timm's spellings."""
    return field(default=default, metadata={"help": help, "aliases": aliases, "metavar": metavar, "choices": choices})


@dataclass(frozen=True)
class TrainConfig:
    """A run. What has no option belongs to the recipe; the defaults are those of ImageNet-1K (official train.py)."""

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
    epochs: int = option(310, "epochs in all", metavar="N")
    max_steps: int | None = option(None, "stop after this many steps, on the schedule of all epochs", metavar="N")
    batch_size: int | None = option(
        None,
        "pictures a step, over all processes (default: 128; 32 with --weights; fewer where there are fewer)",
        "-b",
        metavar="N",
    )
    accum_steps: int = option(
        1, "parts that a batch is computed in, one after the other", "--grad-accum-steps", metavar="N"
    )
    img_size: int | None = option(
        None, f"side of the pictures (default: the weights'; up to {SMALL}: padded and shifted)", metavar="N"
    )
    max_pixels: int | None = option(
        None, "pass over pictures of more pixels (default: Pillow's own limit)", metavar="N"
    )
    lr: float | None = option(
        None,
        "highest learning rate, of all layers (default: scaled to the batch, from 1e-3 for 1024 pictures)",
        metavar="X",
    )
    warmup_epochs: float = option(5.0, "epochs of linear warm-up", metavar="X")
    weight_decay: float = option(0.05, "AdamW's, of all but vectors and biases", "--wd", metavar="X")
    drop_path: float | None = option(
        None, "rate of stochastic depth in the last block (default: the network's)", metavar="X"
    )
    mixup: float = option(0.8, "alpha of mixup, 0 for none", metavar="X")
    cutmix: float = option(1.0, "alpha of cutmix, 0 for none", metavar="X")
    aa: str | None = option("rand-m9-mstd0.5-inc1", "RandAugment policy, or none", "--auto-augment", metavar="P")
    smoothing: float = option(0.1, "label smoothing", "--label-smoothing", metavar="X")
    reprob: float = option(0.25, "probability of random erasing", metavar="X")
    model_ema: float = option(
        0.0,
        "keep averaged weights, with this decay (0.9998 if none is given; default: none)",
        "--model-ema-decay",
        metavar="D",
    )
    clip_grad: float | None = option(None, "largest norm of the gradient, 0 for any", metavar="X")
    sync_bn: bool = option(False, "BatchNorm over the batches of all processes")
    dtype: str = option("float32", "precision of the arithmetic", "--amp-dtype", choices=DTYPES)
    workers: int = option(2, "processes that prepare pictures, 0 for none", "-j", metavar="N")
    seed: int = option(42, "of everything that is random", metavar="N")
    log_every: int = option(10, "steps between two rows of log.csv", "--log-interval", metavar="N")
    checkpoint_every: int = option(
        1000, "steps between two checkpoints; each epoch ends with one too", "--recovery-interval", metavar="N"
    )
    keep: int = option(2, "checkpoints to keep beside the best", "--checkpoint-hist", metavar="K")
    resume: bool = option(False, "continue the run in OUTPUT if there is one")
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda"))
    plot: bool = option(False, "draw the curves to OUTPUT/curves.png at the end (needs matplotlib)")

    weights_digest: str | None = None  # of their tensors, since the same weights may lie elsewhere by now
    grad_checkpointing: bool = False  # compute blocks again for their gradients: less memory, more time
    usual_batch: int = 128
    base_lr: float = 1e-3  # for a batch of 1024
    low_lr: float = 1e-6  # where warm-up begins and the cosine ends
    cooldown_epochs: int = 10  # the last of `epochs`, at `low_lr`
    layer_decay: float = 1.0
    color_jitter: float = 0.4
    flip: float = 0.5
    crop_scale: tuple[float, float] = (0.08, 1.0)

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
    names = [f.name for f in fields(TrainConfig) if f.name not in FREE]
    pairs = [(name, getattr(one, name), getattr(other, name)) for name in names]
    return [f"{name}: {a}, not {b}" for name, a, b in pairs if a != b]
