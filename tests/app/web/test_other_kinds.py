"""Servers of models that take no pictures, and of indexes of other sizes."""

import numpy as np
import pytest
import torch

from tuplet import index as indexes
from tuplet.app.web.places import LANDMARKS, placed
from tuplet.data import Manifest
from tuplet.data.transforms import VectorPreprocessing
from tuplet.models import Embedder, build_encoder

ROWS = np.random.default_rng(5).normal(size=(30, 5)).astype(np.float32)


def made(folder, count):
    """An index of rows by an untrained model."""
    config = {"name": "linear", "in_dim": 5, "dim": 4}
    embedder = Embedder(build_encoder(config, seed=1), VectorPreprocessing(), encoder_config=config)
    index = indexes.create(folder, embedder)
    names = tuple(f"row {at}" for at in range(count))
    if count:
        indexes.add(index, Manifest("vector", names, ROWS[:count], groups=("even", "odd") * (count // 2)))
    return index


def test_rows_of_numbers_are_searched_for_as_python_does(served, tmp_path):
    index = made(tmp_path / "rows.index", 30)
    expected = index.search(index.embedder.embed(ROWS[:2]), 4, where="\"group\" = 'odd'")
    with served(index.folder, folder=tmp_path) as server:
        asked = {"queries": [{"row": row.tolist()} for row in ROWS[:2]], "top": 4, "where": "\"group\" = 'odd'"}
        results = server.ask("/api/search", asked).json["results"]
        assert [tuple(hit["id"] for hit in one["hits"]) for one in results] == list(expected.ids)
        scores = [[hit["score"] for hit in one["hits"]] for one in results]
        assert np.array(scores) == pytest.approx(expected.scores.numpy(), abs=1e-5)
        assert {hit["same"] for one in results for hit in one["hits"]} == {None}
        assert server.ask("/api/about").json["inputs"] == ["row", "item", "vector"]
        assert server.ask("/api/search", {"queries": [{"row": [1.0]}]}).refused[0] == 422
        assert server.ask("/api/search", {"queries": [{"series": [[1.0]]}]}).refused == (422, "query-kind")
        verified = {"a": {"item": "row 1"}, "b": {"item": "row 1"}}
        assert server.ask("/api/verify", verified).refused == (422, "no-threshold")
        assert server.ask("/api/verify", {**verified, "threshold": 0.9}).json["decision"] == "same"
        assert server.ask("/api/picture?id=row%201").refused == (404, "no-picture")


def test_an_empty_index_is_served(served, tmp_path):
    made(tmp_path / "empty.index", 0)
    with served(tmp_path / "empty.index", folder=tmp_path) as server:
        assert server.ask("/api/items").json == {"items": [], "total": 0}
        found = server.ask("/api/search", {"queries": [{"row": [0.5] * 5}]}).json
        assert [one["hits"] for one in found["results"]] == [[]]
        while not (plane := server.ask("/api/map").json)["ready"]:
            pass
        assert plane["ids"] == []


@pytest.mark.parametrize("count", [1, 2, 25, LANDMARKS + 500])
def test_near_items_are_placed_near_each_other(count):
    labels = torch.arange(count) % 5
    centres = 20 * torch.eye(5, 8)
    noise = torch.randn(count, 8, generator=torch.Generator().manual_seed(1))
    places = placed(centres[labels] + noise, "euclidean")
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()
    assert np.abs(places).max() <= 100 + 1e-6
    if count > 100:
        middles = np.stack([places[labels == label].mean(0) for label in range(5)])
        nearest = np.linalg.norm(places[:, None] - middles, axis=2).argmin(1)
        assert (nearest == labels.numpy()).mean() > 0.95
