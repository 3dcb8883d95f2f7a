"""The network that a run trains: a new one, or published weights with a head for the run's classes."""

from __future__ import annotations

from dataclasses import replace

import jittor as jt

from ..checkpoints.metadata import Metadata
from ..checkpoints.state import State, load_state
from ..data.name_list import means
from ..data.slots import Field, slots_for
from ..engine.resume import digest
from ..errors import CheckpointError, TrainingError
from ..inference.labels import labels_for
from ..memory_limit import check_memory
from ..models.factory import build
from ..models.loading import fill
from ..ops.cuda.launch import on_gpu
from ..preprocessing import Preprocessing
from ..variants import VARIANTS, VANConfig, parse_arch
from .sizes import SMALL

DROP_PATH = {
    "van_b3": 0.2,
    "van_b4": 0.2,
    "van_b5": 0.2,
    "van_b6": 0.3,
}  # official train.sh; B5 and B6: the 22K fine-tuning
FLOAT = 4  # bytes
MAPS, MAPS_CHECKPOINTED = 8, 3  # of a stage's size, kept of each block for the gradients


def network_of(arch: str, num_classes: int) -> VANConfig:
    """What --arch names, in the form of `variants.parse_arch`, for this many classes; TrainingError where that cannot be trained here."""
    try:
        network = parse_arch(arch, num_classes=num_classes)
    except (ValueError, TypeError) as error:
        raise TrainingError(f"--arch {arch}: {error}") from None
    if network.num_classes != num_classes:
        raise TrainingError(f"--arch {arch}: the data decide how many classes there are; leave num_classes out")
    if network.in_chans != 3:
        raise TrainingError(f"--arch {arch}: in_chans is {network.in_chans}, and training pictures have 3 channels")
    return network


def starting_weights(config) -> State | None:
    """What --weights names, read and checked against --arch; None without --weights."""
    if config.weights is None:
        return None
    named = config.arch if config.arch in VARIANTS else None
    state = load_state(config.weights, arch=named)
    stored = state.metadata.config
    if config.arch and network_of(config.arch, stored.num_classes) != replace(stored, norm_eps=1e-6):
        raise CheckpointError(f"{config.weights}: is not the network --arch {config.arch} describes; leave --arch out")
    if stored.in_chans != 3:
        raise CheckpointError(
            f"{config.weights}: takes {stored.in_chans} channels, and training pictures have 3; give other weights"
        )
    return state


def settle(config, state: State | None, pictures: int, processes: int):
    """The configuration with all that its weights and data decide filled in; TrainingError for what cannot be."""
    stored = state.metadata if state else None
    arch = config.arch or (stored.config.arch if stored else "van_b0")
    size = config.img_size or (stored.preprocessing.size if stored else Preprocessing().size)
    drop_path = DROP_PATH.get(arch.partition(":")[0], 0.1) if config.drop_path is None else config.drop_path
    unit = processes * config.accum_steps
    fitting = unit if processes == 1 else 2 * unit  # mixing partners go to one process
    batch = config.batch_size or min(config.usual_batch, pictures) // fitting * fitting or fitting
    if batch % unit:
        raise TrainingError(
            f"a batch of {batch} does not divide into {processes} processes × {config.accum_steps} parts; "
            f"give a --batch-size that is a multiple of {fitting}"
        )
    if batch > pictures:
        raise TrainingError(
            f"there are {pictures} pictures to train on, fewer than a batch of {batch}; give a smaller --batch-size"
        )
    if size < 32:
        raise TrainingError(f"--img-size is {size}; the network takes 32 or more")
    stem = (stored.config if stored else network_of(arch, 1)).stem_stride
    if batch == unit and -(-size // (8 * stem)) == 1:
        raise TrainingError(
            "a part of the batch is one picture, which the network's last maps show as one pixel: BatchNorm has nothing "
            "to average there; give a larger --batch-size or --img-size, or fewer --accum-steps"
        )
    weights = digest(state.tensors)[:16] if state else None
    return replace(config, arch=arch, img_size=size, drop_path=drop_path, batch_size=batch, weights_digest=weights)


def check_step(config, network: VANConfig, processes: int) -> None:
    """MemoryLimitError where a step of a settled configuration takes more memory than this process may have, on a CPU.

    A weights file may ask for any size of pictures. Counted are the batches that the loader makes ahead, and what a step keeps of
    each block for the gradients: by measurement 8.3 maps, and as many as the feed-forward is wider; 3.6 with gradient checkpointing.
    """
    part = config.batch_size // (processes * config.accum_steps)
    side, kept = config.img_size, 0
    for i, (chans, depth, ratio) in enumerate(zip(network.embed_dims, network.depths, network.mlp_ratios)):
        side = -(-side // (2 if i else network.stem_stride))
        kept += depth * side * side * chans * (MAPS_CHECKPOINTED if config.grad_checkpointing else MAPS + ratio)
    layout = {"pictures": Field((3, config.img_size, config.img_size), "float32")}
    slots, batch = slots_for(layout, config.batch_size // processes)
    check_memory(
        (slots if config.workers else 1) * batch + (0 if on_gpu() else FLOAT * part * kept),
        f"a step on {part} pictures of {config.img_size}×{config.img_size} pixels",
        "choose a smaller --img-size or --batch-size, or --grad-checkpointing",
    )


def make_network(config, state: State | None, classes: tuple[str, ...]):
    """(network in training mode, what is to be said of it) for a settled configuration.

    The head of the weights stays where its classes are the data's. Raises TrainingError where they are as many but
    named otherwise, since nobody can know whether they are the same.
    """
    jt.set_global_seed(config.seed % 2**32, different_seed_for_mpi=False)
    if state is None:
        network = network_of(config.arch, len(classes))
        metadata = Metadata(network, _preprocessing(config, Preprocessing()), labels=classes)
        return _initialised(network, config, metadata), f"{config.arch}, freshly initialised"
    stored = state.metadata
    keeps = stored.config.num_classes == len(classes)
    if keeps:
        _check_names(config, stored, classes)
    network = replace(stored.config, num_classes=len(classes))
    metadata = replace(
        stored, config=network, labels=classes, preprocessing=_preprocessing(config, stored.preprocessing), note=None
    )
    model = _initialised(network, config, replace(metadata, source=None, source_sha256=None))
    fill(model, state.tensors, keeps)
    head = (
        "their head"
        if keeps
        else f"a new head for {len(classes)} classes instead of theirs for {stored.config.num_classes}"
    )
    return model, f"{config.arch}, from {config.weights}, with {head}"


def _initialised(network: VANConfig, config, metadata: Metadata):
    """The network with what the seed gives it, on the CPU: cuRAND goes on where it was, whatever seed it gets, and would give others."""
    with jt.flag_scope(use_cuda=0):
        model = build(network, drop_path_rate=config.drop_path, metadata=metadata)
        jt.sync([value for _, value in model.named_parameters()])
    return model


def _check_names(config, stored: Metadata, classes: tuple[str, ...]) -> None:
    if stored.labels is None:
        return
    labels = labels_for(stored.labels, stored.config.num_classes)
    wrong = [
        (label, name) for label, name in zip(labels, classes) if name != label.wnid and not means(label.name, name)
    ]
    if wrong:
        label, name = wrong[0]
        raise TrainingError(
            f"{config.weights}: its head has as many classes as {config.data}, named otherwise ({label.name!r} is {name!r} there); "
            "name the folders as the weights do, or have a new head with `python -m jvan.convert --drop-head`"
        )


def _preprocessing(config, before: Preprocessing) -> Preprocessing:
    """Pictures of the run's size; small ones are not cut."""
    return replace(before, size=config.img_size, crop_pct=1.0 if config.img_size <= SMALL else before.crop_pct)
