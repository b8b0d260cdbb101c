"""Multi-similarity loss, with or without its mining of pairs."""

import torch
from torch import Tensor

from tuplet.bounds import Finite, NotNegative, Positive
from tuplet.engine.program import Found, Mean, Pair, Term, largest, lse, smallest, softplus
from tuplet.losses.declare import PairLoss, register


@register("multi_similarity")
class MultiSimilarityLoss(PairLoss):
    r"""Weighs each pair by its similarity and by how it compares with the anchor's other pairs.

    $$L_i = \frac{1}{\alpha} \log\Big(1 + \sum_{p \in P_i} e^{-\alpha (s_{ip} - \lambda)}\Big)
    + \frac{1}{\beta} \log\Big(1 + \sum_{n \in N_i} e^{\beta (s_{in} - \lambda)}\Big)$$

    Args:
        alpha: How much far positives count above near ones.
        beta: How much near negatives count above far ones.
        base: λ, the cosine that parts positives from negatives.
        epsilon: Mining: keeps positives with s - ε below the anchor's nearest negative, and negatives with s + ε above
            its farthest positive. None keeps all pairs; the paper's is 0.1.

    References:
        Wang et al., "Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning", 2019, eq. 7, 8, 15.
    """

    alpha: Positive = 2.0
    beta: Positive = 50.0
    base: Finite = 0.5
    epsilon: NotNegative | None = None

    suits = "hard pairs first, few examples of each class"
    fixed_geometry = "cosine"
    divides_by = "all anchors, those without a positive too"

    @property
    def whole_rows(self) -> bool:
        """Mining needs the extremes of a row first."""
        return self.epsilon is not None

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """For mining the extremes, else both sums."""
        if self.epsilon is None:
            return self.then(score, pair, {})
        return {"farthest": smallest(score, where=pair.positive), "nearest": largest(score, where=pair.negative)}

    def then(self, score: Tensor, pair: Pair, found: Found) -> dict[str, Term]:
        """Both sums, over the pairs that are kept."""
        positive, negative = pair.positive, pair.negative
        if self.epsilon is not None:
            positive = positive & (score - self.epsilon < found["nearest"])
            negative = negative & (score + self.epsilon > found["farthest"])
        near, far = -self.alpha * (score - self.base), self.beta * (score - self.base)
        return {"positive": lse(near, where=positive), "negative": lse(far, where=negative)}

    def finish(self, found: Found) -> Mean:
        """Each anchor counts."""
        loss = softplus(found["positive"]) / self.alpha + softplus(found["negative"]) / self.beta
        return Mean(loss, torch.ones_like(loss))


multi_similarity = MultiSimilarityLoss.function()
