"""Heads with a state or with values of rows: against their oracles, and what moves their state."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.comparison import assert_same, quick
from oracles.problems import rows
from oracles.problems import weights as weights_of
from tuplet import losses
from tuplet.engine import SINGLE_PROCESS
from tuplet.errors import LabelError, ShapeError

NUMBERS = {
    "curricularface": {"progress": [-0.2, 0.0, 0.6]},
    "adaface": {"norm_mean": [0.0, 2.0], "norm_deviation": [0.0, 0.5, 10.0]},
    "uniface": {"threshold": [-3.0, 0.0, 4.0]},
}
OPTIONS = {
    "curricularface": {"margin": [0.0, 0.5, 3.0], "scale": [1.0, 16.0]},
    "adaface": {"margin": [0.0, 0.4], "concentration": [0.333, 1.0], "scale": [1.0, 16.0]},
    "uniface": {"margin": [0.0, 0.4], "negative_weight": [0.0, 0.7], "scale": [1.0, 16.0]},
    "elasticface": {"kind": ["arc", "cos"], "hard_first": [False, True], "scale": [1.0, 16.0]},
    "soft_triple": {"gamma": [0.1, 1.0], "margin": [0.0, 0.1], "penalty": [0.0, 0.2], "scale": [1.0, 20.0]},
}


def choice(data, options):
    return {name: data.draw(st.sampled_from(values), name) for name, values in options.items()}


@pytest.mark.shows("oracle")
@pytest.mark.parametrize("name", [*NUMBERS, "elasticface"])
@quick
@given(data=st.data(), tile_size=st.sampled_from([1, 7, None]))
def test_value_and_gradient_equal_the_oracle_for_every_tiling(name, data, tile_size):
    """Off the grid and the line: a negative as near as the margined target, or equal angles, are ties of rounding."""
    count, classes, dim = (data.draw(st.integers(least, most)) for least, most in ((1, 7), (1, 5), (2, 4)))
    x, weight = (data.draw(rows(each, dim, grid=False, copies=False)).requires_grad_() for each in (count, classes))
    labels = torch.tensor(data.draw(st.lists(st.integers(-1, classes - 1), min_size=count, max_size=count)))
    w, options = data.draw(weights_of(count)), choice(data, OPTIONS[name])
    if name == "elasticface":
        own = [data.draw(rows(count, 1, grid=False))[:, 0].abs() / 4]
    else:
        own = [torch.tensor(value).double() for value in choice(data, NUMBERS[name]).values()]
    truth = getattr(oracles, name)(x, weight, labels, *own, weights=w, **options)
    found = getattr(losses, name)(x, weight, labels, *own, weights=w, tile_size=tile_size, **options)
    assert_same(found, truth.value, x, weight, tolerance=1e-9)


@pytest.mark.shows("oracle", "soft_triple")
@quick
@given(data=st.data(), tile_size=st.sampled_from([1, 7, None]), centers=st.integers(1, 3))
def test_soft_triple_equals_the_oracle_for_every_tiling(data, tile_size, centers):
    count, classes, dim = (data.draw(st.integers(1, most)) for most in (7, 4, 4))
    x, weight = (data.draw(rows(each, dim)).requires_grad_() for each in (count, classes * centers))
    labels = torch.tensor(data.draw(st.lists(st.integers(-1, classes - 1), min_size=count, max_size=count)))
    w, options = data.draw(weights_of(count)), choice(data, OPTIONS["soft_triple"])
    truth = oracles.soft_triple(x, weight, labels, weights=w, per_class=centers, **options)
    found = losses.soft_triple(x, weight, labels, weights=w, tile_size=tile_size, centers=centers, **options)
    assert_same(found, truth.value, x, weight)


def test_a_learned_threshold_has_the_gradient_of_the_oracle():
    loss, x = losses.UniFaceLoss(5, 4).double(), torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    assert loss.threshold.item() == pytest.approx(torch.tensor(50.0).log().item())
    labels = torch.arange(9) % 5
    truth = oracles.uniface(x, loss.weight, labels, loss.threshold)
    assert_same(loss(x, labels), truth.value, x, loss.weight, loss.threshold)


@pytest.mark.shows("oracle", "uniface")
@quick
@given(data=st.data(), tile_size=st.sampled_from([1, 7, None]), share=st.sampled_from([0.1, 0.5, 0.9]))
def test_sampled_negatives_of_uniface_equal_the_oracle_for_every_tiling(data, tile_size, share):
    count, classes, dim = (data.draw(st.integers(least, most)) for least, most in ((1, 7), (1, 5), (2, 4)))
    x, weight = (data.draw(rows(each, dim, grid=False, copies=False)).requires_grad_() for each in (count, classes))
    labels = torch.tensor(data.draw(st.lists(st.integers(-1, classes - 1), min_size=count, max_size=count)))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    chances = {
        name: torch.rand(size, generator=generator, dtype=torch.float64)
        for name, size in (("row_chances", count), ("class_chances", classes))
    }
    b, options = torch.tensor(1.5).double().requires_grad_(), choice(data, OPTIONS["uniface"])
    options = {**options, **chances, "negative_share": share, "weights": data.draw(weights_of(count))}
    truth = oracles.uniface(x, weight, labels, b, **options)
    assert_same(losses.uniface(x, weight, labels, b, tile_size=tile_size, **options), truth.value, x, weight, b)


def test_uniface_draws_other_negatives_in_each_step_and_resumes():
    loss, twin = (losses.UniFaceLoss(40, 4, negative_share=0.3, seed=2).double() for _ in range(2))
    assert loss.threshold.item() == pytest.approx(torch.tensor(120.0).log().item())
    x, labels = batch()
    first = loss(x, labels).item()
    u, v = loss.draw(labels, SINGLE_PROCESS)
    given = {"negative_share": 0.3, "row_chances": u, "class_chances": v}
    assert_same(loss(x, labels), oracles.uniface(x, loss.weight, labels, loss.threshold, **given).value, x, loss.weight)
    loss.advance()
    assert loss(x, labels).item() != first
    twin.load_state_dict(loss.state_dict())
    assert twin(x, labels).item() == loss(x, labels).item()
    with pytest.raises(ShapeError) as caught:
        losses.uniface(x, loss.weight, labels, loss.threshold, negative_share=0.3)
    assert caught.value.reference == "chances"


def test_a_share_of_the_negatives_of_uniface_counts_of_every_row_and_every_class():
    """Shares of 200 classes and of 200 rows lie within 4.5 standard deviations of independent numbers."""
    loss = losses.UniFaceLoss(200, 2, negative_share=0.25)
    u, v = loss.draw(torch.zeros(200, dtype=torch.int64), SINGLE_PROCESS)
    chosen = ((u[:, None] + v) % 1 < 0.25).double()
    for side in (0, 1):
        assert (chosen.mean(side) - 0.25).abs().max() < 4.5 * (0.25 * 0.75 / 200) ** 0.5


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = 5 * torch.randn(12, 4, dtype=torch.float64, generator=generator)
    return x.requires_grad_(), torch.arange(12) % 4 - (torch.arange(12) == 7) * 4  # one row has no class


def test_progress_takes_in_a_hundredth_of_the_cosines_of_a_step():
    loss = losses.CurricularFaceLoss(4, 4).double()
    x, labels = batch()
    loss(x[:5], labels[:5])
    loss(x[5:], labels[5:])  # the second part of the same step
    unit = torch.nn.functional.normalize
    cosines = (unit(x) * unit(loss.weight[labels.clamp_min(0)])).sum(1)[labels != -1].detach()
    with torch.no_grad():
        loss.weight.neg_()  # the optimiser's step comes before
    assert loss.progress == 0
    loss.advance()
    assert loss.progress.item() == pytest.approx(0.01 * cosines.mean().item())
    truth = oracles.curricularface(x, loss.weight, labels, loss.progress)
    assert_same(loss(x, labels), truth.value, x, loss.weight)


def test_mean_and_deviation_of_norms_take_in_a_hundredth_of_a_step():
    loss = losses.AdaFaceLoss(4, 4).double()
    x, labels = batch()
    loss(x, labels)
    loss.advance()
    norms = x.detach().norm(dim=1)[labels != -1]
    assert loss.norm_mean.item() == pytest.approx(0.99 * 20 + 0.01 * norms.mean().item())
    assert loss.norm_deviation.item() == pytest.approx(0.99 * 100 + 0.01 * norms.std().item())
    before = loss.norm_deviation.clone()
    loss(x[:1], labels[:1])  # one norm has no deviation
    loss.advance()
    assert loss.norm_deviation == before


def test_margins_are_sampled_for_each_step_and_resumed():
    loss, twin = (losses.ElasticFaceLoss(4, 4, sigma=0.1, seed=3).double() for _ in range(2))
    x, labels = batch()
    first = loss(x, labels).item()
    assert loss(x, labels).item() == first
    loss.advance()
    assert loss(x, labels).item() != first
    twin.load_state_dict(loss.state_dict())
    assert twin(x, labels).item() == loss(x, labels).item()
    still = losses.ElasticFaceLoss(4, 4, sigma=0.0).double()
    still.load_state_dict(loss.state_dict())
    plain = losses.arcface(x, still.weight, labels, margin=0.5)
    torch.testing.assert_close(still(x, labels), plain)


@pytest.mark.parametrize("name", ["curricularface", "adaface", "magface", "elasticface", "uniface", "soft_triple"])
def test_what_does_not_fit_the_head_is_refused(name):
    loss = losses.registry[name](3, 4)
    for labels in (torch.tensor([0, 3]), None):
        with pytest.raises(LabelError):
            loss(torch.ones(2, 4), labels)
    with pytest.raises(ShapeError):
        loss(torch.ones(2, 5), torch.tensor([0, 1]))
