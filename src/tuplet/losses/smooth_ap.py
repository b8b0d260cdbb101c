"""SmoothAP: average precision with soft ranks."""

import torch
from torch import Tensor

from tuplet.bounds import Tau
from tuplet.engine.program import Found, Mean, Pair, Term, count, total
from tuplet.losses.declare import PairLoss, register


class SoftRankLoss(PairLoss):
    """A declaration over the soft ranks of an anchor's positives, with an option `temperature` of the sigmoid."""

    fixed_geometry = "cosine"
    near = True
    numbers = 2

    def before(self, score: Tensor, pair: Pair) -> tuple[Tensor, Tensor]:
        """How far each column stands before each positive of its row, and which of the positives there are."""
        near = pair.of_row["near"]
        real = near > -torch.inf
        return torch.sigmoid((score[..., None] - torch.where(real, near, 0.0)) / vars(self)["temperature"]), real

    def over_positives(self, found: Found, losses: Tensor) -> Mean:
        """Mean of the losses of an anchor's positives."""
        real, number = found["positives"] > 0, found["positives"].amax(1)
        sums = torch.where(real, losses, 0.0).sum(1)
        return Mean(torch.where(number > 0, sums / number.clamp_min(1), 0.0), number > 0)


@register("smooth_ap")
class SmoothAPLoss(SoftRankLoss):
    r"""One minus the average precision of each anchor, with a sigmoid in the place of each comparison of two scores.

    $$L_i = 1 - \frac{1}{|P_i|} \sum_{p \in P_i} \frac{1 + \sum_{j \in P_i \setminus p} \sigma((s_{ij} - s_{ip})/\tau)}
    {1 + \sum_{j \ne i, p} \sigma((s_{ij} - s_{ip})/\tau)}$$

    Args:
        temperature: tau > 0; a small one comes close to the ranks themselves, and has few pairs with a gradient.

    References:
        Brown, Xie, Kalogeiton, Zisserman, "Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval", 2020,
        eq. 6.
    """

    temperature: Tau = 0.01

    suits = "average precision itself, with few examples of each class"

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """For each positive, how many stand before it: all, and positives."""
        before, real = self.before(score, pair)
        positive = pair.positive[..., None] & real
        return {
            "before": total(before, where=positive | (pair.negative[..., None] & real)),
            "positives_before": total(before, where=positive),
            "positives": count(positive),
        }

    def finish(self, found: Found) -> Mean:
        """A positive was compared with itself too, which gave 1/2."""
        return self.over_positives(found, 1 - (0.5 + found["positives_before"]) / (0.5 + found["before"]))


smooth_ap = SmoothAPLoss.function()
