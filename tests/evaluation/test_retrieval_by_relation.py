"""Retrieval under a rule about pairs, against rankings that are written out query by query."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tuplet.engine.topk import pair_scores
from tuplet.errors import DataError, LabelError, ShapeError
from tuplet.evaluation import retrieval
from tuplet.relations import matrix, same_class, shared_label, within

TOP = (1, 3)


def said_by_hand(ids: Tensor, cameras: Tensor, times: Tensor, i: int, j: int) -> bool | None:
    """The same person within 4 seconds is a positive; pairs of one camera, or without an id, say nothing."""
    if -1 in (int(ids[i]), int(ids[j])) or cameras[i] == cameras[j]:
        near = abs(float(times[i] - times[j])) <= 4
        return None if cameras[i] == cameras[j] or near else False
    return bool(ids[i] == ids[j] and abs(float(times[i] - times[j])) <= 4)


def by_hand(queries, gallery, said, geometry):
    """Means of recall, precision, MAP@R and R-precision over queries with a positive; ranks by score, no ties."""
    found = []
    for q in range(len(queries)):
        seen = [j for j in range(len(gallery)) if said[q][j] is not None]
        if not any(said[q][j] for j in seen):
            continue
        scores = pair_scores(queries[q].expand(len(seen), -1), gallery[seen], geometry)
        order = scores.argsort(descending=geometry in ("cosine", "dot"), stable=True).tolist()
        hits = [bool(said[q][seen[at]]) for at in order]
        total = sum(hits)
        precision = [sum(hits[:i]) / i for i in range(1, total + 1)]
        one = {"map@r": sum(p for p, hit in zip(precision, hits, strict=False) if hit) / total}
        one["r_precision"] = precision[-1]
        for k in TOP:
            one[f"recall@{k}"] = float(any(hits[:k]))
            one[f"precision@{k}"] = sum(hits[:k]) / k
        found.append(one)
    return {name: np.mean([one[name] for one in found]) for name in found[0]} if found else None, len(found)


def numbers(count: int, seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(-1, 4, (count,), generator=generator)
    cameras = torch.randint(0, 3, (count,), generator=generator)
    times = torch.rand(count, generator=generator, dtype=torch.float64) * 10
    return torch.randn(count, 3, generator=generator), ids, cameras, times


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    geometry=st.sampled_from(["cosine", "euclidean"]),
    tile_size=st.sampled_from([1, 1 << 22]),
)
def test_rows_of_which_a_rule_says_nothing_are_left_out_of_the_ranking(seed, geometry, tile_size):
    x, ids, cameras, times = numbers(17, seed)
    rule = (same_class(ids) & within(times, 4.0)).ignoring(same_class(cameras))
    said = [[None if i == j else said_by_hand(ids, cameras, times, i, j) for j in range(17)] for i in range(17)]
    expected, count = by_hand(x, x, said, geometry)
    options = {"geometry": geometry, "top": TOP, "bootstrap": 0, "tile_size": tile_size}
    if expected is None:
        with pytest.raises(DataError):
            retrieval(x, relation=rule, **options)
        return
    found = retrieval(x, relation=rule, **options)
    assert found.values == pytest.approx(expected)
    assert found.counts["n_queries"] == count
    assert found.settings["relevance"] == "relation"


def test_long_lists_are_found_by_products_too():
    """So many rows that products preselect neighbours, some of them nearer than a product can tell."""
    x, ids, cameras, times = numbers(160, 3)
    x = x[torch.arange(160) // 2 * 2]  # each twice
    x[1::2] += 1e-6 * torch.randn(80, 3, generator=torch.Generator().manual_seed(0))
    rule = (same_class(ids) & within(times, 4.0)).ignoring(same_class(cameras))
    said = [[None if i == j else said_by_hand(ids, cameras, times, i, j) for j in range(160)] for i in range(160)]
    expected, _ = by_hand(x, x, said, "cosine")
    assert retrieval(x, relation=rule, top=TOP, bootstrap=0).values == pytest.approx(expected)


def test_a_second_set_is_ranked_under_a_rule_of_both():
    x, ids, cameras, _ = numbers(9, 1)
    y, theirs, others, _ = numbers(30, 2)
    rule = same_class(ids, theirs).ignoring(same_class(cameras, others))

    def said(i: int, j: int) -> bool | None:
        is_unknown = -1 in (int(ids[i]), int(theirs[j]))
        return None if is_unknown or cameras[i] == others[j] else bool(ids[i] == theirs[j])

    expected, _ = by_hand(x, y, [[said(i, j) for j in range(30)] for i in range(9)], "cosine")
    assert retrieval(x, gallery=y, relation=rule, top=TOP, bootstrap=0).values == pytest.approx(expected)


def test_a_rule_of_classes_measures_what_labels_measure():
    """But for rows without a label, which are there and never relevant by labels, and of which a rule says nothing."""
    x, ids, _, _ = numbers(60, 5)
    x, ids = x[ids >= 0], ids[ids >= 0]
    plain, ruled = (
        retrieval(x, **by, top=TOP, bootstrap=20) for by in ({"labels": ids}, {"relation": same_class(ids)})
    )
    assert ruled.values == pytest.approx(plain.values)
    again = retrieval(x, ids, relation=same_class(ids), top=TOP, bootstrap=20)
    assert (again.lower, again.upper) == (plain.lower, plain.upper)  # labels say what is resampled


def test_shared_labels_and_matrices_say_who_is_relevant():
    x, *_ = numbers(12, 7)
    tags = torch.rand(12, 4, generator=torch.Generator().manual_seed(1)) < 0.4
    table = torch.tensor([[-1, 0, 1][(i * j) % 3] for i, j in itertools.product(range(12), range(12))]).view(12, 12)
    for rule, said in (
        (shared_label(tags), lambda i, j: bool((tags[i] & tags[j]).any()) if tags[i].any() and tags[j].any() else None),
        (matrix(table), lambda i, j: None if table[i, j] < 0 else bool(table[i, j])),
    ):
        answers = [[None if i == j else said(i, j) for j in range(12)] for i in range(12)]
        expected, _ = by_hand(x, x, answers, "cosine")
        assert retrieval(x, relation=rule, top=TOP, bootstrap=0).values == pytest.approx(expected)


def test_a_rule_stands_alone_and_has_values_of_the_rows():
    x, ids, cameras, _ = numbers(8, 0)
    with pytest.raises(ShapeError) as caught:
        retrieval(x, ids, relation=same_class(ids), groups=cameras)
    assert caught.value.reference == "retrieval-arguments"
    with pytest.raises(LabelError) as caught:
        retrieval(x, relation=same_class(ids[:5]))
    assert caught.value.reference == "relation-size"
