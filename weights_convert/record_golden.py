"""Record tests/golden with the original PyTorch code. See weights_convert/README.md.

python -m weights_convert.record_golden --official DIR [--segmentation DIR] [--mmpretrain DIR] [PART ...]
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file

from . import record_files
from .calibration import GOLDEN, calibrate, read_picture, to_input, with_channels
from .original import official_custom, official_van, settings_of
from .random_state import SMALL, faint, official_shapes, positions, random_state
from .recording import fill, report, save, statistics

INPUTS = {"224x224": "chelsea_224x224.png", "193x257": "coffee_193x257.png"}
NOTE = "untrained: random weights as the official code initialises them"


def cut_pictures(wheel: str) -> None:
    """Cut the three pictures from scikit-image's CC0 photographs, without loss."""
    boxes = {  # left, top, right, bottom
        "chelsea": ("png", (110, 30, 334, 254)),
        "coffee": ("png", (170, 100, 427, 293)),
        "rocket": ("jpg", (220, 80, 444, 304)),
    }
    with zipfile.ZipFile(wheel) as archive:
        for name, (suffix, box) in boxes.items():
            with Image.open(io.BytesIO(archive.read(f"skimage/data/{name}.{suffix}"))) as picture:
                cut = picture.convert("RGB").crop(box)
            cut.save(GOLDEN / f"{name}_{cut.height}x{cut.width}.png", optimize=True)


def record_variants(official: str) -> None:
    """Logits and samples of the four stage maps of VAN-B0 to B3 on two pictures, and the BatchNorm statistics."""
    for arch in ("van_b0", "van_b1", "van_b2", "van_b3"):
        model = official_van(official, arch)
        fill(model, random_state(official_shapes(**settings_of(model))))
        calibrate(model)
        golden = statistics(model)
        for size, name in INPUTS.items():
            pictures = to_input(read_picture(name)[None])
            outputs = report(f"{arch} {size}", model, pictures)
            golden[f"{size}/logits"] = outputs.pop("logits")[0]
            for stage, values in outputs.items():
                key = f"{size}/{stage}"
                golden[f"{key}/shape"] = np.array(values.shape)
                golden[f"{key}/max"] = np.abs(values).max()
                golden[f"{key}/values"] = values.ravel()[positions(key, values.size)]
        save(arch, golden)


def record_gradients(official: str) -> None:
    """Loss, logits and every gradient of SMALL in both modes, and the statistics after the training pass."""
    cuts = [("chelsea_224x224.png", 40, 20), ("coffee_193x257.png", 60, 90), ("rocket_224x224.png", 90, 80)]
    cuts.append(("chelsea_224x224.png", 100, 120))
    pictures = np.stack([read_picture(name)[y : y + 64, x : x + 64] for name, y, x in cuts])
    labels = np.array([3, 0, 9, 4])
    model = small(official)
    golden = {"pictures": pictures, "labels": labels, **statistics(model)}
    start = {k: v.clone() for k, v in model.state_dict().items()}
    for mode in ("train", "eval"):
        for key, dtype in (("gradient", torch.float32), ("exact", torch.float64)):
            model.to(dtype).load_state_dict(start)
            loss, logits, gradients = backward(model.train(mode == "train"), pictures, labels)
            kept = np.float32 if dtype is torch.float32 else np.float64
            golden.update({f"{mode}/{key}/{name}": value.astype(kept) for name, value in gradients.items()})
            if key == "gradient":
                golden.update({f"{mode}/logits": logits, f"{mode}/loss": loss})
                if mode == "train":
                    golden.update({f"after/{k}": v for k, v in statistics(model).items()})
    for mode in ("train", "eval"):  # of the input the exact gradient alone, rounded: it is the largest tensor
        del golden[f"{mode}/gradient/input"]
        golden[f"{mode}/exact/input"] = golden[f"{mode}/exact/input"].astype(np.float32)
    save("gradients", golden)


def record_arguments(official: str) -> None:
    """Whole stage maps and logits of SMALL with four input channels, and with both LayerNorm eps."""
    picture = read_picture("coffee_193x257.png")[None, 40:111, 60:157]  # 71 x 97
    golden = {}
    for case, in_chans, norm_eps in (("in_chans_4", 4, 1e-6), ("norm_eps_1e-6", 3, 1e-6), ("norm_eps_1e-5", 3, 1e-5)):
        model = small(official, in_chans=in_chans, norm_eps=norm_eps, scaled=faint if in_chans == 3 else dict)
        inputs = with_channels(picture, in_chans)
        recorded = {"pictures": inputs, **report(case, model, to_input(inputs)), **statistics(model)}
        golden.update({f"{case}/{key}": value for key, value in recorded.items()})
    save("arguments", golden)


def small(official: str, in_chans: int = 3, norm_eps: float = 1e-6, scaled=dict):
    """SMALL with its random weights and calibrated statistics."""
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in SMALL.items()}
    model = official_custom(official, norm_eps=norm_eps, in_chans=in_chans, **settings)
    fill(model, scaled(random_state(official_shapes(**SMALL, in_chans=in_chans))))
    calibrate(model, in_chans=in_chans)
    return model


def backward(model, pictures, labels):
    """Cross entropy, logits, and the gradient of every parameter and of the input, as numpy."""
    inputs = to_input(pictures).to(next(model.parameters()).dtype).requires_grad_()
    model.zero_grad()
    logits = model(inputs)
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
    loss.backward()
    gradients = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    return loss.detach().numpy(), logits.detach().numpy(), {**gradients, "input": inputs.grad.numpy()}


def record_untrained(official: str) -> None:
    """VAN-B0 as the official code initialises it, calibrated, in float16: a whole network in a file."""
    from jvan.checkpoints.metadata import Metadata  # nothing else needs jvan
    from jvan.variants import variant_config

    torch.manual_seed(0)
    model = official_van(official, "van_b0")
    calibrate(model)
    tensors = {k: v.half() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    metadata = Metadata(config=variant_config("van_b0"), labels="imagenet-1k", note=NOTE)
    path = Path(__file__).parents[1] / "tests" / "golden" / "van_b0_untrained.safetensors"
    save_file({k: v.numpy() for k, v in tensors.items()}, path, metadata={"jvan": metadata.to_json()})
    model.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=False)
    golden = {}
    for size, name in INPUTS.items():
        outputs = report(f"untrained {size}", model, to_input(read_picture(name)[None]))
        golden[f"{size}/logits"] = outputs["logits"][0]
    save("van_b0_untrained", golden)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all but pictures)")
    parser.add_argument("--official", metavar="DIR", help="a clone of Visual-Attention-Network/VAN-Classification")
    parser.add_argument("--segmentation", metavar="DIR", help="a clone of Visual-Attention-Network/VAN-Segmentation")
    parser.add_argument("--mmpretrain", metavar="DIR", help="a clone of open-mmlab/mmpretrain")
    parser.add_argument("--wheel", metavar="FILE", help="scikit-image's wheel, to cut the pictures from")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # the order of summation, and with it the last bit, would depend on the machine
    torch.use_deterministic_algorithms(True)
    for part in args.parts or [p for p in PARTS if p != "pictures"]:
        if part not in PARTS:
            parser.error(f"unknown part {part!r}; choose of {', '.join(PARTS)}")
        record, sources = PARTS[part]
        missing = [f"--{source}" for source in sources if getattr(args, source) is None]
        if missing:
            parser.error(f"the part {part!r} needs {', '.join(missing)}")
        record(*(getattr(args, source) for source in sources))


PARTS = {  # name: what records it, and the options it takes
    "pictures": (cut_pictures, ["wheel"]),
    "variants": (record_variants, ["official"]),
    "gradients": (record_gradients, ["official"]),
    "arguments": (record_arguments, ["official"]),
    "untrained": (record_untrained, ["official"]),
    "official": (record_files.record_official, ["official"]),
    "mmpretrain": (record_files.record_mmpretrain, ["mmpretrain"]),
    "mmengine": (record_files.record_mmengine, []),
    "mmseg": (record_files.record_segmentor, ["segmentation"]),
    "huggingface": (record_files.record_huggingface, []),
    "oddities": (record_files.record_oddities, []),
}


if __name__ == "__main__":
    main()
