"""Loss and score gradients of whole rows of scores that are at hand: by a written-out reduction, or by tile code."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tuplet.engine.compiling import compiled
from tuplet.engine.execution import Execution, uses_tiles
from tuplet.engine.reduction import Reduction, Tile
from tuplet.engine.tilecode import Spec, layout, whole_rows
from tuplet.keys import Compare, Keys
from tuplet.relation import Entries, Masks, Relation

Code = Callable[[Tensor, Relation], tuple[Tensor, Tensor, Tensor]]
"""Scores of some rows, and who is whose positive -> losses, counts and score gradients."""

Sums = tuple[Tensor, Tensor, Tensor]

ON_CPU = 2**20
"""Most scores at hand on a CPU: 4 MiB in float32."""


@dataclass(frozen=True)
class Leading(Masks):
    """The first `positives` entries of each row are positive, the others negative."""

    anchors: int
    references: int
    positives: int = 1
    device: torch.device | None = None
    first: int | None = None

    def masks(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor]:
        """Compare places in the row."""
        place = torch.arange(cols.start, cols.stop, device=self.device) < self.positives
        positive = place.expand(rows.stop - rows.start, -1)
        return positive, ~positive

    def sparse_entries(self, rows: slice, cols: slice) -> tuple[Entries, Entries]:
        """The leading entries, row by row."""
        del cols
        count = rows.stop - rows.start
        i = torch.arange(count, device=self.device).repeat_interleave(self.positives)
        j = torch.arange(self.positives, device=self.device).repeat(count)
        return Entries(i, j), Entries(i[:0], i[:0])

    def keys(self) -> tuple[Keys, Keys, Compare]:
        """Places in the row tell positives."""
        live = torch.ones(self.anchors, dtype=torch.bool, device=self.device or torch.device("cpu"))
        return {"live": live}, {}, _Places(self.positives)


@dataclass(frozen=True)
class _Places:
    positives: int

    def __call__(self, rows: Mapping[str, Tensor], cols: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, None]:
        positive = (cols["place"] < self.positives) & rows["live"]
        return positive, ~positive, None


def row_code(reduction: Reduction[Any], compare: Compare, like: Tensor, scores: int, execution: Execution) -> Code:
    """What makes loss and score gradients of rows.

    Args:
        reduction: What a row becomes.
        compare: How the keys of the rows' relations are compared.
        like: Whose type the scores have.
        scores: How many there are in all.
        execution: How it is carried out.
    """
    if not uses_tiles(execution, like.device):
        return partial(_reduced, reduction)
    program, _ = reduction.program()
    spec = Spec(
        program,
        compare,
        "none",
        None,
        centers=1,
        has_margin=False,
        one_set=False,
        of_row=(),
        of_col=(),
        layout=layout(program, (), ()),
        needs_grad=frozenset({"product"}),
    )
    is_compiled = execution.compiles(like.device, scores)
    return partial(_by_tile_code, compiled(whole_rows, spec) if is_compiled else partial(whole_rows, spec))


def scores_at_hand(like: Tensor, execution: Execution) -> int:
    """How many scores rows may have together."""
    return execution.entries(like) if uses_tiles(execution, like.device) else ON_CPU


def _reduced(reduction: Reduction[Any], scores: Tensor, relation: Relation) -> Sums:
    """By a reduction that is written out."""
    rows = slice(0, len(scores))
    tile = Tile(scores.contiguous(), rows, slice(0, scores.shape[1]), relation, kept=True)
    state = reduction.start(scores, rows)
    for step in range(reduction.passes):
        reduction.update(step, state, tile)
    grad_scores = reduction.grad_scores(state, tile)
    done = reduction.finish(state)
    return done.loss, done.count, grad_scores


def _by_tile_code(code: Callable[..., Any], scores: Tensor, relation: Relation) -> Sums:
    """By a program."""
    keys, _, _ = relation.keys()
    rows = {**keys, "position": torch.full_like(keys["live"], -1, dtype=torch.int64)}
    begin = torch.zeros((), dtype=torch.int64, device=scores.device)
    one = torch.ones((), dtype=scores.dtype, device=scores.device)
    loss, number, _, grad_scores, _ = code(scores, rows, {"begin": begin, "new": begin}, {"scale": one})
    return loss, number, grad_scores
