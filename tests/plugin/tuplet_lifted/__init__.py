"""Generalised lifted structure loss, a plug-in of tuplet."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from tuplet.bounds import NotNegative
from tuplet.engine.program import Found, Mean, Pair, Term, count, lse
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

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Soft extremes; scores are -D."""
        return {
            "far": lse(torch.where(pair.positive, -score, -torch.inf)),
            "near": lse(torch.where(pair.negative, score, -torch.inf)),
            "positives": count(pair.positive),
        }

    def finish(self, found: Found) -> Mean:
        """Anchors without a positive are not counted."""
        valid = found["positives"] > 0
        far = torch.where(valid, found["far"], 0.0)
        return Mean(torch.where(valid, softplus(self.margin + far + found["near"], threshold=40.0), 0.0), valid)


soft_lifted = SoftLiftedLoss.function()
