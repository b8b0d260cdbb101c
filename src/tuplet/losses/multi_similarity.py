"""Multi-similarity loss, with or without its mining of pairs."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from tuplet.bounds import Finite, NotNegative, Positive
from tuplet.engine.program import Found, Mean, Pair, Term, largest, lse, smallest
from tuplet.losses.base import register
from tuplet.losses.declare import PairLoss
from tuplet.reductions.programs import LINEAR
from tuplet.types import GeometryName


@register("multi_similarity")
class MultiSimilarityLoss(PairLoss):
    r"""Weighs each pair by its similarity and by how it compares with the anchor's other pairs.

    $$L_i = \frac{1}{\alpha} \log\Big(1 + \sum_{p \in P_i} e^{-\alpha (s_{ip} - \lambda)}\Big)
    + \frac{1}{\beta} \log\Big(1 + \sum_{n \in N_i} e^{\beta (s_{in} - \lambda)}\Big)$$

    Args:
        alpha: How much far positives count above near ones.
        beta: How much near negatives count above far ones.
        base: λ, the cosine that parts positives from negatives.
        epsilon: Mining: a positive is kept if s - ε is below the anchor's nearest negative, a negative if s + ε is
            above its farthest positive. None keeps all pairs; the paper's is 0.1.

    References:
        Wang et al., "Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning", 2019, eq. 7, 8, 15.
    """

    alpha: Positive = 2.0
    beta: Positive = 50.0
    base: Finite = 0.5
    epsilon: NotNegative | None = None

    fixed_geometry: ClassVar[GeometryName] = "cosine"
    divides_by: ClassVar[str] = "all anchors, those without a positive too"

    @property
    def whole_rows(self) -> bool:
        """Mining needs the extremes of a row first."""
        return self.epsilon is not None

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Both sums; for mining the extremes."""
        if self.epsilon is None:
            return self._sums(score, pair.positive, pair.negative)
        return {
            "farthest": smallest(torch.where(pair.positive, score, torch.inf)),
            "nearest": largest(torch.where(pair.negative, score, -torch.inf)),
        }

    def then(self, score: Tensor, pair: Pair, found: Found) -> dict[str, Term]:
        """The sums over the pairs that are kept."""
        slack = self.epsilon or 0.0
        kept = pair.positive & (score - slack < found["nearest"])
        return self._sums(score, kept, pair.negative & (score + slack > found["farthest"]))

    def _sums(self, score: Tensor, positive: Tensor, negative: Tensor) -> dict[str, Term]:
        return {
            "positive": lse(torch.where(positive, -self.alpha * (score - self.base), -torch.inf)),
            "negative": lse(torch.where(negative, self.beta * (score - self.base), -torch.inf)),
        }

    def finish(self, found: Found) -> Mean:
        """Each anchor counts."""
        near = softplus(found["positive"], threshold=LINEAR) / self.alpha
        loss = near + softplus(found["negative"], threshold=LINEAR) / self.beta
        return Mean(loss, torch.ones_like(loss))


multi_similarity = MultiSimilarityLoss.function()
