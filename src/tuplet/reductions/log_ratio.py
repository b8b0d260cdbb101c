"""Ratios of distances follow ratios of label distances, over all pairs of references of an anchor at once."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tuplet.engine.program import Program
from tuplet.engine.reduction import Partial, Reduction, Tile
from tuplet.reductions.programs import LogRatioProgram


@dataclass
class _State:
    loss: Tensor | None = None
    count: Tensor | None = None
    grad_scores: Tensor | None = None


class LogRatio(Reduction[_State]):
    r"""$\sum_{i<j} v_i v_j (r_i - r_j)^2 = V \sum_i v_i (r_i - \bar r)^2$, for one anchor.

    Here $r_i = \log(D_i + \epsilon) - \log(y_i + \epsilon)$, V is the sum of the v and r̄ their weighted mean: O(n) for
    the n(n-1)/2 pairs of an anchor.

    Args:
        eps: Added to both distances inside the logarithm.
        mask_zero_label: True to leave out references whose label equals the anchor's: log(eps) would rule the mean.
        reference_weights: v, one per reference.
    """

    reads: ClassVar[Literal["similarity", "distance"]] = "distance"
    whole_rows = True
    work = 4

    def __init__(
        self, eps: float = 1e-6, *, mask_zero_label: bool = True, reference_weights: Tensor | None = None
    ) -> None:
        self.eps, self.mask_zero_label, self.reference_weights = eps, mask_zero_label, reference_weights

    def start(self, like: Tensor, rows: slice) -> _State:
        """Nothing met yet."""
        del like, rows
        return _State()

    def update(self, step: int, state: _State, tile: Tile) -> None:
        """Centre first: n sum r^2 - (sum r)^2 would cancel."""
        del step
        label_distances = tile.label_distances
        if label_distances is None:
            raise AssertionError("LogRatio needs a graded relation")
        label_distances, near = label_distances.to(tile.scores), tile.scores.add_(self.eps)
        v = torch.gt(
            label_distances, 0 if self.mask_zero_label else -1, out=torch.empty_like(near)
        )  # a gap is 0 or more
        tile.hide_ignored(0.0, v)
        squares = mass = v.sum(1, keepdim=True)
        if self.reference_weights is not None:
            v.mul_(self.reference_weights[None, tile.cols].to(v))
            mass, squares = v.sum(1, keepdim=True), v.square().sum(1, keepdim=True)
        ratio = torch.div(near, label_distances.add_(self.eps), out=label_distances).log_()
        mean = torch.linalg.vecdot(ratio, v)[:, None] / torch.where(mass > 0, mass, 1)
        residual = v.mul_(ratio.sub_(mean))  # v (r - mean)
        wide = mass[:, 0].double()
        state.loss = wide * torch.linalg.vecdot(ratio, residual)
        state.count = (wide.square() - squares[:, 0]) / 2
        state.grad_scores = residual.mul_(2 * mass).div_(near)

    def finish(self, state: _State) -> Partial:
        """Pairs of references, weighted by v."""
        if state.loss is None or state.count is None:
            raise AssertionError("finish before update")
        alone = state.count <= 0  # fewer than two references: no pair, whatever rounding left
        return Partial(torch.where(alone, 0.0, state.loss), torch.where(alone, 0.0, state.count))

    def program(self) -> tuple[Program, dict[str, Tensor]]:
        """The same as a row program."""
        v = self.reference_weights
        return LogRatioProgram(self.eps, self.mask_zero_label, v is not None), {} if v is None else {"v": v}

    def plain(
        self, scores: Tensor, positive: Tensor, negative: Tensor, label_distances: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The equation, over all pairs of references."""
        del positive
        if label_distances is None:
            raise AssertionError("LogRatio needs a graded relation")
        label_distances = label_distances.to(scores)
        chosen = negative & (label_distances > 0) if self.mask_zero_label else negative
        v = chosen.to(scores) if self.reference_weights is None else chosen * self.reference_weights
        ratio = (scores + self.eps).log() - (label_distances + self.eps).log()
        apart = (ratio[:, :, None] - ratio[:, None, :]).square()
        both = (v[:, :, None] * v[:, None, :]).triu(1)
        return (both * apart).sum((1, 2)), both.sum((1, 2))

    def grad_scores(self, state: _State, tile: Tile) -> Tensor:
        """2 V v (r - mean) / (D + eps)."""
        del tile
        if state.grad_scores is None:
            raise AssertionError("grad_scores before update")
        return state.grad_scores
