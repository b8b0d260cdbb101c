"""The flat index finds the true nearest neighbours, travels, and refuses what is damaged."""

import json
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import tuplet
from shapes import unchecked
from tuplet.checksums import sealed
from tuplet.data import Dataset, Labels, Manifest
from tuplet.data.transforms import TextPreprocessing, VectorPreprocessing
from tuplet.errors import CheckpointError, DataError, IndexFormatError, ShapeError
from tuplet.index import FlatIndex
from tuplet.models import Embedder, build_encoder

NOISE = np.random.default_rng(5)
ROWS = NOISE.normal(size=(40, 5)).astype(np.float32)
QUERIES = NOISE.normal(size=(7, 5)).astype(np.float32)


def make(seed=1, geometry="cosine", **more):
    config = {"name": "linear", "in_dim": 5, "dim": 4}
    preprocessing = VectorPreprocessing(**more)
    return Embedder(build_encoder(config, seed=seed), preprocessing, encoder_config=config, geometry=geometry)


@pytest.fixture
def folder(tmp_path):
    FlatIndex.build(tmp_path / "index", make(), ROWS)
    return tmp_path / "index"


@pytest.mark.parametrize("geometry", ["cosine", "dot", "euclidean", "squared_euclidean"])
def test_hits_are_those_of_the_whole_matrix(tmp_path, geometry):
    embedder = make(geometry=geometry)
    FlatIndex.build(tmp_path / "index", embedder, ROWS, batch_size=9)
    index = tuplet.index.open(tmp_path / "index")
    queries, gallery = embedder.embed(QUERIES).double(), embedder.embed(ROWS).double()
    scores = {
        "cosine": torch.nn.functional.cosine_similarity(queries[:, None], gallery, dim=2),
        "dot": queries @ gallery.T,
        "euclidean": torch.cdist(queries, gallery),
        "squared_euclidean": torch.cdist(queries, gallery).square(),
    }[geometry]
    expected = scores.sort(dim=1, descending=geometry in ("cosine", "dot"), stable=True)
    hits = index.search(index.embedder.embed(QUERIES), top=6)
    assert torch.equal(hits.positions, expected.indices[:, :6])
    torch.testing.assert_close(hits.scores, expected.values[:, :6], rtol=1e-5, atol=1e-6)
    assert hits.ids[2] == tuple(str(position) for position in hits.positions[2].tolist())


def test_equal_items_come_in_their_order(tmp_path):
    index = FlatIndex.build(tmp_path / "index", make(), ROWS[[3, 8, 3, 8, 3]])
    assert index.search(make().embed(ROWS[[3]]), top=5).positions.tolist() == [[0, 2, 4, 1, 3]]


def test_rows_of_hits_are_ready_for_a_table(folder):
    hits = tuplet.index.open(folder).search(make().embed(ROWS[4:6]), top=2, names=["cat.png", "dog.png"])
    rows = hits.rows()
    assert [(row["query"], row["rank"]) for row in rows] == [
        ("cat.png", 1),
        ("cat.png", 2),
        ("dog.png", 1),
        ("dog.png", 2),
    ]
    assert rows[2]["id"] == "5"
    assert rows[2]["score"] == pytest.approx(1.0)
    assert json.loads(json.dumps(rows)) == rows


def test_more_hits_than_items_are_all_items(folder):
    hits = tuplet.index.open(folder).search(make().embed(QUERIES), top=1000)
    assert hits.positions.shape == (7, 40)
    assert len(hits.rows()) == 7 * 40


def test_queries_without_names_are_numbered_and_none_is_no_error(folder):
    index = tuplet.index.open(folder)
    assert index.search(make().embed(QUERIES), top=1).queries == tuple("0123456")
    assert index.search(make().embed(QUERIES[:0]), top=1).rows() == []


def test_embeddings_are_mapped_not_read(folder):
    index = tuplet.index.open(folder)
    assert isinstance(index.embeddings, np.memmap)
    assert len(index) == 40


def test_the_index_moves_with_its_model(folder, tmp_path):
    shutil.move(folder, tmp_path / "elsewhere")
    index = tuplet.index.open(tmp_path / "elsewhere")
    assert index.embedder.content_hash() == make().content_hash()


def test_a_run_has_an_index_of_its_own_and_moves_too(tmp_path):
    make().save(tmp_path / "run" / "model")
    FlatIndex.build(tmp_path / "run" / "gallery", make(), ROWS, model="../model")
    assert not (tmp_path / "run" / "gallery" / "model").exists()
    shutil.move(tmp_path / "run", tmp_path / "moved")
    index = tuplet.index.open(tmp_path / "moved")
    assert index.search(index.embedder.embed(ROWS[:1]), top=1).ids == (("0",),)


def test_ready_embeddings_are_written_as_they_are(tmp_path):
    embeddings = make().embed(ROWS)
    index = FlatIndex.write(
        tmp_path / "index", make(), embeddings, [{"id": f"n{row}", "hue": row} for row in range(40)]
    )
    assert torch.equal(torch.tensor(np.array(index.embeddings)), embeddings)
    assert index.items[7] == {"id": "n7", "hue": 7}
    assert [item["id"] for item in index.items[38:]] == ["n38", "n39"]


def test_a_manifest_names_its_items(tmp_path):
    ids, names = tuple(f"row {row}" for row in range(4)), ("owl", "ö\r\n")
    manifest = Manifest("vector", ids, ROWS[:4], np.array([1, 0, -1, 1]), names, groups=("a", "b", "a", "b"))
    items = FlatIndex.build(tmp_path / "index", make(), manifest).items
    assert list(items) == [
        {"id": "row 0", "label": "ö\r\n", "group": "a"},
        {"id": "row 1", "label": "owl", "group": "b"},
        {"id": "row 2", "label": None, "group": "a"},
        {"id": "row 3", "label": "ö\r\n", "group": "b"},
    ]


def test_a_data_set_names_its_items(tmp_path):
    graded = Dataset("vector", torch.tensor(ROWS[:2]), ("x", "y"), Labels("graded", torch.rand(2, 1)), ("unused",))
    owls = torch.tensor([0, 0])
    classes = Dataset("vector", torch.tensor(ROWS[:2]), ("x", "y"), Labels("class", owls), ("owl",), classes=owls)
    assert list(FlatIndex.build(tmp_path / "graded", make(), graded).items) == [{"id": "x"}, {"id": "y"}]
    assert FlatIndex.build(tmp_path / "classes", make(), classes).items[1] == {"id": "y", "label": "owl"}


def test_texts_and_files_name_themselves(tmp_path):
    config = {"name": "bag-of-words", "buckets": 50, "dim": 3}
    embedder = Embedder(build_encoder(config), TextPreprocessing(buckets=50), encoder_config=config)
    index = FlatIndex.build(tmp_path / "index", embedder, ["a cat", "a dog"])
    assert [item["id"] for item in index.items] == ["a cat", "a dog"]


def test_progress_counts_items(tmp_path):
    calls = []
    progress = lambda done, count: calls.append((done, count))  # noqa: E731
    FlatIndex.build(tmp_path / "index", make(), ROWS, batch_size=16, progress=progress)
    assert calls == [(16, 40), (32, 40), (40, 40)]


@pytest.mark.parametrize("shape", [(2, 5), (4,), (1, 2, 4)])
def test_queries_of_another_model_are_refused(folder, shape):
    with unchecked(), pytest.raises(ShapeError, match="vectors of length 4; the queries have shape") as caught:
        tuplet.index.open(folder).search(torch.rand(*shape))
    assert "index.embedder.embed" in caught.value.hint


def test_every_query_needs_a_name_if_one_has(folder):
    with pytest.raises(ShapeError, match="and 1 names"):
        tuplet.index.open(folder).search(torch.rand(2, 4), names=["one"])


def refused(folder, found, kind=IndexFormatError):
    with pytest.raises(kind, match=found) as caught:
        tuplet.index.open(folder)
    assert caught.value.hint
    return caught.value.reference


def edit(path, **change):
    """As someone would who knows the checksum of the description."""
    content = {**json.loads(path.read_text()), **change}
    del content["checksum"]
    path.write_text(json.dumps(sealed(content)))


@pytest.mark.parametrize("cut", [1, 4, 100, 700, 760])
def test_embeddings_cut_short_are_refused(folder, cut):
    path = folder / "embeddings.npy"
    path.write_bytes(path.read_bytes()[:-cut])
    assert refused(folder, r"embeddings\.npy is damaged") == "damaged-file"


def test_what_an_interrupted_writer_left_behind_does_not_count(folder):
    before = tuplet.index.open(folder).search(make().embed(QUERIES), top=3)
    for name in ("embeddings.npy", "items.jsonl", "contents.bin", "removed.bin"):
        with (folder / name).open("ab") as file:
            file.write(b"more")
    index = tuplet.index.open(folder)
    assert (len(index), index.check()) == (40, [])
    assert torch.equal(index.search(make().embed(QUERIES), top=3).scores, before.scores)


@pytest.mark.parametrize(
    "rows", [ROWS[:, :4].astype(np.float16).repeat(2, 1), ROWS[:, :4].T.copy(), np.array([{}] * 80)]
)
def test_an_array_of_something_else_is_refused_without_running_it(folder, rows):
    np.save(folder / "embeddings.npy", rows, allow_pickle=True)
    refused(folder, r"embeddings\.npy is damaged")


@pytest.mark.parametrize("keep", [0, 39, 39.5])
def test_items_cut_short_are_refused(folder, keep):
    path = folder / "items.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: int(keep)]) + (lines[-1][:4] if keep % 1 else ""))
    assert refused(folder, r"items\.jsonl is damaged") == "damaged-file"


@pytest.mark.parametrize("name", ["embeddings.npy", "items.jsonl", "contents.bin", "removed.bin"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert refused(folder, rf"{name} is missing") == "missing-file"


@pytest.mark.parametrize(
    ("change", "found", "reference"),
    [
        ({"format": 9}, "has format 9", "unknown-format"),
        ({"backend": "faiss"}, "names the backend 'faiss'; this version of tuplet knows flat", "unknown-backend"),
        ({"backend": ["flat"]}, "names the backend", "unknown-backend"),
        ({"count": 41}, "its counts and the sizes of its files do not fit", "damaged-file"),
        ({"files": {"embeddings.npy": 5}}, "its checksums cannot be read", "damaged-file"),
        ({"dim": None}, "'dim' missing or of the wrong kind", "damaged-file"),
        ({"model_hash": "0" * 64}, "made by another model", "wrong-model"),
    ],
)
def test_a_changed_description_is_refused(folder, change, found, reference):
    edit(folder / "index.json", **change)
    assert refused(folder, found) == reference


@pytest.mark.parametrize("name", ["embeddings.npy", "items.jsonl", "contents.bin", "index.json", "model"])
def test_no_flipped_bit_goes_unnoticed(folder, name):
    """Fifty flips each, spread over the file: none of them is opened."""
    path = folder / name / "embedder.json" if name == "model" else folder / name
    whole = path.read_bytes()
    for place in np.linspace(0, 8 * len(whole) - 1, 50).round().astype(int).tolist():
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises((IndexFormatError, CheckpointError)):
            tuplet.index.open(folder).embedder  # noqa: B018  the model is read when it is asked for
    path.write_bytes(whole)
    assert tuplet.index.open(folder).check() == []


def test_large_files_are_compared_by_check_and_their_sizes_when_opened(folder, monkeypatch):
    monkeypatch.setattr("tuplet.index.pages.CHECKED_ON_OPEN", 100)
    path = folder / "embeddings.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 8
    path.write_bytes(content)
    [found] = tuplet.index.open(folder).check()
    assert "embeddings.npy is damaged" in found
    path.write_bytes(content[:-1])
    refused(folder, r"embeddings\.npy is damaged: 767 bytes instead of 768")


def test_arrays_are_kept_beside_the_items_and_compared_too(tmp_path):
    pictures = np.arange(80, dtype=np.uint8).reshape(2, 40)
    facts = [{"id": "a"}, {"id": "b"}]
    index = FlatIndex.write(tmp_path / "i", make(), make().embed(ROWS[:2]), facts, beside={"pictures.npy": pictures})
    assert np.array_equal(index.array("pictures.npy"), pictures)
    assert index.array("sounds.npy") is None
    np.save(tmp_path / "i" / "pictures.npy", pictures[::-1])
    refused(tmp_path / "i", r"pictures\.npy is damaged")


def test_another_model_in_its_place_is_refused(folder):
    make(seed=2).save(folder / "model")
    assert refused(folder, "made by another model") == "wrong-model"


def test_a_missing_model_is_named(folder):
    shutil.rmtree(folder / "model")
    refused(folder, r"model/embedder\.json is missing", CheckpointError)


def test_a_folder_without_an_index_says_where_it_looked(tmp_path):
    assert refused(tmp_path, "no index in") == "no-index"
    assert refused(tmp_path / "nowhere", r"neither index\.json nor gallery/index\.json") == "no-index"


def test_an_index_is_not_written_for_a_model_it_was_not_made_with(tmp_path):
    make(seed=2).save(tmp_path / "model")
    with pytest.raises(IndexFormatError, match="made by another model"):
        FlatIndex.build(tmp_path / "gallery", make(), ROWS, model="../model")
    assert not (tmp_path / "gallery").exists()


def test_an_index_needs_items_and_a_fact_for_each(tmp_path):
    with pytest.raises(DataError, match="nothing to index"):
        FlatIndex.build(tmp_path / "index", make(), ROWS[:0])
    for facts in ([{"id": "one"}], [{"name": "no id"}] * 40):
        with pytest.raises(DataError):
            FlatIndex.build(tmp_path / "index", make(), ROWS, facts=facts)
    assert list(tmp_path.iterdir()) == []


def test_embeddings_of_another_length_are_not_written(tmp_path):
    with pytest.raises(ShapeError, match="vectors of length 4, not 3"):
        FlatIndex.write(tmp_path / "index", make(), torch.rand(2, 3), [{"id": "a"}, {"id": "b"}])
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rebuild_leaves_the_old_index(folder):
    diverged = make(mean=(0.0,) * 5, scale=(1e-45,) * 5)
    with pytest.raises(DataError, match="The embedding of '0' holds NaN or infinity"):
        FlatIndex.build(folder, diverged, ROWS)
    child = os.fork()
    if not child:  # a real error of the file system, in a process of its own
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
        try:
            FlatIndex.build(folder, make(seed=2), ROWS)
        except IndexFormatError as problem:
            os._exit(0 if "could not be written: File too large" in problem.message else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert tuplet.index.open(folder).embedder.content_hash() == make().content_hash()
    assert [path.name for path in folder.parent.iterdir()] == ["index"]


def test_a_folder_of_someone_else_is_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_text("dear")
    with pytest.raises(IndexFormatError, match=r"photo\.jpg"):
        FlatIndex.build(tmp_path, make(), ROWS)
    assert [path.name for path in Path(tmp_path).iterdir()] == ["photo.jpg"]


def test_an_open_index_outlives_its_replacement(folder):
    index = tuplet.index.open(folder)
    before = index.search(make().embed(QUERIES), top=3)
    FlatIndex.build(folder, make(seed=2), ROWS[::-1])
    after = index.search(make().embed(QUERIES), top=3)
    assert torch.equal(before.scores, after.scores)
