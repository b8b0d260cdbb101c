"""Histogram loss: how often a negative pair is nearer than a positive one."""

import torch
from torch import Tensor

from tuplet.bounds import Count
from tuplet.engine import Outcome, Processes
from tuplet.engine.gather import reduce_sum, shared
from tuplet.engine.program import Pair, Program
from tuplet.engine.rowwise import rowwise
from tuplet.losses.both_ends import entries_of
from tuplet.losses.declare import PairLoss, register
from tuplet.losses.inputs import PairBatch
from tuplet.tensors import wide_dtype


@register("histogram")
class HistogramLoss(PairLoss):
    r"""The probability that a random negative pair is more similar than a random positive pair.

    $$L = \sum_{r=0}^{R} h^-_r \sum_{q \le r} h^+_q, \quad
    h^\pm_r = \frac{1}{|S^\pm|} \sum_{(i,j) \in S^\pm} \Big[1 - \frac{|s_{ij} - t_r|}{\Delta}\Big]_+$$

    The nodes t lie from -1 to 1 at distances Δ = 2/R; each pair has a share in the two nodes around its cosine.

    Args:
        bins: R.

    References:
        Ustinova, Lempitsky, "Learning Deep Embeddings with Histogram Loss", 2016, eq. 2 to 5.
    """

    bins: Count = 100

    suits = "no margin or scale to choose, large batches"
    fixed_geometry = "cosine"
    divides_by = "the pairs of each kind"
    meets_all = True

    def program(self, problem: PairBatch | None = None) -> Program:
        """None: a pair's loss depends on the pairs of all other rows."""
        raise NotImplementedError

    def _streamed(self, problem: PairBatch, processes: Processes) -> Outcome:
        """Both histograms of all processes, then one number."""
        a, r = problem.anchors, problem.references
        wide = wide_dtype(a)
        weights = a.new_ones(len(a), dtype=wide) if problem.weights is None else problem.weights.to(wide)
        sums = rowwise(
            self.counted, a, r, problem.relation, "cosine",
            entries=entries_of(problem), summed=True, of_row={"weight": weights},
        )  # fmt: skip
        near, far = (shared(reduce_sum(x, processes), processes) for x in sums)
        numbers = [x.detach().sum() for x in (near, far)]
        near, far = (x / torch.where(number > 0, number, 1.0) for x, number in zip((near, far), numbers, strict=True))
        value = (far * near.cumsum(0)).sum()
        return Outcome(value.to(wide), ((numbers[0] > 0) & (numbers[1] > 0)).double())

    def counted(self, distance: Tensor, pair: Pair) -> tuple[Tensor, Tensor]:
        """Weights of positives and of negatives at each node."""
        place = (2 - distance) * (self.bins / 2)
        node = place.detach().nan_to_num().floor().clamp(0, self.bins - 1)
        part, node = place - node, node.long().flatten()
        exact = place.dtype if place.device.type == "mps" else torch.float64  # millions of shares meet in a node
        found = []
        for chosen in (pair.positive, pair.negative):
            weight = torch.where(chosen, pair.of_row["weight"], 0.0).to(exact)
            empty = weight.new_zeros(self.bins + 1)
            low = empty.index_add(0, node, (weight * (1 - part)).flatten())
            found.append(low.index_add(0, node + 1, (weight * part).flatten()))
        return found[0], found[1]


histogram = HistogramLoss.function()
