"""Pulls positives together and pushes negatives that are nearer than a margin."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tuplet.engine.program import Program
from tuplet.engine.reduction import Partial, Reduction, Tile
from tuplet.reductions.programs import HingeProgram
from tuplet.reductions.softmax import add_at
from tuplet.types import MeanOver


@dataclass
class _State:  # every field has shape (rows,)
    loss: Tensor
    pairs: Tensor  # pairs, a visit of a pair inside one set counting half
    active: Tensor  # those with a loss above 0
    positive_scores: Tensor  # distances of the positives of the latest tile, which `update` overwrites
    measured: bool = False


class Hinge(Reduction[_State]):
    r"""$c\,D^p$ for positives and $c\,[m - D]_+^p$ for negatives.

    Args:
        margin: m, in the unit of the distance.
        power: p, 1 or 2.
        factor: c.
        mean_over: What the mean divides by: all pairs, those with a loss above 0, or the anchors that have a pair.
        num_in_batch: So many leading references are the anchors' own set: a pass has such a pair twice, and a visit
            counts half.
        pos_margin: Above 0, positives have $c\,[D - m_+]_+^p$.
    """

    reads: ClassVar[Literal["similarity", "distance"]] = "distance"
    local = True
    sides = 1
    """What a score gradient is multiplied by: 2 where an entry stands for its mirror image too."""

    def __init__(
        self,
        margin: float,
        power: int = 2,
        factor: float = 1.0,
        mean_over: MeanOver = "all",
        num_in_batch: int = 0,
        pos_margin: float = 0.0,
    ) -> None:
        self.margin, self.power, self.factor, self.mean_over = margin, power, factor, mean_over
        self.num_in_batch, self.pos_margin = num_in_batch, pos_margin

    def start(self, like: Tensor, rows: slice) -> _State:
        """No pair yet."""
        zero = like.new_zeros(rows.stop - rows.start, dtype=torch.float64)
        return _State(zero, zero, zero, like.new_zeros(0))

    def update(self, step: int, state: _State, tile: Tile) -> None:
        """Leaves min(D - m, 0) of the negatives in the tile."""
        del step
        at = tile.positives
        state.positive_scores, state.measured = self._excess(tile.scores[at.rows, at.cols]), tile.measured
        visits = self._visits(tile, at.cols).double()
        state.loss = state.loss + tile.per_row(self._penalty(state.positive_scores).double() * visits)
        state.active = state.active + tile.per_row((self._penalty(state.positive_scores) > 0) * visits)
        state.pairs = state.pairs + tile.per_row(visits)
        lacking = tile.hide_all_but_negatives(self.margin).sub_(self.margin).clamp_max_(0)
        for span, visit in self._parts(tile):
            part = lacking[:, span]
            penalty = torch.linalg.vecdot(part, part) if self.power == 2 else part.sum(1).neg_()
            state.loss = state.loss + visit * self.factor * penalty
            if self.mean_over == "active" or tile.measured:
                state.active = state.active + visit * (part < 0).sum(1)
            state.pairs = state.pairs + visit * tile.negatives_per_row(span)

    def finish(self, state: _State) -> Partial:
        """Counts as `mean_over` says."""
        count = {"all": state.pairs, "active": state.active, "anchors": (state.pairs > 0).double()}[self.mean_over]
        return Partial(state.loss, count, {"active": state.active, "pairs": state.pairs} if state.measured else {})

    def grad_scores(self, state: _State, tile: Tile) -> Tensor:
        """Score gradients c p D^(p-1) for positives, -c p [m - D]^(p-1) for negatives."""
        at = tile.positives
        rate = self.power * self.factor * self.sides
        grad_scores = tile.scores if self.power == 2 else tile.scores.lt_(0).neg_()
        for span, visit in self._parts(tile):
            grad_scores[:, span].mul_(rate * visit)
        positive_scores = state.positive_scores
        if self.power == 1:
            counts = positive_scores > 0 if self.pos_margin else torch.ones_like(positive_scores, dtype=torch.bool)
            positive_scores = counts.to(positive_scores)
        return add_at(grad_scores, at.rows, at.cols, positive_scores * (rate * self._visits(tile, at.cols)))

    def program(self) -> tuple[Program, dict[str, Tensor]]:
        """The same as a row program."""
        options = self.margin, self.power, self.factor, self.mean_over, self.num_in_batch, self.pos_margin
        return HingeProgram(*options), {}

    def plain(
        self, scores: Tensor, positive: Tensor, negative: Tensor, label_distances: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The equation."""
        del label_distances
        visits = torch.where(torch.arange(scores.shape[1], device=scores.device) < self.num_in_batch, 0.5, 1.0).to(
            scores
        )
        near, far = self._excess(scores), (self.margin - scores).clamp_min(0)
        terms = positive * self._penalty(near) + negative * self._penalty(far)
        pairs = ((positive | negative) * visits).sum(1)
        counts = {"all": pairs, "active": ((terms > 0) * visits).sum(1), "anchors": (pairs > 0).to(scores)}
        return (terms * visits).sum(1), counts[self.mean_over]

    def symmetric(self, peak: float | None) -> "Reduction[Any] | None":
        """Half of the tiles do for sums over pairs."""
        del peak
        return (
            None
            if self.mean_over == "anchors"
            else _HalfHinge(self.margin, self.power, self.factor, self.mean_over, self.num_in_batch, self.pos_margin)
        )

    def _excess(self, distances: Tensor) -> Tensor:
        """By how much positives are too far apart."""
        return (distances - self.pos_margin).clamp_min(0) if self.pos_margin else distances

    def _penalty(self, x: Tensor) -> Tensor:
        return x.square() * self.factor if self.power == 2 else x * self.factor

    def _visits(self, tile: Tile, cols: Tensor) -> Tensor:
        return torch.where(cols + tile.cols.start < self.num_in_batch, 0.5, 1.0).to(tile.scores.dtype)

    def _parts(self, tile: Tile) -> list[tuple[slice, float]]:
        """Columns of the tile inside the anchors' own set, and the others."""
        width = tile.cols.stop - tile.cols.start
        cut = min(max(self.num_in_batch - tile.cols.start, 0), width)
        return [
            (span, visit) for span, visit in ((slice(0, cut), 0.5), (slice(cut, width), 1.0)) if span.stop > span.start
        ]


class _HalfHinge(Hinge):
    """`Hinge` of one set against itself: off the diagonal a tile stands for its mirror image too."""

    sides = 2

    def update(self, step: int, state: _State, tile: Tile) -> None:
        before = (state.loss, state.pairs, state.active)
        mine = super().start(tile.scores, tile.rows)
        super().update(step, mine, tile)
        sides = 1 if tile.rows == tile.cols else 2
        for total, part in zip(before, (mine.loss, mine.pairs, mine.active), strict=True):
            total[tile.rows] += sides * part
        state.positive_scores = mine.positive_scores

    def start(self, like: Tensor, rows: slice) -> _State:
        zero = like.new_zeros(rows.stop - rows.start, dtype=torch.float64)
        return _State(zero, zero.clone(), zero.clone(), like.new_zeros(0))
