"""Tuplet margin loss: all negatives of an anchor against each of its positives, whose angle has a slack."""

import math

import torch
from torch import Tensor

from tuplet.bounds import Radians, Scale
from tuplet.engine.program import Found, Mean, Pair, Term, count, lse, softplus, total
from tuplet.losses.declare import PairLoss, register

DIGITS = 16
"""Squared sines below so many units in the last place are rounding: the angle counts as 0 there."""


@register("tuplet_margin")
class TupletMarginLoss(PairLoss):
    r"""Each positive against all negatives of the anchor, with a slack on its angle so that no pair is pulled together.

    $$L = \frac{1}{n} \sum_{(a,p)} \log\Big(1 + \sum_{n \in N_a} e^{s (\cos \theta_{an} - \cos(\theta_{ap} - \beta))}
    \Big)$$

    Args:
        margin: β, the slack, in radians.
        scale: s > 0.

    References:
        Yu, Tao, "Deep Metric Learning with Tuplet Margin Loss", 2019, eq. 5 and 6.
    """

    margin: Radians = 0.1
    scale: Scale = 64.0

    family = "triplet"
    suits = "classes that vary within: a positive need not coincide with its anchor"
    fixed_geometry = "cosine"
    divides_by = "the positive pairs whose anchor has a negative"

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """The negatives of a row."""
        return {"negative": lse(self.scale * score, where=pair.negative)}

    def then(self, score: Tensor, pair: Pair, found: Found) -> dict[str, Term]:
        """Each positive against them."""
        there = found["negative"] > -torch.inf
        slack = math.cos(self.margin) * score + math.sin(self.margin) * sine_of(score)
        each = softplus(torch.where(there, found["negative"], 0.0) - self.scale * slack)
        return {"loss": total(each, where=pair.positive & there), "pairs": count(pair.positive & there)}

    def finish(self, found: Found) -> Mean:
        """Each positive pair counts."""
        return Mean(found["loss"], found["pairs"])


tuplet_margin = TupletMarginLoss.function()


def sine_of(cosine: Tensor) -> Tensor:
    """Sine of an angle between 0 and π; its derivative is 0 where the vectors are parallel, up to rounding."""
    square = 1 - cosine.square()
    apart = square > DIGITS * torch.finfo(cosine.dtype).eps
    return torch.where(apart, torch.where(apart, square, 1.0).sqrt(), 0.0)
