"""Training in the official PyTorch code with torch's AdamW, recorded to hold jvan's against. See weights_convert/README.md.

python -m weights_convert.record_training golden --official VAN-Classification        (PyTorch) tests/golden/training.npz
python -m weights_convert.record_training b0 --official VAN-Classification --data cifar10.tar.xz FILE.npz      (PyTorch)
python -m weights_convert.record_training compare FILE.npz                            (jvan) exit 1 unless they agree

No part draws random numbers while it trains, so both sides see the same numbers at every step.
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
from pathlib import Path

import numpy as np

from .random_state import SMALL, official_shapes, random_state, stream

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "training.npz"
SMALL_RUN = {"steps": 12, "lr": 1e-3, "weight_decay": 0.05}
B0_RUN = {"steps": 50, "lr": 1e-4, "weight_decay": 0.05}
# Adding to a convolution's bias before a BatchNorm changes nothing, so its gradient is rounding noise, which AdamW
# scales up to whole steps; the first BatchNorm's running mean follows that bias.
EXCEPTIONS = (*(f"patch_embed{stage}.proj.bias" for stage in range(1, 5)), "patch_embed1.norm.running_mean")


def small_batches():
    """Twelve batches of eight 64×64 pictures and labels, from names alone."""
    for step in range(SMALL_RUN["steps"]):
        numbers = stream(f"training/{step}")
        yield numbers.standard_normal((8, 3, 64, 64)).astype(np.float32), numbers.randint(0, 10, 8)


def adamw_case(step: int) -> dict[str, np.ndarray]:
    """A matrix's and a vector's gradients at one step; some are tiny, some zero."""
    numbers = stream(f"adamw/{step}")
    matrix = numbers.standard_normal((5, 7)) * 10.0 ** numbers.randint(-8, 3, (5, 7))
    vector = numbers.standard_normal(6)
    vector[0] = 0
    return {"matrix": matrix.astype(np.float32), "vector": vector.astype(np.float32)}


def record_golden(official: str) -> None:
    """AdamW's parameters after each of ten steps; SMALL's loss at each of twelve steps and its tensors after them."""
    import torch

    from .original import official_custom

    start = adamw_case(-1)
    weights = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, value in start.items()}
    optimizer = torch.optim.AdamW(_groups(weights.items(), 0.05), lr=1.0)
    golden = {}
    for step in range(10):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (step + 1)
        for name, gradient in adamw_case(step).items():
            weights[name].grad = torch.from_numpy(gradient)
        optimizer.step()
        golden.update({f"adamw/{step}/{name}": value.detach().numpy().copy() for name, value in weights.items()})
    state = random_state(official_shapes(**SMALL))
    for name, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        model = official_custom(official, **SMALL)
        losses, tensors = _train(model, state, small_batches(), SMALL_RUN, dtype)
        golden[f"small/{name}/loss"] = losses
        golden.update({f"small/{name}/{key}": value.astype(np.float32) for key, value in tensors.items()})
    np.savez_compressed(GOLDEN, **golden)
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")


def record_b0(official: str, data: str, size: int, batch: int, out: str) -> None:
    """Fifty steps of VAN-B0, as the official code initialises it, on pictures of the training half of CIFAR-10's archive."""
    import torch

    from .original import official_module

    torch.manual_seed(0)
    model = official_module(official).van_b0(num_classes=10)
    start = {name: value.numpy().copy() for name, value in model.state_dict().items() if not name.endswith("tracked")}
    pictures, labels = read_pictures(data, B0_RUN["steps"] * batch, size)
    batches = list(zip(np.split(pictures, B0_RUN["steps"]), np.split(labels, B0_RUN["steps"])))
    losses, tensors = _train(model, None, ((normalised(x), y) for x, y in batches), B0_RUN, torch.float32)
    about = {"pictures": pictures, "labels": labels, "loss": losses}
    groups = {"start": start, "after": tensors}
    np.savez(
        out, **about, **{f"{group}/{name}": value for group, each in groups.items() for name, value in each.items()}
    )


def read_pictures(data: str, count: int, size: int):
    """(uint8 (count, size, size, 3), labels): of each class in turn, in the archive's order, enlarged by bicubic."""
    from PIL import Image

    by_class: dict[str, list[bytes]] = {}
    with tarfile.open(data) as archive:
        for member in archive:
            parts = member.name.split("/")
            if member.isfile() and "train" in parts and len(by_class.setdefault(parts[-2], [])) <= count // 10:
                by_class[parts[-2]].append(archive.extractfile(member).read())
    classes = sorted(by_class)
    labels = np.arange(count) % len(classes)
    pictures = []
    for index, label in enumerate(labels):
        with Image.open(io.BytesIO(by_class[classes[label]][index // len(classes)])) as picture:
            pictures.append(np.asarray(picture.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)))
    return np.stack(pictures), labels


def normalised(pictures: np.ndarray) -> np.ndarray:
    """uint8 (n, H, W, 3) -> float32 (n, 3, H, W) in -1 to 1."""
    return np.ascontiguousarray((pictures.astype(np.float32) / 255 - 0.5).transpose(0, 3, 1, 2) / 0.5)


def _groups(named, weight_decay: float) -> list[dict]:
    """timm 0.4.12's `add_weight_decay`."""
    vector = {True: [], False: []}
    for name, value in named:
        vector[value.ndim == 1 or name.endswith(".bias")].append(value)
    return [{"params": vector[True], "weight_decay": 0.0}, {"params": vector[False], "weight_decay": weight_decay}]


def _train(model, state, batches, run: dict, dtype):
    """(losses, tensors after) of the official network in training mode; `state` replaces what it was initialised with."""
    import torch

    if state is not None:
        model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
    model.to(dtype).train()
    optimizer = torch.optim.AdamW(_groups(model.named_parameters(), run["weight_decay"]), lr=run["lr"])
    losses = []
    for pictures, labels in batches:
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(pictures).to(dtype)), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    tensors = {name: value.numpy() for name, value in model.state_dict().items() if not name.endswith("tracked")}
    return np.array(losses), tensors


def train_in_jvan(model, batches, run: dict) -> np.ndarray:
    """The losses of jvan's own step on the same batches; `model` has learnt afterwards."""
    from types import SimpleNamespace

    from jvan.classification.task import Classification
    from jvan.engine.drop_path import DropPathMasks
    from jvan.engine.groups import parameters_of
    from jvan.engine.optimizer import AdamW
    from jvan.engine.parallel import Processes
    from jvan.engine.step import Gradients

    parameters = parameters_of(model)
    optimizer = AdamW(parameters, run["weight_decay"])
    gradients, losses = None, []
    for step, (pictures, labels) in enumerate(batches):
        if gradients is None:
            plan = DropPathMasks(model, 0, len(labels), np.arange(len(labels)))
            gradients = Gradients(model, parameters, plan, Processes(), 1, Classification().loss)
        targets = np.eye(model.num_classes, dtype=np.float32)[labels]
        outcome = gradients(SimpleNamespace(pictures=pictures, targets=targets), step)
        optimizer.step(outcome.gradients, run["lr"])
        losses.append(outcome.loss)
    return np.array(losses)


def compare(file: str) -> int:
    """Print how far apart the two are; 0 where the losses agree within 1e-4 and the tensors within 1e-2 of their largest value."""
    from jvan.models.factory import build
    from jvan.models.loading import assign
    from jvan.variants import variant_config

    recorded = np.load(file)
    model = build(variant_config("van_b0", num_classes=10))
    assign(model, {name[6:]: recorded[name] for name in recorded.files if name.startswith("start/")})
    batches = zip(np.split(recorded["pictures"], B0_RUN["steps"]), np.split(recorded["labels"], B0_RUN["steps"]))
    losses = train_in_jvan(model, ((normalised(x), y) for x, y in batches), B0_RUN)
    apart = np.abs(losses - recorded["loss"]) / np.abs(recorded["loss"])
    for step in range(0, len(losses), 7):
        print(f"step {step + 1:2d}: loss {losses[step]:.6f}, {recorded['loss'][step]:.6f} in PyTorch")
    print(f"the losses of {len(losses)} steps differ by at most {apart.max():.1e} of themselves")
    shares = {}
    for name, value in model.state_dict().items():
        theirs = recorded[f"after/{name}"]
        shares[name] = float(np.abs(value.numpy() - theirs).max() / np.abs(theirs).max())
    counted = {name: share for name, share in shares.items() if name not in EXCEPTIONS}
    for name in sorted(counted, key=counted.get)[-5:]:
        print(f"{name}: {counted[name]:.1e} of its largest value")
    print("not counted: " + ", ".join(f"{name} {shares[name]:.1e}" for name in EXCEPTIONS))
    return int(not (apart.max() <= 1e-4 and max(counted.values()) <= 1e-2))


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("golden", "b0", "compare"))
    parser.add_argument("file", nargs="?", metavar="FILE.npz")
    parser.add_argument("--official", metavar="DIR", help="a checkout of VAN-Classification")
    parser.add_argument("--data", metavar="FILE", help="CIFAR-10 as a tar file of pictures under train/CLASS")
    parser.add_argument("--size", type=int, default=64, help="side of the pictures (default: 64)")
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_intermixed_args(argv)
    if options.part == "compare":
        return compare(options.file)
    if options.part == "golden":
        record_golden(options.official)
    else:
        record_b0(options.official, options.data, options.size, options.batch_size, options.file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
