"""Checkpoint files as each code base writes them, of the network TINY, with the numbers they must give."""

from __future__ import annotations

import argparse
import shutil
from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from .calibration import GOLDEN, calibrate, read_picture, to_input
from .original import importable, mmpretrain_converter, official_custom, segmentation_van
from .random_state import TINY, faint, official_shapes, random_state
from .recording import fill, named_maps, report, save, statistics

EMA_SEED = 1  # the averaged weights are another random state, so that a mix-up shows
HEADS = {  # a few names of each of mmseg's heads, UPerHead and FCNHead
    "decode_head.conv_seg.weight": (5, 6, 1, 1),
    "decode_head.conv_seg.bias": (5,),
    "decode_head.psp_modules.0.1.conv.weight": (6, 16, 1, 1),
    "decode_head.psp_modules.0.1.bn.weight": (6,),
    "decode_head.lateral_convs.0.conv.weight": (6, 4, 1, 1),
    "decode_head.fpn_convs.0.conv.weight": (6, 6, 3, 3),
    "decode_head.fpn_bottleneck.conv.weight": (6, 24, 3, 3),
    "auxiliary_head.conv_seg.weight": (5, 6, 1, 1),
    "auxiliary_head.convs.0.conv.weight": (6, 12, 3, 3),
    "auxiliary_head.convs.0.bn.running_mean": (6,),
    "auxiliary_head.convs.0.bn.num_batches_tracked": (),
}


def record_official(official: str) -> None:
    """The layout of the published files (timm 0.4.12's saver) and its variants."""
    model = official_custom(official, **_lists(TINY))
    fill(model, random_state(official_shapes(**TINY)))
    calibrate(model)
    pictures = _picture()
    save(
        "official_tiny",
        {"pictures": pictures, **report("official_tiny", model, to_input(pictures)), **statistics(model)},
    )
    state = model.state_dict()
    checkpoint = {
        "epoch": 309,
        "arch": "van_tiny",
        "state_dict": state,
        "optimizer": _optimizer(model, to_input(pictures)).state_dict(),
        "version": 2,
        "args": argparse.Namespace(
            model="van_b0", lr=1e-3, img_size=None, mean=None, aa="rand-m9-mstd0.5-inc1", amp=False
        ),
        "metric": 75.41,
    }
    torch.save(checkpoint, GOLDEN / "official_tiny.pth.tar")
    torch.save(checkpoint, GOLDEN / "official_tiny_legacy.pth.tar", _use_new_zipfile_serialization=False)
    weights = {k: v for k, v in checkpoint.items() if k != "optimizer"}
    averages = random_state(official_shapes(**TINY), EMA_SEED)
    averaged = {**state, **{k: torch.from_numpy(v) for k, v in averages.items()}}
    torch.save({**weights, "state_dict_ema": averaged}, GOLDEN / "official_tiny_ema.pth.tar")
    torch.save({**weights, "state_dict": _prefixed("module.", state)}, GOLDEN / "official_tiny_module.pth.tar")
    for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        halved = OrderedDict((k, v.to(dtype) if v.is_floating_point() else v) for k, v in state.items())
        torch.save(halved, GOLDEN / f"official_tiny_{name}.pth")


def record_mmpretrain(mmpretrain: str) -> None:
    """The weights of official_tiny under mmpretrain's names, as its own converter gives them, in its published layout."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        state = torch.load(GOLDEN / "official_tiny.pth.tar", weights_only=True)["state_dict"]
    converted = mmpretrain_converter(mmpretrain)(state)
    meta = {"mmcls_version": "0.23.0", "epoch": 300, "CLASSES": ["a", "b"], "config": "model = dict(type='VAN')\n"}
    torch.save({"meta": meta, "state_dict": converted}, GOLDEN / "mmpretrain_tiny.pth")


def record_mmengine() -> None:
    """mmpretrain_tiny as mmengine's runner saves it in training: the log buffers bring numpy arrays and `getattr`."""
    state = torch.load(GOLDEN / "mmpretrain_tiny.pth", weights_only=True)["state_dict"]
    name = "mmengine.logging.history_buffer"
    buffer = HistoryBuffer()
    HistoryBuffer.__module__ = name
    checkpoint = {
        "meta": {"epoch": 1, "iter": 2, "cfg": "model = dict(type='VAN')\n", "seed": 42, "experiment_name": "van"},
        "state_dict": state,
        "message_hub": {
            "log_scalars": OrderedDict([("train/loss", buffer)]),
            "runtime_info": OrderedDict([("epoch", 1), ("last_step_lr", np.float64(1e-3))]),
            "resumed_keys": OrderedDict([("train/loss", True)]),
        },
    }
    with importable({name: {"HistoryBuffer": HistoryBuffer}}):
        torch.save(checkpoint, GOLDEN / "mmengine_tiny.pth")


class HistoryBuffer:
    """mmengine's class as its pickle shows it: two arrays and four of its own methods."""

    def __init__(self):
        self.max_length = 1000000
        self._log_history = np.array([1.5, 2.5])
        self._count_history = np.array([1, 1])

    def __getstate__(self) -> dict:
        methods = {name: getattr(HistoryBuffer, name) for name in ("min", "max", "current", "mean")}
        return {**vars(self), "statistics_methods": methods}

    def min(self):
        return self._log_history.min()

    def max(self):
        return self._log_history.max()

    def current(self):
        return self._log_history[-1]

    def mean(self):
        return self._log_history.mean()


def record_segmentor(segmentation: str) -> None:
    """A whole mmseg segmentor around VAN-Segmentation's backbone (LayerNorm eps 1e-5), and the backbone's four maps."""
    backbone = {k: v for k, v in _lists(TINY).items() if k != "num_classes"}
    model = segmentation_van(segmentation, **backbone)
    fill(model, faint(random_state(official_shapes(**TINY | {"num_classes": 0}))))
    calibrate(model)
    pictures = _picture()
    with torch.no_grad():
        maps = model(to_input(pictures))
    save("mmseg_tiny", {"pictures": pictures, **named_maps(maps), **statistics(model)})
    heads = {k: torch.zeros(v, dtype=torch.int64) if k.endswith("tracked") else torch.ones(v) for k, v in HEADS.items()}
    meta = {"mmseg_version": "0.26.0", "CLASSES": ("wall", "floor"), "PALETTE": [[120, 120, 120], [80, 50, 50]]}
    torch.save(
        {"meta": meta, "state_dict": {**_prefixed("backbone.", model.state_dict()), **heads}}, GOLDEN / "mmseg_tiny.pth"
    )


def record_huggingface() -> None:
    """Hugging Face's code with its own names: a folder, a sharded folder, a `pytorch_model.bin`."""
    from transformers.models.deprecated.van.configuration_van import VanConfig
    from transformers.models.deprecated.van.modeling_van import VanForImageClassification

    settings = _lists(TINY)
    config = VanConfig(hidden_sizes=settings["embed_dims"], depths=settings["depths"], num_labels=TINY["num_classes"])
    model = VanForImageClassification(config).eval()
    fill(model, faint(random_state({k: tuple(v.shape) for k, v in model.state_dict().items()})))
    calibrate(model)
    pictures = _picture()
    with torch.no_grad():
        output = model(to_input(pictures), output_hidden_states=True)
    golden = {"logits": output.logits.numpy(), **named_maps(output.hidden_states)}
    save("hf_tiny", {"pictures": pictures, **golden, **statistics(model)})
    for folder, options in (
        ("hf_tiny", {}),
        ("hf_tiny_sharded", {"max_shard_size": "32KB"}),
        ("hf_tiny_bin", {"safe_serialization": False}),
    ):
        shutil.rmtree(GOLDEN / folder, ignore_errors=True)
        model.save_pretrained(GOLDEN / folder, **options)


def record_oddities() -> None:
    """What a state dict may legally hold besides plain float32, in both of PyTorch's formats, and the values."""
    base = torch.arange(24, dtype=torch.float32)
    tensors = {
        "transposed": base.reshape(4, 6).t(),
        "offset": base[5:17].reshape(3, 4),
        "strided": base[::3],
        "shared": base,
        "expanded": torch.tensor([1.5, -2.5]).expand(3, 2),
        "scalar": torch.tensor(3.25),
        "empty": torch.zeros(0, 4),
        "parameter": nn.Parameter(torch.tensor([0.1, 0.2])),
        "float64": torch.tensor([1 / 3, -1e300], dtype=torch.float64),
        "float16": torch.tensor([1 / 3, 65504.0, 6e-8], dtype=torch.float16),
        "bfloat16": torch.tensor([1 / 3, 3e38, -0.0], dtype=torch.bfloat16),
        "int64": torch.tensor([-(2**40), 7]),
        "int32": torch.tensor([-5], dtype=torch.int32),
        "uint8": torch.tensor([0, 255], dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
    }
    torch.save(tensors, GOLDEN / "oddities.pth")
    torch.save(tensors, GOLDEN / "oddities_legacy.pth", _use_new_zipfile_serialization=False)
    plain = {k: v.detach().float() if v.dtype is torch.bfloat16 else v.detach() for k, v in tensors.items()}
    save("oddities", {k: v.numpy() for k, v in plain.items()})


def _optimizer(model, pictures) -> torch.optim.Optimizer:
    """AdamW after one step, its state as large as a training run's; the rate 0 of a first warm-up step keeps the weights."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": others, "weight_decay": 0.0}, {"params": decayed}], lr=0.0, weight_decay=0.05
    )
    model(pictures).square().sum().backward()
    optimizer.step()
    return optimizer


def _picture() -> np.ndarray:
    """(2, 65, 97, 3) uint8, odd in both directions."""
    whole = (read_picture("chelsea_224x224.png"), read_picture("coffee_193x257.png"))
    return np.stack([picture[60:125, 40:137] for picture in whole])


def _prefixed(prefix: str, state: dict) -> dict:
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())


def _lists(settings: dict) -> dict:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
