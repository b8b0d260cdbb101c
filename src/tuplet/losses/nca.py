"""Neighbourhood components analysis as a loss."""

import torch
from torch import Tensor

from tuplet.bounds import Positive
from tuplet.engine import Processes
from tuplet.engine.program import Found, Mean, Pair, Term, count, lse
from tuplet.losses.declare import PairLoss, register
from tuplet.losses.inputs import PairBatch
from tuplet.types import GeometryName


@register("nca")
class NCALoss(PairLoss):
    r"""Raises the probability that a neighbour, sampled with near ones likelier, is of the anchor's class.

    $$L_i = -\log \sum_{p \in P_i} p_{ip}, \quad p_{ij} = \frac{e^{-s D_{ij}}}{\sum_{k \ne i} e^{-s D_{ik}}}$$

    Args:
        scale: s > 0; a large one looks at the nearest neighbours only.
        geometry: What D is; in the paper the squared Euclidean distance. For a similarity D is its negative.

    References:
        Goldberger, Roweis, Hinton, Salakhutdinov, "Neighbourhood Components Analysis", 2004, eq. 1, 2 and the
        logarithm of section 2 (the paper's first objective sums the probabilities themselves).
    """

    scale: Positive = 1.0
    geometry: GeometryName = "squared_euclidean"

    suits = "classes of several clusters, and classification by nearest neighbours"

    def values(self, problem: PairBatch, processes: Processes) -> dict[str, float]:
        """Scores are -s D."""
        del problem, processes
        return {"scale": self.scale}

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Mass of all candidates, and of the positives."""
        return {
            "mass": lse(score, where=pair.positive | pair.negative),
            "wanted": lse(score, where=pair.positive),
            "positives": count(pair.positive),
        }

    def finish(self, found: Found) -> Mean:
        """Anchors without a positive are not counted."""
        valid = found["positives"] > 0
        return Mean(torch.where(valid, found["mass"] - found["wanted"], 0.0), valid)


nca = NCALoss.function()
