"""Ranked list loss: the pairs of an anchor that are on the wrong side of their boundary, weighted by how far."""

import torch
from torch import Tensor

from tuplet.bounds import Chance, NotNegative, Positive
from tuplet.engine.program import Found, Mean, Pair, Term, lse
from tuplet.losses.declare import PairLoss, register


@register("ranked_list")
class RankedListLoss(PairLoss):
    r"""Draws an anchor's positives into a ball and pushes its negatives out of a larger one, by the pairs that violate.

    $$L_i = (1 - \lambda) \frac{\sum_{p \in P_i^*} e^{T_P z_p} z_p}{\sum_{p \in P_i^*} e^{T_P z_p}}
    + \lambda \frac{\sum_{n \in N_i^*} e^{T_N z_n} z_n}{\sum_{n \in N_i^*} e^{T_N z_n}},
    \quad z_p = D_{ip} - (\alpha - m), \; z_n = \alpha - D_{in}$$

    D is the Euclidean distance of unit vectors; P* and N* are the pairs with z > 0.

    Args:
        margin: m, between the two boundaries.
        alpha: α, the boundary of the negatives.
        positive_scale: T_P, at least 0; at 0 all positives that violate weigh the same.
        negative_scale: T_N, the same of negatives; the paper takes 10.
        balance: λ, the share of the negatives.

    References:
        Wang, Hua, Kodirov, Hu, Garnier, Robertson, "Ranked List Loss for Deep Metric Learning", 2019, eq. 3 to 8.
    """

    margin: NotNegative = 0.4
    alpha: Positive = 1.2
    positive_scale: NotNegative = 0.0
    negative_scale: NotNegative = 10.0
    balance: Chance = 0.5

    suits = "classes that keep their spread, with all violating pairs weighed"
    fixed_geometry = "cosine"  # decreases with D, whose digits it has not: small distances are computed as they are
    scored_as = "euclidean"
    reads = "distance"
    of_units = True
    divides_by = "all anchors, those without a positive too"

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Sums of weights, and of weights times violations, as logarithms."""
        near = _weighed(score - (self.alpha - self.margin), self.positive_scale, pair.positive)
        far = _weighed(self.alpha - score, self.negative_scale, pair.negative)
        return {"positive": near[0], "positive_mass": near[1], "negative": far[0], "negative_mass": far[1]}

    def finish(self, found: Found) -> Mean:
        """Each anchor counts; a side without violations has no loss."""
        sides = [_mean(found[name], found[f"{name}_mass"]) for name in ("positive", "negative")]
        loss = (1 - self.balance) * sides[0] + self.balance * sides[1]
        return Mean(loss, torch.ones_like(loss))


ranked_list = RankedListLoss.function()


def _weighed(violation: Tensor, scale: float, among: Tensor) -> tuple[Term, Term]:
    """Logarithms of the weighed sum of violations, and of the sum of their weights."""
    violates = among & (violation > 0)
    weight = scale * violation
    return lse(weight + torch.where(violates, violation, 1.0).log(), where=violates), lse(weight, where=violates)


def _mean(weighed: Tensor, mass: Tensor) -> Tensor:
    some = mass > -torch.inf
    return torch.where(some, (torch.where(some, weighed, 0.0) - torch.where(some, mass, 0.0)).exp(), 0.0)
