"""Proxy-Anchor loss."""

import torch
from torch import Tensor

from tuplet.bounds import Finite, Positive
from tuplet.engine.program import Found, Mean, Pair, Term, count, lse, softplus
from tuplet.losses.base import register
from tuplet.losses.proxies import ProxyLoss


@register("proxy_anchor")
class ProxyAnchorLoss(ProxyLoss):
    r"""A learned vector per class, its proxy, is the anchor: it attracts its examples and repels all others.

    $$L = \frac{1}{|P^+|} \sum_{p \in P^+} \log\Big(1 + \sum_{x \in X_p^+} e^{-\alpha (s_{xp} - \delta)}\Big)
    + \frac{1}{|P|} \sum_{p \in P} \log\Big(1 + \sum_{x \in X_p^-} e^{\alpha (s_{xp} + \delta)}\Big)$$

    The weight of an example, relative to the mean weight, multiplies its exponentials.

    Args:
        margin: δ, in units of the cosine.
        alpha: α > 0, the scale.

    References:
        Kim, Kim, Cho, Kwak, "Proxy Anchor Loss for Deep Metric Learning", 2020, eq. 4.
    """

    margin: Finite = 0.1
    alpha: Positive = 32.0

    suits = "few examples of each class, fast convergence"
    divides_by = "the classes in the batch, plus that over all classes"
    means = 2

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """The sums of a proxy's examples and of all others."""
        shift = pair.of_col.get("log_weight", torch.zeros_like(score))
        near, far = -self.alpha * (score - self.margin) + shift, self.alpha * (score + self.margin) + shift
        return {
            "positive": lse(near, where=pair.positive),
            "negative": lse(far, where=pair.negative),
            "positives": count(pair.positive & (shift > -torch.inf)),
        }

    def finish(self, found: Found) -> tuple[Mean, Mean]:
        """Over the classes that the batch has, and over all."""
        attraction, repulsion = (softplus(found[name]) for name in ("positive", "negative"))
        return Mean(attraction, found["positives"] > 0), Mean(repulsion, torch.ones_like(repulsion))


proxy_anchor = ProxyAnchorLoss.function()
