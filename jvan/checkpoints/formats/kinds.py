"""Which format a file is in: its content decides, whatever its name ends in."""

from __future__ import annotations

from ..file_bytes import Source, shown
from ..not_weights import text_fault
from .safetensors_file import is_safetensors
from .torch_legacy import is_torch_legacy
from .zip_container import ZipContainer

# What is often found where a checkpoint was expected.
STRANGERS = (
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"BZh", "is compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it first"),
    (b"7z\xbc\xaf", "is a 7z archive; unpack it first"),
    (b"\x89HDF", "is an HDF5 file, as Keras writes; give a PyTorch, safetensors, Jittor or npz file"),
    (b"\x93NUMPY", "is a single numpy array; save the tensors by name as .npz"),
    (b"version https://git-lfs", "is a git-lfs pointer, not the weights; run `git lfs pull`, or download the file"),
    (b"GGUF", "is a GGUF file; give a PyTorch, safetensors, Jittor or npz file"),
)


def format_of(source: Source) -> str:
    """safetensors, torch-legacy, jittor-pkl or zip; CheckpointError, which says what it is, for anything else."""
    start = bytes(source.view(0, min(source.size, 512)))
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if is_safetensors(source):  # before the signs: a header's length may begin with any bytes, "<" among them
        return "safetensors"
    for sign, what in STRANGERS:
        if start.startswith(sign):
            raise source.error(what)
    if start.lstrip()[:1] == b"<":
        raise source.error("is a web page or XML, not weights; download the file itself")
    if start[257:262] == b"ustar":
        raise source.error("is a tar archive (PyTorch before 0.1.10 wrote such); unpack it, or save it again")
    if is_torch_legacy(source):
        return "torch-legacy"
    if start[:1] == b"\x80" or (start[:1] in b"(}]cd" and source.view(source.size - 1) == b"."):
        return "jittor-pkl"
    text = text_fault(source)
    if text:
        raise source.error(text)
    raise source.error(
        f"is in no format that is read here (it begins with {shown(start[:8].hex(' '))}); "
        "give a PyTorch, safetensors, Jittor or npz file"
    )


def format_in_zip(source: Source, container: ZipContainer) -> str:
    """npz or torch-zip, by the names of the entries."""
    names = list(container.entries)
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    if any(name.endswith(".pkl") for name in names):
        return "torch-zip"
    raise source.error(f"is a zip archive without weights ({len(names)} entries); unpack it, and give a file of it")
