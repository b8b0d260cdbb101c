"""Generalised lifted structure loss."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tuplet.bounds import NotNegative
from tuplet.engine.program import Found, Mean, Pair, Term, count, lse
from tuplet.losses.declare import PairLoss, register
from tuplet.losses.inputs import PairBatch, on_sphere
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

    def problem(self, embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]) -> PairBatch:
        """Who meets whom, where it is asked for on the unit sphere."""
        given = on_sphere(embeddings, dict(sides)) if self.normalise else (embeddings, sides)
        return super().problem(given[0], labels, given[1])

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
