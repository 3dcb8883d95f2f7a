"""What a Hugging Face folder's config.json says beyond the tensors' shapes: LayerNorm's eps, the stem's stride, labels."""

from __future__ import annotations

from dataclasses import replace

from ...errors import CheckpointError
from ...variants import VANConfig

_SAME = {"hidden_sizes": "embed_dims", "depths": "depths", "mlp_ratios": "mlp_ratios", "num_channels": "in_chans"}


def apply_config(document: dict, config: VANConfig) -> VANConfig:
    """`config` with the eps and the stride that config.json names; CheckpointError where the two contradict."""
    if document.get("model_type") != "van":
        raise CheckpointError(f"config.json is of model_type {document.get('model_type')!r}; jvan reads 'van'")
    for theirs, ours in _SAME.items():
        said, shown = document.get(theirs), getattr(config, ours)
        if said is not None and (tuple(said) if isinstance(said, list) else said) != shown:
            raise CheckpointError(
                f"config.json says {theirs} {said!r}, but the tensors have {shown}; one is of another model"
            )
    if document.get("hidden_act", "gelu") != "gelu":
        raise CheckpointError(f"config.json says hidden_act {document['hidden_act']!r}; VAN's is 'gelu'")
    strides = document.get("strides", [4, 2, 2, 2])
    if not isinstance(strides, list) or len(strides) != 4 or strides[1:] != [2, 2, 2]:
        raise CheckpointError(f"config.json says strides {strides!r}; only the first one can differ from [4, 2, 2, 2]")
    try:
        return replace(config, stem_stride=strides[0], norm_eps=document.get("layer_norm_eps", 1e-6))
    except ValueError as error:
        raise CheckpointError(f"config.json holds an impossible value: {error}") from None


def class_names(document: dict, num_classes: int) -> tuple[str, ...] | None:
    """The labels in the classes' order; None where there are none or only transformers' placeholders."""
    names = document.get("id2label")
    if not isinstance(names, dict) or not num_classes:
        return None
    labels = tuple(names.get(str(number)) for number in range(num_classes))
    if len(names) != num_classes or not all(isinstance(label, str) for label in labels):
        raise CheckpointError(f"config.json's id2label names {len(names)} classes; the head has {num_classes}")
    return None if labels == tuple(f"LABEL_{number}" for number in range(num_classes)) else labels
