"""What a loss author writes: how one row of scores becomes a number, and its gradient."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor

from tuplet.engine.gather import Processes
from tuplet.engine.program import Program
from tuplet.relation import Entries, Relation

State = TypeVar("State")


@dataclass
class Tile:
    """One tile of the score matrix, with its masks at hand.

    Args:
        scores: (rows, cols) in the accumulation type. The last reader may overwrite them.
        rows: Which anchors.
        cols: Which references.
        relation: Who is whose positive.
        kept: True if `grad_scores` gets this very tile, with what the last `update` left in it, and not one scored
            again.
        measured: True if statistics are asked for.
        note: Whatever else `update` leaves for `grad_scores` in a tile that is kept.
    """

    scores: Tensor
    rows: slice
    cols: slice
    relation: Relation
    kept: bool
    measured: bool = False
    note: Any = None
    _sparse: Any = field(default=False, repr=False)
    _masks: Any = field(default=None, repr=False)
    _positives: Any = field(default=None, repr=False)

    @property
    def positive(self) -> Tensor:
        """Bool (rows, cols)."""
        return self._both()[0]

    @property
    def negative(self) -> Tensor:
        """Bool (rows, cols)."""
        return self._both()[1]

    @property
    def label_distances(self) -> Tensor | None:
        """Distances between graded labels."""
        return self.relation.label_distances(self.rows, self.cols)

    @property
    def positives(self) -> Entries:
        """Positive entries one by one, row by row."""
        if self._positives is None:
            sparse_entries = self._listed()
            self._positives = sparse_entries[0] if sparse_entries else Entries.of(self.positive)
        return self._positives

    def hide_ignored(self, value: float, scores: Tensor | None = None) -> Tensor:
        """Overwrite the entries that do not count, in place; returns the scores."""
        scores = self.scores if scores is None else scores
        sparse_entries = self._listed()
        if sparse_entries is None:
            return scores.masked_fill_(~(self.positive | self.negative), value)
        scores[sparse_entries[1].rows, sparse_entries[1].cols] = value
        return scores

    def hide_all_but_negatives(self, value: float, scores: Tensor | None = None) -> Tensor:
        """Overwrite the entries that are not negative, in place; returns the scores."""
        scores = self.hide_ignored(value, scores)
        scores[self.positives.rows, self.positives.cols] = value
        return scores

    def per_row(self, values: Tensor) -> Tensor:
        """Sums over the positives of each row of `values`, one per positive."""
        return values.new_zeros(self.scores.shape[0]).index_add_(0, self.positives.rows, values)

    def negatives_per_row(self, span: slice = slice(None)) -> Tensor:
        """How many negatives each row has among the columns `span` of the tile, (rows,)."""
        sparse_entries = self._listed()
        if sparse_entries is None:
            return self.negative[:, span].sum(1)
        begin, stop, _ = span.indices(self.scores.shape[1])
        others = [at.rows[(at.cols >= begin) & (at.cols < stop)] for at in sparse_entries]
        return (stop - begin) - torch.bincount(torch.cat(others), minlength=self.scores.shape[0])

    def _both(self) -> tuple[Tensor, Tensor]:
        if self._masks is None:
            self._masks = self.relation.masks(self.rows, self.cols)
        return self._masks

    def _listed(self) -> tuple[Entries, Entries] | None:
        if self._sparse is False:
            self._sparse = self.relation.sparse_entries(self.rows, self.cols)
        return self._sparse


@dataclass(frozen=True)
class Partial:
    """What a block of anchors contributes, not yet divided.

    Args:
        loss: (rows,), sum of each anchor's terms.
        count: (rows,), each anchor's share of what the mean divides by.
        stats: (rows,) each; numbers to be summed over anchors and reported by name.
    """

    loss: Tensor
    count: Tensor
    stats: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Result of a pass.

    Args:
        total: Sum of all terms, differentiable.
        count: What the mean divides by; weighted if weights were given.
        stats: Sums over all anchors, by name.
    """

    total: Tensor
    count: Tensor
    stats: dict[str, Tensor] = field(default_factory=dict)

    @property
    def value(self) -> Tensor:
        """Mean of the terms, differentiable; 0 if there is none."""
        return self.total / torch.where(self.count > 0, self.count, 1).to(self.total.dtype)


def combine(*outcomes: Outcome) -> Outcome:
    """Sums, counts and statistics of several passes as if they were one."""
    stats: dict[str, Tensor] = {}
    for outcome in outcomes:
        for name, value in outcome.stats.items():
            stats[name] = stats[name] + value if name in stats else value
    total, count = outcomes[0].total, outcomes[0].count
    for outcome in outcomes[1:]:
        total, count = total + outcome.total, count + outcome.count
    return Outcome(total, count, stats)


class Reduction(Generic[State]):
    """Reduces rows of scores to losses.

    The engine calls, for each block of anchors: `start`; `update` for every tile, `passes` times over; `finish`;
    `grad_scores` for every tile. A reduction sees sums only: the engine divides once, at the end, so the result does
    not depend on the tiles.
    """

    reads: ClassVar[Literal["similarity", "distance"]] = "similarity"
    passes: int = 1
    """Passes over a row needed before its score gradients are known."""
    whole_rows: bool = False
    """True if a tile must span all references."""
    work: int = 1
    """Numbers that are held for each entry of such a tile while it is reduced; tiles get smaller by this factor."""
    local: bool = False
    """True if an entry's gradient depends on that entry alone: one pass is enough, before `finish`."""

    def start(self, like: Tensor, rows: slice) -> State:
        """An empty state for these anchors; `like` has the accumulation type."""
        raise NotImplementedError

    def update(self, step: int, state: State, tile: Tile) -> None:
        """Take in one tile; `step` counts the passes from 0."""
        raise NotImplementedError

    def merge(self, state: State, shards: Processes) -> State:
        """One state from those of several processes that reduced the same anchors, each with references of its own."""
        raise NotImplementedError

    def finish(self, state: State) -> Partial:
        """Losses and counts of these anchors."""
        raise NotImplementedError

    def grad_scores(self, state: State, tile: Tile) -> Tensor:
        """Derivative of the sum of losses by the scores of this tile; may overwrite `tile.scores`."""
        raise NotImplementedError

    def program(self) -> tuple[Program, dict[str, Tensor]]:
        """The same loss as a row program, with the values of references that it names."""
        raise NotImplementedError

    def plain(
        self, scores: Tensor, positive: Tensor, negative: Tensor, label_distances: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The equation, by autograd, from complete rows: losses and counts (anchors,). `engine.reference` uses it."""
        raise NotImplementedError

    def symmetric(self, peak: float | None) -> "Reduction[Any] | None":
        """The same for one set against itself, where each tile above the diagonal also serves its mirror image.

        Its state spans all anchors; `update` takes a tile in for its rows and, transposed, for its columns (for its
        rows alone on the diagonal, which holds both mirror images); `grad_scores` is that of an entry plus that of its
        mirror image.

        Args:
            peak: Bound of the scores from above, if there is one.

        Returns:
            None if rows and columns have to be computed separately.
        """
        del peak
        return None
