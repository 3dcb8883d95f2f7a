"""Pictures a second of `jvan train` and of the official train.py, with their loaders, on the same data and recipe.

    python -m weights_convert.compare_training DATA --official VAN-Classification --python PYTORCHS_PYTHON

DATA is a folder or tar file of pictures as `jvan train` takes it, such as one of a thousand of ImageNet's, one a class;
where it is no folder with train/ and val/ it is laid out as one first, which is all that the official loader reads, with
jvan's own division (of classes of one picture all are trained on). Both run in turns, each in its own process, for
a number of steps; the first ones, in which jvan compiles and both fill their queues, are left out. Medians of the steps.
"""

from __future__ import annotations

import argparse
import csv
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jvan.data.source import open_train_and_val
from jvan.pictures.read import MAX_BYTES

FIRST = 4  # steps left out


def laid_out(data: str, folder: Path) -> str:
    """`data` where it is a folder with train/ and val/, else `folder`, into which its pictures are copied so, byte for byte."""
    if all((Path(data) / part).is_dir() for part in ("train", "val")):
        return data
    train, val, _ = open_train_and_val(data)
    for part, split in (("train", train), ("val", val)):
        for index, (row, label) in enumerate(zip(split.rows, split.labels)):
            path = folder / part / split.classes[label] / f"{index:07d}{Path(split.name(index)).suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(split.store.read(int(row), MAX_BYTES))
    return str(folder)


def official_steps(options) -> list[float]:
    """Seconds of each step; `Time` of the official log counts from the end of one step to the end of the next."""
    command = [
        options.python, "-m", "weights_convert.official_train", options.official, options.data, "--model", options.arch,
        "-b", str(options.batch_size), "--drop-path", "0.1", "-j", str(options.workers), "--log-interval", "1",
        "--no-prefetcher", "--channels-last",
    ]  # fmt: skip
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [*command, "--output", folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as run,
    ):
        seconds, lines = [], []
        for line in run.stdout:
            lines.append(line)
            found = re.search(r"^Train: .* Time: ([\d.]+)s", line)
            seconds += [float(found[1])] if found else []
            if len(seconds) == options.steps:
                break
        run.terminate()
    if len(seconds) < options.steps:
        raise SystemExit("".join(lines[-20:]))
    return seconds[FIRST:]


def jvan_steps(options) -> list[float]:
    """Seconds of each step, from log.csv."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "jvan.train", options.data, "--arch", options.arch, "--drop-path", "0.1", "--batch-size",
            str(options.batch_size), "--workers", str(options.workers), "--log-every", "1", "--device", "cpu", "--output",
            folder, "--max-steps", str(options.steps + 1),
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
            for line in run.stderr:
                if f"step {options.steps}/" in line:
                    break
            run.terminate()
            said = run.stderr.read()
        path = Path(folder) / "log.csv"
        rows = list(csv.DictReader(path.open(newline=""))) if path.exists() else []
    if len(rows) < options.steps:
        raise SystemExit(said or "jvan train ended early")
    return [options.batch_size / float(row["pictures_per_s"]) for row in rows[FIRST : options.steps]]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--official", required=True, metavar="DIR", help="a clone of VAN-Classification")
    parser.add_argument("--python", required=True, metavar="FILE", help="an interpreter with torch and timm 0.4.12")
    parser.add_argument("--arch", default="van_b0")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    parser.add_argument("--steps", type=int, default=16, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        options.data = laid_out(options.data, Path(folder))
        for each in range(options.rounds):
            begun = time.strftime("%H:%M:%S")
            ours, theirs = (statistics.median(steps(options)) for steps in (jvan_steps, official_steps))
            print(
                f"round {each + 1} ({begun}): jvan {options.batch_size / ours:.1f} pictures/s, official train.py "
                f"{options.batch_size / theirs:.1f}; jvan takes {ours / theirs:.2f} of its time",
                flush=True,
            )


if __name__ == "__main__":
    main()
