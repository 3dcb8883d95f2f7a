"""Record every name and shape of VAN-B0 to B6 in the projects whose files jvan reads, for tests/golden/names.

    python -m weights_convert.record_names VAN-Classification mmpretrain [tests/golden/names]

The arguments are checkouts of the official code and of mmpretrain. It needs torch and transformers 4.x (the last
with VAN) and nothing of jvan, so that what it records is independent of jvan's own tables: mmpretrain's names come from its converter, Hugging Face's from its model, paired with the official ones by the order in
which the two networks' layers run.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import torch
import transformers
from transformers import VanConfig, VanForImageClassification, VanModel

from .original import mmpretrain_converter, official_van

ARCHS = [f"van_b{number}" for number in range(7)]


def record(official, converter) -> dict:
    """Names, shapes and pairs for one size; on `meta` tensors, which have shapes only, a forward pass costs nothing."""
    config = hugging_face_config(official)
    theirs, base = VanForImageClassification(config).eval().to("meta"), VanModel(config)
    their_layers, layers = layers_in_order(theirs), layers_in_order(official.to("meta"))
    assert len(their_layers) == len(layers)
    pairs, names = dict(zip(their_layers, layers)), list(official.state_dict())
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "official": shapes(official),
        "mmpretrain": dict(zip(names, converter(dict.fromkeys(names)))),
        "huggingface": shapes(theirs),
        "huggingface_base": shapes(base),
        "huggingface_to_official": {**tensor_pairs(theirs, official, pairs), **layer_scales(theirs, official)},
    }


def hugging_face_config(official) -> VanConfig:
    widths = [getattr(official, f"norm{stage}").normalized_shape[0] for stage in range(1, 5)]
    blocks = [getattr(official, f"block{stage}") for stage in range(1, 5)]
    ratios = [block[0].mlp.fc1.out_channels // width for block, width in zip(blocks, widths)]
    return VanConfig(hidden_sizes=widths, depths=official.depths, mlp_ratios=ratios, num_labels=1000)


def layers_in_order(model) -> list[str]:
    """The layers with their own parameters, in the order in which a forward pass runs them."""
    order = []
    for name, module in model.named_modules():
        if module._parameters and not list(module.children()) and "scaling" not in name:
            module.register_forward_hook(lambda *_, name=name: order.append(name))
    model(torch.zeros(1, 3, 64, 64, device="meta"))
    return order


def tensor_pairs(theirs, official, pairs: dict[str, str]) -> dict[str, str]:
    found = {}
    for their_layer, layer in pairs.items():
        ours = shapes(official.get_submodule(layer))
        assert ours == shapes(theirs.get_submodule(their_layer)), (their_layer, layer)
        found.update({f"{their_layer}.{part}": f"{layer}.{part}" for part in ours})
    return found


def layer_scales(theirs, official) -> dict[str, str]:
    """Layer scales are bare parameters in the official blocks, so that no hook sees them: paired block by block."""
    found = {}
    stages = enumerate(theirs.van.encoder.stages, start=1)
    for stage, block in ((stage, block) for stage, module in stages for block in range(len(module.layers))):
        for scaling, parameter in (("attention_scaling", "layer_scale_1"), ("mlp_scaling", "layer_scale_2")):
            name = f"van.encoder.stages.{stage - 1}.layers.{block}.{scaling}.weight"
            theirs.get_parameter(name), official.get_parameter(f"block{stage}.{block}.{parameter}")
            found[name] = f"block{stage}.{block}.{parameter}"
    return found


def shapes(module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("official", type=Path, help="a checkout of VAN-Classification")
    parser.add_argument("mmpretrain", type=Path, help="a checkout of mmpretrain")
    parser.add_argument("out", type=Path, nargs="?", default=Path("tests/golden/names"))
    options = parser.parse_args()
    converter = mmpretrain_converter(options.mmpretrain)
    options.out.mkdir(parents=True, exist_ok=True)
    for arch in ARCHS:
        found = record(official_van(options.official, arch), converter)
        data = json.dumps(found, separators=(",", ":")).encode()
        (options.out / f"{arch}.json.gz").write_bytes(gzip.compress(data, 9, mtime=0))
        print(arch, {key: len(value) for key, value in found.items() if isinstance(value, dict)})


if __name__ == "__main__":
    main()
