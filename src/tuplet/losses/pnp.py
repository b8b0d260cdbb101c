"""PNP: the negatives that rank before a positive, as a penalty on average precision."""

from typing import Literal

from torch import Tensor

from tuplet.bounds import Positive, Tau
from tuplet.engine.program import Found, Mean, Pair, Term, count, total
from tuplet.losses.declare import register
from tuplet.losses.smooth_ap import SoftRankLoss


@register("pnp")
class PNPLoss(SoftRankLoss):
    r"""Penalises the negatives that rank before a positive, counted by sigmoids; the order of positives is left alone.

    $$L_i = \frac{1}{|P_i|} \sum_{p \in P_i} f(R_{ip}), \quad
    R_{ip} = \sum_{n \in N_i} \sigma\big((s_{in} - s_{ip}) / \tau\big)$$

    | `variant` | f(R) | gradient as R grows |
    | --- | --- | --- |
    | O | $R$ | constant |
    | Iu | $(1 + R) \log(1 + R)$ | grows without bound |
    | Ib | $(b R - \log(1 + b R)) / b^2$ | grows up to 1 / b |
    | Ds | $\log(1 + R)$ | decreases |
    | Dq | $1 - (1 + R)^{-\alpha}$ | decreases quickly |

    Args:
        variant: f; those whose gradient decreases turn to positives that few negatives precede.
        temperature: tau > 0 of the sigmoid.
        alpha: α of Dq.
        b: b of Ib.

    References:
        Li, Min, Song, Jiang, Xu, "Rethinking the Optimization of Average Precision: Only Penalizing Negative Instances
        before Positive Ones is Enough", 2021, section 3.
    """

    variant: Literal["O", "Iu", "Ib", "Ds", "Dq"] = "Dq"
    temperature: Tau = 0.01
    alpha: Positive = 4.0
    b: Positive = 2.0

    suits = "average precision, without effort for the order among positives"

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """For each positive, how many negatives stand before it."""
        before, real = self.before(score, pair)
        return {
            "before": total(before, where=pair.negative[..., None] & real),
            "positives": count(pair.positive[..., None] & real),
        }

    def finish(self, found: Found) -> Mean:
        """Mean over the positives of an anchor."""
        return self.over_positives(found, self.penalty(found["before"]))

    def penalty(self, before: Tensor) -> Tensor:
        """Of so many negatives before a positive."""
        match self.variant:
            case "O":
                return before
            case "Iu":
                return (1 + before) * before.log1p()
            case "Ib":
                return (self.b * before - (self.b * before).log1p()) / self.b**2
            case "Ds":
                return before.log1p()
            case _:
                return 1 - (1 + before) ** -self.alpha


pnp = PNPLoss.function()
