"""Cross-entropy of each anchor's positives against all its references."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tuplet.engine.gather import Processes, all_reduce_max, all_reduce_sum
from tuplet.engine.program import Program, softplus
from tuplet.engine.reduction import Partial, Reduction, Tile
from tuplet.reductions.programs import SoftmaxEachProgram, SoftmaxProgram
from tuplet.registry import check_choice
from tuplet.relation import Entries

LOWEST = -1e30
"""Stands for the largest score of a row that has no candidate yet; finite, so that differences stay numbers."""

SAFE_SPREAD = 40.0
"""exp(-2 * 40) is a normal float32: scores within ±40 need no search for the row's peak."""


@dataclass
class _State:  # every field but the last has shape (rows,)
    peak: Tensor  # largest score so far
    mass: Tensor  # sum of exp(score - peak) over the candidates
    positive_sum: Tensor  # "out": sum of the positives' scores; "in": sum of exp(score - best) over them
    best: Tensor  # "in": largest score of a positive so far
    positives: Tensor  # how many positives


class Softmax(Reduction[_State]):
    r"""$\ell_i = \log \sum_k e^{s_{ik}} - \frac{1}{|P_i|} \sum_{p \in P_i} s_{ip}$.

    "in" has the mean of the positives inside the log.

    The sum over k runs over positives and negatives.

    Args:
        where: "out": the mean over positives is outside the log, as printed; "in": $\log \frac{1}{|P_i|} \sum_p
            e^{s_{ip}}$.
    """

    def __init__(self, where: Literal["out", "in"] = "out") -> None:
        check_choice(where, ("out", "in"), "where")
        self.where = where

    def start(self, like: Tensor, rows: slice) -> _State:
        """No candidate, no positive."""
        zero = like.new_zeros(rows.stop - rows.start)
        return _State(zero + LOWEST, zero, zero, zero + LOWEST, zero)

    def update(self, step: int, state: _State, tile: Tile) -> None:
        """Online log-sum-exp; leaves exp(score - peak) in the tile, and notes the peak and the positives' scores."""
        del step
        positive_sum = self._add_positives(state, tile)
        scores = tile.hide_ignored(-torch.inf)
        peak = torch.maximum(state.peak, scores.amax(1)) if scores.shape[1] else state.peak
        mass = scores.sub_(peak[:, None]).exp_().sum(1)
        state.mass = state.mass * (state.peak - peak).exp() + mass
        state.peak = peak
        tile.note = peak, positive_sum

    def merge(self, state: _State, shards: Processes) -> _State:
        """The largest peaks, and the sums relative to them."""
        peak, best = all_reduce_max(torch.stack([state.peak, state.best]), shards)
        positive_sum = state.positive_sum if self.where == "out" else state.positive_sum * (state.best - best).exp()
        sums = torch.stack([state.mass * (state.peak - peak).exp(), positive_sum, state.positives])
        mass, positive_sum, positives = all_reduce_sum(sums, shards)
        return _State(peak, mass, positive_sum, best, positives)

    def finish(self, state: _State) -> Partial:
        """Anchors without a positive are not counted."""
        valid = state.positives > 0
        if self.where == "in":
            positive_term = state.best + state.positive_sum.log() - state.positives.log()
        else:
            positive_term = state.positive_sum / state.positives.clamp_min(1)
        loss = state.peak + state.mass.log() - positive_term
        return Partial(torch.where(valid, loss, 0.0), valid.to(loss))

    def grad_scores(self, state: _State, tile: Tile) -> Tensor:
        """Share of all candidates minus share of the positives."""
        at = tile.positives
        valid = (state.positives > 0).to(state.mass)
        if tile.kept:
            peak, positive_sum = tile.note
            rate = valid * (peak - state.peak).exp() / state.mass.clamp_min(torch.finfo(valid.dtype).tiny)
            shares = tile.scores.mul_(rate[:, None])
        else:
            positive_sum = tile.scores[at.rows, at.cols]
            log_mass = torch.where(valid > 0, state.peak + state.mass.log(), torch.inf)
            shares = tile.hide_ignored(-torch.inf).sub_(log_mass[:, None]).exp_()
        return add_at(shares, at.rows, at.cols, -self._positive_grad(state, at, positive_sum))

    def program(self) -> tuple[Program, dict[str, Tensor]]:
        """The same as a row program."""
        return SoftmaxProgram(self.where), {}

    def plain(
        self, scores: Tensor, positive: Tensor, negative: Tensor, label_distances: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The equation."""
        del label_distances
        valid = positive.any(1)
        rows, mask, count = scores[valid], positive[valid], positive[valid].sum(1).to(scores)
        mass = rows.masked_fill(~(positive | negative)[valid], -torch.inf).logsumexp(1)
        if self.where == "in":
            positive_term = rows.masked_fill(~mask, -torch.inf).logsumexp(1) - count.log()
        else:
            positive_term = (rows * mask).sum(1) / count
        return scores.new_zeros(len(scores)).index_put((valid.nonzero()[:, 0],), mass - positive_term), valid.to(scores)

    def symmetric(self, peak: float | None) -> "Reduction[_HalfState] | None":
        """Half of the tiles do if the scores are bounded, so that one exp serves both sides."""
        return _HalfSoftmax() if self.where == "out" and peak is not None and peak <= SAFE_SPREAD else None

    def _add_positives(self, state: _State, tile: Tile) -> Tensor:
        """Take in the scores of the positives."""
        at = tile.positives
        scores = tile.scores[at.rows, at.cols]
        state.positives = state.positives + tile.per_row(torch.ones_like(scores))
        if self.where == "out":
            state.positive_sum = state.positive_sum + tile.per_row(scores)
            return scores
        best = state.best.scatter_reduce(0, at.rows, scores, "amax")
        state.positive_sum = state.positive_sum * (state.best - best).exp() + tile.per_row(
            (scores - best[at.rows]).exp()
        )
        state.best = best
        return scores

    def _positive_grad(self, state: _State, at: Entries, scores: Tensor) -> Tensor:
        """Share of each positive of a tile among its anchor's positives."""
        if self.where == "out":
            return (1 / state.positives.clamp_min(1))[at.rows]
        return (scores - state.best[at.rows]).exp() / state.positive_sum[at.rows]


@dataclass
class _HalfState:  # every field has shape (rows,), for all rows of the set
    mass: Tensor
    positive_sum: Tensor
    positives: Tensor


class _HalfSoftmax(Reduction[_HalfState]):
    """`Softmax` of one set against itself: one exp serves both mirror images, e^s (1/mass_i + 1/mass_j).

    Scores within ±40 need no peak taken out: neither their exp nor sums of it leave the range of float32.
    """

    def start(self, like: Tensor, rows: slice) -> _HalfState:
        return _HalfState(*(like.new_zeros(rows.stop - rows.start) for _ in range(3)))

    def update(self, step: int, state: _HalfState, tile: Tile) -> None:
        del step
        at = tile.positives
        scores = tile.scores[at.rows, at.cols]
        exps = tile.hide_ignored(-torch.inf).exp_()
        sides = (
            ((tile.rows, at.rows, 1),) if tile.rows == tile.cols else ((tile.rows, at.rows, 1), (tile.cols, at.cols, 0))
        )
        for span, rows, across in sides:
            state.mass[span] += exps.sum(across)
            state.positive_sum[span].index_add_(0, rows, scores)
            state.positives[span].index_add_(0, rows, torch.ones_like(scores))

    def finish(self, state: _HalfState) -> Partial:
        valid = state.positives > 0
        loss = state.mass.log() - state.positive_sum / state.positives.clamp_min(1)
        return Partial(torch.where(valid, loss, 0.0), valid.to(loss))

    def grad_scores(self, state: _HalfState, tile: Tile) -> Tensor:
        at = tile.positives
        valid = (state.positives > 0).to(state.mass)
        share = valid / state.mass.clamp_min(torch.finfo(valid.dtype).tiny)
        positive_term = valid / state.positives.clamp_min(1)
        exps = tile.scores if tile.kept else tile.hide_ignored(-torch.inf).exp_()
        shares = exps.mul_(share[tile.rows, None] + share[None, tile.cols])
        return add_at(
            shares, at.rows, at.cols, -(positive_term[tile.rows][at.rows] + positive_term[tile.cols][at.cols])
        )


@dataclass
class _EachState:
    losses: Tensor
    positives: Tensor
    positive_grads: Tensor  # score gradients of the positives, one by one


class SoftmaxEach(Reduction[_EachState]):
    r"""Each positive alone against the negatives.

    $$\frac{1}{|P_i|} \sum_p \log(1 + \sum_{n \in N_i} e^{s_{in} - s_{ip}})$$

    With λ the log of the negatives' mass, a term is softplus(λ - s_p).
    """

    whole_rows = True

    def start(self, like: Tensor, rows: slice) -> _EachState:
        """Nothing drawn yet."""
        zero = like.new_zeros(rows.stop - rows.start)
        return _EachState(zero, zero, zero[:0])

    def update(self, step: int, state: _EachState, tile: Tile) -> None:
        """Leaves the shares of the negatives among themselves in the tile."""
        del step
        at = tile.positives
        positive_sum = tile.scores[at.rows, at.cols]
        scores = tile.hide_all_but_negatives(-torch.inf)
        peak = scores.amax(1).clamp_min(LOWEST) if scores.shape[1] else state.losses + LOWEST
        mass = scores.sub_(peak[:, None]).exp_().sum(1)
        scores.div_(mass.clamp_min(torch.finfo(mass.dtype).tiny)[:, None])
        log_mass = peak + mass.log()  # -inf without negatives: then the term is 0
        gap = log_mass[at.rows] - positive_sum
        positives = tile.per_row(torch.ones_like(positive_sum))
        share = 1 / positives.clamp_min(1)
        state.losses = tile.per_row(softplus(gap)) * share
        state.positives, state.positive_grads = positives, gap.sigmoid() * share[at.rows]

    def program(self) -> tuple[Program, dict[str, Tensor]]:
        """The same as a row program."""
        return SoftmaxEachProgram(), {}

    def plain(
        self, scores: Tensor, positive: Tensor, negative: Tensor, label_distances: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The equation."""
        del label_distances
        meets = positive.any(1) & negative.any(1)
        mass = scores[meets].masked_fill(~negative[meets], -torch.inf).logsumexp(1, keepdim=True)
        terms = torch.where(positive[meets], softplus(mass - scores[meets]), 0.0)
        losses = terms.sum(1) / positive[meets].sum(1)
        return scores.new_zeros(len(scores)).index_put((meets.nonzero()[:, 0],), losses), positive.any(1).to(scores)

    def finish(self, state: _EachState) -> Partial:
        """Anchors without a positive are not counted."""
        return Partial(state.losses, (state.positives > 0).to(state.losses))

    def grad_scores(self, state: _EachState, tile: Tile) -> Tensor:
        """Negatives share what the positives are pulled by."""
        at = tile.positives
        grad_scores = tile.scores.mul_(tile.per_row(state.positive_grads)[:, None])
        return add_at(grad_scores, at.rows, at.cols, -state.positive_grads)


def add_at(x: Tensor, rows: Tensor, cols: Tensor, values: Tensor) -> Tensor:
    """Add to single entries of a contiguous tile, in place."""
    x.view(-1).index_add_(0, rows * x.shape[1] + cols, values)
    return x
