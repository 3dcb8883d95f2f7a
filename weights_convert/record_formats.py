"""Write small files in every format that jvan reads, with the libraries they come from, for tests/golden/formats.

python -m weights_convert.record_formats torch     # needs torch and safetensors
python -m weights_convert.record_formats jittor    # needs jittor; in another process, since the two do not mix
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import sys
import types
import zipfile

import numpy as np

FORMATS = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "formats"


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=("torch", "jittor"))
    FORMATS.mkdir(parents=True, exist_ok=True)
    {"torch": record_torch, "jittor": record_jittor}[parser.parse_args(argv).library]()


def record_torch() -> None:
    """The two formats of PyTorch at each pickle protocol, one deflated, one as mmengine saves, and safetensors."""
    import torch
    from safetensors.torch import save_file

    state = odd_state(torch)
    checkpoint = training_checkpoint(torch, state)  # its optimiser changes the parameter
    np.savez_compressed(FORMATS / "expected.npz", **{name: _numpy(torch, tensor) for name, tensor in state.items()})
    for protocol in (1, 2, 3, 4, 5):
        torch.save(checkpoint, FORMATS / f"zip_protocol{protocol}.pth.tar", pickle_protocol=protocol)
        legacy = FORMATS / f"legacy_protocol{protocol}.pth"
        torch.save(checkpoint, legacy, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    deflate(FORMATS / "zip_protocol2.pth.tar", FORMATS / "deflated.bin")
    torch.serialization.set_crc32_options(False)
    torch.save(state, FORMATS / "without_checksums.pt")
    torch.serialization.set_crc32_options(True)
    for protocol in (2, 4):
        torch.save(mmengine_checkpoint(state), FORMATS / f"mmengine_protocol{protocol}.pth", pickle_protocol=protocol)
    plain = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    save_file(plain, FORMATS / "plain.safetensors", metadata={"format": "pt"})


def odd_state(torch) -> dict:
    """Every dtype, and tensors that are not simply contiguous."""
    generator = torch.Generator().manual_seed(7)
    base = torch.randn(120, generator=generator)
    state = collections.OrderedDict()
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        state[str(dtype)[6:]] = torch.randn(3, 35, generator=generator).to(dtype)
    for dtype in (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16):
        state[str(dtype)[6:]] = (torch.arange(7) * 17).to(dtype)
    state["negative"] = torch.arange(-3, 3)
    state["bool"] = torch.tensor([True, False, True])
    state["complex"] = torch.complex(base[:2], base[2:4])
    state["transposed"] = base.reshape(12, 10).t()
    state["channels_last"] = torch.randn(2, 3, 4, 5, generator=generator).to(memory_format=torch.channels_last)
    state["every_third"] = base[7:100:3]
    state["shared"] = base[2:4]
    state["scalar"] = torch.tensor(3.5)
    state["empty"] = torch.zeros(0, 4)
    state["empty_inside"] = torch.zeros(3, 0, 2)
    state["parameter"] = torch.nn.Parameter(torch.randn(2, 2, generator=generator))
    state["marked"] = torch.nn.Parameter(torch.ones(2))
    state["marked"].note = "torch keeps attributes, too"
    return state


def training_checkpoint(torch, state: dict) -> dict:
    """What timm's saver keeps: the state, averaged weights, the optimiser, and the parsed arguments."""
    parameter = state["parameter"]
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    arguments = argparse.Namespace(
        lr=1e-3,
        output=pathlib.PosixPath("runs/1"),
        device=torch.device("cuda:0"),
        dtype=torch.float16,
        size=torch.Size([3, 224, 224]),
        crops={1, 2},
    )
    return {
        "epoch": 3,
        "args": arguments,
        "state_dict": state,
        "state_dict_ema": {name: tensor.detach().clone() for name, tensor in state.items()},
        "optimizer": optimizer.state_dict(),
        "metric": np.float64(75.4),
        "history": np.linspace(0, 1, 60),
        "counts": collections.Counter("abracadabra"),
        "groups": collections.defaultdict(list, {"decay": ["scalar"]}),
        "last": collections.deque([1, 2], maxlen=2),
    }


def mmengine_checkpoint(state: dict) -> dict:
    """As mmengine's runner saves: its log buffers keep their statistics by name, through getattr."""

    class HistoryBuffer:
        def __init__(self):
            self._log_history, self._count_history = np.arange(50.0), np.ones(50, np.int64)
            self.statistics_methods = {"min": HistoryBuffer.min, "mean": HistoryBuffer.mean}

        def min(self):
            return self._log_history.min()

        def mean(self):
            return self._log_history.mean()

    pretend_home(HistoryBuffer, "mmengine.logging.history_buffer")
    logs = collections.OrderedDict({"train/loss": HistoryBuffer()})
    return {"meta": {"epoch": 1}, "state_dict": state, "message_hub": {"log_scalars": logs, "iter": np.int64(5)}}


def pretend_home(kind: type, module: str) -> None:
    """Let pickle find a class, and its methods, in a module that is not installed."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:depth]), types.ModuleType(".".join(parts[:depth])))
    setattr(sys.modules[module], kind.__name__, kind)
    for name, value in vars(kind).items():
        if isinstance(value, types.FunctionType):
            value.__module__, value.__qualname__ = module, f"{kind.__name__}.{name}"
    kind.__module__, kind.__qualname__ = module, kind.__name__


def deflate(source: pathlib.Path, target: pathlib.Path) -> None:
    """The same archive, compressed, as somebody who repacks it writes it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(zipfile.ZipInfo(name), old.read(name), zipfile.ZIP_DEFLATED)


def record_jittor() -> None:
    """Jittor's own file of a small network and optimiser, as a training script saves them."""
    import jvan  # noqa: F401  prepares the machine for the next import

    import jittor as jt  # isort: skip

    jt.set_global_seed(3)
    network = jt.nn.Sequential(jt.nn.Conv(3, 8, 3), jt.nn.BatchNorm(8), jt.nn.Linear(8, 5))
    state = network.state_dict(to="numpy")
    optimizer = jt.optim.AdamW(network.parameters(), lr=1e-3)
    meta = {"epoch": 2, "config": {"name": "van"}, "save_time": "Mon Jan  1 00:00:00 2024"}
    jt.save({"meta": meta, "model": state, "optimizer": optimizer.state_dict()}, str(FORMATS / "jittor_training.pkl"))
    network.save(str(FORMATS / "jittor_model.pkl"))
    np.savez_compressed(FORMATS / "expected_jittor.npz", **state)


def _numpy(torch, tensor):
    tensor = tensor.detach()
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


if __name__ == "__main__":
    main()
