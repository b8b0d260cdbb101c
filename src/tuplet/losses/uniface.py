"""Binary cross-entropy of each class by one threshold for all examples."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from tuplet.bounds import NotNegative, Scale
from tuplet.engine import Processes
from tuplet.engine.gather import shared
from tuplet.engine.program import Found, Mean, Pair, Term, softplus, total
from tuplet.losses.base import register
from tuplet.losses.target_head import TargetHeadLoss


@register("uniface")
class UniFaceLoss(TargetHeadLoss):
    r"""Each class by itself: the own one above a learned threshold, that all examples share, and all others below it.

    $$L_i = \log\big(1 + e^{b - s(\cos\theta_{y_i} - m)}\big) + \lambda \sum_{j \ne y_i} \log\big(1 +
    e^{s\cos\theta_j - b}\big)$$

    b / s is the threshold; b starts at log(10 C) for C classes.

    Inputs:
        threshold: b.

    Args:
        margin: m, in units of the cosine.
        negative_weight: λ, at least 0.
        scale: s > 0.

    References:
        Zhou, Jia, Li, Shen, Duan, "UniFace: Unified Cross-Entropy Loss for Deep Face Recognition", 2023, eq. 13 to 17.
    """

    margin: NotNegative = 0.4
    negative_weight: NotNegative = 1.0
    scale: Scale = 64.0

    suits = "one threshold for all classes, as verification needs it"
    inputs: ClassVar[Mapping[str, Any]] = {
        "embeddings": Float[Tensor, "anchors dim"],
        "weight": Float[Tensor, "classes dim"],
        "labels": Shaped[Tensor, " anchors"],
        "threshold": Float[Tensor, ""],
    }

    def setup(self) -> None:
        """Draw the class weights; the threshold starts where few negatives are above it."""
        super().setup()
        self.threshold = nn.Parameter(torch.tensor(math.log(10 * self.num_classes)))

    def of_rows(self, embeddings: Tensor, angle: Tensor, labels: Tensor, processes: Processes) -> dict[str, Tensor]:
        """The target's score, and the threshold."""
        del embeddings, labels
        threshold = shared(self.threshold, processes).to(angle)
        return {"own": angle.cos() - self.margin, "threshold": threshold.expand(len(angle))}

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Binary cross-entropy of the other classes."""
        return {"others": total(softplus(self.scale * score - pair.of_row["threshold"]), where=pair.negative)}

    def finish(self, found: Found) -> Mean:
        """And of the own one."""
        own = softplus(found["threshold"] - self.scale * found["own"])
        return Mean(own + self.negative_weight * found["others"], torch.ones_like(own))


uniface = UniFaceLoss.function()
