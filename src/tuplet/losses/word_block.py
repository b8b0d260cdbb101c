r"""Noise-contrastive estimation over a run of consecutive words, with its gradient written out.

A word meets the words around it, so the scores of a run of words with their contexts are a band beside the diagonal of
one matrix, and the run needs each row of the two tables once. Noise words that the whole run shares are one more
matrix product. Value and gradient are those of `nce` for these pairs and this noise:

$$L = \sum_{(t, s)} \Big[\mathrm{softplus}(-\Delta_t(w_s))
    + \frac{k}{K} \sum_{j=1}^{K} \mathrm{softplus}(\Delta_t(n_j))\Big],
\quad \Delta_t(w) = h_t \cdot q_w + b_w - c - \log(k P_n(w))$$

with K noise words standing for the k of each pair. Skip-gram: $h_t$ is the vector of word t, and s runs over its
context. CBOW: $h_t$ is the mean of the vectors of the context, and s = t; a word without a context is no pair.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

Contexts = Literal["skip-gram", "cbow"]
GROUP = 32
"""Words whose contexts are one matrix product, at least: a band of them wastes little and is worth a call."""


@dataclass(frozen=True, eq=False)
class WordBlock:
    """Consecutive words and how far the context of each reaches.

    Args:
        words: Ids of the words of the block, with the margin of `band` on either side.
        before: How many words before each belong to its context, at most the margin.
        after: How many words after it.
        band: Layout of the contexts, from `band_of`; it fits blocks whose size is a multiple of its rows.
    """

    words: Int[Tensor, " padded"]
    before: Int[Tensor, " words"]
    after: Int[Tensor, " words"]
    band: Int[Tensor, "group wide"]

    @property
    def centres(self) -> Int[Tensor, " words"]:
        """Ids of the words of the block alone."""
        margin = (len(self.words) - len(self.before)) // 2
        return self.words[margin : margin + len(self.before)]

    def reach(self, dtype: torch.dtype) -> Float[Tensor, "groups group wide"]:
        """1 where a word of the window belongs to the context, else 0."""
        middle, width = self.after - self.before, self.after + self.before
        group = len(self.band)
        is_near = (self.band - middle.view(-1, group, 1)).abs_() <= width.view(-1, group, 1)
        return is_near.to(dtype)


def band_of(margin: int) -> Int[Tensor, "group wide"]:
    """Twice the distance of each word of a window from each word of a group; a word itself is out of reach.

    Args:
        margin: Largest distance of a word of the context, at least 1.
    """
    group = max(GROUP, 2 * margin)  # so that each word lies in the windows of two groups at most
    away = torch.arange(-margin, group + margin) - torch.arange(group)[:, None]
    return (2 * away).where(away != 0, 8 * group).short()


@dataclass(frozen=True, eq=False)
class SparseGrad:
    """Gradient of some rows of a table; a row that is named twice is moved by the sum.

    Args:
        rows: Which rows.
        values: Their gradients.
    """

    rows: Int[Tensor, " rows"]
    values: Float[Tensor, "rows dim"]


@dataclass(frozen=True, eq=False)
class BlockOutcome:
    """What a block of words measures.

    Args:
        value: Sum of the loss over the pairs; None if it was not asked for.
        pairs: How many pairs there are.
        vectors: Gradient of the table of word vectors.
        weight: Gradient of the table of context vectors q.
        bias: Gradient of b as a table of one column, None without `level`. The gradient of c is minus its sum.
    """

    value: Tensor | None
    pairs: Tensor
    vectors: SparseGrad
    weight: SparseGrad
    bias: SparseGrad | None


@dataclass(frozen=True, eq=False)
class Level:
    """What is added to the score of each word: b - c - log(k P_n).

    Args:
        bias: b of every word.
        expected: log(k P_n) of every word; None to leave it out, as negative sampling does.
        log_partition: c.
    """

    bias: Float[Tensor, " vocabulary"]
    expected: Float[Tensor, " vocabulary"] | None = None
    log_partition: float | Tensor = 0.0

    def of(self, words: Int[Tensor, " some"]) -> Float[Tensor, " some"]:
        """The levels of some words."""
        level = self.bias.index_select(0, words)
        if self.expected is not None:
            level -= self.expected.index_select(0, words)
        return level.sub_(self.log_partition)


def word_block(
    vectors: Float[Tensor, "vocabulary dim"],
    weight: Float[Tensor, "vocabulary dim"],
    block: WordBlock,
    noise: Int[Tensor, "*centres samples"],
    noise_samples: int,
    *,
    level: Level | None = None,
    contexts: Contexts = "skip-gram",
    with_value: bool = True,
) -> BlockOutcome:
    """Loss of a block of words and the gradient of its sum.

    Args:
        vectors: One vector per word, as anchor.
        weight: q, one vector per word, as reference.
        block: The words.
        noise: K words that all share, or k words for each of the block.
        noise_samples: k, the noise words of a pair.
        level: What is added to a score; None for 0, which is negative sampling without a bias.
        contexts: Whether a word tells its context or the context tells the word.
        with_value: Also compute the loss itself, which training does not need.

    Returns:
        Sums over the pairs of the block.
    """
    side = _skip_gram if contexts == "skip-gram" else _cbow
    return side(vectors, weight, block, noise, noise_samples, level, with_value=with_value)


def _skip_gram(
    vectors: Tensor,
    weight: Tensor,
    block: WordBlock,
    noise: Tensor,
    noise_samples: int,
    level: Level | None,
    *,
    with_value: bool,
) -> BlockOutcome:
    """Each word is an anchor; the words around it are its references."""
    reach = block.reach(vectors.dtype)
    groups, group, wide = reach.shape
    pairs = reach.sum(2).flatten()
    hidden = vectors.index_select(0, block.centres)
    together = hidden.view(groups, group, -1)
    rows = _windows(weight.index_select(0, block.words), groups, wide, group)
    scores = torch.bmm(together, rows.transpose(1, 2))
    if level is not None:
        scores += _windows(level.of(block.words)[:, None], groups, wide, group).transpose(1, 2)
    noisy = _noise(hidden, weight, noise, pairs * (noise_samples / noise.shape[-1]), level, with_value=with_value)
    value = (functional.softplus(-scores) * reach).sum() if with_value else None
    grad_scores = scores.sigmoid_().sub_(1).mul_(reach)
    grad_hidden = torch.bmm(grad_scores, rows).flatten(0, 1).add_(noisy.hidden)
    grad_table = _overlap_add(torch.bmm(grad_scores.transpose(1, 2), together), group)
    lift = None if level is None else _overlap_add(grad_scores.sum(1)[:, :, None], group)[:, 0]
    return _outcome(
        pairs, value, SparseGrad(block.centres, grad_hidden), SparseGrad(block.words, grad_table), lift, noise, noisy
    )


def _cbow(
    vectors: Tensor,
    weight: Tensor,
    block: WordBlock,
    noise: Tensor,
    noise_samples: int,
    level: Level | None,
    *,
    with_value: bool,
) -> BlockOutcome:
    """The mean of the words around each word is an anchor; the word is its reference."""
    reach = block.reach(vectors.dtype)
    groups, group, wide = reach.shape
    sizes = reach.sum(2, keepdim=True)
    pairs = sizes.clamp(max=1).flatten()
    share = reach.div_(sizes.clamp_min_(1))
    seen = _windows(vectors.index_select(0, block.words), groups, wide, group)
    hidden = torch.bmm(share, seen).flatten(0, 1)
    rows = weight.index_select(0, block.centres)
    scores = (hidden * rows).sum(1)
    if level is not None:
        scores += level.of(block.centres)
    noisy = _noise(hidden, weight, noise, pairs * (noise_samples / noise.shape[-1]), level, with_value=with_value)
    value = (functional.softplus(-scores) * pairs).sum() if with_value else None
    grad_scores = scores.sigmoid_().sub_(1).mul_(pairs)
    grad_hidden = (grad_scores[:, None] * rows).add_(noisy.hidden)
    spread = _overlap_add(torch.bmm(share.transpose(1, 2), grad_hidden.view(groups, group, -1)), group)
    grad_table = SparseGrad(block.centres, grad_scores[:, None] * hidden)
    lift = None if level is None else grad_scores
    return _outcome(pairs, value, SparseGrad(block.words, spread), grad_table, lift, noise, noisy)


def _outcome(
    pairs: Tensor,
    value: Tensor | None,
    vectors: SparseGrad,
    targets: SparseGrad,
    lift: Tensor | None,
    noise: Tensor,
    noisy: "_Noise",
) -> BlockOutcome:
    rows = torch.cat([targets.rows, noise.flatten()])
    return BlockOutcome(
        value=None if value is None or noisy.value is None else value + noisy.value,
        pairs=pairs.sum(),
        vectors=vectors,
        weight=SparseGrad(rows, torch.cat([targets.values, noisy.weight])),
        bias=None if lift is None or noisy.lift is None else SparseGrad(rows, torch.cat([lift, noisy.lift])[:, None]),
    )


@dataclass(frozen=True, eq=False)
class _Noise:
    """What the noise term gives: the loss, and gradients of anchors, noise words and their level."""

    value: Tensor | None
    hidden: Tensor
    weight: Tensor
    lift: Tensor | None


def _noise(
    hidden: Tensor, weight: Tensor, noise: Tensor, times: Tensor, level: Level | None, *, with_value: bool
) -> _Noise:
    """The noise term; `times` says how often each noise word counts for each anchor."""
    rows = weight.index_select(0, noise.flatten()).view(*noise.shape, -1)
    scores = hidden @ rows.T if noise.ndim == 1 else torch.bmm(rows, hidden[:, :, None])[:, :, 0]
    if level is not None:
        scores += level.of(noise.flatten()).view_as(noise)
    value = (functional.softplus(scores) * times[:, None]).sum() if with_value else None
    grad_scores = scores.sigmoid_().mul_(times[:, None])
    if noise.ndim == 1:
        return _Noise(value, grad_scores @ rows, grad_scores.T @ hidden, None if level is None else grad_scores.sum(0))
    grad_hidden = torch.bmm(grad_scores[:, None], rows)[:, 0]
    return _Noise(value, grad_hidden, (grad_scores[:, :, None] * hidden[:, None]).flatten(0, 1), grad_scores.flatten())


def _windows(rows: Tensor, groups: int, wide: int, group: int) -> Tensor:
    """Rows around each group, (groups, wide, dim), without a copy."""
    dim = rows.shape[1]
    return rows.as_strided((groups, wide, dim), (group * dim, dim, 1))


def _overlap_add(parts: Tensor, group: int) -> Tensor:
    """Sum of what the windows say of each row, (padded, dim): the transpose of `_windows`."""
    groups, wide, dim = parts.shape
    rows = parts.new_zeros(groups * group + wide - group, dim)
    rows[: groups * group].view(groups, group, dim).copy_(parts[:, :group])
    rows.as_strided((groups, wide - group, dim), (group * dim, dim, 1), group * dim).add_(parts[:, group:])
    return rows
