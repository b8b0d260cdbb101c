"""Threshold-consistent margin loss: one threshold for positives and one for negatives, the same in all classes."""

from torch import Tensor

from tuplet.bounds import Finite, NotNegative
from tuplet.engine.program import Found, Mean, Pair, Term, count, total
from tuplet.losses.declare import PairLoss, register


@register("threshold_consistent_margin")
class ThresholdConsistentMarginLoss(PairLoss):
    r"""Draws hard pairs of all classes to the same two similarities, so that one threshold serves every class.

    $$L = \lambda^+ \frac{\sum_{s_{ap} \le m^+} (m^+ - s_{ap})}{|\{s_{ap} \le m^+\}|}
    + \lambda^- \frac{\sum_{s_{an} \ge m^-} (s_{an} - m^-)}{|\{s_{an} \ge m^-\}|}$$

    Args:
        positive_margin: m⁺, a cosine; positives above it have no loss.
        negative_margin: m⁻, a cosine; negatives below it have no loss.
        positive_weight: λ⁺.
        negative_weight: λ⁻.

    References:
        Zhang, Xu, Wang, et al., "Threshold-Consistent Margin Loss for Open-World Deep Metric Learning", 2023, eq. 5.
    """

    positive_margin: Finite = 0.9
    negative_margin: Finite = 0.5
    positive_weight: NotNegative = 1.0
    negative_weight: NotNegative = 1.0

    suits = "one threshold for all classes, beside a loss that parts them"
    fixed_geometry = "cosine"
    divides_by = "the positives that violate, plus that over the negatives that do"
    means = 2

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Sums and numbers of the hard pairs."""
        near = pair.positive & (score <= self.positive_margin)
        far = pair.negative & (score >= self.negative_margin)
        return {
            "positive": total(self.positive_margin - score, where=near),
            "negative": total(score - self.negative_margin, where=far),
            "positives": count(near),
            "negatives": count(far),
        }

    def finish(self, found: Found) -> tuple[Mean, Mean]:
        """One mean of each kind."""
        return (
            Mean(found["positive"], found["positives"], share=self.positive_weight),
            Mean(found["negative"], found["negatives"], share=self.negative_weight),
        )


threshold_consistent_margin = ThresholdConsistentMarginLoss.function()
