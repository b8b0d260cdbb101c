"""Circle loss on pairs of examples."""

import torch
from torch import Tensor

from tuplet.bounds import NotNegative, Positive
from tuplet.engine.program import Found, Mean, Pair, Term, count, lse, softplus
from tuplet.losses.declare import PairLoss, register


@register("circle")
class CircleLoss(PairLoss):
    r"""Weights each similarity by how far it is from its optimum.

    $$L_i = \log\Big(1 + \sum_{n \in N_i} e^{\gamma \alpha_n (s_{in} - m)}
    \sum_{p \in P_i} e^{-\gamma \alpha_p (s_{ip} - 1 + m)}\Big), \quad
    \alpha_n = [s_{in} + m]_+, \; \alpha_p = [1 + m - s_{ip}]_+$$

    The paces α are constants in the gradient.

    Args:
        margin: m, at least 0; a small one leaves little room around the optima 1 and 0.
        gamma: γ > 0, the scale. The paper takes m = 0.25 and γ = 256 for faces, 0.25 and 128 for people, 0.4 and 80
            for retrieval.

    References:
        Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", 2020, eq. 4 to 8.
    """

    margin: NotNegative = 0.4
    gamma: Positive = 80.0

    suits = "pairs weighted by how far they are from their optimum"
    fixed_geometry = "cosine"
    stops_gradient = True
    divides_by = "the anchors that have a positive and a negative"

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """The two sums."""
        fixed = score.detach()
        near = -self.gamma * torch.relu(1 + self.margin - fixed) * (score - 1 + self.margin)
        far = self.gamma * torch.relu(fixed + self.margin) * (score - self.margin)
        return {
            "positive": lse(near, where=pair.positive),
            "negative": lse(far, where=pair.negative),
            "positives": count(pair.positive),
            "negatives": count(pair.negative),
        }

    def finish(self, found: Found) -> Mean:
        """Anchors that lack one of both are not counted."""
        valid = (found["positives"] > 0) & (found["negatives"] > 0)
        exponent = torch.where(valid, found["positive"] + found["negative"], 0.0)
        return Mean(torch.where(valid, softplus(exponent), 0.0), valid)


circle = CircleLoss.function()
