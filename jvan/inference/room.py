"""How much memory a network takes for its pictures, known and checked before it is run."""

from __future__ import annotations

from math import prod

from ..errors import CheckpointError
from ..memory_limit import check_memory
from ..ops import _jit
from ..ops.cuda.launch import on_gpu
from ..variants import VANConfig

FLOAT = 4  # bytes
MAPS, HIDDEN_MAPS = 5, 4  # that live at the same time while a block is computed layer by layer; measured
COPIES = 3  # of a prepared picture: as it was decoded, in the batch, and in Jittor's copy of the batch
AHEAD = 1 << 28  # bytes of prepared pictures that may wait for the network


class Room:
    """The memory of a network for pictures of one shape (C, H, W); `name` is the weights', for messages."""

    def __init__(self, name: str, model, shape: tuple[int, int, int]):
        self.name, self.model, self.shape = name, model, shape
        self._checked = 0  # pictures at a time

    @property
    def picture(self) -> int:
        """Bytes of a prepared picture."""
        return FLOAT * prod(self.shape)

    @property
    def ahead(self) -> int:
        """How many pictures may be prepared before the network takes them."""
        return max(1, AHEAD // self.picture)

    def needed(self, count: int) -> int:
        """Bytes for this many pictures at a time; CheckpointError where no operator can count their maps."""
        try:
            return forward_bytes(self.model, (count, *self.shape)) + COPIES * count * self.picture
        except ValueError as error:
            raise CheckpointError(f"{self.name}: {error}") from None

    def check(self, count: int, more: int = 0) -> None:
        """MemoryLimitError, which names both figures, where this process may not have what `count` pictures and `more` bytes take.

        Looked up once for each number of pictures that is larger than those before.
        """
        if count > self._checked:
            height, width = self.shape[1:]
            what = f"{self.name}: the network for {count} picture{'s'[: count > 1]} of {height}×{width} pixels"
            fix = "choose a smaller batch size" if count > 1 else "choose weights for smaller pictures"
            check_memory(self.needed(count) + more, what, fix)
            self._checked = count


def forward_bytes(model, shape: tuple[int, int, int, int]) -> int:
    """Bytes that a forward pass over pictures of this shape (N, C, H, W) takes beside them, without gradients.

    Exact for a network that plans its scratch memory (`optimize_for_inference`), within 10 % for a VAN layer by layer; 0 for a
    network without metadata, and on a GPU, whose memory is not this process's.
    """
    if on_gpu():
        return 0
    if hasattr(model, "forward_bytes"):
        return model.forward_bytes(shape)
    metadata = getattr(model, "metadata", None)
    return layers_bytes(metadata.config, shape, fused=_jit.why_not() is None) if metadata is not None else 0


def layers_bytes(config: VANConfig, shape: tuple[int, int, int, int], fused: bool) -> int:
    """Of the widest stage: its maps, and those of the feed-forward's hidden channels unless a C++ kernel keeps them in rows."""
    count, _, height, width = shape
    most = 0
    for i, (chans, ratio) in enumerate(zip(config.embed_dims, config.mlp_ratios)):
        stride = 2 if i else config.stem_stride
        height, width = -(-height // stride), -(-width // stride)
        most = max(most, height * width * chans * (MAPS + (0 if fused else HIDDEN_MAPS * ratio)))
    return FLOAT * count * most
