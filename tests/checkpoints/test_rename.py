"""The engine, on small tables of its own."""

from __future__ import annotations

import pytest

from jvan.checkpoints.names.rename import Row, Table, below, check_match, listed, match, translate
from jvan.errors import CheckpointError

TABLE = Table(
    [
        Row("{any}.num_batches_tracked", None, "counters"),
        Row("extra.{any}", None, "extra"),
        Row("stages.{stage0}.layers.{block}.first.{tensor}", "block{stage}.{block}.proj.{tensor}"),
        Row("stages.{stage0}.norm.{norm}", "norm{stage}.{norm}"),
        Row("out.{tensor}", "head.{tensor}"),
    ]
)
PAIRS = {
    "stages.0.layers.0.first.weight": "block1.0.proj.weight",
    "stages.3.layers.12.first.bias": "block4.12.proj.bias",
    "stages.2.norm.running_var": "norm3.running_var",
    "out.weight": "head.weight",
}


def test_both_directions_come_from_one_table():
    assert match(PAIRS, TABLE).names == PAIRS
    assert translate(PAIRS.values(), TABLE, "theirs") == {ours: name for name, ours in PAIRS.items()}


@pytest.mark.parametrize(
    "name",
    [
        "stages.4.norm.weight",
        "stages.-1.norm.weight",
        "stages.0.layers.00.first.weight",
        "stages.0.layers.99999999.first.weight",
        "stages.0.layers.٣.first.weight",
        "stages.0.norm.weight.x",
        "x.stages.0.norm.weight",
        "stages.0.norm.weight\n",
        "stagesX0Xnorm.weight",
        "out.weights",
        "",
    ],
)
def test_an_unknown_name_raises_and_is_named(name):
    result = match([*PAIRS, name], TABLE)
    assert result.unknown == (name,)
    with pytest.raises(CheckpointError, match="1 of 5 names are not theirs"):
        check_match(result, "theirs")


def test_dropped_names_are_counted_by_reason_whatever_wraps_them():
    names = [*PAIRS, "a.num_batches_tracked", "b.num_batches_tracked", "extra.x.y", "module.extra.z"]
    result = match(names, TABLE)
    assert result.dropped == {"counters": 2, "extra": 2} and result.names == PAIRS
    check_match(result, "theirs")


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "model.", "module.backbone.", "model.module.backbone."])
def test_a_prefix_goes_when_all_wanted_names_have_it(prefix):
    names = {prefix + name: ours for name, ours in PAIRS.items()}
    result = match([*names, "extra.head"], TABLE)
    assert result.names == names and result.prefix == prefix


def test_a_prefix_of_some_names_only_stays():
    names = ["module." + name for name in PAIRS]
    result = match([*names[:-1], "out.weight"], TABLE)
    assert set(result.unknown) == set(names[:-1])


def test_names_that_collide_once_a_prefix_is_gone_raise():
    with pytest.raises(CheckpointError, match=r"collide once a prefix is gone: module\.out\.weight, out\.weight"):
        check_match(match([*PAIRS, "module.out.weight"], TABLE), "theirs")


def test_two_rows_that_meet_raise():
    table = Table([Row("a.{tensor}", "c.{tensor}"), Row("b.{tensor}", "c.{tensor}")])
    with pytest.raises(CheckpointError, match=r"collide.*c\.weight \(from a\.weight and b\.weight\)"):
        check_match(match(["a.weight", "b.weight"], table), "theirs")
    narrow = Table([Row("x", "a.{tensor}")])
    with pytest.raises(CheckpointError, match="same name"):
        translate(["a.weight", "a.bias"], narrow, "theirs")


def test_the_first_match_wins():
    table = Table([Row("a.weight", "first"), Row("a.{tensor}", "second.{tensor}")])
    assert match(["a.weight"], table).names == {"a.weight": "first"}


def test_a_name_without_a_place_raises():
    with pytest.raises(CheckpointError, match=r"theirs has no name for nowhere\.weight"):
        translate(["head.weight", "nowhere.weight"], TABLE, "theirs")


def test_nothing_left_raises():
    with pytest.raises(CheckpointError, match="no parameter of a VAN is left"):
        check_match(match(["extra.a"], TABLE), "theirs")


def test_lists_are_short_and_printable():
    text = listed([f"name{i}" for i in range(25)])
    assert text.endswith("name9, … (25 in all)") and "name10" not in text
    assert "\x1b" not in listed(["a\x1b[31mb"]) and "\n" not in listed(["a\nb"])
    assert len(listed(["x" * 10_000])) < 200


def test_a_modules_name_is_a_prefix_without_its_dot():
    names = ["net.norm.bias", "net_ema.norm.bias", "_orig_mod.net.head.bias", "step"]
    assert below(names, "net") == below(names, "net.") == ({"norm.bias": names[0], "head.bias": names[2]}, 2)
    assert below(names, "net_") == ({"ema.norm.bias": names[1]}, 3)
    with pytest.raises(
        CheckpointError, match=r"no name begins with nets \(--prefix\); they begin with net, net_ema, step"
    ):
        below(names, "nets")
