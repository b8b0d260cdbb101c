"""A block of words has the value and the gradient of the equations for its pairs and its noise."""

import math

import pytest
import torch
from torch.nn.functional import softplus

import oracles
from tuplet.losses.word_block import Level, SparseGrad, WordBlock, band_of, word_block

VOCABULARY, DIM = 23, 5
options = pytest.mark.parametrize("objective", ["nce", "negative_sampling"])
both = pytest.mark.parametrize("contexts", ["skip-gram", "cbow"])


def draw(margin: int, groups: int, seed: int = 0):
    """A block with words that have no context, and tables in float64."""
    random = torch.Generator().manual_seed(seed)
    band = band_of(margin)
    size = groups * len(band)
    words = torch.randint(VOCABULARY, (size + 2 * margin,), generator=random)
    before, after = (torch.randint(0, margin + 1, (size,), generator=random) for _ in range(2))
    alone = torch.rand(size, generator=random) < 0.8  # the oracle takes its time
    before[alone] = after[alone] = 0
    tables = [torch.randn(VOCABULARY, DIM, generator=random, dtype=torch.float64) for _ in range(2)]
    bias, probability = torch.randn(VOCABULARY, generator=random, dtype=torch.float64), torch.rand(VOCABULARY)
    leaves = [*tables, bias, torch.tensor(0.7, dtype=torch.float64)]
    noise = torch.randint(VOCABULARY, (size, 6), generator=random)
    return WordBlock(words, before.short(), after.short(), band), leaves, probability.double() / 9, noise


def pairs_of(block: WordBlock, contexts: str) -> list[tuple[int, list[int], int]]:
    """Row of the block, words that make up the anchor, target word."""
    margin = (len(block.words) - len(block.before)) // 2
    words, found = block.words.tolist(), []
    for row in range(len(block.before)):
        here = row + margin
        around = [at for at in range(here - int(block.before[row]), here + int(block.after[row]) + 1) if at != here]
        if contexts == "skip-gram":
            found += [(row, [words[here]], words[at]) for at in around]
        elif around:
            found.append((row, [words[at] for at in around], words[here]))
    return found


def truth(block, leaves, probability, noise, k, objective, contexts):
    """Sum over all pairs; each of K noise words counts k / K times."""
    vectors, weight, bias, c = leaves
    pairs = pairs_of(block, contexts)
    hidden = torch.stack([vectors[words].mean(0) for _, words, _ in pairs])
    targets = torch.tensor([target for _, _, target in pairs])
    sampled = noise if noise.ndim == 1 else noise[[row for row, _, _ in pairs]]
    share = k / noise.shape[-1]
    given = {"noise_probability": probability * share, "objective": objective, "log_partition": c}
    whole = oracles.nce(hidden, weight, bias, targets, sampled, **given).value * len(pairs)
    level = bias[targets] - c - ((k * probability[targets]).log() if objective == "nce" else 0.0)
    return share * whole + (1 - share) * softplus(-((hidden * weight[targets]).sum(1) + level)).sum(), len(pairs)


def whole(grad_scores: SparseGrad) -> torch.Tensor:
    return grad_scores.values.new_zeros(VOCABULARY, grad_scores.values.shape[1]).index_add_(
        0, grad_scores.rows, grad_scores.values
    )


@options
@both
@pytest.mark.parametrize(("margin", "groups"), [(1, 1), (5, 2), (20, 1)])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("k", [6, 2])
def test_value_and_gradient_equal_the_oracle(objective, contexts, margin, groups, shared, k):
    block, leaves, probability, noise = draw(margin, groups)
    noise = noise[0] if shared else noise
    expected = (k * probability).log() if objective == "nce" else None
    vectors, weight, bias, c = leaves
    found = word_block(vectors, weight, block, noise, k, level=Level(bias, expected, c), contexts=contexts)
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    value, count = truth(block, leaves, probability, noise, k, objective, contexts)
    assert int(found.pairs) == count
    torch.testing.assert_close(found.value, value.detach(), rtol=1e-12, atol=0)
    gradients = torch.autograd.grad(value, leaves)
    mine = [whole(found.vectors), whole(found.weight), whole(found.bias)[:, 0], -found.bias.values.sum()]
    for one, other in zip(mine, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@both
def test_without_a_level_scores_are_plain_products(contexts):
    block, (vectors, weight, bias, _), _, noise = draw(3, 2)
    plain = word_block(vectors, weight, block, noise[0], 6, contexts=contexts)
    zero = word_block(vectors, weight, block, noise[0], 6, level=Level(torch.zeros_like(bias)), contexts=contexts)
    assert plain.bias is None
    torch.testing.assert_close(plain.value, zero.value, rtol=1e-15, atol=0)
    assert torch.equal(whole(plain.vectors), whole(zero.vectors))
    assert torch.equal(whole(plain.weight), whole(zero.weight))


@both
def test_what_is_not_asked_for_changes_nothing(contexts):
    block, (vectors, weight, bias, _), _, noise = draw(3, 2)
    before = [x.clone() for x in (vectors, weight, bias, block.words, block.before, block.after, block.band)]
    without = word_block(vectors, weight, block, noise, 6, level=Level(bias), contexts=contexts, with_value=False)
    full = word_block(vectors, weight, block, noise, 6, level=Level(bias), contexts=contexts)
    assert without.value is None
    assert math.isfinite(float(full.value))
    assert torch.equal(without.weight.values, full.weight.values)
    after = (vectors, weight, bias, block.words, block.before, block.after, block.band)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@both
def test_a_block_without_any_context_is_no_pair(contexts):
    block, (vectors, weight, bias, _), _, noise = draw(2, 1)
    block.before.zero_()
    block.after.zero_()
    found = word_block(vectors, weight, block, noise[0], 6, level=Level(bias), contexts=contexts)
    assert float(found.pairs) == float(found.value) == 0
    assert not whole(found.vectors).any()
    assert not whole(found.weight).any()
