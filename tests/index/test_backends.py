"""What every index does, whatever it is kept in: the same tests for all back ends."""

import json
import re

import numpy as np
import pytest
import torch

from tuplet import index as indexes
from tuplet.data import Manifest
from tuplet.data.transforms import VectorPreprocessing
from tuplet.engine.topk import topk
from tuplet.errors import CheckpointError, DataError, IndexFormatError, ShapeError
from tuplet.index import where as filters
from tuplet.index.rows import measured_recall
from tuplet.index.writing import LOCK
from tuplet.models import Embedder, build_encoder
from tuplet.storage import Lock

NOISE = np.random.default_rng(3)
ROWS = NOISE.normal(size=(60, 5)).astype(np.float32)
QUERIES = torch.from_numpy(NOISE.normal(size=(7, 4)).astype(np.float32))


def make(seed=1, geometry="cosine"):
    config = {"name": "linear", "in_dim": 5, "dim": 4}
    return Embedder(build_encoder(config, seed=seed), VectorPreprocessing(), encoder_config=config, geometry=geometry)


def collection(rows=ROWS, prefix="row ", **more):
    return Manifest("vector", tuple(f"{prefix}{at}" for at in range(len(rows))), rows, **more)


def inserted(index, vectors, **columns):
    """Insert vectors with columns of facts."""
    count = len(vectors)
    start = len(index)
    facts = [{"id": f"n{start + at}"} for at in range(count)]
    for name, values in columns.items():
        for fact, value in zip(facts, values, strict=True):
            fact.update({} if value is None else {name: value})
    index.insert(facts, [f"{start + at:032x}" for at in range(count)], vectors)
    return facts


def names(hits):
    return [list(ids) for ids in hits.ids]


@pytest.mark.parametrize("geometry", ["cosine", "dot", "euclidean", "squared_euclidean"])
def test_hits_are_those_of_exact_search(create, geometry):
    index = create(make(geometry=geometry))
    vectors = torch.from_numpy(NOISE.normal(size=(50, 4)).astype(np.float32))
    inserted(index, vectors[:20])
    inserted(index, vectors[20:])
    for opened in (index, indexes.open(index.folder)):
        expected = topk(QUERIES, vectors, 6, geometry)
        hits = opened.search(QUERIES, 6)
        assert names(hits) == [[f"n{at}" for at in row] for row in expected.positions.tolist()]
        torch.testing.assert_close(hits.scores, expected.scores, rtol=1e-12, atol=1e-12)
        assert (len(opened), opened.backend, opened.check()) == (50, create.backend, [])
        assert (hits.positions[:, 1:] != hits.positions[:, :1]).all()


def test_an_index_without_items_finds_nothing_and_more_hits_than_items_are_all(create):
    index = create(make())
    assert names(index.search(QUERIES, 3)) == [[]] * 7
    assert (len(index), list(index.items), index.check()) == (0, [], [])
    inserted(index, QUERIES[:2])
    assert [len(row) for row in index.search(QUERIES, 30).ids] == [2] * 7
    assert index.search(QUERIES[:0], 3).ids == ()


def test_items_keep_what_is_known_of_them(create):
    index = create(make())
    facts = inserted(
        index, QUERIES, brand=["x", "naïve'", None, "", "x", "y", '"q"'], price=[1, 2.5, None, 0, -1, 9, 3]
    )
    assert list(indexes.open(index.folder).items) == facts
    found = index.search(QUERIES[1:2], 1)
    assert found.facts == ((facts[1],),)
    assert index.columns == {"id": "text", "brand": "text", "price": "number"}


def test_items_are_fetched_by_name(create):
    index = create(make())
    facts = inserted(index, QUERIES, brand=list("abcdefg"))
    index.remove(["n2"])
    found = index.fetch(["n4", "n2", "n0", "absent'"])
    assert found.keys() == {"n4", "n0"}
    assert found["n4"].facts == facts[4]
    assert found["n4"].vector.tolist() == QUERIES[4].tolist()
    assert found["n4"].position == int(index.search(QUERIES[4:5], 1).positions)


FILTERS = [
    "brand = 'x'",
    "brand != 'x'",
    "brand <> 'x' AND price > 1",
    "price >= 2.5 or brand = 'x'",
    "NOT (brand = 'x' OR price < 2)",
    "brand IN ('x', 'naïve''') AND NOT price IN (1, 2)",
    "brand NOT IN ('x')",
    "brand IS NULL",
    "price is not null and brand is not null",
    "brand LIKE '%a_ve%'",
    "brand NOT LIKE 'x%'",
    "brand LIKE '%\\%'",
    "brand < 'naïve'",
    "\"my column\" = 'a'",
    "price = -1 OR price = 1e0",
    "id = 'n3'",
    "brand = 'x'' OR 1 = 1 --'",
]


@pytest.mark.parametrize("text", FILTERS)
def test_filters_mean_the_same_everywhere(create, text):
    brands = ["x", "naïve'", None, "", "x", "y", '"q"', "a\\", "%", "xx"]
    index = create(make())
    columns = {
        "brand": brands,
        "price": [1, 2.5, None, 0, -1, 9, 3, None, 2, 1],
        "my column": [None, "a", "b", "a", None, None, None, "a", "b", "a"],
    }
    vectors = torch.from_numpy(NOISE.normal(size=(10, 4)).astype(np.float32))
    facts = inserted(index, vectors, **columns)
    node = filters.parse(text, index.columns)
    expected = {fact["id"] for fact in facts if filters.holds(node, fact)}
    hits = index.search(QUERIES[:2], 10, where=text)
    assert [set(row) for row in hits.ids] == [expected, expected]
    assert names(index.search(QUERIES[:2], 2, where=text)) == [row[:2] for row in names(hits)]


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("brand = ", "unreadable-filter"),
        ("brand", "unreadable-filter"),
        ("brand = x", "unreadable-filter"),
        ("brand = 5", "unreadable-filter"),
        ("price = '5'", "unreadable-filter"),
        ("price LIKE '5'", "unreadable-filter"),
        ("brand = 'x' price", "unreadable-filter"),
        ("(brand = 'x'", "unreadable-filter"),
        ("brand = 'x'; DROP TABLE items", "unreadable-filter"),
        ("NOT " * 200 + "price = 1", "unreadable-filter"),
        ("brnad = 'x'", "unknown-column"),
    ],
)
def test_a_filter_that_cannot_be_read_says_why(create, text, reference):
    index = create(make())
    inserted(index, QUERIES[:1], brand=["x"], price=[1])
    with pytest.raises(DataError) as caught:
        index.search(QUERIES, where=text)
    assert (caught.value.reference, bool(caught.value.hint)) == (reference, True)


def test_removed_items_are_gone_and_may_come_again(create):
    index = create(make())
    facts = inserted(index, QUERIES)
    assert index.remove(["n2", "n5", "n99"]) == 2
    for opened in (index, indexes.open(index.folder)):
        assert (len(opened), opened.known(["n2", "n3"]).keys()) == (5, {"n3"})
        assert "n2" not in {name for row in opened.search(QUERIES, 7).ids for name in row}
        assert [item["id"] for item in opened.items] == ["n0", "n1", "n3", "n4", "n6"]
    index.insert([facts[2]], ["ff" * 16], QUERIES[2:3])
    assert names(index.search(QUERIES[2:3], 1)) == [["n2"]]
    assert (len(index), index.check()) == (6, [])


def test_a_known_name_is_kept_or_replaced(create):
    index = create(make())
    inserted(index, QUERIES)
    assert index.insert([{"id": "n1"}], ["aa" * 16], QUERIES[:1]) == 0
    assert index.known(["n1"]) == {"n1": f"{1:032x}"}
    assert index.insert([{"id": "n1", "note": "new"}], ["aa" * 16], -QUERIES[:1], keep=False) == 1
    assert (index.known(["n1"]), len(index)) == ({"n1": "aa" * 16}, 7)
    found = indexes.open(index.folder).search(-QUERIES[:1], 1)
    assert found.facts == (({"id": "n1", "note": "new"},),)


def test_what_is_added_is_there_as_a_whole_or_not_at_all(create):
    index = create(make())
    inserted(index, QUERIES[:3])
    broken = QUERIES.clone()
    broken[6, 1] = torch.nan
    with pytest.raises(DataError, match="'m6'") as caught:
        index.insert([{"id": f"m{at}"} for at in range(7)], ["0a" * 16] * 7, broken)
    assert caught.value.reference == "non-finite-embeddings"
    with pytest.raises(DataError) as caught:
        inserted(index, QUERIES[:2], price=[1, "cheap"])
    assert caught.value.reference == "column-kind"
    for opened in (index, indexes.open(index.folder)):
        assert (len(opened), opened.check()) == (3, [])


def test_a_second_addition_embeds_only_what_is_new(create):
    index = create(make())
    calls = []
    first = indexes.add(index, collection(ROWS[:40]), progress=lambda *done: calls.append(done))
    assert (first.added, first.embedded, calls) == (40, 40, [(40, 40)])
    again = indexes.add(indexes.open(index.folder), collection(ROWS))
    assert (again.items, again.there, again.added, again.embedded) == (60, 40, 20, 20)
    renamed = indexes.add(index, collection(ROWS[:10], prefix="copy "))
    assert (renamed.added, renamed.embedded) == (10, 0)
    assert len(index) == len({item["id"] for item in index.items}) == 70
    hits = index.search(make().embed(ROWS[5:6]), 2)
    assert sorted(hits.ids[0]) == ["copy 5", "row 5"]
    torch.testing.assert_close(hits.scores, torch.ones(1, 2).double())


def test_another_content_under_a_known_name_is_refused_replaced_or_named_apart(create):
    index = create(make())
    indexes.add(index, collection(ROWS[:5]))
    with pytest.raises(DataError, match="5 items of the same name") as caught:
        indexes.add(index, collection(ROWS[10:20]))
    assert (caught.value.reference, len(index)) == ("name-taken", 5)
    apart = indexes.add(index, collection(ROWS[10:15]), prefix="b/")
    assert (apart.added, len(index)) == (5, 10)
    placed = indexes.add(index, collection(ROWS[20:26]), replacing=True)
    assert (placed.added, placed.replaced, len(index)) == (1, 5, 11)
    assert names(index.search(make().embed(ROWS[20:21]), 1)) == [["row 0"]]


def test_classes_groups_and_splits_of_a_collection_can_be_filtered_by(create):
    index = create(make())
    labels = np.array([0, 1, 0, -1, 1])
    more = {"labels": labels, "class_names": ("owl", "cat"), "groups": tuple("abcde"), "splits": ("train",) * 4 + ("",)}
    indexes.add(index, collection(ROWS[:5], **more))
    found = index.search(QUERIES[:1], 9, where="label = 'cat' AND split = 'train'")
    assert [dict(fact) for fact in found.facts[0]] == [{"id": "row 1", "label": "cat", "group": "b", "split": "train"}]


def test_an_index_knows_its_model_and_refuses_another(create):
    index = create(make())
    indexes.add(index, collection())
    assert index.embedder.content_hash() == index.model_hash == make().content_hash()
    make(seed=2).save(index.folder / "model")
    with pytest.raises(IndexFormatError) as caught:
        indexes.open(index.folder)
    assert (caught.value.reference, bool(caught.value.hint)) == ("wrong-model", True)


def test_what_an_index_is_can_be_asked_without_its_model(create):
    index = create(make())
    (index.folder / "model" / "weights.safetensors").unlink()
    opened = indexes.open(index.folder)
    assert isinstance(opened, indexes.Index)
    assert "embedder" not in vars(opened)
    with pytest.raises(CheckpointError) as caught:
        _ = opened.embedder
    assert caught.value.reference == "missing-file"


def test_queries_of_another_length_are_refused(create):
    with pytest.raises(ShapeError):
        create(make()).search(torch.zeros(2, 3))


def test_a_changed_item_is_noticed(create):
    index = create(make())
    inserted(index, QUERIES, brand=list("abcdefg"))
    if create.backend == "postgres":
        change = f"UPDATE {index._table} SET facts = replace(facts, 'n3', 'n4') WHERE id = 'n3'"  # noqa: S608
        index._connection.execute(change)
    else:
        for path in sorted(index.folder.rglob("*")):
            if path.is_file() and "model" not in path.parts and b"n3" in (content := path.read_bytes()):
                path.write_bytes(content.replace(b"n3", b"n8"))
    with pytest.raises(IndexFormatError) as caught:
        indexes.open(index.folder).search(QUERIES, 7)
    assert caught.value.reference == "damaged-file"
    if create.backend != "flat":  # which is not even opened
        assert ("'n8'" if create.backend == "lance" else "'n3'") in indexes.open(index.folder).check()[0]


@pytest.mark.slow
def test_recall_is_measured_and_tuned_to(create):
    """Clusters, so that a search that looks at a part can miss: 12,000 items, from which on the stores do so."""
    index = create(make())
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(300, 4, generator=generator)
    vectors = (
        centres[torch.randint(300, (12_000,), generator=generator)] + torch.randn(12_000, 4, generator=generator) * 0.3
    )
    facts = [{"id": str(at), "even": at % 2} for at in range(12_000)]
    index.insert(facts, [f"{at:032x}" for at in range(12_000)], vectors)
    stated = index.tune(0.98, queries=100)
    assert stated["measured"] >= 0.98
    assert stated["exact"] == (create.backend == "flat")
    opened = indexes.open(index.folder)
    assert json.loads(json.dumps(dict(opened.recall))) == dict(stated)
    assert measured_recall(opened, top=10, queries=100, seed=0)["measured"] == stated["measured"]
    asked = centres[:50]
    together = names(opened.search(asked, 10))
    assert together == [ids for query in asked for ids in names(opened.search(query[None], 10))]
    expected = topk(asked, vectors, 10, "cosine").positions
    for where, share in ((None, 0.95), ("even = 0", 0.9)):
        exact = opened.search(asked, 10, exact=True, where=where)
        found = opened.search(asked, 10, where=where)
        same = [len(set(one) & set(other)) for one, other in zip(names(exact), names(found), strict=True)]
        assert sum(same) / (10 * len(asked)) >= share
        if where is None:
            assert names(exact) == [[str(at) for at in row] for row in expected.tolist()]


def test_what_was_added_since_is_brought_into_the_partitions(tmp_path):
    """Not into few large ones, in which every search would look at a great part of all items."""
    pytest.importorskip("lancedb", reason="lancedb is not installed (make setup)")
    index = indexes.create(tmp_path / "grown", make(), backend="lance")
    vectors = torch.randn(24_000, 4, generator=torch.Generator().manual_seed(0))
    for start in (0, 12_000):
        span = range(start, start + 12_000)
        index.insert([{"id": str(at)} for at in span], [f"{at:032x}" for at in span], vectors[span.start : span.stop])
        if start == 0:
            index.tune(0.95)
    other = Lock(index.folder / LOCK)
    assert other.take()
    index.settle()  # another process adds: what is there stays, and nothing is refused
    assert index._table.index_stats("vector_idx").num_unindexed_rows > 0
    other.give_back()
    index.settle()
    assert index._table.index_stats("vector_idx").num_unindexed_rows == 0
    plan = (
        index._table.search(vectors[0].numpy(), vector_column_name="vector")
        .distance_type("cosine")
        .nprobes(1)
        .limit(10)
        .analyze_plan()
    )
    [ranked] = [float(found) for found in re.findall(r"partitions_ranked=([0-9.]+)", plan)]
    assert ranked > index.recall["of"] / 2
    assert names(index.search(vectors[-3:], 1)) == [["23997"], ["23998"], ["23999"]]
