"""The server over the stores, and with a model of texts."""

import numpy as np
import pytest

from tuplet import index as indexes
from tuplet.data import Manifest
from tuplet.data.transforms import TextPreprocessing, VectorPreprocessing
from tuplet.models import Embedder, build_encoder

ROWS = np.random.default_rng(5).normal(size=(60, 5)).astype(np.float32)
TEXTS = ("red shoes", "red shoe", "blue boots", "a pair of boots", "green hat", "hats, green", "naïve ✓", "x" * 500)


@pytest.fixture(params=["lance", "postgres"])
def index(request, tmp_path):
    config = {"name": "linear", "in_dim": 5, "dim": 4}
    embedder = Embedder(build_encoder(config, seed=1), VectorPreprocessing(), encoder_config=config)
    options = {"backend": request.param}
    if request.param == "lance":
        pytest.importorskip("lancedb", reason="lancedb is not installed (make setup)")
    else:
        options |= {"database": request.getfixturevalue("postgres"), "table": "served"}
    found = indexes.create(tmp_path / "rows.index", embedder, **options)
    indexes.add(found, Manifest("vector", tuple(f"row {at}" for at in range(60)), ROWS, groups=("even", "odd") * 30))
    return found


def test_a_server_over_a_store_finds_what_python_does_and_sees_what_is_added(index, served, tmp_path):
    expected = index.search(index.embedder.embed(ROWS[:4]), 5, where="\"group\" = 'odd'")
    with served(index.folder, folder=tmp_path) as server:
        asked = {"queries": [{"row": row.tolist()} for row in ROWS[:4]], "top": 5, "where": "\"group\" = 'odd'"}
        results = server.ask("/api/search", asked).json["results"]
        assert [tuple(hit["id"] for hit in one["hits"]) for one in results] == list(expected.ids)
        scores = [[hit["score"] for hit in one["hits"]] for one in results]
        assert np.array(scores) == pytest.approx(expected.scores.numpy(), abs=1e-5)
        about = server.ask("/api/about").json
        assert (about["backend"], about["items"]) == (index.backend, 60)
        while not (plane := server.ask("/api/map").json)["ready"]:
            pass
        assert len(plane["ids"]) == 60
        if index.backend == "postgres":
            indexes.add(index, Manifest("vector", ("late",), ROWS[:1] * 2))
            found = server.ask("/api/search", {"queries": [{"item": "late"}], "top": 1}).json["results"][0]["hits"]
            assert [hit["id"] for hit in found] == ["late"]
            assert server.ask("/api/health").json["items"] == 61


def test_texts_are_searched_for(served, tmp_path):
    config = {"name": "bag-of-words", "buckets": 4096, "dim": 32}
    preprocessing = TextPreprocessing(buckets=4096)
    embedder = Embedder(build_encoder(config, seed=1), preprocessing, encoder_config=config)
    index = indexes.create(tmp_path / "texts.index", embedder)
    indexes.add(index, Manifest("text", tuple(f"t{at}" for at in range(len(TEXTS))), TEXTS))
    expected = index.search(embedder.embed(["red shoes", "boot"]), 3)
    with served(index.folder, folder=tmp_path) as server:
        asked = {"queries": [{"text": "red shoes"}, {"text": "boot"}], "top": 3}
        results = server.ask("/api/search", asked).json["results"]
        assert [tuple(hit["id"] for hit in one["hits"]) for one in results] == list(expected.ids)
        assert results[0]["hits"][0]["facts"]["text"] == "red shoes"
        assert server.form("/api/search", ("text", "red shoes"), ("top", 3)).json["results"][0] == results[0]
        assert server.ask("/api/about").json["inputs"] == ["text", "item", "vector"]
        assert server.ask("/api/search", {"queries": [{"picture": "aGk="}]}).refused == (422, "query-kind")
