"""Squared error of cosines, whose gradient is that of P2SGrad."""

import torch
from torch import Tensor

from tuplet.engine.program import Found, Mean, Pair, Term, total
from tuplet.losses.base import register
from tuplet.losses.target_head import TargetHeadLoss


@register("p2sgrad")
class P2SGradLoss(TargetHeadLoss):
    r"""The cosine with the own class should be 1 and all others 0, without a scale and without a margin to be chosen.

    $$L_i = \sum_j \big(\cos\theta_j - [j = y_i]\big)^2$$

    Its gradient by each cosine is twice the probability-free one of the paper, $\cos\theta_j - [j = y_i]$.

    References:
        Zhang et al., "P2SGrad: Refined Gradients for Optimizing Deep Face Models", 2019, eq. 11.
    """

    suits = "a head without hyper-parameters"

    def of_own(self, embeddings: Tensor, weight: Tensor, labels: Tensor, processes: object) -> dict[str, Tensor]:
        """Nothing: the own class is scored with all others."""
        del embeddings, weight, labels, processes
        return {}

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Squared error of each cosine."""
        return {"loss": total((score - pair.positive.to(score)).square())}

    def finish(self, found: Found) -> Mean:
        """A sum over the classes."""
        return Mean(found["loss"], torch.ones_like(found["loss"]))


p2sgrad = P2SGradLoss.function()
