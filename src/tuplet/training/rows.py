"""Optimisers that touch only the rows of a table that were used."""

import math
from typing import Literal

import torch
from torch import Tensor

from tuplet.losses.word_block import Slope

RowOptimizerName = Literal["sgd", "adagrad"]


class RowOptimizer:
    """Moves the rows that a gradient names; all others, and their state, stay as they are.

    Gradients of a row that is named more than once are summed before anything else. The norm of the sum is capped: a
    frequent word that is hit a hundred times in one step would otherwise overshoot.

    Args:
        table: What is moved, in place.
        name: "sgd", or "adagrad".
        cap: Largest norm of the gradient of a row; inf for none.
        eps: Added to AdaGrad's root.
    """

    def __init__(
        self, table: Tensor, name: RowOptimizerName = "sgd", *, cap: float = math.inf, eps: float = 1e-10
    ) -> None:
        self.table, self.cap, self.eps = table, cap, eps
        self.squares = torch.zeros_like(table) if name == "adagrad" else None
        self._place = torch.zeros(len(table), dtype=torch.int64)

    @torch.no_grad()
    def step(self, slope: Slope, rate: float) -> Tensor | None:
        """Go down a gradient.

        Returns:
            Whether each row of the gradient was capped, (rows,); None without a cap.
        """
        rows = slope.rows
        self._place.index_copy_(0, rows, torch.arange(len(rows)))
        places = self._place.index_select(0, rows)  # of a row that is named twice, one place gets the sum, the other 0
        total = torch.zeros_like(slope.values).index_add_(0, places, slope.values)
        capped = None
        if self.cap < math.inf:
            norm = torch.linalg.vector_norm(total, dim=1, keepdim=True)
            capped = norm[:, 0] > self.cap
            total *= (self.cap / norm.clamp_min_(1e-30)).clamp_max_(1)
        if self.squares is not None:
            self.squares.index_add_(0, rows, total.square())
            total /= self.squares.index_select(0, rows).sqrt_().add_(self.eps)
        self.table.index_add_(0, rows, total, alpha=-rate)
        return capped

    def state_dict(self) -> dict[str, Tensor]:
        """What the next step depends on beside the table."""
        return {} if self.squares is None else {"squares": self.squares}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Goes on from there."""
        if self.squares is not None:
            self.squares.copy_(state["squares"])
