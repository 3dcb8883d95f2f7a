"""What a converted file says of itself: the task, the network, its preprocessing, its labels, where it came from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace

from ..errors import CheckpointError
from ..preprocessing import Preprocessing
from ..variants import LIMITS, VANConfig
from .json_object import JSONObject, json_object
from .strict_json import parse_json

FORMAT = 2  # what is written
MAX_BYTES = 8 << 20
SINCE_2 = ("task", "head", "palette", "ignore_label", "test")  # entries that format 1 does not have
TEXTS = ("task", "origin", "source", "source_sha256", "note")


@dataclass(frozen=True)
class Metadata:
    """The document under the safetensors key `jvan`, and `FILE.json` beside every other format.

    `config` is the backbone, and of a classifier its classes, too. `head` and `test` are a dense task's own, plain JSON that is carried
    as it is; a head says its `num_classes`.
    """

    config: VANConfig
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    origin: str = "official"  # whose parameter names the file came with
    labels: tuple[str, ...] | str | None = None  # the classes' names, or the name of a bundled list
    source: str | None = None  # the converted file's name
    source_sha256: str | None = None
    note: str | None = None  # shown to whoever uses the weights, e.g. that they are untrained
    task: str = "classification"
    head: JSONObject | None = None
    palette: tuple[tuple[int, int, int], ...] | None = None  # a colour for each label
    ignore_label: int | None = None  # what is not counted
    test: JSONObject | None = None  # scales, thresholds

    def __post_init__(self):
        for name in ("head", "test"):
            try:
                object.__setattr__(self, name, json_object(getattr(self, name)))
            except ValueError as error:
                raise _malformed(f"its {name} {error}") from None

    @property
    def num_classes(self) -> int:
        """The classes that the labels name: the head's, or of a classifier the network's own."""
        return self.head["num_classes"] if self.head is not None else self.config.num_classes

    def of_backbone(self) -> Metadata:
        """What is true of the backbone alone, once neck and heads are left out."""
        config = replace(self.config, num_classes=0)
        bare = {"head": None, "labels": None, "palette": None, "ignore_label": None, "test": None}
        return replace(self, config=config, task="classification", **bare)

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads back to an equal object."""
        document = {**asdict(self), "format": FORMAT, "arch": self.config.arch, "config": self.config.to_dict()}
        document = {name: value for name, value in document.items() if name not in SINCE_2 or value is not None}
        text = json.dumps(document, sort_keys=True, ensure_ascii=False, default=dict)
        # half characters, such as a file's name may hold, become JSON's escapes
        return text.encode("utf-8", "backslashreplace").decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Metadata:
        """Read and check a document of format 1 or 2 from an untrusted file; CheckpointError for anything malformed."""
        try:
            document = dict(parse_json(text.encode() if isinstance(text, str) else text, MAX_BYTES))
            _check_entries(document)
            config = VANConfig.from_dict(document.pop("config"))
            preprocessing = document.pop("preprocessing")
            tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in preprocessing.items()}
            metadata = cls(config=config, preprocessing=Preprocessing(**tuples), **document)
            return metadata._checked()
        except CheckpointError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _malformed(str(error)[:300]) from None

    def _checked(self) -> Metadata:
        labels = tuple(self.labels) if isinstance(self.labels, list) else self.labels
        texts = [*(getattr(self, name) for name in TEXTS), *(labels if isinstance(labels, tuple) else [labels])]
        if not all(text is None or isinstance(text, str) for text in texts) or None in (self.origin, self.task):
            raise _malformed("an entry that should be text is not")
        means, chans = len(self.preprocessing.mean), self.config.in_chans
        if means != chans:
            raise CheckpointError(f"the file's jvan metadata has a mean for {means} channels of {chans}")
        _check_dense(self)
        if isinstance(labels, tuple) and len(labels) != self.num_classes:
            raise CheckpointError(f"the file's jvan metadata names {len(labels)} labels for {self.num_classes} classes")
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "palette", _colours(self.palette, self.num_classes))
        return self


def _check_entries(document: dict) -> None:
    """Take `format` and `arch` away; ValueError for a format that is not known, and for what it does not have."""
    number = document.pop("format", None)
    document.pop("arch", None)
    if isinstance(number, int) and number > FORMAT:
        raise ValueError(f"it is of format {number}, which a newer jvan wrote; update this one")
    if type(number) is not int or number not in (1, 2):
        raise ValueError("it is not jvan's")
    known = {each.name for each in fields(Metadata)} - set(SINCE_2 if number == 1 else ())
    unknown = sorted(set(document) - known)
    if unknown:
        raise ValueError(f"it has {len(unknown)} unknown entries: {', '.join(repr(name[:40]) for name in unknown[:5])}")


def _check_dense(metadata: Metadata) -> None:
    head, most = metadata.head, LIMITS["num_classes"][1]
    if head is not None and not (_is_int(head.get("num_classes")) and 1 <= head["num_classes"] <= most):
        raise _malformed(f"its head does not say its num_classes, a whole number from 1 to {most:,}")
    if head is not None and metadata.config.num_classes:
        raise _malformed(f"it has a head, and a classifier of {metadata.config.num_classes} classes beside it")
    if not (metadata.ignore_label is None or (_is_int(metadata.ignore_label) and 0 <= metadata.ignore_label < 1 << 16)):
        raise _malformed("its ignore_label is no whole number from 0 to 65535")


def _colours(palette, classes: int) -> tuple[tuple[int, int, int], ...] | None:
    if palette is None:
        return None
    colours = [tuple(colour) if isinstance(colour, (list, tuple)) else () for colour in palette]
    if not all(
        len(colour) == 3 and all(_is_int(value) and 0 <= value <= 255 for value in colour) for colour in colours
    ):
        raise _malformed("its palette is no list of [red, green, blue], each from 0 to 255")
    if len(colours) != classes:
        raise CheckpointError(f"the file's jvan metadata has {len(colours)} colours for {classes} classes")
    return tuple(colours)


def _is_int(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _malformed(why: str) -> CheckpointError:
    return CheckpointError(f"the file's jvan metadata is malformed: {why}")
