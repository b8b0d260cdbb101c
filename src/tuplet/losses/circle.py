"""Circle loss on pairs of examples."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from tuplet.bounds import NotNegative, Positive
from tuplet.engine.program import Found, Mean, Pair, Term, count, lse
from tuplet.losses.base import register
from tuplet.losses.declare import PairLoss
from tuplet.reductions.programs import LINEAR
from tuplet.types import GeometryName


@register("circle")
class CircleLoss(PairLoss):
    r"""Each similarity is pulled to its optimum at a pace of its own: the farther from it, the harder.

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

    fixed_geometry: ClassVar[GeometryName] = "cosine"
    stops_gradient: ClassVar[bool] = True
    divides_by: ClassVar[str] = "the anchors that have a positive and a negative"

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """The two sums."""
        fixed = score.detach()
        near = -self.gamma * torch.relu(1 + self.margin - fixed) * (score - 1 + self.margin)
        far = self.gamma * torch.relu(fixed + self.margin) * (score - self.margin)
        return {
            "positive": lse(torch.where(pair.positive, near, -torch.inf)),
            "negative": lse(torch.where(pair.negative, far, -torch.inf)),
            "positives": count(pair.positive),
            "negatives": count(pair.negative),
        }

    def finish(self, found: Found) -> Mean:
        """Anchors that lack one of both are not counted."""
        valid = (found["positives"] > 0) & (found["negatives"] > 0)
        exponent = torch.where(valid, found["positive"], 0.0) + torch.where(valid, found["negative"], 0.0)
        return Mean(torch.where(valid, softplus(exponent, threshold=LINEAR), 0.0), valid)


circle = CircleLoss.function()
