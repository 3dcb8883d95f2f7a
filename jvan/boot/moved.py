"""Modules that moved: their old names work for one release, with a warning that tells the new one.

A row a module, old -> new; a later move adds its row. The rows leave with the release after the one that moved them.
"""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

from .._say import warn

MOVED = {  # since 0.1.0
    "jvan.checkpoints.allowed": "jvan.checkpoints.pickles.allowed",
    "jvan.checkpoints.architecture": "jvan.checkpoints.names.architecture",
    "jvan.checkpoints.catalogue": "jvan.checkpoints.published.catalogue",
    "jvan.checkpoints.download": "jvan.checkpoints.published.download",
    "jvan.checkpoints.folder": "jvan.checkpoints.formats.folder",
    "jvan.checkpoints.huggingface_config": "jvan.checkpoints.formats.huggingface_config",
    "jvan.checkpoints.jittor_pkl": "jvan.checkpoints.formats.jittor_pkl",
    "jvan.checkpoints.jittor_writer": "jvan.checkpoints.formats.jittor_writer",
    "jvan.checkpoints.npz_file": "jvan.checkpoints.formats.npz_file",
    "jvan.checkpoints.numpy_objects": "jvan.checkpoints.pickles.numpy_objects",
    "jvan.checkpoints.opcodes": "jvan.checkpoints.pickles.opcodes",
    "jvan.checkpoints.opcodes_calls": "jvan.checkpoints.pickles.opcodes_calls",
    "jvan.checkpoints.opcodes_structure": "jvan.checkpoints.pickles.opcodes_structure",
    "jvan.checkpoints.origins": "jvan.checkpoints.names.origins",
    "jvan.checkpoints.pickle_writer": "jvan.checkpoints.formats.pickle_writer",
    "jvan.checkpoints.rename": "jvan.checkpoints.names.rename",
    "jvan.checkpoints.safetensors_file": "jvan.checkpoints.formats.safetensors_file",
    "jvan.checkpoints.source": "jvan.checkpoints.file_bytes",
    "jvan.checkpoints.stand_ins": "jvan.checkpoints.pickles.stand_ins",
    "jvan.checkpoints.torch_legacy": "jvan.checkpoints.formats.torch_legacy",
    "jvan.checkpoints.torch_objects": "jvan.checkpoints.pickles.torch_objects",
    "jvan.checkpoints.torch_writer": "jvan.checkpoints.formats.torch_writer",
    "jvan.checkpoints.torch_zip": "jvan.checkpoints.formats.torch_zip",
    "jvan.checkpoints.tree": "jvan.checkpoints.pickles.tree",
    "jvan.checkpoints.unpickle": "jvan.checkpoints.pickles.unpickle",
    "jvan.checkpoints.weights_cache": "jvan.checkpoints.published.weights_cache",
    "jvan.checkpoints.wrappers": "jvan.checkpoints.names.wrappers",
    "jvan.checkpoints.zip_container": "jvan.checkpoints.formats.zip_container",
    "jvan.cuda": "jvan.boot.toolkit",
    "jvan.cuda.assemble": "jvan.boot.toolkit.assemble",
    "jvan.cuda.driver": "jvan.boot.toolkit.driver",
    "jvan.cuda.find": "jvan.boot.toolkit.locate",
    "jvan.cuda.parts": "jvan.boot.toolkit.parts",
    "jvan.cuda.swap": "jvan.boot.toolkit.swap",
    "jvan.data.names": "jvan.data.name_list",
    "jvan.engine.evaluate": "jvan.classification.evaluate",
    "jvan.engine.loss": "jvan.classification.loss",
    "jvan.engine.measure": "jvan.classification.measure",
    "jvan.engine.network": "jvan.classification.build",
    "jvan.engine.pictures": "jvan.classification.pictures",
    "jvan.engine.recipes": "jvan.classification.recipes",
    "jvan.engine.state": "jvan.engine.resume",
    "jvan.inference.find": "jvan.pictures.find",
    "jvan.inference.fold": "jvan.inference.fused.fold",
    "jvan.inference.network": "jvan.inference.fused.network",
    "jvan.inference.on_gpu": "jvan.inference.fused.gpu",
    "jvan.inference.packing": "jvan.inference.fused.packing",
    "jvan.inference.pictures": "jvan.pictures.read",
    "jvan.inference.plan": "jvan.inference.fused.plan",
    "jvan.inference.predictor": "jvan.tasks",
    "jvan.inference.preprocess": "jvan.pictures.preprocess",
    "jvan.inference.signature": "jvan.pictures.signature",
    "jvan.inference.structure": "jvan.inference.fused.fusable",
    "jvan.models.checkpointing": "jvan.models.recompute",
    "jvan.ops.cuda.layers": "jvan.ops.cuda.families",
    "jvan.ops.cuda.run": "jvan.ops.cuda.launch",
}


class MovedModules(MetaPathFinder, Loader):
    """The old name gives the very module of the new one, so that classes stay one."""

    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name in MOVED else None

    def exec_module(self, module):
        old = module.__name__
        warn(f"{old} is {MOVED[old]} now; the old name goes with the next release", DeprecationWarning)
        sys.modules[old] = importlib.import_module(MOVED[old])


def install() -> None:
    """Ask for old names first: a folder that moved would let Python's own finder make second copies of its modules."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, MovedModules())
