import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from shapes import unchecked
from tuplet.errors import DataError, TupletError
from tuplet.evaluation import QueryResult, compare, retrieval
from tuplet.evaluation.bootstrap import average, class_draws, percentile_interval


def queries(classes: list[int], seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    labels = torch.tensor(classes)
    values = torch.rand(len(labels), 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return {"a": values[:, 0], "b": values[:, 1]}, labels


def result(values: Tensor, labels: Tensor) -> QueryResult:
    micro, macro = average({"a": values.double()}, labels, 0, 0)
    return QueryResult(
        values=micro.values,
        lower={},
        upper={},
        macro=macro,
        counts={},
        settings={},
        few_classes=False,
        per_query={"a": values.double()},
        queries=torch.arange(len(values)),
        classes=labels,
        units=labels,
    )


def test_intervals_of_a_closed_set_are_percentiles_of_resampled_examples():
    per_query, labels = queries([3, 3, 3, 9, 9, 4, 7, 7, 7, 7])
    micro, macro = average(per_query, labels, 300, 5, "examples")
    times = torch.cat(list(class_draws(10, 300, 5))).long()
    for name, values in per_query.items():
        pooled, per_class = [], []
        for sampled in map(torch.repeat_interleave, times):  # the definition, query by query
            pooled.append(values[sampled].mean().item())
            met = torch.unique(labels[sampled]).tolist()
            per_class.append(np.mean([values[sampled][labels[sampled] == label].mean().item() for label in met]))
        for found, draws in ((micro, pooled), (macro, per_class)):
            expected = np.percentile(draws, [2.5, 97.5])
            assert (found.lower[name], found.upper[name]) == pytest.approx(tuple(expected), abs=1e-12)


def test_six_fixed_classes_are_no_reason_for_a_wide_interval():
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(1200) % 6
    centres = torch.eye(6)
    x = centres[labels] + (0.2 + 0.1 * labels[:, None]) * torch.randn(1200, 6, generator=random)
    found = {unit: retrieval(x, labels, top=(1,), resample=unit) for unit in ("classes", "examples")}
    width = {unit: one.upper["recall@1"] - one.lower["recall@1"] for unit, one in found.items()}
    share = found["examples"].values["recall@1"]
    assert width["examples"] == pytest.approx(2 * 1.96 * (share * (1 - share) / 1200) ** 0.5, rel=0.15)
    assert width["classes"] > 2 * width["examples"]
    assert found["classes"].few_classes
    assert not found["examples"].few_classes
    other = retrieval(x + 0.2 * torch.randn(1200, 6, generator=random), labels, top=(1,), resample="examples")
    compared = compare(found["examples"], other)
    assert compared.settings["resample"] == "examples"
    differences = (found["examples"].per_query["recall@1"] - other.per_query["recall@1"]).double()
    error = 1.96 * (differences.var() / 1200).sqrt().item()
    assert compared.upper["recall@1"] - compared.values["recall@1"] == pytest.approx(error, rel=0.15)
    with pytest.raises(DataError):
        compare(found["examples"], found["classes"])
    with unchecked(), pytest.raises(TupletError) as caught:
        retrieval(x, labels, resample="rows")
    assert caught.value.reference == "unknown-choice"


def test_intervals_are_percentiles_of_resampled_classes():
    per_query, labels = queries([3, 3, 3, 9, 9, 4, 7, 7, 7, 7])
    micro, macro = average(per_query, labels, 300, 5)
    times = torch.cat(list(class_draws(4, 300, 5))).numpy()
    members = [np.flatnonzero(labels.numpy() == c) for c in (3, 4, 7, 9)]
    for name, values in per_query.items():
        pooled, per_class = [], []
        for draw in times.astype(int):  # the definition, query by query
            sample = [list(members[c]) * n for c, n in enumerate(draw)]
            pooled.append(np.mean([values[q] for q in itertools.chain(*sample)]))
            per_class.append(
                np.mean([np.mean(values.numpy()[members[c]]) for c, n in enumerate(draw) for _ in range(n)])
            )
        assert micro.values[name] == pytest.approx(float(values.mean()))
        assert (micro.lower[name], micro.upper[name]) == pytest.approx(tuple(np.percentile(pooled, [2.5, 97.5])))
        assert (macro.lower[name], macro.upper[name]) == pytest.approx(tuple(np.percentile(per_class, [2.5, 97.5])))
        assert macro.values[name] == pytest.approx(np.mean([values.numpy()[m].mean() for m in members]))


def test_each_resample_draws_as_many_classes_as_there_are_with_equal_chances():
    times = torch.cat(list(class_draws(50, 4000, 1)))
    assert times.shape == (4000, 50)
    assert (times.sum(1) == 50).all()
    torch.testing.assert_close(times.mean(0), torch.ones(50).double(), rtol=0, atol=0.1)
    assert times.var().item() == pytest.approx(49 / 50, rel=0.02)  # multinomial


def test_resamples_follow_the_seed_and_not_the_portions(monkeypatch):
    whole = torch.cat(list(class_draws(30, 100, 7)))
    assert torch.equal(whole, torch.cat(list(class_draws(30, 100, 7))))
    assert not torch.equal(whole, torch.cat(list(class_draws(30, 100, 8))))
    monkeypatch.setattr("tuplet.evaluation.bootstrap._AT_ONCE", 1)
    assert torch.equal(whole, torch.cat(list(class_draws(30, 100, 7))))


def test_intervals_cover_the_truth_as_often_as_they_say():
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(40).repeat_interleave(5)
    covered = 0
    for seed in range(200):
        # Class effects dominate: an interval that resamples queries would cover far less often.
        values = torch.randn(40, generator=generator).double()[labels] + 0.1 * torch.randn(200, generator=generator)
        micro, _ = average({"a": values}, labels, 200, seed)
        covered += micro.lower["a"] <= 0 <= micro.upper["a"]
    assert 0.88 <= covered / 200 <= 0.99


def test_draws_without_a_value_do_not_count():
    draws = torch.tensor([[1.0, torch.nan], [2, torch.nan], [torch.nan, 7], [3, torch.nan]], dtype=torch.float64)
    low, high = percentile_interval(draws)
    assert (low[0].item(), high[0].item()) == pytest.approx((1.05, 2.95))
    assert low[1] == high[1] == 7


def test_one_class_gives_an_interval_of_no_width_and_says_that_it_is_rough():
    x = torch.tensor([[0.0], [1.0], [3.0]])
    found = retrieval(x, torch.zeros(3).long(), geometry="euclidean")
    assert found.few_classes
    assert found.lower["map@r"] == found.values["map@r"] == found.upper["map@r"]


def test_a_result_against_itself_shows_nothing():
    per_query, labels = queries([0, 0, 1, 1, 2, 3, 3])
    found = compare(result(per_query["a"], labels), result(per_query["a"], labels))
    assert found.values == found.lower == found.upper == {"a": 0.0}
    assert found.p_values == {"a": 1.0}
    assert found.to_dict()["p_values"] == {"a": 1.0}


def test_p_values_equal_the_enumeration_of_all_signs():
    per_query, labels = queries([0, 0, 0, 1, 2, 2, 3, 4, 4, 5, 6], seed=4)
    differences = (per_query["a"] - per_query["b"]).numpy()
    sums = [differences[labels.numpy() == c].sum() for c in range(7)]
    flips = [abs(np.dot(signs, sums)) for signs in itertools.product([-1, 1], repeat=7)]
    exact = np.mean([flip >= abs(sum(sums)) - 1e-12 for flip in flips])
    found = compare(result(per_query["a"], labels), result(per_query["b"], labels), bootstrap=20_000)
    assert found.p_values["a"] == pytest.approx(exact, abs=0.015)


def test_pairing_cancels_what_both_results_share():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60).repeat_interleave(4)
    shared = torch.randn(60, generator=generator)[labels]
    first = result(shared + 0.1 + 0.05 * torch.randn(240, generator=generator), labels)
    second = result(shared, labels)
    alone, _ = average(first.per_query, labels, 500, 0)
    found = compare(first, second, bootstrap=500)
    assert found.lower["a"] > 0
    assert found.p_values["a"] < 0.01
    assert found.upper["a"] - found.lower["a"] < 0.1 * (alone.upper["a"] - alone.lower["a"])


def test_without_resamples_there_are_values_only():
    per_query, labels = queries([0, 0, 1])
    found = compare(result(per_query["a"], labels), result(per_query["b"], labels), bootstrap=0)
    assert (found.lower, found.upper, found.p_values) == ({}, {}, {})
    assert found.values["a"] == pytest.approx(float((per_query["a"] - per_query["b"]).mean()))


def test_results_on_other_queries_are_not_compared():
    per_query, labels = queries([0, 0, 1])
    with pytest.raises(DataError, match="cannot be paired"):
        compare(result(per_query["a"], labels), result(per_query["a"][:2], labels[:2]))
    with pytest.raises(DataError, match="cannot be paired"):
        compare(result(per_query["a"], labels), result(per_query["a"], labels + 1))
