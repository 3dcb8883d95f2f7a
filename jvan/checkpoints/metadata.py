"""What a converted file says of itself: the network, its preprocessing, its labels, where it came from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from ..errors import CheckpointError
from ..preprocessing import Preprocessing
from ..variants import VANConfig
from .strict_json import parse_json

FORMAT = 1
MAX_BYTES = 8 << 20


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
    task: str = "classification"

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
