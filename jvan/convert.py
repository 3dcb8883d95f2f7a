"""`python -m jvan.convert SRC DST`: a checkpoint in another format, or under another project's names."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path

from ._arguments import Parser
from ._cli import command
from ._say import bar, show, show_json
from ._text import printable
from .variants import VARIANTS

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
ORIGINS = ("official", "mmpretrain", "huggingface", "mmseg")
_EPILOG = """\
DST's suffix chooses the format: .safetensors (jvan's own), .pkl (Jittor's, for model.load),
.pth (PyTorch's, written without PyTorch) or .npz. Metadata that rebuild the network go into a
.safetensors file, and beside every other format into DST.json.

A .pth file can be loaded by the project's own code with strict=True; its top level is
  official     {'state_dict': …}, as the official training script writes and reads it
  mmpretrain   {'meta': {}, 'state_dict': …}, with a whole classifier's names
  huggingface  the state dict itself, as pytorch_model.bin; config.json is not written
  mmseg        {'meta': {}, 'state_dict': …}, the names of OpenMMLab's own backbone (mmsegmentation,
               projects/van); it has no head, so --drop-head. VAN-Segmentation has official names

--origin auto goes by the names alone. The authors' classifier and their segmentation code have the
same names: with a classifier's head they are official, otherwise mmseg (which means LayerNorm eps
1e-5 and ImageNet's mean and std).
"""


@command
def main(argv: list[str] | None = None) -> int:
    """Convert one checkpoint and say what became of it; 2 for bad usage, 1 for a failed job."""
    options = _parse(argv)
    from .checkpoints.published.resolve import resolve_weights
    from .checkpoints.state import load_state
    from .checkpoints.writers import check_target, save_state

    check_target(options.dst, options.force)  # before anything is downloaded or read
    source = resolve_weights(options.src)
    _refuse_overwriting(source, options.dst)
    state = load_state(
        options.src,
        origin=options.origin,
        arch=options.arch,
        ema=options.ema,
        prefix=options.prefix,
        entry=options.entry,
        norm_eps=options.ln_eps,
        dtype=options.dtype,
        num_classes=options.num_classes,
        drop_head=options.drop_head,
        preprocessing=_preprocessing(options),
        progress=_progress,
    )
    written = save_state(state, options.dst, to_origin=options.to_origin, force=options.force)
    summary = _summary(state, written, options.to_origin)
    if options.json:
        show_json(summary)
    else:
        show(*_lines(summary))
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="jvan convert",
        description="Turn a checkpoint of VAN into another format, or give it another project's names.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "src", metavar="SRC", help="a checkpoint, a Hugging Face folder, or a catalogue name (van_b0.in1k)"
    )
    parser.add_argument("dst", metavar="DST", help="the file to write: .safetensors, .pkl, .pth or .npz")
    parser.add_argument("--arch", choices=VARIANTS, help="insist on this architecture; it is found from the shapes")
    parser.add_argument(
        "--origin", choices=("auto", *ORIGINS), default="auto", help="whose names SRC has (default: auto)"
    )
    parser.add_argument(
        "--to-origin", choices=ORIGINS, default="official", help="whose names DST gets (default: official)"
    )
    parser.add_argument("--ema", action="store_true", help="take the averaged weights (state_dict_ema, model_ema)")
    parser.add_argument("--prefix", metavar="P", help="take only the tensors whose names begin with P")
    parser.add_argument("--entry", metavar="KEY", help="take the weights under this key of SRC's top level")
    head = parser.add_mutually_exclusive_group()
    head.add_argument("--num-classes", type=_count, metavar="N", help="insist on a head of N classes")
    head.add_argument("--drop-head", action="store_true", help="leave the classifier's head out")
    parser.add_argument(
        "--dtype", choices=("float32", "keep"), default="float32", help="keep: float16 and float64 stay as they are"
    )
    parser.add_argument(
        "--ln-eps", type=_eps, metavar="E", help="LayerNorm's eps instead of the one the origin implies"
    )
    _add_preprocessing(parser)
    parser.add_argument("--force", action="store_true", help="replace an existing DST")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    options = parser.parse_args(argv)
    from .checkpoints.writers import SUFFIXES

    if Path(options.dst).suffix.lower() not in SUFFIXES:
        parser.error(f"DST is {options.dst!r}; its suffix chooses the format: one of {', '.join(SUFFIXES)}")
    return options


def _add_preprocessing(parser: Parser) -> None:
    """How the weights' pictures are prepared, where the file does not say it or is wrong."""
    group = parser.add_argument_group("preprocessing", "how pictures are prepared, if SRC does not say it or is wrong")
    group.add_argument("--mean", type=_numbers, metavar="R,G,B", help="as 0.485,0.456,0.406, of pixels from 0 to 1")
    group.add_argument("--std", type=_numbers, metavar="R,G,B", help="as 0.229,0.224,0.225")
    group.add_argument("--crop-pct", type=_share, metavar="C", help="what part of the resized picture is taken")
    group.add_argument("--img-size", type=_pixels, metavar="S", dest="size", help="height and width in pixels")
    group.add_argument("--interpolation", choices=INTERPOLATIONS, help="how pictures are resized")


def _preprocessing(options: argparse.Namespace) -> dict:
    names = ("mean", "std", "crop_pct", "size", "interpolation")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _numbers(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(math.isfinite(value) for value in values):
        raise argparse.ArgumentTypeError(f"{text!r} is not one number a channel, with commas between, as 0.5,0.5,0.5")
    return values


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.05 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0.05 to 1")
    return value


def _pixels(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:9]) <= 4096:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pixels from 1 to 4096")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of classes; --drop-head leaves the head out")
    return int(text)


def _eps(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number between 0 and 1")
    return value


def _refuse_overwriting(source: Path, target: str) -> None:
    """DST must not be what is read, not even with --force: nothing would be left to go back to."""
    from .errors import CheckpointError

    written = Path(os.path.expanduser(target))  # as the writer does
    if written.exists() and written.resolve() in {source.resolve(), *_inside(source)}:
        raise CheckpointError(f"{target} is what would be converted; write to another file")


def _inside(folder: Path) -> set[Path]:
    return {file.resolve() for file in folder.iterdir()} if folder.is_dir() else set()


def _progress(names):
    return bar(names, unit=" tensors")


def _summary(state, written, to_origin: str) -> dict:
    """Everything that the conversion found and did, in JSON's types."""
    metadata = state.metadata
    return {
        "file": str(written.path),
        "bytes": written.size,
        "tensors": written.tensors,
        "metadata_file": str(written.metadata_path) if written.metadata_path else None,
        "origin": state.origin,
        "to_origin": to_origin,
        "arch": metadata.config.arch,
        "config": metadata.config.to_dict(),
        "preprocessing": json.loads(metadata.to_json())["preprocessing"],
        "labels": metadata.labels if isinstance(metadata.labels, str) else len(metadata.labels or ()) or None,
        "dropped": state.dropped,
        "source": metadata.source,
        "source_sha256": metadata.source_sha256,
        "notes": [*state.notes, *([metadata.note] if metadata.note else [])],
    }


def _lines(summary: dict) -> list[str]:
    config, picture = summary["config"], summary["preprocessing"]
    classes = f"{config['num_classes']} classes" if config["num_classes"] else "no head"
    rows = [
        ("from", f"{summary['source']}, {summary['origin']} names, sha256 {summary['source_sha256']}"),
        (
            "network",
            f"{summary['arch']}, {classes}, {config['in_chans']} channels, LayerNorm eps {config['norm_eps']:g}",
        ),
        (
            "pictures",
            f"{picture['size']} pixels, crop {picture['crop_pct']}, {picture['interpolation']}, "
            f"mean {picture['mean']}, std {picture['std']}",
        ),
        *(("dropped", f"{count} {reason}") for reason, count in summary["dropped"].items()),
        *(("note", note) for note in summary["notes"]),
        (
            "wrote",
            f"{summary['file']}: {summary['tensors']} tensors, {summary['to_origin']} names, {summary['bytes']} bytes",
        ),
    ]
    if summary["metadata_file"]:
        rows.append(("", f"{summary['metadata_file']}: its metadata; keep the two together"))
    return [f"{name:9} {printable(text, 500)}" for name, text in rows]


if __name__ == "__main__":
    sys.exit(main())
