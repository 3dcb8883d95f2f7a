"""The network's configuration as typed data, and VAN-B0 to B6 as rows. No Jittor, no numpy."""

from __future__ import annotations

import operator
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatchcase

from .structure import LKA, UNITS

LKA_PARTS = tuple(LKA)  # dw, dw_d, pw: depthwise, depthwise dilated, pointwise: the order of the paper's eq. 1
GATES = ("multiply", "add", "none", "sigmoid")  # how the attention map meets its input (Table 3)

# The largest are far beyond any use; a file that claims more would fill the memory.
LIMITS = {
    "in_chans": (1, 1 << 16), "kernel_size": (1, 1024), "dilation": (1, 1024), "stem_stride": (1, 1024), "num_classes": (0, 1 << 24),
}  # fmt: skip


@dataclass(frozen=True)
class VANConfig:
    """Everything that fixes the graph and the parameter shapes of a VAN.

    `attention` is a row of structure.UNITS. `kernel_size` K and `dilation` d are the LKA's (paper, Sec. 3.1); `lka_parts` and
    `gate` are Table 3's ablations. `norm_eps` is LayerNorm's: 1e-6 in classification, 1e-5 in dense prediction.
    """

    embed_dims: tuple[int, ...]
    depths: tuple[int, ...]
    mlp_ratios: tuple[int, ...] = (8, 8, 4, 4)
    num_classes: int = 1000
    in_chans: int = 3
    kernel_size: int = 21
    dilation: int = 3
    stem_stride: int = 4
    norm_eps: float = 1e-6
    lka_parts: tuple[str, ...] = LKA_PARTS
    gate: str = "multiply"
    attention: str = "lka"

    def __post_init__(self):
        for name in ("embed_dims", "depths", "mlp_ratios"):
            value = tuple(_as_int(n) for n in _as_tuple(getattr(self, name)))
            if len(value) != 4 or not all(_is_int(n) and n > 0 for n in value):
                raise ValueError(f"{name} is {value!r}; VAN has four stages, so it needs four positive integers")
            object.__setattr__(self, name, value)
        for name, (least, most) in LIMITS.items():
            value = _as_int(getattr(self, name))
            if not _is_int(value) or not least <= value <= most:
                raise ValueError(f"{name} is {value!r}; it must be an integer from {least} to {most:,}")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "lka_parts", _as_tuple(self.lka_parts))
        if not isinstance(self.norm_eps, float) or not 0 < self.norm_eps < 1:
            raise ValueError(f"norm_eps is {self.norm_eps!r}; it must lie between 0 and 1")
        if not self.lka_parts or list(self.lka_parts) != [p for p in LKA_PARTS if p in self.lka_parts]:
            raise ValueError(f"lka_parts is {self.lka_parts!r}; choose some of {LKA_PARTS}, in that order")
        if self.attention not in UNITS:
            raise ValueError(f"attention is {self.attention!r}; choose one of {tuple(UNITS)}")
        if self.gate not in GATES:
            raise ValueError(f"gate is {self.gate!r}; choose one of {GATES}")

    @property
    def arch(self) -> str:
        """`van_b0` … `van_b6`, or `custom` where no row of the table has these widths and depths."""
        shape = (self.embed_dims, self.mlp_ratios, self.depths)
        return next((name for name, row in VARIANTS.items() if row == shape), "custom")

    def to_dict(self) -> dict:
        """Plain JSON types; `from_dict` reads it back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict) -> VANConfig:
        """Rebuild from `to_dict`'s output; ValueError for an unknown name or an impossible value."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            shown = ", ".join(repr(name[:40]) for name in unknown[:5])
            raise ValueError(f"{len(unknown)} unknown configuration entries ({shown}); known are {sorted(known)}")
        try:
            return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})
        except TypeError as error:
            raise ValueError(f"incomplete or malformed configuration: {error}") from None


def _as_tuple(value) -> tuple:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _as_int(value):
    """A numpy integer as Python's; anything else as it is, for the check to refuse."""
    try:
        return value if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return value


def _is_int(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# Official code, models/van.py and the segmentation configs; paper, Table 5. B6's third width is 384:
# OpenMMLab's README describes another network with 480.
VARIANTS = {
    #          embed_dims           mlp_ratios    depths
    "van_b0": ((32, 64, 160, 256), (8, 8, 4, 4), (3, 3, 5, 2)),
    "van_b1": ((64, 128, 320, 512), (8, 8, 4, 4), (2, 2, 4, 2)),
    "van_b2": ((64, 128, 320, 512), (8, 8, 4, 4), (3, 3, 12, 3)),
    "van_b3": ((64, 128, 320, 512), (8, 8, 4, 4), (3, 5, 27, 3)),
    "van_b4": ((64, 128, 320, 512), (8, 8, 4, 4), (3, 6, 40, 3)),
    "van_b5": ((96, 192, 480, 768), (8, 8, 4, 4), (3, 3, 24, 3)),
    "van_b6": ((96, 192, 384, 768), (8, 8, 4, 4), (6, 6, 90, 6)),
}


def list_models(pattern: str = "*") -> list[str]:
    """The names that `create_model` knows, smallest first; with a shell's pattern those that it fits, as `van_b[0-3]`."""
    return [name for name in VARIANTS if fnmatchcase(name, pattern)]


def describe(config: VANConfig) -> str:
    """What `parse_arch` reads: a variant's name and what differs from it, other than classes; `custom` where none has its sizes."""
    if config.arch not in VARIANTS:
        return config.arch
    usual = variant_config(config.arch, num_classes=config.num_classes)
    changed = [f.name for f in fields(config) if getattr(config, f.name) != getattr(usual, f.name)]
    return ":".join([config.arch, *(f"{name}={_text(getattr(config, name))}" for name in changed)])


def parse_arch(text: str, **changes) -> VANConfig:
    """`van_b0`, or with fields of VANConfig changed: `van_b0:stem_stride=1:embed_dims=32,64,128,256`; ValueError if it is neither."""
    name, *parts = text.split(":")
    for part in parts:
        field, equals, value = part.partition("=")
        if not equals or field not in {f.name for f in fields(VANConfig)}:
            known = ", ".join(f.name for f in fields(VANConfig))
            raise ValueError(f"{part!r} is no field=value; the fields are {known}")
        changes[field] = _value(field, value)
    return variant_config(name, **changes)


def _value(field: str, text: str):
    if field in ("lka_parts", "gate", "attention"):
        return tuple(text.split(",")) if field == "lka_parts" else text
    try:
        numbers = tuple(map(float if field == "norm_eps" else int, text.split(",")))
    except ValueError:
        raise ValueError(f"{field} is {text!r}; it must be a number, or several with commas between them") from None
    return numbers if len(numbers) > 1 else numbers[0]


def _text(value) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def variant_config(arch: str, **changes) -> VANConfig:
    """The configuration of a named variant with `changes` applied; ValueError for an unknown name."""
    if arch not in VARIANTS:
        raise ValueError(f"unknown architecture {arch!r}; choose one of {', '.join(VARIANTS)}")
    embed_dims, mlp_ratios, depths = VARIANTS[arch]
    return replace(VANConfig(embed_dims=embed_dims, depths=depths, mlp_ratios=mlp_ratios), **changes)
