"""`python -m jvan.inspect FILE`: show what a checkpoint holds; nothing of it is run or believed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ._arguments import Parser
from ._cli import command
from ._say import show, show_json
from ._text import printable
from .errors import CheckpointError

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@command
def main(argv=None) -> int:
    """Show one file; 0 if it is safe and whole, 1 if it is damaged or holds what a state dict may not."""
    args = _parser().parse_args(argv)
    from .checkpoints.published.resolve import resolve_weights

    report = inspect_checkpoint(resolve_weights(args.file), ema=args.ema, prefix=args.prefix, entry=args.entry)
    if args.json:
        show_json(report, indent=1)
    else:
        show(*_lines(report))
    if report["refused"]:
        names = ", ".join(_plain(name) for name in report["refused"][:8])
        more = f" and {len(report['refused']) - 8} more" if len(report["refused"]) > 8 else ""
        raise CheckpointError(
            f"{args.file}: unsafe, it asks for {names}{more}; a state dict needs no code, do not use it"
        )
    return 0


def _parser() -> Parser:
    parser = Parser(prog="jvan inspect", description="Show what a checkpoint holds; nothing of it is run or believed.")
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a PyTorch, safetensors, Jittor or npz file, a Hugging Face folder, or a name such as van_b0.in1k to download",
    )
    parser.add_argument("--ema", action="store_true", help="show the averaged weights that a training run kept")
    parser.add_argument(
        "--prefix", metavar="P", help="take only the tensors whose names begin with P for the network's"
    )
    parser.add_argument("--entry", metavar="KEY", help="show the weights under this key of the file's top level")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def inspect_checkpoint(path, ema: bool = False, prefix: str | None = None, entry: str | None = None) -> dict:
    """What a checkpoint holds, in plain JSON types; CheckpointError if it is damaged, OSError if it cannot be read.

    `refused` names the globals for which every other command turns the file away; `problem` says why it
    holds no weights of a VAN, if it does not.
    """
    from .checkpoints.not_weights import shard_fault
    from .checkpoints.reader import open_checkpoint

    with open_checkpoint(path, list_refused=True) as checkpoint:
        weights, problem = _weights(checkpoint, ema, entry)
        tensors = weights.tensors
        origin, arch, doubt = _identify(tensors, prefix)
        shard = shard_fault(path)
        if doubt and shard:
            doubt = f"{doubt}; {shard}"
        return {
            "file": str(path),
            "format": checkpoint.format,
            "files": [_file(file) for file in checkpoint.files],
            "globals": checkpoint.globals,
            "refused": checkpoint.refused,
            "entries": _entries(checkpoint.tree),
            "origin": origin,
            "arch": arch,
            "problem": problem or doubt,
            "notes": weights.notes,
            "parameters": sum(t.numel for name, t in tensors.items() if not name.endswith(STATISTICS)),
            "statistics": sum(t.numel for name, t in tensors.items() if name.endswith(STATISTICS)),
            "tensors": {name: {"shape": list(t.shape), "dtype": t.dtype} for name, t in tensors.items()},
            "metadata": json.loads(checkpoint.metadata.to_json()) if checkpoint.metadata else None,
            "header": {key: text for key, text in checkpoint.header.items() if key != "jvan"},
        }


def _weights(checkpoint, ema: bool, entry: str | None):
    """The state dict with what lies around it, and why there is none."""
    from .checkpoints.names.wrappers import Peeled

    try:
        return checkpoint.listed(ema, entry), None
    except CheckpointError as error:
        return Peeled(), str(error)


def _identify(tensors: dict, prefix: str | None):
    """(origin, architecture, problem) by names and shapes."""
    from .checkpoints.state import identify

    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return identify(shapes, prefix) if tensors else (None, None, None)


def _file(path: Path) -> dict:
    from .checkpoints.digest import sha256_of

    return {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256_of([path])}


def _entries(tree) -> dict[str, str]:
    """The top level of what was saved, each entry in a few words."""
    from .checkpoints.names.wrappers import described

    if type(tree) is not dict:
        return {"": described(tree)}
    return {str(key): described(value) for key, value in list(tree.items())[:64]}


def _lines(report: dict) -> list[str]:
    """The report for people; every word from the file is cut to a length that a terminal bears."""
    lines = []
    for file in report["files"]:
        lines += [f"{_plain(file['path'])}: {report['format']}, {file['bytes']:,} bytes", f"sha256 {file['sha256']}"]
        lines += _published(file["sha256"])
    found = (
        f"{report['origin']} names, {report['arch'] or 'unknown architecture'}" if report["origin"] else "unknown names"
    )
    lines.append(f"origin {found}")
    if report["problem"]:
        lines.append(f"problem: {_plain(report['problem'], 1000)}")
    lines += [f"note: {_plain(note, 1000)}" for note in report["notes"]]
    lines += _globals(report) + _metadata(report)
    if not report["tensors"] or len(report["entries"]) != len(report["tensors"]):
        lines += [f"entry {_plain(key) or '(all)'}: {text}" for key, text in report["entries"].items()]
    width = max((len(_plain(name)) for name in report["tensors"]), default=0)
    for name, tensor in report["tensors"].items():
        lines.append(f"{_plain(name):{width}}  {tensor['dtype']:8}  {'x'.join(map(str, tensor['shape'])) or 'scalar'}")
    statistics = f" and {report['statistics']:,} numbers of BatchNorm statistics" if report["statistics"] else ""
    lines.append(f"{len(report['tensors'])} tensors: {report['parameters']:,} parameters{statistics}")
    return lines


def _published(sha256: str) -> list[str]:
    """What is to be said where the catalogue knows no more of a file's hash than the eight digits in its name."""
    from .checkpoints.published.catalogue import entry_with

    entry = entry_with(sha256)
    return [f"eight digits of it are published, for {entry.name}, and match"] if entry and not entry.sha256 else []


def _globals(report: dict) -> list[str]:
    marks = dict.fromkeys(report["refused"], "  REFUSED")
    return [f"global {_plain(name)}{marks.get(name, '')}" for name in report["globals"]]


def _metadata(report: dict) -> list[str]:
    lines = [f"header {_plain(key)}: {_plain(text)}" for key, text in report["header"].items()]
    found = report["metadata"]
    if found is None:
        return lines
    labels = found["labels"]
    labels = labels if isinstance(labels, str) else f"{len(labels)} of its own" if labels else "none"
    dense = found.get("head")
    classes = (dense or found["config"])["num_classes"]
    lines.append(f"metadata: {found['task']}, {_plain(found['arch'])}, {classes} classes, labels {_plain(labels)}")
    lines += [f"metadata head: {_plain(dense, 500)}"] if dense else []
    lines += [f"metadata {key}: {_plain(found[key], 300)}" for key in ("source", "source_sha256", "note") if found[key]]
    pixels = found["preprocessing"]
    return [
        *lines,
        f"preprocessing: size {pixels['size']}, crop {pixels['crop_pct']}, {pixels['interpolation']}, "
        f"mean {pixels['mean']}, std {pixels['std']}",
    ]


def _plain(text, longest: int = 100) -> str:
    return printable(text, longest)


if __name__ == "__main__":
    sys.exit(main())
