"""Tells each positive and each negative apart on its own: binary cross-entropy."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tuplet.engine.program import Program, softplus
from tuplet.engine.reduction import Partial, Reduction, Tile
from tuplet.reductions.programs import LogisticProgram
from tuplet.reductions.softmax import add_at


@dataclass
class _State:
    loss: Tensor  # (rows,)
    positives: Tensor  # (rows,)
    positive_scores: Tensor  # scores of the positives of the latest tile


class Logistic(Reduction[_State]):
    r"""$\ell_i = \sum_p \mathrm{softplus}(-s_{ip}) + \sum_n \mathrm{softplus}(s_{in})$, a sum and not a mean.

    Anchors with a positive are counted, so a pass over noise alone adds to the sum and not to the count.
    """

    local = True

    def start(self, like: Tensor, rows: slice) -> _State:
        """Nothing met yet."""
        zero = like.new_zeros(rows.stop - rows.start)
        return _State(zero, zero, zero[:0])

    def update(self, step: int, state: _State, tile: Tile) -> None:
        """Leaves the negatives' scores, all others hidden, in the tile."""
        del step
        at = tile.positives
        state.positive_scores = tile.scores[at.rows, at.cols]
        state.positives = state.positives + tile.per_row(torch.ones_like(state.positive_scores))
        positive_scores = tile.per_row(softplus(-state.positive_scores))
        state.loss = state.loss + positive_scores + softplus(tile.hide_all_but_negatives(-torch.inf)).sum(1)

    def finish(self, state: _State) -> Partial:
        """One for each anchor that has a positive."""
        return Partial(state.loss, (state.positives > 0).to(state.loss))

    def program(self) -> tuple[Program, dict[str, Tensor]]:
        """The same as a row program."""
        return LogisticProgram(), {}

    def plain(
        self, scores: Tensor, positive: Tensor, negative: Tensor, label_distances: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The equation."""
        del label_distances
        terms = positive * softplus(-scores) + negative * softplus(scores)
        return terms.sum(1), positive.any(1).to(scores)

    def grad_scores(self, state: _State, tile: Tile) -> Tensor:
        """Probability of being a positive, minus 1 for those that are."""
        at = tile.positives
        return add_at(tile.scores.sigmoid_(), at.rows, at.cols, -(-state.positive_scores).sigmoid())
