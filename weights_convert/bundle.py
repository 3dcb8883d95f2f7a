"""Make a trained network the one that ships with jvan: in float16, with a note of what it is."""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from jvan.checkpoints.state import State, load_state
from jvan.checkpoints.writers import save_state
from jvan.tasks import BUNDLED


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", metavar="W", help="last.safetensors of a run of jvan train")
    parser.add_argument("note", metavar="NOTE", help="what whoever uses it is told: its data and its measured top-1")
    options = parser.parse_args(argv)
    state = load_state(options.weights)
    halves = {name: array.astype(np.float16) for name, array in state.tensors.items()}
    metadata = replace(state.metadata, note=options.note, source=None, source_sha256=None)
    written = save_state(State(halves, metadata), BUNDLED, force=True)
    print(f"{written.path}: {written.tensors} tensors, {written.size} bytes; measure it with: jvan validate DATA")


if __name__ == "__main__":
    main()
