"""Take a network to PyTorch's file format under Hugging Face's names and back, and see that nothing changed."""

import tempfile
from pathlib import Path

import numpy as np

import jvan
from jvan.checkpoints.state import load_state
from jvan.checkpoints.writers import save_state
from jvan.tasks import BUNDLED

with tempfile.TemporaryDirectory() as folder:
    original = load_state(BUNDLED)
    there, back = Path(folder, "pytorch_model.bin.pth"), Path(folder, "back.safetensors")
    save_state(original, there, to_origin="huggingface")
    print("a tensor in the file:", next(iter(jvan.read_checkpoint(there))))
    save_state(load_state(there), back)

    same = all(np.array_equal(array, load_state(back).tensors[name]) for name, array in original.tensors.items())
    print(f"{len(original.tensors)} tensors, equal bit for bit: {same}")
    model = jvan.create_model(weights=back).eval()
    print("rebuilt from the file alone:", model.metadata.config.arch, "with", model.num_classes, "classes")
