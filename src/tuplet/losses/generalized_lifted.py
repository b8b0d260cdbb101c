"""Generalised lifted structure loss."""

import torch
from torch import Tensor

from tuplet.bounds import NotNegative
from tuplet.engine.program import Found, Mean, Pair, Term, count, lse
from tuplet.losses.declare import PairLoss, register
from tuplet.types import GeometryName


@register("generalized_lifted")
class GeneralizedLiftedLoss(PairLoss):
    r"""The soft maximum of an anchor's positive distances stays a margin below the soft minimum of its negative ones.

    $$L_i = \Big[\log \sum_{p \in P_i} e^{D_{ip}} + \log \sum_{n \in N_i} e^{m - D_{in}}\Big]_+$$

    Args:
        margin: m, in the unit of D.
        geometry: What D is; in the paper the Euclidean distance.
        normalise: Divide embeddings by their length first; evaluation then compares by the cosine, which ranks as the
            distance does.

    References:
        Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017, eq. 9, which
        generalises Oh Song et al., "Deep Metric Learning via Lifted Structured Feature Embedding", 2016, eq. 4.
    """

    margin: NotNegative = 1.0
    geometry: GeometryName = "euclidean"
    normalise: bool = False

    family = "triplet"
    suits = "triplets whose extremes are soft: no single example decides"
    divides_by = "the anchors that have a positive and a negative"
    reads = "distance"

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Soft extremes of the distances."""
        return {
            "far": lse(score, where=pair.positive),
            "near": lse(self.margin - score, where=pair.negative),
            "positives": count(pair.positive),
            "negatives": count(pair.negative),
        }

    def finish(self, found: Found) -> Mean:
        """Anchors that lack one of both are not counted."""
        valid = (found["positives"] > 0) & (found["negatives"] > 0)
        return Mean(torch.relu(torch.where(valid, found["far"] + found["near"], 0.0)), valid)


generalized_lifted = GeneralizedLiftedLoss.function()
