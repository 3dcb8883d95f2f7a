"""jvan: the Visual Attention Network (arXiv 2202.09741) native to Jittor.

Importing it prepares the environment so that `import jittor` works, and imports nothing heavy:
each public name is fetched from its module when it is first used.
"""

from . import _path  # noqa: F401  # before every other import

# isort: split

import importlib

from .boot import moved, prepare

__version__ = "0.1.0"

_HOME = {
    "list_models": "variants",
    "list_weights": "checkpoints.published.catalogue",
    "create_model": "tasks",
    "load_weights": "tasks",
    "read_checkpoint": "checkpoints.reader",
    "Predictor": "tasks",
    "Prediction": "classification.predictor",
    "optimize_for_inference": "tasks",
    "use_device": "device",
    "use_cuda": "device",
    "JvanError": "errors",
    "CheckpointError": "errors",
    "PictureError": "errors",
    "DownloadError": "errors",
    "DataError": "errors",
    "PrecisionError": "errors",
    "MemoryLimitError": "errors",
    "TrainingError": "errors",
    "JittorUnavailable": "errors",
}
__all__ = list(_HOME)

prepare.prepare()
moved.install()


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'jvan' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *_HOME})
