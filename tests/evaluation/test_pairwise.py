"""Conclusions about several methods: their p values, their correction, and how often they are wrong."""

import itertools

import pytest
import torch

from tuplet.errors import DataError
from tuplet.evaluation import QueryResult, compare
from tuplet.evaluation.pairwise import LEVEL, compare_methods, holm, intervals, needed


def found_by_definition(p_values):
    """Holm's procedure as written: reject from the smallest on, until one is not below level / (how many are left)."""

    def rejected(level):
        order, done = sorted(range(len(p_values)), key=lambda at: p_values[at]), set()
        for rank, at in enumerate(order):
            if p_values[at] > level / (len(p_values) - rank):
                break
            done.add(at)
        return done

    levels = sorted({min(1.0, k * p) for k in range(1, len(p_values) + 1) for p in p_values})
    return [
        next((level for level in levels if at in rejected(level * (1 + 1e-12))), 1.0) for at in range(len(p_values))
    ]


@pytest.mark.parametrize(
    "p_values", [[0.01], [0.01, 0.04, 0.03, 0.005], [0.2, 0.2, 0.2], [0.5, 0.001, 0.9, 0.02, 0.02, 1.0]]
)
def test_corrected_p_values_are_the_least_levels_at_which_holm_rejects(p_values):
    corrected, levels = holm(p_values)
    assert corrected == pytest.approx(found_by_definition(p_values))
    assert sorted(levels) == pytest.approx([LEVEL / left for left in range(len(p_values), 0, -1)])


def test_without_noise_of_seeds_the_p_value_is_the_enumeration_of_all_signs():
    sums = torch.rand(2, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).repeat(1, 3, 1)
    sums[0] += 0.2
    sizes = torch.full((8,), 2.0, dtype=torch.float64)
    [pair] = compare_methods(sums, sizes, draws=20_000)
    differences = (sums[0, 0] - sums[1, 0]).tolist()
    signs = itertools.product([1, -1], repeat=8)
    flips = [abs(sum(sign * one for sign, one in zip(each, differences, strict=True))) for each in signs]
    exact = sum(flip >= abs(sum(differences)) - 1e-12 for flip in flips) / len(flips)
    assert 0.01 < exact < 0.9
    assert pair.p == pytest.approx(exact, abs=0.01)
    assert pair.difference == pytest.approx(sum(differences) / 16)


def test_one_pair_without_noise_equals_the_comparison_of_two_results():
    values = torch.rand(2, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(60) // 5
    results = [_result(one, labels) for one in values]
    whole = compare(*results, bootstrap=4000, seed=5)
    sums = values.reshape(2, 1, 12, 5).sum(3).repeat(1, 2, 1)
    [pair] = compare_methods(sums, torch.full((12,), 5.0, dtype=torch.float64), draws=4000, seed=5)
    assert (pair.difference, pair.low, pair.high, pair.p) == pytest.approx(
        (whole.values["a"], whole.lower["a"], whole.upper["a"], whole.p_values["a"]), abs=1e-7
    )


def _result(values, labels) -> QueryResult:
    from tuplet.evaluation.bootstrap import averaged  # noqa: PLC0415  of this test alone

    return averaged({"a": values}, torch.arange(len(values)), labels, counts={}, settings={}, bootstrap=0)


def simulated(generator, methods, seeds, units, *, of_classes, of_seeds):
    """Values of methods that are worth the same: shared classes, own taste for classes, and luck with seeds."""
    shape = (methods, seeds, units)
    shared = torch.randn(units, generator=generator, dtype=torch.float64)
    taste = of_classes * torch.randn(methods, 1, units, generator=generator, dtype=torch.float64)
    luck = of_seeds * torch.randn(methods, seeds, 1, generator=generator, dtype=torch.float64)
    return shared + taste + luck + 0.1 * torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("of_classes", "of_seeds"), [(0.5, 0.0), (0.1, 0.3), (0.5, 0.1)])
def test_equal_methods_are_seldom_called_different(of_classes, of_seeds):
    """Classes alone as the chance, as most comparisons have it, would call half of these pairs different."""
    generator, repeats = torch.Generator().manual_seed(0), 150
    sizes = torch.ones(40, dtype=torch.float64)
    wrong = 0
    for seed in range(repeats):
        sums = simulated(generator, 5, 3, 40, of_classes=of_classes, of_seeds=of_seeds)
        pairs = compare_methods(sums, sizes, draws=400, seed=seed)
        wrong += any(pair.conclusion != "undecided" for pair in pairs)
    assert wrong / repeats <= LEVEL + 0.02


def test_a_clear_difference_is_found_and_named_after_its_sign():
    sums = simulated(torch.Generator().manual_seed(0), 3, 3, 40, of_classes=0.2, of_seeds=0.05)
    sums[2] += 1.0
    found = {(pair.first, pair.second): pair for pair in compare_methods(sums, torch.ones(40, dtype=torch.float64))}
    assert found[0, 2].conclusion == found[1, 2].conclusion == "worse"
    assert found[0, 2].high < 0
    assert found[0, 1].conclusion == "undecided"
    sums = sums.flip(0)
    assert compare_methods(sums, torch.ones(40, dtype=torch.float64))[0].conclusion == "better"


def test_a_method_that_fails_with_one_seed_hides_no_other_difference():
    sums = simulated(torch.Generator().manual_seed(0), 4, 3, 40, of_classes=0.1, of_seeds=0.02)
    sums[1] += 1.0
    sums[3, 0] -= 50.0
    found = {(pair.first, pair.second): pair for pair in compare_methods(sums, torch.ones(40, dtype=torch.float64))}
    assert found[0, 1].conclusion == "worse"
    assert found[2, 3].conclusion == "undecided"


def test_so_many_classes_as_are_named_decide_as_often_as_they_say():
    generator = torch.Generator().manual_seed(0)
    shift, spread = 0.3, 2**0.5 * 0.6
    wanted = needed(shift, spread**2 / 20, 0.0, units=20, seeds=3, level=LEVEL)
    assert wanted.seeds == 3
    decided = 0
    for seed in range(200):
        difference = shift + spread * torch.randn(wanted.units, generator=generator, dtype=torch.float64)
        sums = torch.stack([difference, torch.zeros_like(difference)])[:, None].repeat(1, 3, 1)
        [pair] = compare_methods(sums, torch.ones(wanted.units, dtype=torch.float64), draws=400, seed=seed)
        decided += pair.conclusion == "better"
    assert 0.72 <= decided / 200 <= 0.9


def test_more_seeds_are_named_where_no_number_of_classes_is_enough():
    few = needed(0.1, 0.001, 0.01, units=50, seeds=3, level=LEVEL)
    assert few.seeds > 3
    assert few.units >= 50
    assert needed(0.0, 0.001, 0.01, units=50, seeds=3, level=LEVEL) is None
    assert needed(0.1, 0.001, 0.0, units=500, seeds=3, level=LEVEL).units == 500


def test_an_interval_of_a_method_holds_its_value_and_widens_with_its_seeds():
    calm, sizes = simulated(torch.Generator().manual_seed(3), 2, 3, 30, of_classes=0.2, of_seeds=0.0), torch.ones(30)
    restless = calm.clone()
    restless += torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64)[None, :, None]
    (value, low, high), (same, lower, higher) = (intervals(one, sizes.double())[:, 0] for one in (calm, restless))
    assert low < value < high
    assert same == pytest.approx(value)
    assert higher - lower > 1.5 * (high - low)


@pytest.mark.parametrize("shape", [(1, 2, 5), (2, 1, 5), (2, 2, 1)])
def test_too_little_to_compare_is_refused(shape):
    with pytest.raises(DataError) as caught:
        compare_methods(torch.rand(shape, dtype=torch.float64), torch.ones(shape[2], dtype=torch.float64))
    assert caught.value.reference == "too-few-to-compare"
