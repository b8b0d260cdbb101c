"""Generalised lifted structure loss, a plug-in of tuplet."""

import torch
from torch import Tensor

from tuplet.bounds import NotNegative
from tuplet.engine.program import Found, Mean, Pair, Term, count, lse, softplus
from tuplet.losses import PairLoss, register
from tuplet.types import GeometryName


@register("soft_lifted")
class SoftLiftedLoss(PairLoss):
    r"""The soft largest distance of a positive stays a margin below the soft least distance of a negative.

    $$L_i = \log\Big(1 + e^m \sum_{p \in P_i} e^{D_{ip}} \sum_{n \in N_i} e^{-D_{in}}\Big)$$

    Args:
        margin: m, in the unit of D.
        geometry: What D is.

    References:
        Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017, eq. 9, with softplus
        in the place of the hinge.
    """

    margin: NotNegative = 1.0
    geometry: GeometryName = "squared_euclidean"

    suits = "soft extremes of the distances in the place of hard ones"
    divides_by = "the anchors that have a positive and a negative"

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Soft extremes; scores are -D."""
        return {
            "far": lse(-score, where=pair.positive),
            "near": lse(score, where=pair.negative),
            "positives": count(pair.positive),
            "negatives": count(pair.negative),
        }

    def finish(self, found: Found) -> Mean:
        """Anchors that lack one of both are not counted."""
        valid = (found["positives"] > 0) & (found["negatives"] > 0)
        return Mean(softplus(torch.where(valid, self.margin + found["far"] + found["near"], -torch.inf)), valid)


soft_lifted = SoftLiftedLoss.function()
