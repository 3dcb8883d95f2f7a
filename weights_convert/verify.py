"""Compare a checkpoint in jvan with the original PyTorch code, stage by stage.

python -m weights_convert.verify CHECKPOINT --official DIR [--source FILE] [--picture FILE]
python -m weights_convert.verify --random van_b4 --official DIR
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import jvan
from jvan._arguments import add_device
from jvan._cli import command
from jvan.checkpoints.published.resolve import resolve_weights
from jvan.checkpoints.state import load_state
from jvan.variants import list_models

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ("chelsea_224x224.png", "coffee_193x257.png")
LARGEST_SIDE = 512  # of a picture of the user's; only the numbers count here, and VAN-B6 takes its time
BAR = 1e-4  # of the largest absolute value that the original gives


@command
def main(argv=None) -> int:
    args = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, source = args.checkpoint, args.source
        if args.random:
            checkpoint = source = str(Path(folder, f"{args.random}.pth"))
            run_original(args.torch_python, "make", args.official, args.random, checkpoint)
        path = resolve_weights(checkpoint)
        state = load_state(path)
        inputs = prepare(args.picture, state.metadata.preprocessing)
        theirs = original_outputs(args, Path(folder), state, source, inputs)
        del state  # hundreds of megabytes, which the networks below need
        ours = jvan_outputs(path, args.device, inputs, with_logits=any("logits" in key for key in theirs))
    rows = [compare(key, ours[key], theirs[key]) for key in theirs]
    report = judge(rows, args.random or args.checkpoint)
    print(json.dumps(report, indent=1) if args.json else table(report))
    return 0 if report["agrees"] else 1


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("checkpoint", nargs="?", help="any file that jvan reads, or a catalogue name")
    what.add_argument("--random", choices=list_models(), help="make a checkpoint of random weights and compare that")
    parser.add_argument("--official", metavar="DIR", required=True, help="a clone of VAN-Classification")
    parser.add_argument(
        "--source", metavar="FILE", help="the official file that CHECKPOINT came from, for torch to read"
    )
    parser.add_argument("--picture", metavar="FILE", help="instead of the two of tests/golden")
    parser.add_argument("--torch-python", metavar="PATH", default=sys.executable, help="the Python that has torch")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    add_device(parser)
    return parser.parse_args(argv)


def prepare(picture: str | None, preprocessing) -> dict[str, np.ndarray]:
    """`picture/NAME`: float32 (1, 3, H, W), scaled as the weights want it; the size stays."""
    if len(preprocessing.mean) != 3:
        raise jvan.JvanError(
            f"the weights take {len(preprocessing.mean)} channels and pictures have 3; nothing to compare with"
        )
    inputs = {}
    for path in [Path(picture)] if picture else [ROOT / "tests" / "golden" / name for name in PICTURES]:
        with Image.open(path) as image:
            image = image.convert("RGB")
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        pixels = np.asarray(image, np.float32) / np.float32(255)
        scaled = (pixels - np.float32(preprocessing.mean)) / np.float32(preprocessing.std)
        inputs[f"picture/{path.stem}"] = np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])
    return inputs


def original_outputs(args, folder: Path, state, source, inputs) -> dict[str, np.ndarray]:
    """What the original code makes of the inputs, with the weights of `state` or, if given, of the file `source`."""
    request = {f"state/{name}": tensor for name, tensor in state.tensors.items()} if source is None else {}
    config = json.dumps(state.metadata.config.to_dict())
    source = str(Path(source).resolve()) if source else ""
    np.savez(folder / "request.npz", config=config, source=source, **request, **inputs)
    del request
    run_original(args.torch_python, "run", args.official, str(folder / "request.npz"), str(folder / "answer.npz"))
    with np.load(folder / "answer.npz") as archive:
        return dict(archive)


def run_original(python: str, job: str, directory: str, *arguments: str) -> None:
    line = [python, "-m", "weights_convert.run_original", job, str(Path(directory).resolve()), *arguments]
    done = subprocess.run(line, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise jvan.JvanError(
            f"the original code failed under {python}: {reason} (--torch-python chooses another Python)"
        )


def jvan_outputs(path, device: str, inputs, with_logits: bool) -> dict[str, np.ndarray]:
    """`picture/NAME/stage1` … `stage4` from the pyramid, and `logits` from the classifier, as a user builds them."""
    import jittor as jt

    jvan.use_device(device)
    outputs = {}
    with jt.no_grad():
        pyramid = jvan.create_model(weights=path, features_only=True).eval()
        for key, picture in inputs.items():
            maps = pyramid(jt.array(picture))
            outputs.update({f"{key}/stage{stage}": m.numpy() for stage, m in enumerate(maps, start=1)})
        if with_logits:
            classifier = jvan.create_model(weights=path).eval()
            outputs.update({f"{key}/logits": classifier(jt.array(picture)).numpy() for key, picture in inputs.items()})
    return outputs


def compare(key: str, ours: np.ndarray, theirs: np.ndarray) -> dict:
    """One row of the report; `error` is the largest difference over the largest value of the original."""
    if ours.shape != theirs.shape:
        raise jvan.JvanError(f"{key} has the shape {ours.shape} in jvan and {theirs.shape} in the original code")
    largest = float(np.abs(theirs).max())
    _, picture, output = key.split("/")
    row = {"picture": picture, "output": output, "shape": list(theirs.shape), "largest": largest}
    row["error"] = float(np.abs(ours.astype(np.float64) - theirs).max() / largest)
    if output == "logits":
        row["top5"] = len(set(np.argsort(ours[0])[-5:]) & set(np.argsort(theirs[0])[-5:]))
    return row


def judge(rows: list[dict], checkpoint: str) -> dict:
    """The verdict over all rows; one that is not a number makes it fail."""
    worst = float(np.max([row["error"] for row in rows]))  # NaN if any is
    return {"checkpoint": checkpoint, "bar": BAR, "error": worst, "agrees": worst <= BAR, "rows": rows}


def table(report: dict) -> str:
    lines = [f"{'picture':18} {'output':8} {'shape':22} {'largest value':>13} {'difference / largest':>21}"]
    for row in report["rows"]:
        shape = " x ".join(map(str, row["shape"]))
        line = f"{row['picture']:18} {row['output']:8} {shape:22} {row['largest']:13.4g} {row['error']:21.2e}"
        lines.append(line + (f"  {row['top5']} of the top 5 agree" if "top5" in row else ""))
    verdict = "agrees with" if report["agrees"] else "DIFFERS from"
    lines.append(f"{report['checkpoint']} {verdict} the original: {report['error']:.2e} (bar {report['bar']:.0e})")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
