"""FastAP: average precision over a histogram of distances."""

import torch
from torch import Tensor

from tuplet.bounds import Count
from tuplet.engine.program import Found, Mean, Pair, Term, count, total
from tuplet.losses.declare import PairLoss, register


@register("fast_ap")
class FastAPLoss(PairLoss):
    r"""One minus the average precision of each anchor, with its ranking quantised into bins of distance.

    $$L_i = 1 - \frac{1}{|P_i|} \sum_{b=0}^{B} \frac{h^+_b H^+_b}{H_b}, \quad
    h_b = \sum_j \Big[1 - \frac{|D_{ij} - c_b|}{\Delta}\Big]_+, \; H_b = \sum_{c \le b} h_c$$

    D is the squared distance of unit vectors, h⁺ counts positives alone, h positives and negatives; the bins have
    centres c at distances Δ = 4/B from 0 to 4.

    Args:
        bins: B.

    References:
        Cakir, He, Xia, Kulis, Sclaroff, "Deep Metric Learning to Rank", 2019, eq. 7 and section 3.3.
    """

    bins: Count = 10

    suits = "average precision itself, with large batches"
    fixed_geometry = "cosine"

    @property
    def numbers(self) -> int:
        """Each pair has a share in each bin."""
        return self.bins + 1

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Histograms of distances: each pair in the two bins around it."""
        centres = torch.linspace(0, 4, self.bins + 1, dtype=score.dtype, device=score.device)
        share = torch.relu(1 - (2 - 2 * score[..., None] - centres).abs() * (self.bins / 4))
        return {
            "of_positives": total(share, where=pair.positive[..., None]),
            "of_all": total(share, where=(pair.positive | pair.negative)[..., None]),
            "positives": count(pair.positive),
        }

    def finish(self, found: Found) -> Mean:
        """Precision at each bin, weighted by the positives in it."""
        every = found["of_all"].cumsum(1)
        precision = found["of_positives"].cumsum(1) / torch.where(every > 0, every, 1.0)
        sums, number = (found["of_positives"] * precision).sum(1), found["positives"]
        return Mean(torch.where(number > 0, 1 - sums / number.clamp_min(1), 0.0), number > 0)


fast_ap = FastAPLoss.function()
