"""The catalogue agrees with itself and with the addresses it holds; names and paths mean what they should."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from jvan.checkpoints.published import catalogue as module
from jvan.checkpoints.published.catalogue import Entry, catalogue, default_entry
from jvan.checkpoints.published.resolve import entry_for, resolve_weights
from jvan.checkpoints.published.weights_cache import place
from jvan.errors import CheckpointError
from jvan.preprocessing import Preprocessing
from jvan.variants import VARIANTS

ENTRIES = [pytest.param(entry, id=name) for name, entry in catalogue().items()]
OFFICIAL_MODEL_SIZES = {"van_b0": 4_105_800, "van_b1": 13_861_800, "van_b2": 26_578_472, "van_b3": 44_765_608}


@pytest.mark.parametrize("entry", ENTRIES)
def test_each_row_agrees_with_itself(entry: Entry):
    assert entry.arch in VARIANTS
    assert entry.name.startswith(entry.arch + ".")
    assert entry.origin in {"official", "mmpretrain", "huggingface", "mmseg"}
    assert isinstance(entry.preprocessing, Preprocessing)
    assert entry.urls and all(urlsplit(url).scheme == "https" for url in entry.urls)
    assert urlsplit(entry.urls[0]).path.rsplit("/", 1)[1] == entry.file == Path(entry.file).name
    assert (entry.labels == "imagenet-1k") == (entry.num_classes == 1000)
    assert entry.size is None or entry.size_approx_mb is None
    assert entry.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert entry.top1 is None or 70 < entry.top1 < 90
    assert entry.norm_eps == (1e-5 if entry.origin == "mmseg" else 1e-6)


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_hash_in_a_files_name_is_the_one_recorded(entry: Entry):
    carried = re.search(r"-([0-9a-f]{8})\.pth$", entry.file)
    assert entry.sha256_prefix == (carried[1] if carried else None)
    assert (entry.origin in {"mmpretrain", "mmseg"}) == bool(carried)


def test_no_two_entries_share_a_file_or_a_hash():
    for values in (
        [url for entry in catalogue().values() for url in entry.urls],
        [entry.sha256 for entry in catalogue().values() if entry.sha256],
        [entry.sha256_prefix for entry in catalogue().values() if entry.sha256_prefix],
    ):
        assert len(values) == len(set(values))


@pytest.mark.parametrize("arch", OFFICIAL_MODEL_SIZES)
def test_the_official_files_hold_the_model_and_adams_two_moments(arch):
    entry = catalogue()[f"{arch}.in1k"]
    assert entry.size / (3 * 4 * OFFICIAL_MODEL_SIZES[arch]) == pytest.approx(1, abs=0.01)
    assert entry.preprocessing == Preprocessing(224, 0.9, "bicubic", (0.5,) * 3, (0.5,) * 3)


def test_the_json_has_no_duplicate_keys_and_no_unused_preprocessing():
    def unique(pairs):
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    text = Path(module.__file__).with_name("catalogue.json").read_text(encoding="utf-8")
    document = json.loads(text, object_pairs_hook=unique)
    assert {row["preprocessing"] for row in document["entries"].values()} == set(document["preprocessing"])
    assert set(document["defaults"]) <= set(VARIANTS)


@pytest.mark.parametrize("arch", VARIANTS)
def test_an_architectures_name_alone_means_its_imagenet_1k_classifier(arch):
    if arch in {"van_b5", "van_b6"}:
        with pytest.raises(CheckpointError, match=rf"no ImageNet-1K weights .* {arch}.mm_in21k"):
            default_entry(arch)
    else:
        entry = default_entry(arch)
        assert (entry.arch, entry.num_classes) == (arch, 1000)
        assert entry.name == f"{arch}.in1k" or arch == "van_b4"


def test_default_of_an_unknown_architecture():
    with pytest.raises(CheckpointError, match="unknown architecture 'van_b9'; choose one of van_b0"):
        default_entry("van_b9")


def test_an_existing_path_wins_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("van_b0.in1k").write_bytes(b"mine")
    assert resolve_weights("van_b0.in1k") == Path("van_b0.in1k")
    assert resolve_weights(tmp_path) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_weights("~/van_b0.in1k") == tmp_path / "van_b0.in1k"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weights/van_b0.in1k", "weights/van_b0.in1k: no such file"),
        ("van.safetensors", "van.safetensors: no such file"),
        ("VAN.PTH", "VAN.PTH: no such file"),
        ("", "no such file"),
        ("van_b0.in2k", "neither a file nor a name .* van_b0.in1k"),
        ("rubbish", "neither a file nor a name .* van_b0.in1k"),
        ("van_b1", "'van_b1' is an architecture; its published weights are van_b1.in1k"),
        ("https://example.org/x.pth", "download it and give the file's path"),
    ],
)
def test_what_cannot_be_resolved_says_why_in_one_line(text, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        resolve_weights(text)
    assert "\n" not in str(caught.value)


def test_entry_for_a_name_a_downloaded_file_and_anything_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JVAN_CACHE", str(tmp_path / "cache"))
    entry = catalogue()["van_b1.hf_in1k"]
    assert entry_for("van_b1.hf_in1k") is entry
    downloaded, elsewhere = place(entry), tmp_path / "elsewhere" / entry.name / entry.file
    other = downloaded.with_name("other.bin")
    for path in (downloaded, elsewhere, other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert entry_for(downloaded) is entry_for(str(downloaded)) is entry
    assert entry_for("pytorch_model.bin") is entry_for(elsewhere) is entry_for(other) is None
    Path("van_b1.hf_in1k").write_bytes(b"my own file, which wins over the name")
    assert entry_for("van_b1.hf_in1k") is None
