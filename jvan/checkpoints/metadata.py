"""What a converted file says of itself: the network, its preprocessing, its labels, where it came from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace

from ..errors import CheckpointError
from ..variants import VANConfig
from .strict_json import parse_json

FORMAT = 1
MAX_BYTES = 8 << 20
MAX_SIZE = 4096  # of pictures: one of them is then 200 MB of input
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the network's input; it belongs to the weights.

    The defaults are those of the official ImageNet-1K files: resize the short side to
    int(size / crop_pct), crop the centre, scale to [0, 1], subtract mean, divide by std
    (timm 0.4.12 `vision_transformer._cfg`, which the official code imports).
    """

    size: int = 224
    crop_pct: float = 0.9
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self):
        numbers = (*self.mean, *self.std, self.crop_pct)
        if not all(isinstance(n, (int, float)) and not isinstance(n, bool) and abs(n) < 1e6 for n in numbers):
            raise ValueError(f"preprocessing holds something that is no number: {numbers}")
        if not isinstance(self.size, int) or not 1 <= self.size <= MAX_SIZE or not 0.05 <= self.crop_pct <= 1:
            raise ValueError(f"preprocessing size {self.size!r}, crop_pct {self.crop_pct!r} are impossible")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation {self.interpolation!r}; choose one of {INTERPOLATIONS}")
        if len(self.mean) != len(self.std) or not self.mean or min(self.std) < 1e-6:
            raise ValueError(f"mean {self.mean} and std {self.std} need one number a channel, std at least 1e-6")

    def for_channels(self, chans: int) -> Preprocessing:
        """The same for an input of `chans` channels: their numbers in turn, or for one channel their average."""
        if chans == len(self.mean):
            return self
        if chans == 1:
            return replace(self, mean=(sum(self.mean) / len(self.mean),), std=(sum(self.std) / len(self.std),))
        mean, std = (tuple(numbers[i % len(numbers)] for i in range(chans)) for numbers in (self.mean, self.std))
        return replace(self, mean=mean, std=std)


@dataclass(frozen=True)
class Metadata:
    """The document under the safetensors key `jvan`, and `FILE.json` beside every other format."""

    config: VANConfig
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    origin: str = "official"  # whose parameter names the file came with
    labels: tuple[str, ...] | str | None = None  # the classes' names, or the name of a bundled list
    source: str | None = None  # the converted file's name
    source_sha256: str | None = None
    note: str | None = None  # shown to whoever uses the weights, e.g. that they are untrained

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads back to an equal object."""
        document = {**asdict(self), "format": FORMAT, "arch": self.config.arch, "config": self.config.to_dict()}
        text = json.dumps(document, sort_keys=True, ensure_ascii=False)
        # half characters, such as a file's name may hold, become JSON's escapes
        return text.encode("utf-8", "backslashreplace").decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Metadata:
        """Read and check a document from an untrusted file; CheckpointError for anything malformed."""
        try:
            document = dict(parse_json(text.encode() if isinstance(text, str) else text, MAX_BYTES))
            if document.pop("format", None) != FORMAT:
                raise ValueError("it is not jvan's, or of another version")
            document.pop("arch", None)
            config = VANConfig.from_dict(document.pop("config"))
            preprocessing = document.pop("preprocessing")
            tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in preprocessing.items()}
            metadata = cls(config=config, preprocessing=Preprocessing(**tuples), **document)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"the file's jvan metadata is malformed: {str(error)[:300]}") from None
        return metadata._checked()

    def _checked(self) -> Metadata:
        labels = tuple(self.labels) if isinstance(self.labels, list) else self.labels
        texts = [self.origin, self.source, self.source_sha256, self.note]
        texts += labels if isinstance(labels, tuple) else [labels]
        if not all(text is None or isinstance(text, str) for text in texts) or self.origin is None:
            raise CheckpointError("the file's jvan metadata is malformed: an entry that should be text is not")
        if len(self.preprocessing.mean) != self.config.in_chans:
            raise CheckpointError(
                f"the file's jvan metadata has a mean for {len(self.preprocessing.mean)} channels of {self.config.in_chans}"
            )
        if isinstance(labels, tuple) and len(labels) != self.config.num_classes:
            raise CheckpointError(
                f"the file's jvan metadata names {len(labels)} labels for {self.config.num_classes} classes"
            )
        object.__setattr__(self, "labels", labels)
        return self
