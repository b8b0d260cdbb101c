import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from torch import Tensor

from shapes import unchecked
from tuplet.engine.topk import pair_scores
from tuplet.errors import DataError, LabelError, ShapeError
from tuplet.evaluation import retrieval
from tuplet.evaluation.retrieval import Name, neighbours_of

TOP = (1, 2, 4, 9)
MEASURES = get_args(Name)


def rows(count: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def evaluate(relevance: list[bool], total: int) -> dict[str, float]:
    """The measures of one settled order, from their definitions."""
    precision = [sum(relevance[:i]) / i for i in range(1, len(relevance) + 1)]
    found = {
        "map@r": sum(precision[i] for i in range(total) if relevance[i]) / total,
        "r_precision": precision[total - 1],
        "map": sum(p for p, hit in zip(precision, relevance, strict=True) if hit) / total,
    }
    first = relevance.index(True) + 1
    found["mrr"] = 1 / first
    for k in TOP:
        found[f"precision@{k}"] = sum(relevance[:k]) / k
        found[f"recall@{k}"] = float(any(relevance[:k]))
        found[f"fractional_recall@{k}"] = sum(relevance[:k]) / total
        found[f"mrr@{k}"] = (first <= k) / first
        hits = [p for p, hit in zip(precision[:k], relevance[:k], strict=True) if hit]
        found[f"map@{k}"] = sum(hits) / min(k, total)
    return found


def orders(keys: list[float], relevance: list[bool], ties: str):
    """Every order of the items in which larger keys come first, or the one that `ties` asks for."""
    blocks = [[i for i, key in enumerate(keys) if key == level] for level in sorted(set(keys), reverse=True)]
    if ties == "worst":
        blocks = [sorted(block, key=lambda i: relevance[i]) for block in blocks]
    choices = [itertools.permutations(block) if ties == "expected" else [tuple(block)] for block in blocks]
    for choice in itertools.product(*choices):
        yield [relevance[i] for block in choice for i in block]


def brute(queries, labels, gallery, relevant, hidden, geometry, ties):
    """Mean over queries of the mean over orders, and how many queries had nothing to find."""
    per_query, skipped = [], 0
    for q in range(len(queries)):
        seen = [j for j in range(len(gallery)) if not hidden[q][j]]
        relevance = [bool(relevant[q][j]) for j in seen]
        if labels[q] == -1 or not any(relevance):
            skipped += int(labels[q] != -1)
            continue
        scores = pair_scores(queries[q].expand(len(seen), -1), gallery[seen], geometry).tolist()
        keys = scores if geometry in {"cosine", "dot"} else [-score for score in scores]
        found = [evaluate(order, sum(relevance)) for order in orders(keys, relevance, ties)]
        per_query.append({name: np.mean([one[name] for one in found]) for name in found[0]})
    return {name: np.mean([one[name] for one in per_query]) for name in per_query[0]} if per_query else None, skipped


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10**6),
    geometry=st.sampled_from(["cosine", "dot", "euclidean", "squared_euclidean"]),
    ties=st.sampled_from(["expected", "index", "worst"]),
    one_set=st.booleans(),
    grouped=st.sampled_from([None, "group", "class_and_group"]),
    evaluated=st.booleans(),
    tile_size=st.sampled_from([7, 1 << 22]),
)
def test_values_equal_the_enumeration_of_all_orders_of_ties(
    seed, geometry, ties, one_set, grouped, evaluated, tile_size
):
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    queries, labels, groups = draw(-1, 2, 6, 2).float(), draw(-1, 3, 6), draw(0, 3, 6)
    gallery, gallery_labels, gallery_groups = draw(-1, 2, 7, 2).float(), draw(-1, 3, 7), draw(0, 3, 7)
    options = {"geometry": geometry, "ties": ties, "top": TOP, "measures": MEASURES, "tile_size": tile_size}
    arguments = [queries, labels]
    if one_set:
        gallery, gallery_labels, gallery_groups = queries, labels, groups
    else:
        arguments += [gallery, gallery_labels]
        options |= {"gallery_groups": gallery_groups} if grouped else {}
    hidden = torch.eye(6, dtype=torch.bool) if one_set else torch.zeros(6, 7, dtype=torch.bool)
    same = labels[:, None] == gallery_labels
    if grouped:
        options |= {"groups": groups, "junk": grouped}
        together = groups[:, None] == gallery_groups
        hidden = hidden | (together & same if grouped == "class_and_group" else together)
    relevant = draw(0, 3, *same.shape) == 0 if evaluated else same
    if evaluated:
        options["qrels"] = {q: row.nonzero()[:, 0].tolist() for q, row in enumerate(relevant)}
        asked = torch.zeros_like(labels)  # whoever has judgements is asked
    else:
        asked = labels
    expected, skipped = brute(queries, asked, gallery, relevant, hidden.tolist(), geometry, ties)
    if expected is None:
        with pytest.raises((DataError, LabelError), match=r"is relevant|has a row of its class"):
            retrieval(*arguments, **options, bootstrap=0)
        return
    result = retrieval(*arguments, **options, bootstrap=0)
    assert result.values == pytest.approx(expected, rel=1e-12)
    assert result.counts["n_skipped"] == skipped
    assert result.counts["n_unlabelled"] == int((asked == -1).sum())


@pytest.mark.parametrize(
    ("relevance", "total", "name", "value"),
    [([1, 0, 1, 1], 4, "map@r", 0.604167), ([1, 0, 1, 1, 0], 3, "map", 0.805556)],
)
def test_the_worked_examples(relevance, total, name, value):
    gallery = torch.arange(1.0, 9)[:, None]  # one after the other behind the query
    labels = torch.tensor([*relevance, *[0] * (8 - len(relevance))])
    labels[-1] = int(total > sum(relevance))
    result = retrieval(
        torch.zeros(1, 1), torch.ones(1).long(), gallery, labels, geometry="euclidean", average_precision=True
    )
    assert result.values[name] == pytest.approx(value, abs=1e-6)


def test_average_precision_equals_scikit_learn():
    x, labels = rows(120, 6), torch.arange(120) % 5
    result = retrieval(x, labels, geometry="dot", average_precision=True, bootstrap=0)
    scores = x.double() @ x.double().T
    others = ~np.eye(120, dtype=bool)
    expected = [
        average_precision_score((labels == labels[q]).numpy()[others[q]], scores[q].numpy()[others[q]])
        for q in range(120)
    ]
    np.testing.assert_allclose(result.per_query["map"].numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("geometry", ["cosine", "euclidean"])
def test_no_value_depends_on_the_tile_size(geometry):
    x, labels = rows(60, 4), torch.arange(60) % 7
    x[::3] = x[0]  # a tie of 20
    whole = retrieval(x, labels, geometry=geometry, bootstrap=50)
    for tile_size in (60, 1000):
        assert retrieval(x, labels, geometry=geometry, bootstrap=50, tile_size=tile_size).to_dict() == whole.to_dict()


def test_copies_count_and_the_query_itself_does_not():
    x = torch.eye(3)[[0, 0, 1, 2]]
    result = retrieval(x, torch.tensor([5, 5, 6, 7]), bootstrap=0, top=(1,))
    assert result.values["recall@1"] == 1
    assert result.counts["n_skipped"] == 2
    assert result.queries.tolist() == [0, 1]


def test_labels_beyond_float32_stay_apart():
    big = 2**24
    result = retrieval(torch.eye(4)[[0, 0, 1, 1]], torch.tensor([big, big + 1, big, big + 1]), bootstrap=0, top=(1,))
    assert result.values["recall@1"] == 0


def test_an_unlabelled_row_is_a_distractor_and_never_a_query():
    x = torch.tensor([[0.0], [3.0], [1.0], [1.5]])
    result = retrieval(x, torch.tensor([4, 4, -1, -1]), geometry="euclidean", top=(1, 3), bootstrap=0)
    assert result.values["recall@1"] == 0
    assert result.values["recall@3"] == 1
    assert result.counts["n_unlabelled"] == 2
    assert result.counts["n_queries"] == 2


def test_neighbours_of_the_own_group_are_as_if_they_were_not_there():
    x, labels = rows(80, 5), torch.arange(80) % 8
    families = [f"face {i % 3}" for i in range(80)]
    result = retrieval(x, labels, groups=families, bootstrap=0, average_precision=True)
    for q in range(0, 80, 9):
        kept = [j for j in range(80) if families[j] != families[q]]
        alone = retrieval(x[q : q + 1], labels[q : q + 1], x[kept], labels[kept], bootstrap=0, average_precision=True)
        for name, value in alone.values.items():
            assert result.per_query[name][result.queries == q].item() == pytest.approx(value, rel=1e-12)


def test_micro_and_macro_averages_are_those_of_queries_and_of_classes():
    x = torch.tensor([[0.0], [0.1], [0.2], [0.3], [5.0], [9.0], [5.1]])
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])  # class 0 is found, class 1 is not, class 2 has nothing to find
    result = retrieval(x, labels, geometry="euclidean", top=(1,), bootstrap=0)
    assert result.values["recall@1"] == pytest.approx(4 / 6)
    assert result.macro.values["recall@1"] == pytest.approx(1 / 2)
    assert result.counts["n_classes"] == 2
    assert result.few_classes


def test_precision_at_more_than_there_are_divides_by_k():
    result = retrieval(rows(3, 2), torch.tensor([0, 0, 1]), top=(1, 10), bootstrap=0)
    assert result.values["precision@10"] == pytest.approx(0.1)
    assert result.counts["n_short"] == 2


def test_the_rule_of_re_identification_drops_the_same_class_in_the_same_group_only():
    # On a line from the query: its own person in its own camera, a stranger in its camera, its person elsewhere.
    gallery = torch.tensor([[1.0], [2.0], [3.0]])
    labels, cameras = torch.tensor([7, 8, 7]), [1, 1, 2]
    arguments = (torch.zeros(1, 1), torch.tensor([7]), gallery, labels)
    options = {"geometry": "euclidean", "bootstrap": 0, "groups": [1], "gallery_groups": cameras, "top": (1,)}
    by_person = retrieval(*arguments, **options, junk="class_and_group", measures=("recall", "mrr", "map"))
    assert by_person.values == {"recall@1": 0, "mrr": 0.5, "map": 0.5}
    assert by_person.settings["junk"] == "class_and_group"
    assert retrieval(*arguments, **options, junk="group").values["recall@1"] == 1


def test_relevance_per_query_is_taken_as_a_mapping_with_grades_or_as_rows():
    x, gallery = rows(4, 3), rows(9, 3, 1)
    graded = {0: {1: 2, 2: 0}, 1: {0: 1}, 3: {8: 3, 7: 1}}
    listed = [[0, 1, 2], [0, 2, 0], [1, 0, 1], [3, 8, 3], [3, 7, 1], [3, 7, 1]]
    plain = np.array([[0, 1], [1, 0], [3, 8], [3, 7]])
    found = [retrieval(x, None, gallery, qrels=qrels, top=(3,)).to_dict() for qrels in (graded, listed, plain)]
    assert found[0] == found[1] == found[2]
    assert found[0]["counts"]["n_queries"] == 3
    assert found[0]["counts"]["n_skipped"] == 1
    assert found[0]["settings"]["relevance"] == "qrels"


def test_arrays_and_lists_give_what_tensors_give():
    x, labels = rows(30, 3), torch.arange(30) % 4
    expected = retrieval(x, labels, x, labels, bootstrap=20).to_dict()
    for convert in (
        Tensor.numpy,
        Tensor.tolist,
        lambda part: part.numpy()[:, ::-1][:, ::-1] if part.ndim == 2 else part,
    ):
        arguments = [convert(part) for part in (x, labels, x, labels)]
        found = retrieval(*arguments, bootstrap=20).to_dict()
        assert found["values"] == pytest.approx(expected["values"])


def test_a_collapsed_space_scores_what_chance_gives():
    labels = torch.arange(60) // 6
    result = retrieval(torch.ones(60, 8), labels, bootstrap=0, top=(1,), average_precision=True)
    assert result.values["recall@1"] == pytest.approx(5 / 59, rel=1e-12)
    assert result.values["r_precision"] == pytest.approx(5 / 59, rel=1e-12)


def test_a_memory_mapped_gallery_is_evaluated_as_one_in_memory(tmp_path):
    x, labels = rows(300, 8), torch.arange(300) % 11
    np.save(tmp_path / "gallery.npy", x.numpy())
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    assert (
        retrieval(x[:40], labels[:40], mapped, labels).to_dict() == retrieval(x[:40], labels[:40], x, labels).to_dict()
    )


def test_a_result_is_json():
    result = retrieval(rows(30, 3), torch.arange(30) % 3)
    said = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert said["values"]["recall@1"] == result.values["recall@1"]
    assert said["lower"]["map@r"] <= said["values"]["map@r"] <= said["upper"]["map@r"]
    assert said["counts"]["n_queries"] == 30


def test_memory_stays_below_the_matrix_of_scores():
    program = Path(__file__).with_name("peak_of_retrieval.py")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 120  # MiB; the matrix in float32 is 381 MiB


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": torch.zeros(4)}, LabelError, "torch.float32"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, LabelError, r"\(3,\)"),
        ({"labels": ["a", "b", "a", "b"]}, LabelError, "<U1"),
        ({"labels": None}, ShapeError, "labels are missing"),
        ({"embeddings": [[1.0, 2.0], [1.0]]}, ShapeError, "different lengths"),
        ({"embeddings": [["a"], ["b"]]}, ShapeError, "<U1"),
        ({"embeddings": np.array([[None], [1]])}, ShapeError, "object"),
        ({"embeddings": {1.0, 2.0}}, ShapeError, "of type set"),
        ({"embeddings": 3.5}, ShapeError, r"shape \(\)"),
        ({"embeddings": torch.zeros(4)}, ShapeError, r"shape \(4,\)"),
        ({"qrels": {0: [9]}}, LabelError, "gallery row 9"),
        ({"qrels": np.zeros((2, 4))}, LabelError, r"\(2, 4\)"),
        ({"qrels": {0: {1: 0}}}, LabelError, "no row is relevant"),
        ({"junk": "camera"}, ShapeError, "one of 'group', 'class_and_group'"),
        ({"junk": "class_and_group"}, ShapeError, "no groups"),
        ({"measures": ("recall@1",)}, ShapeError, "fractional_recall"),
        ({"gallery": torch.zeros(2, 2)}, ShapeError, "without gallery_labels"),
        ({"gallery_labels": torch.zeros(2, dtype=torch.int64)}, ShapeError, "without a gallery"),
        ({"groups": ["a"]}, ShapeError, r"groups have shape \(1,\)"),
        ({"top": (0, 1)}, ShapeError, "at least 1"),
        ({"top": ()}, ShapeError, "one or more"),
        ({"ties": "random"}, ShapeError, "one of 'expected', 'index', 'worst'"),
        ({"geometry": "manhattan"}, ShapeError, "geometry is 'manhattan'"),
        ({"labels": torch.arange(4)}, DataError, "None of 4 queries"),
        ({"embeddings": torch.tensor([[1.0, 0], [torch.nan, 0], [1, 1], [0, 1]])}, ShapeError, "rows: 1"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(change, error, message):
    arguments = {"embeddings": torch.eye(4)[:, :2], "labels": torch.zeros(4, dtype=torch.int64)} | change
    with unchecked(), pytest.raises(error, match=message):
        retrieval(**arguments)


@settings(max_examples=80)
@given(
    st.integers(0, 10_000),
    st.integers(4, 40),
    st.integers(1, 6),
    st.sampled_from(["cosine", "euclidean", "dot"]),
    st.sampled_from([None, "group", "class_and_group"]),
)
def test_lists_that_were_found_before_give_the_values_of_a_search(seed, count, classes, geometry, junk):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(-1, 2, (count, 3), generator=draw).float()  # many ties, also at the ends of lists
    labels = torch.randint(-1, classes, (count,), generator=draw)
    labels[:2] = 0
    groups = None if junk is None else [*torch.randint(3, (count,), generator=draw).tolist()]
    options = {"groups": groups, "junk": junk or "group", "top": (1, 4), "bootstrap": 0}
    try:
        expected = retrieval(x, labels, geometry=geometry, **options)
    except DataError:  # nobody has anything to find
        return
    known = neighbours_of(x, labels, (1, 4), geometry)
    found = retrieval(x, labels, geometry=geometry, neighbours=known, **options)
    assert found.counts == expected.counts
    for name, values in expected.per_query.items():
        assert torch.equal(found.per_query[name], values), name
