"""Intra-pair variance loss: similarities of positives, and of negatives, near their means."""

from typing import Any

import torch
from torch import Tensor

from tuplet.bounds import NotNegative
from tuplet.engine import Processes
from tuplet.engine.gather import all_reduce_sum, reduce_sum, shared
from tuplet.engine.program import Found, Mean, Pair, Term, count, total
from tuplet.engine.rowwise import rowwise
from tuplet.losses.both_ends import entries_of
from tuplet.losses.declare import PairLoss, register
from tuplet.losses.inputs import PairBatch
from tuplet.tensors import wide_dtype


@register("intra_pair_variance")
class IntraPairVarianceLoss(PairLoss):
    r"""Keeps pairs of a kind together: no positive far below their mean similarity, no negative far above theirs.

    $$L = \frac{1}{|P|} \sum_{(a,p)} \big[(1 - \epsilon^+) \mu^+ - s_{ap}\big]_+^2
    + \frac{1}{|N|} \sum_{(a,n)} \big[s_{an} - (1 + \epsilon^-) \mu^-\big]_+^2$$

    μ⁺ and μ⁻ are the means of all positive and all negative pairs of the batch; they have a gradient too.

    Args:
        positive_slack: ε⁺, a share of μ⁺.
        negative_slack: ε⁻, a share of μ⁻.

    References:
        Yu, Tao, "Deep Metric Learning with Tuplet Margin Loss", 2019, eq. 7 and 8.
    """

    positive_slack: NotNegative = 0.01
    negative_slack: NotNegative = 0.01

    suits = "pairs of a kind with one similarity, beside a loss that parts the kinds"
    fixed_geometry = "cosine"
    divides_by = "the positive pairs, plus that over the negative pairs"
    means = 2
    meets_all = True

    def values(self, problem: PairBatch, processes: Processes) -> dict[str, Any]:
        """The means, in a pass of their own."""
        a, r = problem.anchors, problem.references
        wide = wide_dtype(a)
        weights = a.new_ones(len(a), dtype=wide) if problem.weights is None else problem.weights.to(wide)
        given: dict[str, Any] = {"entries": entries_of(problem), "summed": True, "of_row": {"weight": weights}}
        sums = rowwise(_sums, a, r, problem.relation, self.compares(), **given)
        means = []
        for total_score, number in (sums[:2], sums[2:]):
            pairs = all_reduce_sum(number, processes)
            mean = reduce_sum(total_score, processes) / torch.where(pairs > 0, pairs, 1.0)
            means.append(shared(mean, processes).expand(len(a)))
        return {"of_row": {"positive": means[0], "negative": means[1]}}

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Squares of what is beyond the slack."""
        below = torch.relu((1 - self.positive_slack) * pair.of_row["positive"] - score)
        above = torch.relu(score - (1 + self.negative_slack) * pair.of_row["negative"])
        return {
            "below": total(below.square(), where=pair.positive),
            "above": total(above.square(), where=pair.negative),
            "positives": count(pair.positive),
            "negatives": count(pair.negative),
        }

    def finish(self, found: Found) -> tuple[Mean, Mean]:
        """One mean of each kind."""
        return Mean(found["below"], found["positives"]), Mean(found["above"], found["negatives"])


intra_pair_variance = IntraPairVarianceLoss.function()


def _sums(distance: Tensor, pair: Pair) -> tuple[Tensor, ...]:
    """Weighted sums of scores, and of weights, of positives and of negatives."""
    score, weight = 1 - distance, pair.of_row["weight"][:, 0]
    found: list[Tensor] = []
    for chosen in (pair.positive, pair.negative):
        rows = torch.where(chosen, score, 0.0).sum(1), chosen.sum(1).to(weight)
        found += [(weight * row).sum() for row in rows]
    return tuple(found)
