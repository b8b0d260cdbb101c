import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.comparison import assert_same, quick, thorough
from oracles.problems import rows, weights
from tuplet.errors import TupletError
from tuplet.losses import NCELoss, nce

objectives = st.sampled_from(["nce", "negative_sampling"])


@st.composite
def corpora(draw: st.DrawFn):
    """Contexts, word vectors, biases, targets (some -1), noise (of each row, or shared), P_n and weights."""
    count, words, dim = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    size = draw(st.sampled_from([1.0, 100.0]))
    h, weight = draw(rows(count, dim)) * size, draw(rows(words, dim))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    bias = torch.randn(words, dtype=torch.float64, generator=generator)
    targets = torch.randint(-1, words, (count,), generator=generator)
    shape = (3,) if draw(st.booleans()) else (count, draw(st.integers(1, 4)))
    noise = torch.randint(words, shape, generator=generator)
    probability = torch.softmax(bias.flip(0), 0)
    leaves = tuple(x.requires_grad_() for x in (h, weight, bias))
    return leaves, targets, noise, probability, draw(weights(count))


@pytest.mark.shows("oracle", "nce")
@thorough
@given(corpora=corpora(), tile_size=st.sampled_from([1, 7, None]), objective=objectives, learned=st.booleans())
def test_value_and_gradient_equal_the_oracle_for_every_tiling(corpora, tile_size, objective, learned):
    (h, weight, bias), targets, noise, probability, w = corpora
    c = torch.tensor(0.8, dtype=torch.float64, requires_grad=True) if learned else 0.8
    leaves = (h, weight, bias, c) if learned else (h, weight, bias)
    options = {"objective": objective, "log_partition": c, "weights": w}
    found = nce(h, weight, bias, targets, noise, probability, tile_size=tile_size, **options)
    truth = oracles.nce(h, weight, bias, targets, noise, noise_probability=probability, **options)
    assert_same(found, truth.value, *leaves)


@pytest.mark.parametrize("shared_noise", [False, True])
@pytest.mark.parametrize("log_partition", [0.5, "learned"])
@pytest.mark.parametrize("objective", ["nce", "negative_sampling"])
def test_the_module_draws_noise_by_the_power_of_the_counts(shared_noise, log_partition, objective):
    counts = torch.tensor([40, 20, 10, 5, 0])  # counts below 1 are taken as 1
    loss = NCELoss(counts, 3, 4, objective=objective, log_partition=log_partition, shared_noise=shared_noise).double()
    probability = counts.clamp_min(1).double() ** 0.75
    probability /= probability.sum()
    generator = torch.Generator().manual_seed(0)
    for parameter in loss.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    for _ in range(2):
        h = torch.randn(6, 3, generator=generator, dtype=torch.float64).requires_grad_()
        targets = torch.randint(-1, 5, (6,), generator=generator)
        c = loss.log_partition if log_partition == "learned" else 0.5
        options = {"objective": objective, "log_partition": c, "noise_probability": probability}
        truth = oracles.nce(h, loss.weight, loss.bias, targets, loss.draw(6), **options)
        assert_same(loss(h, targets), truth.value, h, *loss.parameters())
        loss.advance()


def test_noise_changes_from_step_to_step_and_is_the_same_for_the_same_step():
    loss, other = (NCELoss([5, 4, 3, 2, 1], 3) for _ in range(2))
    first = loss.draw(4)
    assert torch.equal(first, other.draw(4))
    loss(torch.randn(4, 3), torch.tensor([0, 1, 2, 3]))
    loss.advance()
    assert not torch.equal(loss.draw(4), first)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(loss.draw(4), other.draw(4))


@quick
@given(corpora=corpora())
def test_negative_sampling_is_nce_whose_noise_is_uniform_with_as_many_samples_as_words(corpora):
    (h, weight, bias), targets, _, probability, w = corpora
    words = len(weight)
    noise = torch.arange(words).expand(len(h), words)
    uniform = torch.full_like(probability, 1 / words)
    sampled = nce(h, weight, bias, targets, noise, objective="negative_sampling", weights=w)
    assert_same(sampled, nce(h, weight, bias, targets, noise, uniform, weights=w), h, weight, bias)


def test_with_much_noise_the_gradient_is_that_of_maximum_likelihood():
    """k P_n samples of each word in place of a draw: the gradient by the scores tends to P_model - P_data."""
    words, k = 4, 100_000
    data, noise = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.full((words,), 0.25, dtype=torch.float64)
    scores = torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)).requires_grad_()
    h, weight = torch.zeros(10, 1, dtype=torch.float64), torch.zeros(words, 1, dtype=torch.float64)
    targets = torch.arange(words).repeat_interleave((10 * data).round().long())
    samples = torch.arange(words).repeat_interleave(k // words)
    value = nce(h, weight, scores, targets, samples, noise)
    (gradient,) = torch.autograd.grad(value, scores)
    expected = scores.detach().exp() - data
    torch.testing.assert_close(gradient, expected.double(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("targets", "noise"), [([0, 5], [[0], [1]]), ([0, 1], [[0], [-1]]), ([-2, 1], [[0], [1]])])
def test_words_outside_the_vocabulary_are_refused(targets, noise):
    with pytest.raises(TupletError, match=r"word id (5|-1|-2)"):
        nce(
            torch.randn(2, 3),
            torch.randn(5, 3),
            torch.randn(5),
            torch.tensor(targets),
            torch.tensor(noise),
            objective="negative_sampling",
        )


def test_nce_needs_the_probability_of_the_noise():
    with pytest.raises(TupletError, match="noise_probability"):
        nce(*(torch.zeros(2, 3), torch.zeros(5, 3), torch.zeros(5)), torch.tensor([0, 1]), torch.tensor([[0], [1]]))


def test_far_scores_stay_finite():
    h, weight = torch.full((1, 1), 1e3, dtype=torch.float64), torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    value = nce(
        h, weight, torch.zeros(2).double(), torch.tensor([1]), torch.tensor([[0]]), objective="negative_sampling"
    )
    assert math.isclose(value.item(), 2e3)
