"""Contrastive loss over signal-to-noise ratios."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tuplet.bounds import NotNegative, Positive
from tuplet.engine import SINGLE_PROCESS, Outcome, Processes
from tuplet.engine.gather import all_reduce_sum, reduce_sum
from tuplet.engine.program import Found, Mean, Pair, Term, count, total
from tuplet.losses.declare import PairLoss, register
from tuplet.losses.inputs import PairBatch
from tuplet.tensors import wide_dtype

DIGITS = 64
"""A variance below so many squared units in the last place of the embedding's length is rounding: it counts as 0."""


@register("snr_contrastive")
class SNRContrastiveLoss(PairLoss):
    r"""Contrastive loss whose distance is noise over signal: the variance of a difference over that of the anchor.

    $$L = \frac{1}{n^+} \sum_{(a,p)} D_{ap} + \frac{1}{n^-} \sum_{(a,n)} [m - D_{an}]_+
    + \frac{\lambda}{B} \sum_i \Big|\sum_k x_{ik}\Big|, \quad
    D_{ar} = \frac{\mathrm{var}_k(x_{ak} - x_{rk})}{\mathrm{var}_k(x_{ak})}$$

    Variances are over the dimensions of an embedding; n counts the terms above 0. An anchor without variance is no
    anchor.

    Args:
        margin: m, as a ratio of variances.
        mean_penalty: λ, which keeps embeddings at a mean of 0.
        normalise: Divide embeddings by their length before they are compared.

    References:
        Yuan, Deng, Tang, Tang, Chen, "Signal-to-Noise Ratio: A Robust Distance Metric for Deep Metric Learning", 2019,
        eq. 6, 11 and 13.
    """

    margin: Positive = 1.0
    mean_penalty: NotNegative = 0.0
    normalise: bool = False

    suits = "distances relative to the anchor's own variance"
    fixed_geometry = "squared_euclidean"
    divides_by = "the positives with a loss, plus that over the negatives with one"
    reads = "distance"
    means = 2

    def problem(self, embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]) -> PairBatch:
        """Embeddings less their means: a variance is a squared length then."""
        problem = super().problem(embeddings, labels, sides)
        anchors = _centred(problem.anchors)
        is_one = problem.references is problem.anchors
        return replace(problem, anchors=anchors, references=anchors if is_one else _centred(problem.references))

    def values(self, problem: PairBatch, processes: Processes) -> dict[str, Any]:
        """Distances are divided by the anchor's variance."""
        del processes
        square = problem.anchors.square().sum(1)
        there = square > 0
        scale = torch.where(there, torch.where(there, square, 1.0).reciprocal(), 0.0)
        return {"scale": scale, "of_row": {"there": there.to(square.dtype)}}

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Sums and numbers of both kinds."""
        there = pair.of_row["there"] > 0
        near, far = pair.positive & there, pair.negative & there
        return {
            "positive": total(score, where=near),
            "negative": total(torch.relu(self.margin - score), where=far),
            "positives": count(near & (score > 0)),
            "negatives": count(far & (score < self.margin)),
        }

    def finish(self, found: Found) -> tuple[Mean, Mean]:
        """One mean of each kind."""
        return Mean(found["positive"], found["positives"]), Mean(found["negative"], found["negatives"])

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        outcome = super()._outcome(embeddings, labels, **sides)
        return outcome if not self.mean_penalty else self._penalised(outcome, embeddings, labels, sides)

    def _penalised(self, outcome: Outcome, x: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Outcome:
        """With the sums of embeddings, of those that have a label."""
        wide, processes = wide_dtype(x), sides.get("processes", SINGLE_PROCESS)
        weight = x.new_ones(len(x), dtype=wide) if sides.get("weights") is None else sides["weights"].to(wide)
        if labels is not None:
            weight = weight * ((labels != -1) if labels.ndim == 1 else (labels != 0).any(1)).to(wide)
        number = all_reduce_sum(weight.sum(), processes)
        sums = reduce_sum((x.to(wide).sum(1).abs() * weight).sum(), processes)
        mean = sums / torch.where(number > 0, number, 1.0)
        return replace(outcome, total=outcome.total + self.mean_penalty * mean * outcome.count.to(wide))


snr_contrastive = SNRContrastiveLoss.function()


def _centred(x: Tensor) -> Tensor:
    """Rows less their means; a row whose variance is rounding is 0."""
    wide = x.to(wide_dtype(x))
    centred = wide - wide.mean(1, keepdim=True)
    least = DIGITS * torch.finfo(wide.dtype).eps ** 2 * wide.detach().square().sum(1, keepdim=True)
    return torch.where(centred.detach().square().sum(1, keepdim=True) > least, centred, 0.0)
