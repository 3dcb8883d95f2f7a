"""Run the official train.py on a machine without a GPU: what it asks of CUDA does nothing, all else is as it is.

pip install torch torchvision pyyaml "timm==0.4.12" --no-deps; pip install numpy pillow
python -m weights_convert.official_train VAN-Classification DATA --model van_b0 --no-prefetcher --channels-last
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import torch

from .original import without_extensions


def main(official: str, *options: str) -> None:
    for kind in (torch.nn.Module, torch.Tensor):
        kind.cuda = lambda self, *_, **__: self
    torch.cuda.synchronize = lambda *_: None
    without_extensions("torchvision", ())
    from timm.data import mixup

    *others, _ = mixup.mixup_target.__defaults__
    mixup.mixup_target.__defaults__ = (*others, "cpu")  # the device, which train.py does not name
    sys.path.insert(0, official)  # its `models` registers the networks with timm
    sys.argv = ["train.py", *options]
    runpy.run_path(str(Path(official) / "train.py"), run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
