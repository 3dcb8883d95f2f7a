"""`jvan train`'s options, their spellings, and the recipes: nothing here trains."""

import shlex
from dataclasses import fields, replace

import pytest

from jvan.classification.build import settle
from jvan.classification.recipes import RECIPES
from jvan.classification.task import TASK, ClassificationConfig
from jvan.engine.config import differences
from jvan.train import _parser, main

OPTIONS = [
    "--arch",
    "--weights",
    "--output",
    "--val",
    "--epochs",
    "--max-steps",
    "--batch-size",
    "--accum-steps",
    "--img-size",
    "--max-pixels",
    "--lr",
    "--warmup-epochs",
    "--weight-decay",
    "--drop-path",
    "--mixup",
    "--cutmix",
    "--aa",
    "--smoothing",
    "--reprob",
    "--model-ema",
    "--clip-grad",
    "--sync-bn",
    "--dtype",
    "--workers",
    "--seed",
    "--log-every",
    "--checkpoint-every",
    "--keep",
    "--resume",
    "--device",
    "--plot",
]


def test_no_option_is_lost():
    options = [action.option_strings[0] for action in _parser(TASK)._actions if action.option_strings]
    assert sorted(options) == sorted(["-h", *OPTIONS])


@pytest.mark.parametrize(
    ("timm", "ours"),
    [("-b 8", "--batch-size 8"), ("--model van_b1", "--arch van_b1"), ("--wd 0.1", "--weight-decay 0.1"), ("-j 3", "--workers 3"),
     ("--grad-accum-steps 2", "--accum-steps 2"), ("--log-interval 7", "--log-every 7"), ("--checkpoint-hist 4", "--keep 4"),
     ("--model-ema", "--model-ema 0.9998"), ("--model-ema-decay 0.99", "--model-ema 0.99"), ("--initial-checkpoint w", "--weights w"),
     ("--val-split v", "--val v"), ("--auto-augment none", "--aa none"), ("--label-smoothing 0.2", "--smoothing 0.2"),
     ("--amp-dtype bfloat16", "--dtype bfloat16"), ("--recovery-interval 9", "--checkpoint-every 9")],
)  # fmt: skip
def test_timms_spellings(timm, ours):
    parse = lambda text: TASK.make_config(vars(_parser(TASK).parse_args(["data", *text.split()])))  # noqa: E731
    assert parse(timm) == parse(ours) != parse("")


@pytest.mark.parametrize(
    "wrong",
    [
        "--epochs 0",
        "--lr -1",
        "--lr nan",
        "--drop-path 1",
        "--reprob 5",
        "--batch-size x",
        "--dtype int8",
        "--arch",
        "--amp",
        "--epoch 3",
    ],
)
def test_bad_values_are_usage_errors(wrong, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["data", *wrong.split()])
    assert exit.value.code == 2 and wrong.split()[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", ["--val", "--output", "--weights", "--arch", "--aa", "--epochs", "--model-ema", "DATA"]
)
def test_an_empty_value_is_a_usage_error_that_names_the_option(option, capsys):
    with pytest.raises(SystemExit) as exit:
        main([""] if option == "DATA" else ["data", f"{option}="])
    last = capsys.readouterr().err.rstrip().splitlines()[-1]
    assert exit.value.code == 2 and option in last and "is empty" in last


def test_the_imagenet_recipe_is_the_official_one():
    config = TASK.make_config({"data": "d", "batch_size": 1024})
    assert (config.peak_lr, config.epochs, config.cooldown_epochs, config.warmup_epochs) == (1e-3, 310, 10, 5)
    assert (config.weight_decay, config.mixup, config.cutmix, config.smoothing, config.reprob) == (
        0.05,
        0.8,
        1.0,
        0.1,
        0.25,
    )
    assert (config.aa, config.model_ema, config.clip_grad, config.crop_scale) == (
        "rand-m9-mstd0.5-inc1",
        0.0,
        None,
        (0.08, 1.0),
    )
    assert TASK.make_config({"data": "d", "batch_size": 512}).peak_lr == 5e-4
    assert TASK.make_config({"data": "d", "batch_size": 512, "lr": 1e-4}).peak_lr == 1e-4
    short = TASK.make_config({"data": "d", "epochs": 10})
    assert (short.epochs, short.cooldown_epochs, short.warmup_epochs) == (10, 0, 1)


def test_weights_mean_fine_tuning():
    """The figures of docs/training.md."""
    config = TASK.make_config({"data": "d", "weights": "w"})
    assert (config.epochs, config.cooldown_epochs, config.usual_batch, config.warmup_epochs) == (10, 0, 32, 1)
    assert (config.base_lr, config.layer_decay, config.clip_grad) == (3.2e-3, 0.8, 1.0)
    assert (config.mixup, config.cutmix, config.reprob, config.crop_scale) == (0.0, 0.0, 0.0, (0.25, 1.0))
    assert TASK.make_config({"data": "d", "weights": "w", "epochs": 7}).epochs == 7


@pytest.mark.parametrize(
    ("arch", "rate"),
    [("van_b0", 0.1), ("van_b1", 0.1), ("van_b2", 0.1), ("van_b3", 0.2), ("van_b4", 0.2), ("van_b5", 0.2), ("van_b6", 0.3)],
)  # fmt: skip
def test_the_drop_path_of_each_network(arch, rate):
    """Official train.sh for B0 to B4; the fork's fine-tuning after ImageNet-22K for B5 and B6."""
    config = TASK.make_config({"data": "d", "arch": arch, "img_size": 224})
    assert settle(config, None, pictures=1000, processes=1).drop_path == rate
    assert settle(replace(config, drop_path=0.05), None, pictures=1000, processes=1).drop_path == 0.05


MAY_DIFFER = {
    "data", "val", "output", "weights", "max_steps", "workers", "log_every", "checkpoint_every", "keep", "resume", "plot",
}  # fmt: skip


@pytest.mark.parametrize("field", fields(ClassificationConfig), ids=lambda field: field.name)
def test_a_continued_run_is_held_to_every_option_that_decides_what_it_computes(field):
    """The data are compared by their digest, the weights by theirs."""
    one = TASK.make_config({"data": "d", "output": "o"})
    other = replace(one, **{field.name: "another"})
    assert bool(differences(one, other)) is (field.name not in MAY_DIFFER)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipes_command_is_one(recipe):
    program, name, *arguments = shlex.split(recipe.command)
    assert (program, name) == ("jvan", "train") and recipe.source
    config = TASK.make_config(vars(_parser(TASK).parse_args(arguments)))
    for field, value in recipe.sets.items():
        assert getattr(config, field) == value, field


def test_the_configuration_comes_back():
    config = TASK.make_config({"data": "d", "lr": 0.1, "aa": None})
    assert ClassificationConfig.from_json(config.to_json()) == config
    other = TASK.make_config({"data": "e", "lr": 0.2, "aa": None, "workers": 7, "max_steps": 3})
    assert differences(config, other) == ["lr: 0.1, not 0.2"]
