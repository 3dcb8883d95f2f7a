"""How a picture becomes a network's input, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
