"""An embedder gives the same embeddings after saving, in any batch, from any kind of items."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import tuplet
from tuplet.data import Columns, Manifest, load_dataset, read_manifest
from tuplet.data.transforms import (
    ImagePreprocessing,
    SeriesPreprocessing,
    TextPreprocessing,
    VectorPreprocessing,
)
from tuplet.errors import CheckpointError, DataError, ShapeError
from tuplet.models import Embedder, build_encoder
from tuplet.models.embedder import saved_hash

NOISE = np.random.default_rng(3)
ROWS = NOISE.normal(size=(11, 5)).astype(np.float32)
SERIES = [NOISE.normal(size=(2, steps)).astype(np.float32) for steps in (3, 9, 4, 7)]
TEXTS = ["to be", "or not", "", "that is the question"]
KINDS = {
    "image": ({"name": "conv-small", "channels": 3, "size": 16, "dim": 4}, ImagePreprocessing(size=16)),
    "group": ({"name": "conv-small", "channels": 1, "size": 16, "norm": "group"}, ImagePreprocessing(16, 1)),
    "vector": ({"name": "mlp", "in_dim": 5, "dim": 4}, VectorPreprocessing((0.0, 1.0, 2.0, 3.0, 4.0), (0.1,) * 5)),
    "series": ({"name": "series-context", "channels": 2, "dim": 4}, SeriesPreprocessing(2, 8, (0.5, 0.1))),
    "text": ({"name": "bag-of-words", "buckets": 99, "dim": 4, "hidden": (6,)}, TextPreprocessing(buckets=99)),
}


def make(kind="vector", **more):
    config, preprocessing = KINDS[kind]
    return Embedder(build_encoder(config, seed=1), preprocessing, encoder_config=config, **more)


@pytest.fixture
def images(tmp_path):
    for name in ("a/1", "a/2", "b/1", "b/2", "b/3"):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(NOISE.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return tmp_path / "images"


@pytest.fixture
def items(images):
    paths = sorted(images.rglob("*.png"))
    return {"image": paths, "group": paths, "vector": ROWS, "series": SERIES, "text": TEXTS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_embedder_gives_the_same_bits(kind, items, tmp_path):
    embedder = make(kind, geometry="euclidean", thresholds={"equal error": 0.25})
    embedder(embedder.preprocessing.load(items[kind]))  # moves the statistics of BatchNorm
    embedder.save(tmp_path / "model")
    loaded = Embedder.load(tmp_path / "model")
    assert torch.equal(loaded.embed(items[kind]), embedder.embed(items[kind]))
    assert loaded.content_hash() == embedder.content_hash() == saved_hash(tmp_path / "model")
    assert (loaded.geometry, loaded.thresholds, loaded.dim) == ("euclidean", {"equal error": 0.25}, embedder.dim)
    assert not loaded.training
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["embedder.json", "weights.safetensors"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_size_changes_nothing(kind, items):
    embedder = make(kind)
    whole = embedder.embed(items[kind])
    for size in (1, 2, 3):
        torch.testing.assert_close(embedder.embed(items[kind], batch_size=size), whole, rtol=1e-5, atol=1e-6)


def test_paths_texts_arrays_and_data_sets_give_the_same(images):
    embedder = make("image")
    manifest = read_manifest(images)
    paths = sorted(images.rglob("*.png"))
    dataset = load_dataset(manifest, embedder.preprocessing)
    pixels = np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) for path in paths])
    expected = embedder.embed(paths)
    for items in (manifest, dataset, [str(path) for path in paths], tuple(paths), pixels, torch.from_numpy(pixels)):
        torch.testing.assert_close(embedder.embed(items, batch_size=2), expected)


def test_rows_may_be_lists_arrays_tensors_or_memory_mapped(tmp_path):
    embedder = make()
    np.save(tmp_path / "rows.npy", ROWS)
    expected = embedder.embed(ROWS)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    for rows in (ROWS.tolist(), torch.from_numpy(ROWS).requires_grad_(), ROWS.astype(np.float64), mapped):
        torch.testing.assert_close(embedder.embed(rows, batch_size=4), expected)


def test_embeddings_are_float32_on_the_cpu_without_a_graph():
    embeddings = make().embed(ROWS)
    assert (embeddings.dtype, embeddings.device.type, embeddings.requires_grad) == (torch.float32, "cpu", False)
    assert make().embed(ROWS[:0]).shape == (0, 4)


def test_progress_counts_items():
    calls = []
    make().embed(ROWS, batch_size=4, progress=lambda done, count: calls.append((done, count)))
    assert calls == [(4, 11), (8, 11), (11, 11)]


def test_every_part_gets_its_own_mode_back_even_after_an_error():
    embedder = make().train()
    frozen = next(part for part in embedder.modules() if isinstance(part, nn.BatchNorm1d)).eval()
    before = {name: value.clone() for name, value in embedder.state_dict().items()}
    embedder.embed(ROWS)
    with pytest.raises(ShapeError):
        embedder.embed(ROWS[:, :3])
    modes = [part.training for part in embedder.modules() if part is not frozen]
    assert all(modes)
    assert not frozen.training
    assert all(torch.equal(value, before[name]) for name, value in embedder.state_dict().items())


def test_between_two_batches_of_a_stream_the_caller_may_train():
    embedder = make().train()
    next(embedder.stream(ROWS, batch_size=4))
    assert embedder.training


@pytest.mark.parametrize("item", ["photo.jpg", Path("photo.jpg"), 3])
def test_a_single_item_is_refused_rather_than_spelled(item):
    with pytest.raises(DataError, match="not ") as caught:
        make("image").embed(item)
    assert "embed([item])" in caught.value.hint


def test_the_hash_follows_everything_that_decides_an_embedding_and_nothing_else(tmp_path):
    base = make().content_hash()
    assert make(thresholds={"far=0.01": 0.9}).content_hash() == base
    config, preprocessing = KINDS["vector"]
    assert make(geometry="dot").content_hash() != base
    others = [
        Embedder(build_encoder(config, seed=2), preprocessing, encoder_config=config),
        Embedder(build_encoder(config, seed=1), VectorPreprocessing(), encoder_config=config),
        Embedder(build_encoder(config, seed=1), preprocessing, encoder_config={**config, "dropout": 0.5}),
    ]
    assert base not in {other.content_hash() for other in others}


def test_the_hash_is_the_same_in_another_process(tmp_path):
    make().save(tmp_path / "model")
    program = f"from tuplet import Embedder; print(Embedder.load({str(tmp_path / 'model')!r}).content_hash())"
    env = {**os.environ, "PYTHONHASHSEED": "99", "PYTHONPATH": str(Path(tuplet.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == make().content_hash()


def test_saved_numbers_keep_their_format_and_the_encoder_its_memory_order(tmp_path):
    embedder = make("image").to(torch.bfloat16)
    embedder.save(tmp_path / "model")
    loaded = Embedder.load(tmp_path / "model")
    assert loaded.content_hash() == embedder.content_hash()
    assert {weight.dtype for weight in loaded.parameters()} == {torch.bfloat16}
    filters = next(part for part in loaded.modules() if isinstance(part, nn.Conv2d)).weight
    assert filters.is_contiguous(memory_format=torch.channels_last)


def test_weights_that_share_memory_are_saved(tmp_path):
    embedder = make()
    embedder.encoder.twin = embedder.encoder.layers[-1]
    embedder.save(tmp_path / "model")  # and can be read by whoever has the same class
    assert len(saved_hash(tmp_path / "model")) == 64


def test_what_is_saved_is_plain_json_with_a_format_number(tmp_path):
    make(thresholds={"equal error": 0.5}).save(tmp_path / "model")
    content = json.loads((tmp_path / "model" / "embedder.json").read_text())
    assert content.pop("hash")
    assert content.pop("checksum")
    assert content == {
        "format": 2,
        "dim": 4,
        "geometry": "cosine",
        "encoder": {"name": "mlp", "in_dim": 5, "dim": 4},
        "preprocessing": {"kind": "vector", "mean": [0.0, 1.0, 2.0, 3.0, 4.0], "scale": [0.1] * 5},
        "thresholds": {"equal error": 0.5},
        "verification": {},
        "files": {},
    }


def test_any_module_becomes_an_embedder_if_its_dim_is_known():
    config = {"name": "callable", "target": "torch.nn:Linear", "options": {"in_features": 5, "out_features": 2}}
    assert (
        Embedder(nn.Linear(5, 2), VectorPreprocessing(), encoder_config={**config, "dim": 2}).embed(ROWS).shape[1] == 2
    )
    with pytest.raises(ShapeError, match="does not say how long"):
        Embedder(nn.Linear(5, 2), VectorPreprocessing(), encoder_config=config)


def test_a_configuration_that_is_no_json_is_refused_before_anything_is_written(tmp_path):
    config = {"name": "linear", "in_dim": 5, "dim": np.int64(2)}
    embedder = Embedder(build_encoder({**config, "dim": 2}), VectorPreprocessing(), encoder_config=config)
    with pytest.raises(CheckpointError, match="cannot be saved"):
        embedder.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_embedders_name_their_encoder_as_the_registry_does():
    embedder = make("text")
    assert set(embedder.encoder_config) <= {"name", "buckets", "dim", "hidden"}


@pytest.mark.gpu
def test_embeddings_come_back_from_an_accelerator():
    embedder = make("image").cuda()
    stored = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    expected = make("image").embed(stored)
    assert embedder.device.type == "cuda"
    torch.testing.assert_close(embedder.embed(stored), expected, rtol=1e-2, atol=1e-3)


def test_each_side_of_pairs_has_its_own_embedder_and_both_move_together(tmp_path):
    config = {"name": "linear", "in_dim": 5, "dim": 4}
    partner = Embedder(build_encoder(config, seed=2), VectorPreprocessing(), encoder_config=config)
    both = make(partner=partner)
    assert torch.equal(both.embed(ROWS), make().embed(ROWS))
    assert torch.equal(both.embed(ROWS, side="partner"), partner.embed(ROWS))
    assert torch.equal(make().embed(ROWS, side="partner"), make().embed(ROWS)), "one embedder serves both sides"
    assert {name.split(".")[0] for name, _ in both.named_parameters()} == {"encoder", "partner"}
    both.save(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    loaded = Embedder.load(tmp_path / "there")
    assert torch.equal(loaded.embed(ROWS, side="partner"), partner.embed(ROWS))
    assert loaded.content_hash() == both.content_hash() == saved_hash(tmp_path / "there")
    assert both.content_hash() != make().content_hash()


def test_a_partner_that_was_replaced_is_refused(tmp_path):
    make(partner=make()).save(tmp_path / "model")
    config = {"name": "linear", "in_dim": 5, "dim": 4}
    Embedder(build_encoder(config), VectorPreprocessing(), encoder_config=config).save(tmp_path / "model" / "partner")
    with pytest.raises(CheckpointError, match="is not the one"):
        Embedder.load(tmp_path / "model")


def test_partners_are_of_the_same_length_and_data_has_to_name_them():
    config = {"name": "linear", "in_dim": 5, "dim": 3}
    with pytest.raises(ShapeError, match="to 4 numbers, their partners to 3"):
        make(partner=Embedder(build_encoder(config), VectorPreprocessing(), encoder_config=config))
    manifest = Manifest("vector", tuple("ab"), ROWS[:2], pairs=ROWS[2:4])
    assert torch.equal(make().embed(manifest, side="partner"), make().embed(ROWS[2:4]))
    with pytest.raises(DataError, match="no partners"):
        make().embed(Manifest("vector", tuple("ab"), ROWS[:2]), side="partner")


def test_the_columns_of_training_are_saved_and_decide_the_hash(tmp_path):
    hashes = set()
    for columns in (None, Columns(), Columns(label=None, inputs=("b", "a"), header=False)):
        embedder = make()
        embedder.columns = columns
        embedder.save(tmp_path / "model")
        assert Embedder.load(tmp_path / "model").columns == columns
        hashes.add(embedder.content_hash())
    assert len(hashes) == 3
